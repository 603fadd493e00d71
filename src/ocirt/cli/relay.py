"""Copy between our own streams and those of a process, in both directions at once.

Nobody waits for anybody else: what one side has no room for waits here, so that a process that reads nothing can
still write, and one whose output nobody reads can still be signalled.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable, Sequence
from typing import Final

from ocirt.process import Process, Terminal

CHUNK: Final = 65536

PIECE: Final = 4096
"""A pipe that poll(2) calls writable takes PIPE_BUF bytes at once (pipe(7)). Our own streams are shared with others,
and for them they must go on to block, so a larger write could hold us up."""


def _nothing() -> None:
    pass


class Channel:
    """One direction: a source, a sink, and what is on its way."""

    def __init__(
        self, source: int, sink: int, close: Callable[[], object] = _nothing, *, discards: bool = False
    ) -> None:
        """Between two open descriptors.

        :param close: what tells the process that the other end is gone; once, at the end.
        :param discards: without a sink it goes on reading, since the source is nothing that could be closed.
        """
        self.source = source
        self.sink = sink
        self.is_open = True
        self._close = close
        self._discards = discards
        self._data = memoryview(b"")

    def wish(self) -> tuple[int, int]:
        """What it waits for, as poll(2) is asked."""
        return (self.sink, select.POLLOUT) if self._data else (self.source, select.POLLIN)

    def move(self, ready: int) -> None:
        """One step; ``ready`` is what poll(2) said of the descriptor of its wish."""
        if self._data:
            if ready & ~select.POLLIN:
                self._write()
        elif ready & ~select.POLLOUT:
            self.read()

    def read(self, size: int = CHUNK) -> int:
        """How much came; nothing where there is nothing yet, or never again."""
        try:
            data = os.read(self.source, size)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        self._data = memoryview(data)
        if not data:
            self.end()
        elif self.sink < 0:
            self._data = memoryview(b"")
        return len(data)

    def _write(self) -> None:
        try:
            self._data = self._data[os.write(self.sink, self._data[:PIECE]) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE, most likely: nobody wants any more
            self._data = memoryview(b"")
            self.sink = -1
            if not self._discards:
                self.end()

    def end(self) -> None:
        if self.is_open:
            self.is_open = False
            self._close()

    def finish(self) -> None:
        """The process has ended: pass on what it wrote before that, and nothing of whom it may have left behind."""
        left = _waiting(self.source) if self.is_open else 0
        while self.is_open and (self._data or left > 0):
            if self._data:
                select.select((), (self.sink,), ())
                self._write()
                continue
            count = self.read(min(CHUNK, left))
            left = left - count if count else 0


def _waiting(source: int) -> int:
    """How much a pipe holds (ioctl(FIONREAD)). A terminal keeps some of it where this does not count."""
    if os.isatty(source):
        return CHUNK * CHUNK
    count: int = struct.unpack("i", fcntl.ioctl(source, termios.FIONREAD, bytes(4)))[0]
    return count


class Relay:
    """Serves a process until its end."""

    def __init__(self, process: Process, inward: Sequence[Channel], outward: Sequence[Channel]) -> None:
        self._process = process
        self._inward = tuple(inward)
        self._outward = tuple(outward)

    @classmethod
    def of(cls, process: Process) -> Relay:
        """Between our streams and its terminal or pipes, whichever it has."""
        if process.terminal is not None:
            return cls._of_terminal(process, process.terminal)
        inward, outward = [], []
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            inward.append(Channel(0, process.stdin.fileno(), process.stdin.close))
        for number, stream in ((1, process.stdout), (2, process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                outward.append(Channel(stream.fileno(), number, stream.close))
        return cls(process, inward, outward)

    @classmethod
    def _of_terminal(cls, process: Process, terminal: Terminal) -> Relay:
        """The end of our input is nothing that a terminal could be told, nor that nobody looks at its output."""
        master = terminal.fileno()
        os.set_blocking(master, False)
        return cls(process, [Channel(0, master)], [Channel(master, 1, discards=True)])

    def run(self) -> None:
        while not self._step():
            pass
        for channel in self._outward:
            channel.finish()
        for channel in (*self._inward, *self._outward):
            channel.end()

    def _step(self) -> bool:
        """Wait until there is something to do, and do it; true once the process has ended."""
        channels = [channel for channel in (*self._inward, *self._outward) if channel.is_open]
        wishes: dict[int, int] = {self._process.fileno(): select.POLLIN}
        for channel in channels:
            number, events = channel.wish()
            wishes[number] = wishes.get(number, 0) | events
        poll = select.poll()
        for number, events in wishes.items():
            poll.register(number, events)
        ready = dict(poll.poll())
        for channel in channels:
            channel.move(ready.get(channel.wish()[0], 0))
        return self._process.fileno() in ready
