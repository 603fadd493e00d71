"""Stand in for a process in a container: whoever runs, signals or waits for us means it.

Without a terminal it has our own streams, and nothing is copied. With one we are the wire between it and ours, which
is raw meanwhile: what keys mean is for the container's terminal to say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from ocirt.process import Process, Terminal

KEPT: Final = frozenset(
    {
        signal.SIGKILL,  # cannot be caught
        signal.SIGSTOP,
        signal.SIGCHLD,  # about children of ours
        signal.SIGURG,  # about sockets of ours
        signal.SIGWINCH,  # about our terminal; the size is handed on instead
        signal.SIGSEGV,  # about ourselves
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
    }
)
"""Signals that are not handed on."""

OFLAG: Final = 1
"""Index in what tcgetattr(3) gives."""


def attend(process: Process, begin: Callable[[], object]) -> int:
    """Do ``begin`` once the streams are ready, wait for the end, and give the status that a shell would."""
    terminal = process.terminal
    host = _host_terminal()
    # The terminal first: if we are in the background, changing it stops us like any other program (SIGTTOU).
    with _raw(host if terminal is not None else None), _forwarded(process, host):
        if terminal is not None:
            _prepare(terminal, host)
        begin()
        if terminal is not None:
            Relay(process, terminal).run()
        return exit_status(process.wait())


def exit_status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _host_terminal() -> int | None:
    """Any of our streams may be redirected; the others will do."""
    return next((fd for fd in (2, 1, 0) if os.isatty(fd)), None)


def _prepare(terminal: Terminal, host: int | None) -> None:
    """Newlines are translated once, by our own terminal: a file that is our output shall hold no carriage returns."""
    attributes = termios.tcgetattr(terminal.fileno())
    attributes[OFLAG] &= ~termios.ONLCR
    termios.tcsetattr(terminal.fileno(), termios.TCSANOW, attributes)
    _hand_on_size(terminal, host)


def host_size() -> tuple[int, int] | None:
    """Lines and columns of our terminal, where we have one."""
    host = _host_terminal()
    return None if host is None else _size(host)


def _size(host: int) -> tuple[int, int] | None:
    lines, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(host, termios.TIOCGWINSZ, bytes(8)))
    return (lines, columns) if lines and columns else None


def _hand_on_size(terminal: Terminal | None, host: int | None) -> None:
    if terminal is None or host is None:
        return
    with contextlib.suppress(OSError):  # one of them is gone, and what is not there has no size
        if (size := _size(host)) is not None:
            terminal.resize(size[1], size[0])


@contextlib.contextmanager
def _raw(host: int | None) -> Iterator[None]:
    """Our terminal hands on every key; its output processing stays, see ``_prepare``."""
    if host is None:
        yield
        return
    before = termios.tcgetattr(host)
    try:
        tty.setraw(host)
        attributes = termios.tcgetattr(host)
        attributes[OFLAG] |= termios.OPOST
        termios.tcsetattr(host, termios.TCSANOW, attributes)
        yield
    finally:
        with contextlib.suppress(termios.error):  # hung up
            termios.tcsetattr(host, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _forwarded(process: Process, host: int | None) -> Iterator[None]:
    """Handlers run even while a write of the relay blocks, so they do the forwarding themselves."""

    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it became somebody whom we may not signal
            process.send_signal(number)

    def resize(_: int, __: FrameType | None) -> None:
        _hand_on_size(process.terminal, host)

    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = dict.fromkeys(signal.valid_signals() - KEPT, forward)
    handlers[signal.SIGWINCH] = resize
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Relay:
    """Copies from our input to a terminal and from there to our output, until the process ends.

    Input that the terminal has no room for waits here, so that a process that reads nothing can still write.
    """

    def __init__(self, process: Process, terminal: Terminal, source: int = 0, sink: int = 1) -> None:
        self._process = process
        self._terminal = terminal
        self._source: int | None = source
        self._sink: int | None = sink
        self._typed = b""
        self._connected = True

    def run(self) -> None:
        os.set_blocking(self._terminal.fileno(), False)
        ended = False
        while not ended:
            ready = self._poll()
            master = ready.get(self._terminal.fileno(), 0)
            if master & select.POLLOUT:
                self._type()
            if master & ~select.POLLOUT:
                self._connected = self._show()
            if self._source in ready:
                self._read()
            ended = self._process.fileno() in ready
        while self._show():  # what it wrote last
            pass

    def _poll(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._process.fileno(), select.POLLIN)
        if self._connected:
            poll.register(self._terminal.fileno(), select.POLLIN | (select.POLLOUT if self._typed else 0))
        if self._source is not None and not self._typed:
            poll.register(self._source, select.POLLIN)
        return dict(poll.poll())

    def _read(self) -> None:
        """The end of our input is nothing that a terminal could be told."""
        assert self._source is not None  # it was polled
        try:
            self._typed = os.read(self._source, 65536)
        except BlockingIOError:
            return
        except OSError:
            self._typed = b""
        if not self._typed:
            self._source = None

    def _type(self) -> None:
        with contextlib.suppress(OSError):  # full again, or hung up, which reading finds out
            self._typed = self._typed[self._terminal.write(self._typed) :]

    def _show(self) -> bool:
        """False once there is nothing to read (which after a hang-up is for ever)."""
        chunk = self._terminal.read()
        data = chunk
        while data and self._sink is not None:
            try:
                data = data[os.write(self._sink, data) :]
            except BlockingIOError:
                select.select((), (self._sink,), ())
            except OSError:  # nobody looks any more; it may go on nevertheless
                self._sink = None
        return bool(chunk)
