"""What a command hands on: files of its caller's to the container; to its caller the pid, a pidfd and the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Final, Self

from ocirt.cli.parse import Parsed, UsageError
from ocirt.cli.words import reason

if TYPE_CHECKING:
    from ocirt.process import Process

FIRST: Final = 3
"""The first number behind the standard streams."""

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


def activation() -> int:
    """With how many sockets we were started for the container to answer at them (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() else 0


def descriptors(options: Parsed, activated: int = 0) -> tuple[int, ...]:
    """What the program is to find open beside the streams: those sockets, then as many as ``--preserve-fds`` says.

    To be asked first of all: what we open later might be taken for one that is missing.

    :raises UsageError: one is not open.
    """
    preserved = options.number("preserve-fds")
    if preserved < 0:
        raise UsageError(f'invalid value "{preserved}" for flag -preserve-fds: value out of range')
    for index in range(activated + preserved):
        try:
            fcntl.fcntl(FIRST + index, fcntl.F_GETFD)
        except OSError as error:
            place = index - activated
            which = f"preserved-fd {place} (of {preserved})" if place >= 0 else f"{FIRST + index} (of LISTEN_FDS)"
            raise UsageError(f"unable to stat {which}: {reason(error.errno or 0)}") from error
    return tuple(range(FIRST, FIRST + activated + preserved))


def let_go(numbers: tuple[int, ...]) -> None:
    """The program has its own by now; with ours, nobody at the other end of a pipe would hear that it has closed it."""
    for number in numbers:
        os.close(number)


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
        return cls(_connected(path))

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


class PidfdSockets:
    """The sockets that a pidfd of the process goes to; most often there is none."""

    def __init__(self, connections: tuple[socket.socket, ...]) -> None:
        self._connections = connections

    @classmethod
    def connect(cls, *paths: str | None) -> Self:
        """Before anything is made, as with ``Console``; what is empty is no path."""
        with contextlib.ExitStack() as undo:
            connections = tuple(undo.enter_context(_connected(path)) for path in paths if path)
            undo.pop_all()
        return cls(connections)

    def hand_over(self, process: Process, kind: str) -> None:
        """One message each, as runc has it.

        :param kind: ``standard`` for a container's init, ``setns`` for a process that joined it.
        """
        for connection in self._connections:
            socket.send_fds(connection, [kind.encode()], [process.fileno()])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()


def _connected(path: str) -> socket.socket:
    """To a listening stream socket."""
    with contextlib.ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        # A path may be longer than the 107 bytes of unix(7); that of a descriptor never is.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{place}")
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
        finally:
            os.close(place)
        undo.pop_all()
    return connection
