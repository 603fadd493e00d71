"""Threads for what takes long: none is given a signal, none outlives its work, and an error in one ends the others.

zlib, zstd, hashlib and system calls let go of the interpreter's lock, so that several layers are worked on at once.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ocirt.image.closing import Closing
from ocirt.image.digest import Readable

PIECE: Final = 256 * 1024
"""Bytes that are read at once: a pipe's worth costs more calls, more costs memory for each stream."""

AHEAD: Final = 4
"""Pieces that a reader may be ahead of who reads them."""


class Cancelled(BaseException):
    """Somebody else's error ended this work. Not an ``Exception``: nobody should think it their own."""


def prepared(target: Callable[[], None], name: str) -> threading.Thread:
    """A thread to be started by ``start``: Ctrl-C may come in there, and then its maker has to know it already."""
    return threading.Thread(target=target, name=name, daemon=True)


def start(thread: threading.Thread) -> None:
    """No signal is given to it: Ctrl-C has to interrupt whoever waits for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def finish(thread: threading.Thread) -> None:
    """Wait for its end, if it was started."""
    if thread.ident is not None:
        thread.join()


class Ahead(Closing):
    """A stream that is read in a thread of its own, a few pieces ahead; its errors are raised by ``read``.

    To be closed before what it reads: from then on nobody reads that any more.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._pieces: deque[bytes | BaseException] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._current: bytes | BaseException = b""
        self._offset = 0
        self._thread = prepared(self._run, "read ahead")
        try:
            start(self._thread)
        except BaseException:
            self.close()
            raise

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; the end and an error come again however often they are asked for."""
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        if isinstance(self._current, bytes) and self._offset == len(self._current):
            self._current, self._offset = self._next(), 0
        if isinstance(self._current, BaseException):
            raise self._current
        data = self._current[self._offset : self._offset + size]
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Wait until the thread has ended; it is in the middle of a read at the most."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._changed.notify_all()
        finish(self._thread)

    def _next(self) -> bytes | BaseException:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._closed)
            if not self._pieces:
                raise ValueError("read of a closed stream")
            self._changed.notify_all()
            last = self._pieces[0] == b"" or isinstance(self._pieces[0], BaseException)
            return self._pieces[0] if last else self._pieces.popleft()

    def _run(self) -> None:
        piece: bytes | BaseException = b"?"
        while isinstance(piece, bytes) and piece and not self._closed:
            try:
                piece = self._stream.read(PIECE)
            except BaseException as error:  # noqa: BLE001  # whoever reads raises it
                piece = error
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._pieces) < AHEAD)
                if self._closed:
                    return
                self._pieces.append(piece)
                self._changed.notify_all()


class Team:
    """A few threads that work off jobs; the first error ends all, and is raised once nobody works any more."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._working = 0
        self._error: BaseException | None = None

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Return when all is done. What interrupts the waiting, Ctrl-C among it, ends the jobs as an error does."""
        self._waiting.extend(jobs)
        threads = [prepared(self._work, f"copy {number}") for number in range(min(self._size, len(jobs)))]
        try:
            for thread in threads:
                start(thread)
            self._await_end()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._await_end()
            for thread in threads:
                finish(thread)
        if self._error is not None:
            raise self._error

    def _await_end(self) -> None:
        """Not by ``join``: one that a signal interrupts takes the thread for ended (Python before 3.13)."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and self._working == 0)

    def check(self) -> None:
        """Called by jobs now and then.

        :raises Cancelled: the others have been given up.
        """
        if self._error is not None:
            raise Cancelled

    def checked(self, stream: Readable) -> Readable:
        """The same stream, which ends with ``Cancelled`` once the work is given up."""
        return _Checked(stream, self)

    def _work(self) -> None:
        while job := self._next():
            try:
                job()
            except BaseException as error:  # noqa: BLE001  # raised by run
                self._fail(error)
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if not self._waiting:
                return None
            self._working += 1
            return self._waiting.popleft()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
            self._waiting.clear()
            self._changed.notify_all()


class _Checked:
    def __init__(self, stream: Readable, team: Team) -> None:
        self._stream = stream
        self._team = team

    def read(self, size: int = -1, /) -> bytes:
        self._team.check()
        return self._stream.read(size)
