"""Threads for what takes long: none is given a signal, none outlives its work, and an error in one ends the others.

zlib, zstd, hashlib and system calls let go of the interpreter's lock, so that several layers are worked on at once.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ocirt.image.digest import Readable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PIECE: Final = 256 * 1024
"""Bytes that are read at once: a pipe's worth costs more calls, more costs memory for each stream."""

AHEAD: Final = 4
"""Pieces that a reader may be ahead of who reads them."""


class Cancelled(BaseException):
    """Somebody else's error ended this work. Not an ``Exception``: nobody should think it their own."""


def started(target: Callable[[], None], name: str) -> threading.Thread:
    """A thread that no signal is given to: Ctrl-C has to interrupt whoever waits for it."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


class Ahead:
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
        self._thread = started(self._run, "read ahead")

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
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        while isinstance(piece, bytes) and piece:
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
        self._error: BaseException | None = None

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Return when all is done. What interrupts the waiting, Ctrl-C among it, ends the jobs as an error does."""
        self._waiting.extend(jobs)
        threads: list[threading.Thread] = []
        try:
            count = min(self._size, len(jobs))
            threads.extend(started(self._work, f"copy {number}") for number in range(count))
            for thread in threads:
                thread.join()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error

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
        while True:
            with self._changed:
                if self._error is not None or not self._waiting:
                    return
                job = self._waiting.popleft()
            try:
                job()
            except BaseException as error:  # noqa: BLE001  # raised by run
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
            self._waiting.clear()


class _Checked:
    def __init__(self, stream: Readable, team: Team) -> None:
        self._stream = stream
        self._team = team

    def read(self, size: int = -1, /) -> bytes:
        self._team.check()
        return self._stream.read(size)
