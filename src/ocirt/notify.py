"""Who is asked about the system calls that a profile leaves to others: SCMP_ACT_NOTIFY, seccomp_unotify(2)."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ocirt.errors import SetupError, UnsupportedError
from ocirt.launch import take_descriptor
from ocirt.seccomp import notifies, profile_of
from ocirt.spec import Seccomp, Spec
from ocirt.wire import ListenerOpened

if TYPE_CHECKING:
    from ocirt.answers import Answers

FD_NAME: Final = "seccompFd"
"""What the specification calls it (config-linux.md, The Container Process State)."""

CONNECT_SECONDS: Final = 10.0
"""An agent that accepts no connection does not hold up the container for ever."""

OPERATION: Final = "InstallSeccomp"
ORIGIN: Final = "linux.seccomp.listenerPath"


def check(document: Spec, answers: Answers | None) -> None:
    """:raises UnsupportedError: system calls are left to somebody, and there is nobody."""
    profile = profile_of(document.linux)
    if profile is not None and notifies(profile) and not profile.listener_path and answers is None:
        raise UnsupportedError(ORIGIN, "SCMP_ACT_NOTIFY needs an agent there, or on_syscall= in the program that asks")


def hand_over(
    document: Spec, answers: Answers | None, pidfd: int, told: ListenerOpened, pid: int, state: Mapping[str, object]
) -> None:
    """Give the listener of a process that has just installed its filter to who answers.

    :raises SetupError, UnsupportedError: that cannot be done; nobody would answer then.
    """
    profile = profile_of(document.linux)
    assert profile is not None  # there is a filter
    listener = told.fd if told.fd >= 0 else take_listener(pidfd, told.number)
    if answers is not None:
        answers.give(listener, profile)
        return
    try:
        check(document, answers)
        send_listener(profile, listener, pid, state)
    finally:
        os.close(listener)


def take_listener(pidfd: int, number: int) -> int:
    """The descriptor that notifications come from, out of a process that may not send it.

    :raises SetupError: we may not either.
    """
    try:
        return take_descriptor(pidfd, number)
    except OSError as error:
        hint = (
            "that takes the right to trace the container's process; a profile that allows sendmsg needs no such right"
        )
        raise SetupError("linux.seccomp", OPERATION, "pidfd_getfd", error.errno or 0, "", hint) from error


def send_listener(profile: Seccomp, listener: int, pid: int, state: Mapping[str, object]) -> None:
    """Give ``listener`` to the agent behind ``listenerPath``, with the container process state; it stays ours too.

    :raises SetupError: there is no such agent.
    """
    path = profile.listener_path or ""
    members: dict[str, object] = {"ociVersion": state["ociVersion"], "fds": [FD_NAME], "pid": pid}
    if profile.listener_metadata is not None:
        members["metadata"] = profile.listener_metadata
    message = json.dumps({**members, "state": dict(state)}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))]
    call = "connect"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(CONNECT_SECONDS)
        try:
            _connect(agent, path)
            call = "sendmsg"
            sent = agent.sendmsg([message], rights)
            agent.sendall(message[sent:])  # the descriptor goes with the first part alone
        except OSError as error:
            hint = "nobody takes the container's notifications: is the agent running?"
            raise SetupError(ORIGIN, OPERATION, call, error.errno or 0, path, hint) from error


def _connect(agent: socket.socket, path: str) -> None:
    """By way of an open directory, since an address holds 107 bytes of path (unix(7))."""
    directory, name = os.path.split(path)
    fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        agent.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
