"""What a command leaves for whoever called it: the pid file, and the terminal's master side."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Final, Self

from ocirt.cli.parse import Parsed, UsageError
from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from ocirt.process import Process

TIOCGPTN: Final = 0x80045430
"""ioctl_tty(2); Python has os.ptsname only since 3.13"""


def write_pid_file(path: str, pid: int) -> None:
    """Whole or not at all, and without a newline: conmon reads it as soon as it is there."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, str(pid).encode())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def refuse_preserved_descriptors(options: Parsed) -> None:
    """:raises UnsupportedError: descriptors are to be handed on, which ocirt cannot do yet."""
    if options.number("preserve-fds") != 0:
        raise UnsupportedError("--preserve-fds", "descriptors beyond the three streams cannot be handed on yet")


class Console:
    """The socket that a detached process's terminal goes to; without one, nothing happens."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, path: str, *, terminal: bool, detached: bool) -> Self:
        """Before anything is made, since a socket that nobody listens on is the likeliest failure.

        :raises UsageError: a terminal that nobody would hold, or a socket for none.
        """
        if terminal and detached and not path:
            raise UsageError("cannot allocate tty if runc will detach without setting console socket")
        if path and not (terminal and detached):
            raise UsageError("cannot use console socket if runc will not detach or allocate tty")
        if not path:
            return cls(None)
        with contextlib.ExitStack() as undo:
            connection = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            # A path may be longer than the 107 bytes of unix(7); that of a descriptor never is.
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            undo.callback(os.close, place)
            connection.connect(f"/proc/self/fd/{place}")
            undo.pop_all()
            os.close(place)
        return cls(connection)

    def hand_over(self, process: Process) -> None:
        """One message: the terminal's name, and the descriptor."""
        terminal = process.terminal
        if self._connection is None or terminal is None:
            return
        number = int.from_bytes(fcntl.ioctl(terminal.fileno(), TIOCGPTN, bytes(4)), "little")
        socket.send_fds(self._connection, [f"/dev/pts/{number}".encode()], [terminal.fileno()])
        terminal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
