"""Tell the service manager that started us when a container is ready (sd_notify(3), systemd.service(5)).

A container has a socket of its own, in a directory that is mounted read-only into it. Who starts the container listens
there and passes on what is about the service alone, line by line: whom the manager watches is for us to say, and it
gets no descriptors. A container that floods its socket is slowed down, not we.

This is for the command: what NOTIFY_SOCKET says is between a service manager and a process that it started, and a
library's caller is most often another. Who wants to hear of readiness in Python mounts a directory with a socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from ocirt.errors import OCIError
from ocirt.state import NOTIFY

if TYPE_CHECKING:
    from ocirt.state import StateDirectory

SOCKET: Final = "notify.sock"

LONGEST: Final = 4096
"""Bytes of a message; the service manager ignores longer ones as well."""

PASSED_ON: Final = frozenset(
    b"READY STATUS RELOADING MONOTONIC_USEC STOPPING ERRNO BUSERROR EXIT_STATUS EXTEND_TIMEOUT_USEC WATCHDOG".split()
)
"""What a service may say of itself. Not MAINPID, which is ours to say, nor what comes with descriptors."""

AT_ONCE: Final = 10
PAUSE_MILLISECONDS: Final = 20
"""After so many messages; more than that wait in the socket, and then who sends them."""

AT_THE_END: Final = 1000
"""So many messages of a process that has ended are read; the socket holds fewer (unix(7), max_dgram_qlen)."""

BARRIER_SECONDS: Final = 30.0


class Manager:
    """The service manager, where it listens."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, address: str) -> Self:
        """:param address: NOTIFY_SOCKET, a path or an abstract name."""
        check(address)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        except OSError as error:
            connection.close()
            raise OSError(error.errno, os.strerror(error.errno or 0), f"NOTIFY_SOCKET {address}") from error
        return cls(connection)

    def tell(self, message: bytes) -> None:
        self._connection.send(message)

    def wait(self) -> None:
        """Until it has heard all that it was told, or for 30 seconds: who ends before that is nobody it knows."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                socket.send_fds(self._connection, [b"BARRIER=1"], [theirs])
            finally:
                os.close(theirs)
            waiter = select.poll()
            waiter.register(ours, 0)  # POLLHUP, once it has closed its end
            waiter.poll(BARRIER_SECONDS * 1000)
        finally:
            os.close(ours)

    def close(self) -> None:
        self._connection.close()


def check(address: str) -> None:
    """:raises OCIError: it is none that a container's messages could be passed on to."""
    if not address.startswith(("/", "@")) or len(address) < 2:
        raise OCIError(f"NOTIFY_SOCKET {address!r} is neither an absolute path nor an abstract socket's name")


class Proxy:
    """Listens for one container. A context manager, to be left when the process has ended or is ready."""

    def __init__(self, manager: Manager, listener: socket.socket) -> None:
        self._manager = manager
        self._listener = listener
        self._told = False
        self._companion: threading.Thread | None = None

    @classmethod
    def open(cls, address: str, state: StateDirectory) -> Self | None:
        """``None`` for a container that was created without."""
        try:
            directory = os.open(NOTIFY, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=state.fd)
        except FileNotFoundError:
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, directory)
            manager = Manager.connect(address)
            undo.callback(manager.close)
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            _bind(listener, directory)
            undo.pop_all()
            os.close(directory)
        return cls(manager, listener)

    def serve(self, pidfd: int, main: int, *, once: bool) -> None:
        """Pass on until the process ends, or with ``once`` until it is ready.

        :param main: the process that the manager is to watch from then on.
        """
        self._listener.setblocking(False)
        waiter = select.poll()
        waiter.register(pidfd, select.POLLIN)
        waiter.register(self._listener, select.POLLIN)
        while True:
            ended = pidfd in dict(waiter.poll())
            ready = self._pass_all_on(AT_THE_END if ended else AT_ONCE, main)
            if ended or (ready and once):
                break
            time.sleep(PAUSE_MILLISECONDS / 1000)
        if self._told:
            self._manager.wait()

    def _pass_all_on(self, most: int, main: int) -> bool:
        """Whether one of the messages told that it is ready."""
        ready = False
        for _ in range(most):
            message = self._receive()
            if message is None:
                break
            ready = self._pass_on(message, main) or ready
        return ready

    def _receive(self) -> bytes | None:
        """One message, empty where it is too long; what descriptors it came with the kernel drops, for want of room."""
        try:
            message, _, flags, _ = self._listener.recvmsg(LONGEST)
        except BlockingIOError:
            return None
        return b"" if flags & socket.MSG_TRUNC else message

    def _pass_on(self, message: bytes, main: int) -> bool:
        """Whether it is ready."""
        lines = [line for line in message.split(b"\n") if line.partition(b"=")[0] in PASSED_ON]
        if not lines:
            return False
        self._told = True
        self._manager.tell(b"\n".join(lines))
        if not any(line.startswith(b"READY=") for line in lines):
            return False
        self._manager.tell(b"MAINPID=%d" % main)
        return True

    def accompany(self, pidfd: int, main: int) -> None:
        """Serve in a thread of its own, to the end of the process."""

        def serve() -> None:
            with contextlib.suppress(OSError):  # the manager is gone, and the container goes on
                self.serve(pidfd, main, once=False)

        self._companion = threading.Thread(target=serve, daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._companion.start()  # without signals: it would not interrupt what the main thread waits in
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._companion is not None:
            self._companion.join()
        self._listener.close()
        self._manager.close()


def _bind(listener: socket.socket, directory: int) -> None:
    """Where the container can reach it. Whoever got in there may have left anything: no name is followed."""
    with contextlib.suppress(FileNotFoundError):  # of a start that failed
        os.unlink(SOCKET, dir_fd=directory)
    listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
    made = os.open(SOCKET, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISSOCK(os.fstat(made).st_mode):
            raise OCIError(f"{NOTIFY}/{SOCKET} of the state directory is no socket any more")
        os.chmod(f"/proc/self/fd/{made}", 0o777)  # our umask must not keep the container's user out
    finally:
        os.close(made)
