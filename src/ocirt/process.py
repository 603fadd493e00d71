"""A process in a container, as the library's caller sees it: what users of ``subprocess.Popen`` expect.

It is waited for by its pidfd alone: no SIGCHLD handler, no ``waitpid(-1)``, so nothing of the caller's own children is
disturbed, and an event loop can watch ``fileno()``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import selectors
import signal
import socket
import struct
import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Final, Self

from ocirt.errors import ExitStatusUnknown
from ocirt.reaping import reap

PIDFD_GET_INFO: Final = 0xC040FF0B
PIDFD_INFO_EXIT: Final = 1 << 3
PIDFD_INFO: Final = struct.Struct("=QQ11Ii")
"""struct pidfd_info of linux/pidfd.h, first version: mask, cgroup, eleven ids, exit code (since Linux 6.15)."""

SIGNAL_GROUP: Final = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP of pidfd_send_signal(2), since Linux 6.9."""

STATUS_TRIES: Final = 200
"""How many milliseconds the kernel may take between the end of a process and the keeping of its status."""

DRAIN_SECONDS: Final = 0.2
"""How long the output of a killed process is read on, where something it left behind holds the pipe open."""

REAP_SECONDS: Final = 0.25
"""How often a wait looks after the other processes of this caller; see ``reap_ended``."""

_executed: weakref.WeakSet[Process] = weakref.WeakSet()
_executed_lock = threading.Lock()

_abandoned: list[int] = []
"""pidfds of processes whose object is gone; reaped when the next one starts, as subprocess does."""


class Terminal:
    """The master side of a container's terminal (pty(7))."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self, size: int = 65536) -> bytes:
        """What the container wrote; empty once nobody there has the terminal open any more."""
        try:
            return os.read(self._fd, size)
        except OSError:  # EIO, which is how a pty says so
            return b""

    def write(self, data: bytes) -> int:
        """Type."""
        return os.write(self._fd, data)

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines."""
        return os.get_terminal_size(self._fd)

    def resize(self, columns: int, lines: int) -> None:
        """Set the size, and let the foreground process know (SIGWINCH)."""
        import termios

        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def close(self) -> None:
        """Hang up: the session's leader gets SIGHUP."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Terminal fd={self._fd}>"


class Process:
    """One process: made by ``Container.create`` (its init) and ``Container.exec``, never directly.

    ``stdin``, ``stdout`` and ``stderr`` are file objects where PIPE was asked for, else ``None``; ``terminal`` is the
    master side of the process's terminal if it has one. ``returncode`` is negative for a signal, ``None`` as long as
    nobody has asked for it since the process ended.
    """

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def __init__(self, args: Sequence[str], pid: int = 0, pidfd: int = -1) -> None:
        self.args = tuple(args)
        self.pid = pid
        self.returncode: int | None = None
        self.terminal: Terminal | None = None
        self.stdin = self.stdout = self.stderr = None
        self._pidfd = pidfd
        self._starter: socket.socket | None = None
        self._lock = threading.Lock()
        self._output: dict[IO[bytes], list[bytes]] = {}

    def _began(self, pid: int, pidfd: int, terminal: Terminal | None, starter: socket.socket) -> None:
        """It is this one; what is passed is ours from now on."""
        self.pid, self._pidfd, self.terminal, self._starter = pid, pidfd, terminal, starter

    def _take_starter(self) -> socket.socket | None:
        """The way to an init that we created and nobody has started through us: shorter than by its socket's path."""
        starter, self._starter = self._starter, None
        return starter

    def fileno(self) -> int:
        """The pidfd: readable once the process has ended (pidfd_open(2))."""
        return self._pidfd

    def poll(self) -> int | None:
        """The return code if the process has ended, else ``None``.

        :raises ExitStatusUnknown: as ``wait``.
        """
        return self._collect() if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; ``timeout`` in seconds, after which the process goes on.

        :raises subprocess.TimeoutExpired: it still runs.
        :raises ExitStatusUnknown: it ended, and its status went to somebody else.
        """
        if not self._ended(timeout):
            from subprocess import TimeoutExpired

            raise TimeoutExpired(self.args, timeout or 0)
        return self._collect()

    def _ended(self, timeout: float | None) -> bool:
        """Wait for it; and whatever else the kernel waits for then."""
        if self.returncode is not None:
            return True
        waiter = select.poll()
        waiter.register(self._pidfd, select.POLLIN)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = REAP_SECONDS if deadline is None else max(0, min(REAP_SECONDS, deadline - time.monotonic()))
            if waiter.poll(left * 1000):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            reap_ended()

    def _collect(self) -> int:
        """Take the status: from wait, or where another waiter was quicker, from what the kernel remembers."""
        with self._lock:
            if self.returncode is None:
                code = reap(self._pidfd, os.WNOHANG)
                self.returncode = code if code is not None else _status_of(self._pidfd, self.pid)
        if self.returncode is None:
            raise ExitStatusUnknown(self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal this very process; nothing happens if it has ended (as Popen does)."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _kill_group(self) -> None:
        """And with it what it started: every process of a container begins in a session of its own."""
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, SIGNAL_GROUP)
        except ProcessLookupError:
            pass
        except OSError:
            self.kill()

    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Write ``input``, read both streams to their ends, wait; each is ``None`` where it is no PIPE.

        Other than Popen's, it does not leave the process behind: when ``timeout`` seconds have passed it is killed,
        with its process group.

        :raises subprocess.TimeoutExpired: it was; ``output`` and ``stderr`` hold what came before.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._output = {stream: [] for stream in (self.stdout, self.stderr) if stream is not None}
        in_time = self._exchange(memoryview(input or b""), deadline)
        if in_time:
            in_time = self._ended(None if deadline is None else deadline - time.monotonic())
        if not in_time:
            self._kill_group()
            self._exchange(memoryview(b""), time.monotonic() + DRAIN_SECONDS)
        self._close_streams()
        self.wait()
        output, errors = self._collected(self.stdout), self._collected(self.stderr)
        if not in_time:
            from subprocess import TimeoutExpired

            raise TimeoutExpired(self.args, timeout or 0, output, errors)
        return output, errors

    def _exchange(self, data: memoryview, deadline: float | None) -> bool:
        """Serve all pipes at once, so that none fills up while we wait on another; false: out of time."""
        with selectors.DefaultSelector() as selector:
            for stream in self._output:
                if not stream.closed:
                    selector.register(stream, selectors.EVENT_READ)
            if self.stdin is not None and not self.stdin.closed:
                if data:
                    os.set_blocking(self.stdin.fileno(), False)
                    selector.register(self.stdin, selectors.EVENT_WRITE)
                else:
                    self.stdin.close()
            while selector.get_map():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                for key, _ in selector.select(left):
                    if key.fileobj is self.stdin:
                        data = self._feed(selector, data)
                    else:
                        self._read(selector, key.fileobj)  # type: ignore[arg-type]  # we registered streams only
        return True

    def _feed(self, selector: selectors.BaseSelector, data: memoryview) -> memoryview:
        stdin = self.stdin
        assert stdin is not None  # registered, so it is there
        try:
            data = data[os.write(stdin.fileno(), data) :]
        except BrokenPipeError:  # a process need not read all of its input
            data = data[:0]
        except BlockingIOError:
            return data
        if not data:
            selector.unregister(stdin)
            stdin.close()
        return data

    def _read(self, selector: selectors.BaseSelector, stream: IO[bytes]) -> None:
        chunk = os.read(stream.fileno(), 65536)
        if chunk:
            self._output[stream].append(chunk)
            return
        selector.unregister(stream)
        stream.close()

    def _collected(self, stream: IO[bytes] | None) -> bytes | None:
        return None if stream is None else b"".join(self._output[stream])

    def _close_streams(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def close(self) -> None:
        """Close the streams and the terminal, and forget the process; it goes on if it runs."""
        self._close_streams()
        if (starter := self._take_starter()) is not None:
            starter.close()
        if self.terminal is not None:
            self.terminal.close()
        if self._pidfd >= 0:
            if self.returncode is None and reap(self._pidfd, os.WNOHANG) is None:
                _abandoned.append(self._pidfd)
            else:
                os.close(self._pidfd)
            self._pidfd = -1

    def _leave(self) -> None:
        """Forget it for good: its status is for whoever becomes its parent once we end, even if it has ended by now."""
        pidfd, self._pidfd = self._pidfd, -1
        self.close()
        if pidfd >= 0:
            os.close(pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the streams and wait, as Popen does."""
        self._close_streams()
        self.wait()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be on its way out
            self.close()

    def __repr__(self) -> str:
        return f"<Process {self.pid} args={list(self.args)} returncode={self.returncode}>"


