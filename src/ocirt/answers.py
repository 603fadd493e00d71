"""System calls of a container answered in this process: ``on_syscall=`` of ``Container.create``.

The kernel stops whoever makes a call that the profile leaves to others (SCMP_ACT_NOTIFY) and asks us; see
seccomp_unotify(2), of which the structures here are. A thread for each listener answers, one call after the other.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final

from attrs import define, field, frozen

from ocirt.seccomp.compile import asked
from ocirt.spec import Seccomp

RECEIVE, SEND, IS_VALID, ADD_FD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
"""SECCOMP_IOCTL_NOTIF_*"""
NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
RESPONSE: Final = struct.Struct("=QqiI")
ADDED: Final = struct.Struct("=QIIII")
FLAG_CONTINUE, FLAG_SETFD = 1, 1

JOIN_SECONDS: Final = 5.0
STRING_LIMIT: Final = 4096
"""PATH_MAX: no path is longer."""


class Verdict(enum.Enum):
    """What a handler may say instead of a result."""

    CONTINUE = "continue"


CONTINUE: Final = Verdict.CONTINUE
"""Let the kernel make the call. Another thread may have changed its memory by then: this is no place for a check that
security rests on (seccomp_unotify(2))."""


@frozen
class SystemCall:
    """A system call whose caller waits for an answer."""

    name: str
    """As the profile has it; empty for one that came by another name (socketcall of i386)."""
    number: int
    architecture: int
    """AUDIT_ARCH_* of linux/audit.h."""
    arguments: tuple[int, ...]
    """Six, as unsigned numbers; those that the call does not take hold anything."""
    pid: int
    """Of the thread that calls, as this process sees it."""
    _cookie: int = field(repr=False)
    _listener: int = field(repr=False)

    def is_pending(self) -> bool:
        """The caller still waits: so what was read of its memory before is its own, and no other process's."""
        try:
            fcntl.ioctl(self._listener, IS_VALID, struct.pack("=Q", self._cookie))
        except FileNotFoundError:
            return False
        return True

    def memory(self, address: int, size: int) -> bytes:
        """What stands there in the caller's memory; shorter where that ends.

        :raises ProcessLookupError: the caller does not wait any more.
        """
        fd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _read(fd, address, size)
        finally:
            os.close(fd)
        if not self.is_pending():
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return found

    def text(self, address: int) -> str:
        """The string that ends with NUL, such as a path."""
        return os.fsdecode(self.memory(address, STRING_LIMIT).partition(b"\0")[0])

    def add_fd(self, fd: int, number: int | None = None, *, close_on_exec: bool = False) -> int:
        """Give the caller a copy of our descriptor ``fd``, as ``number`` or as the next that is free.

        :return: its number there, which is the result of calls that open something.
        """
        flags = 0 if number is None else FLAG_SETFD
        flags_there = os.O_CLOEXEC if close_on_exec else 0
        request = bytearray(ADDED.pack(self._cookie, flags, fd, number or 0, flags_there))
        return int(fcntl.ioctl(self._listener, ADD_FD, request))


def _read(fd: int, address: int, size: int) -> bytes:
    """A read that begins in one page and ends in one that is not there gives nothing at all of /proc/PID/mem."""
    page = os.sysconf("SC_PAGE_SIZE")
    found = b""
    while len(found) < size:
        start = address + len(found)
        try:
            part = os.pread(fd, min(size - len(found), page - start % page), start)
        except OSError:
            if found:
                return found
            raise
        if not part:
            return found
        found += part
    return found


Handler = Callable[[SystemCall], "int | Verdict"]
"""Gives the result of the call, or raises the OSError that the caller shall see, or says CONTINUE.

Any other exception ends the answering: this call and all later ones of that process fail with ENOSYS."""


@define(eq=False)
class Answers:
    """The handler of one container, and the threads that ask it."""

    handler: Handler
    threads: list[threading.Thread] = field(factory=list)

    def give(self, listener: int, profile: Seccomp) -> None:
        """Answer for ``listener``, which is ours from now on, until nobody is left who may ask."""
        thread = threading.Thread(target=self._serve, args=(listener, asked(profile)), name="on_syscall", daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for the threads of processes that have ended, so that nothing is left of a deleted container."""
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(JOIN_SECONDS)
        self.threads.clear()

    def _serve(self, listener: int, names: Mapping[tuple[int, int], str]) -> None:
        waiter = select.poll()
        waiter.register(listener, select.POLLIN)
        try:
            while waiter.poll()[0][1] & select.POLLIN:
                call = _receive(listener, names)
                if call is not None:
                    _respond(call, listener, self.handler)
        finally:
            os.close(listener)


def _receive(listener: int, names: Mapping[tuple[int, int], str]) -> SystemCall | None:
    """``None`` if the caller was killed before we looked."""
    notification = bytearray(NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, RECEIVE, notification)
    except FileNotFoundError:
        return None
    cookie, pid, _, number, architecture, _, *arguments = NOTIFICATION.unpack(notification)
    name = names.get((architecture, number), "")
    return SystemCall(name, number, architecture, tuple(arguments), pid, cookie, listener)


def _respond(call: SystemCall, listener: int, handler: Handler) -> None:
    value, error, flags = 0, 0, 0
    try:
        result = handler(call)
    except OSError as problem:
        error = problem.errno or errno.EIO
    else:
        if result is CONTINUE:
            flags = FLAG_CONTINUE
        else:
            value = int(result)
    try:
        fcntl.ioctl(listener, SEND, RESPONSE.pack(call._cookie, value, -error, flags))
    except FileNotFoundError:  # killed meanwhile
        return
