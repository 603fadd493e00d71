"""The standard streams of a process to be started, from what the caller said in subprocess's terms."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE, STDOUT
from typing import IO

from attrs import define

from ocirt.errors import OCIError
from ocirt.process import Process

Stream = int | IO[bytes] | IO[str] | None
"""PIPE, DEVNULL, STDOUT (for stderr), a descriptor, a file object, or ``None`` for the caller's own."""


@define
class Streams:
    """``child`` goes to the process; the others stay: our ends of the pipes."""

    child: tuple[int, int, int]
    ours: int
    """A bit for each that was made for this process."""
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def give_to(self, process: Process) -> None:
        process.stdin, process.stdout, process.stderr = self.stdin, self.stdout, self.stderr


@contextlib.contextmanager
def opened(stdin: Stream, stdout: Stream, stderr: Stream) -> Iterator[Streams]:
    """Make what has to be made; the process's ends are closed at the end, ours only on failure."""
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
        input_fd, writer = _one(stdin, 0, undo, theirs)
        output_fd, reader = _one(stdout, 1, undo, theirs)
        if stderr == STDOUT:
            error_fd, errors = output_fd, None
        else:
            error_fd, errors = _one(stderr, 2, undo, theirs)
        ours = sum(1 << bit for bit, stream in enumerate((stdin, stdout, stderr)) if stream == PIPE)
        yield Streams((input_fd, output_fd, error_fd), ours, writer, reader, errors)
        undo.pop_all()


def _one(
    stream: Stream, number: int, undo: contextlib.ExitStack, theirs: contextlib.ExitStack
) -> tuple[int, IO[bytes] | None]:
    if stream is None:
        return _inherited(number, theirs), None
    if not isinstance(stream, int):
        return stream.fileno(), None
    if stream >= 0:
        return stream, None
    if stream == DEVNULL:
        return _null(theirs), None
    if stream == PIPE:
        return _pipe(number, undo, theirs)
    raise OCIError(f"{('stdin', 'stdout', 'stderr')[number]}: {stream} is none of PIPE, DEVNULL, a file")


def _pipe(number: int, undo: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, IO[bytes]]:
    read, write = os.pipe2(os.O_CLOEXEC)
    if number == 0:
        theirs.callback(os.close, read)
        return read, undo.enter_context(open(write, "wb", buffering=0))
    theirs.callback(os.close, write)
    return write, undo.enter_context(open(read, "rb"))


def _inherited(number: int, theirs: contextlib.ExitStack) -> int:
    """The caller may run with a stream closed, and its number could be any file by now, or soon."""
    try:
        os.fstat(number)
    except OSError:
        return _null(theirs)
    return number


def _null(theirs: contextlib.ExitStack) -> int:
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    theirs.callback(os.close, fd)
    return fd