def _status_of(pidfd: int, pid: int) -> int | None:
    """The return code of a process that has ended and is not our child, or was reaped by somebody else in this process.

    Until it is reaped its entry in /proc shows the status; from then on the kernel keeps it for whoever holds a pidfd.
    In between there is a moment when neither does, so both are asked again.
    """
    for _ in range(STATUS_TRIES):
        status = _kept_status(pidfd)
        if status is None:
            status = _zombie_status(pidfd, pid)
        if status is not None:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def _kept_status(pidfd: int) -> int | None:
    """ioctl(PIDFD_GET_INFO)"""
    request = bytearray(PIDFD_INFO.size)
    struct.pack_into("=Q", request, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, request)
    except OSError:
        return None
    mask, *_, status = PIDFD_INFO.unpack(request)
    return int(status) if mask & PIDFD_INFO_EXIT else None


def _zombie_status(pidfd: int, pid: int) -> int | None:
    """Field 52 of proc_pid_stat(5); that it was this process's is sure if the pidfd still leads to one afterwards."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return None
    return int(fields[49]) if fields[0] in (b"Z", b"X") else None


def executed(process: Process) -> Process:
    """Remember one that runs in a container beside its init; see ``reap_ended``."""
    with _executed_lock:
        _executed.add(process)
    return process


def reap_ended() -> None:
    """Take the status of every process of ``Container.exec`` that has ended; its object keeps it.

    The init of a pid namespace is gone only after all others in it have been reaped (pid_namespaces(7)), and these are
    our children, not its. So whoever waits for an init must not wait for a caller who means to look at them later.
    """
    reap_abandoned()
    with _executed_lock:
        running = [process for process in _executed if process.returncode is None]
    for process in running:
        with contextlib.suppress(ExitStatusUnknown, ValueError):  # ValueError: closed meanwhile
            process.poll()


def reap_abandoned() -> None:
    """Collect what nobody waits for any more."""
    for pidfd in _abandoned[:]:
        if _finished(pidfd):
            with contextlib.suppress(ValueError):  # another thread does the same
                _abandoned.remove(pidfd)
                reap(pidfd)
                os.close(pidfd)


def _finished(pidfd: int) -> bool:
    waiter = select.poll()
    waiter.register(pidfd, select.POLLIN)
    return bool(waiter.poll(0))
