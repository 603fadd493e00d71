"""What a process to be started will have open, from what the caller said in subprocess's terms."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Collection
from typing import IO, Self

from attrs import Factory, define

from ocirt.errors import OCIError, SetupError
from ocirt.process import Process

Stream = int | IO[bytes] | IO[str] | None
"""PIPE, DEVNULL, STDOUT (for stderr), a descriptor, a file object, or ``None`` for the caller's own."""

NAMES = ("stdin", "stdout", "stderr")

HIGHEST = 2**31 - 1
"""A descriptor is an int."""


@define
class Streams:
    """``child`` goes to the process; the others stay: our ends of the pipes.

    As a context manager it closes the process's ends at the latest at its end, and ours only on failure.
    """

    child: tuple[int, ...] = ()
    ours: int = 0
    """A bit for each that was made for this process."""
    stdin: IO[bytes] | None = None
    stdout: IO[bytes] | None = None
    stderr: IO[bytes] | None = None
    _theirs: list[int] = Factory(list)
    _null: int = -1

    def give_to(self, process: Process) -> None:
        process.stdin, process.stdout, process.stderr = self.stdin, self.stdout, self.stderr

    def release(self) -> None:
        """The process has its own by now."""
        while self._theirs:
            os.close(self._theirs.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.release()
        if kind is not None:
            for stream in (self.stdin, self.stdout, self.stderr):
                if stream is not None:
                    stream.close()

    def open(self, stream: Stream, number: int) -> int:
        """The process's end."""
        if stream is None:
            return self._inherited(number)
        if not isinstance(stream, int):
            return stream.fileno()
        if stream >= 0:
            return stream
        from subprocess import DEVNULL, PIPE, STDOUT

        if stream == DEVNULL:
            return self._nothing()
        if stream == PIPE:
            return self._pipe(number)
        if stream == STDOUT and number == 2:
            return self.child[1]
        raise OCIError(f"{NAMES[number]}: {stream} is none of PIPE, DEVNULL, a file")

    def _pipe(self, number: int) -> int:
        self.ours |= 1 << number
        read, write = os.pipe2(os.O_CLOEXEC)
        if number == 0:
            self._theirs.append(read)
            self.stdin = open(write, "wb", buffering=0)  # noqa: SIM115  # closed by __exit__, or by the process
            return read
        self._theirs.append(write)
        setattr(self, NAMES[number], open(read, "rb"))  # noqa: SIM115  # its owner closes it
        return write

    def _inherited(self, number: int) -> int:
        """The caller may run with a stream closed, and its number could be any file by now, or soon."""
        with contextlib.suppress(OSError):
            os.fstat(number)
            return number
        return self._nothing()

    def _nothing(self) -> int:
        if self._null < 0:
            self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._theirs.append(self._null)
        return self._null


def opened(stdin: Stream, stdout: Stream, stderr: Stream) -> Streams:
    """Make what has to be made."""
    streams = Streams()
    try:
        for number, stream in enumerate((stdin, stdout, stderr)):
            streams.child = (*streams.child, streams.open(stream, number))
    except BaseException as error:
        streams.__exit__(error, None, None)
        raise
    return streams


def passed(numbers: Collection[int]) -> tuple[int, ...]:
    """The caller's descriptors that the program is to have too, in rising order.

    To be asked before anything of ours is opened: it might get the number of one that is not.

    :raises ValueError: no number of a file beside the standard streams.
    :raises SetupError: one that is not open.
    """
    if not numbers:
        return ()
    for number in numbers:
        if not len(NAMES) <= number <= HIGHEST:
            raise ValueError(f"pass_fds: {number} is no descriptor beside the standard streams")
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)  # which asks no filesystem, as fstat(2) would
        except OSError as error:
            raise SetupError("pass_fds", "KeepDescriptors", "fcntl", error.errno or errno.EBADF, str(number)) from error
    return tuple(sorted(set(numbers)))
