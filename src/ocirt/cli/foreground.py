"""Stand in for a process in a container: whoever runs, signals or waits for us means it.

It never has our own streams: a terminal among them would let it type for us (TIOCSTI), and a pipe of somebody else's it
could not open by name. We are the wire between it and ours. With a terminal of its own, ours is raw meanwhile: what
keys mean is for the container's terminal to say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
import threading
import tty
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Final

from ocirt.cli.relay import Relay
from ocirt.process import Process, Terminal

KEPT: Final = frozenset(
    {
        signal.SIGKILL,  # cannot be caught
        signal.SIGSTOP,
        signal.SIGCHLD,  # about children of ours
        signal.SIGURG,  # about sockets of ours
        signal.SIGWINCH,  # about our terminal; the size is handed on instead
    }
)
"""Signals that are not handed on (runc's, which are three)."""

AWAITED: Final = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGPIPE})
"""Signals that we may also have brought upon ourselves. A handler could not tell, and would return to what caused it;
while they are blocked, the kernel kills who is at fault, and sigwaitinfo(2) hears of the others with their senders."""

BACKGROUND: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU})
"""Signals that stop a program in the background when it turns to the terminal, as we do to change it."""

OFLAG: Final = 1
"""Index in what tcgetattr(3) gives."""


def attend(process: Process, begin: Callable[[], object], *, reaps: bool = False) -> int:
    """Do ``begin`` once the streams are ready, wait for the end, and give the status that a shell would.

    :param reaps: we have adopted whom the container orphans, and see them off.
    """
    terminal = process.terminal
    host = _host_terminal()
    handled = signal.valid_signals() - KEPT - AWAITED - BACKGROUND
    with (
        _forwarded(process, host, handled),
        _raw(host if terminal is not None else None),
        _forwarded(process, host, BACKGROUND),
    ):
        if terminal is not None:
            _prepare(terminal, host)
        begin()
        with _awaited(process), _orphans_reaped(process) if reaps else contextlib.nullcontext():
            Relay.of(process).run()
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
            termios.tcsetattr(host, termios.TCSANOW, before)  # not to wait for who may never read it


@contextlib.contextmanager
def _forwarded(process: Process, host: int | None, numbers: Collection[int]) -> Iterator[None]:
    """Handlers run even while a write of the relay blocks, so they do the forwarding themselves."""

    def forward(number: int, _: FrameType | None) -> None:
        _send(process, number)

    def resize(_: int, __: FrameType | None) -> None:
        _hand_on_size(process.terminal, host)

    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = {**dict.fromkeys(numbers, forward), signal.SIGWINCH: resize}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(OSError):  # it became somebody whom we may not signal
        process.send_signal(number)


@contextlib.contextmanager
def _awaited(process: Process) -> Iterator[None]:
    """Hand on ``AWAITED`` too. Nothing may be executed meanwhile, since a mask is inherited.

    The listener has all other signals blocked: one that the kernel gave to it would not interrupt the relay.
    """

    def hand_on() -> None:
        while (told := signal.sigwaitinfo(AWAITED)).si_pid != os.getpid():
            _send(process, told.si_signo)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    listener = threading.Thread(target=hand_on, daemon=True)
    listener.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *AWAITED})
    try:
        yield
    finally:
        signal.pthread_kill(listener.ident or 0, signal.SIGPIPE)
        listener.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _orphans_reaped(process: Process) -> Iterator[None]:
    """Whoever is not the process. Not while hooks run: those are waited for by somebody else."""

    def reap(_: int = 0, __: FrameType | None = None) -> None:
        with contextlib.suppress(ChildProcessError):  # there are none
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid == process.pid:
                    return  # and with it we are at the end
                os.waitpid(ended.si_pid, 0)

    previous = signal.signal(signal.SIGCHLD, reap)
    reap()
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)
