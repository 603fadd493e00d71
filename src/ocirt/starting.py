"""Let a created container's init go on to the user's program (runtime.md, Start)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from ocirt import hooks, notify
from ocirt.cgroups import verdict
from ocirt.creation import describe
from ocirt.errors import InitDied, OCIError, StateError
from ocirt.host import Host
from ocirt.launch import failure, receive
from ocirt.plan import Site, plan_start
from ocirt.seccomp import notifies, profile_of, program_of
from ocirt.spec import Spec
from ocirt.state import Record, StateDirectory, Status, open_init
from ocirt.wire import GO, Event, Failed, ListenerOpened, Started

if TYPE_CHECKING:
    from ocirt.answers import Answers


def _await_end(connection: socket.socket) -> None:
    """Init closes its end by its execve, or by its death; what it said before can be read afterwards."""
    waiter = select.poll()
    waiter.register(connection, 0)  # POLLHUP alone: one wake-up, not two
    waiter.poll()


def _listens(document: Spec) -> bool:
    """Its filter notifies: then init has more to say before it is silent."""
    profile = profile_of(document.linux)
    return profile is not None and notifies(profile)


def _last_words(connection: socket.socket, record: Record, document: Spec, answers: Answers | None) -> Event | None:
    """What went wrong, if anything did; where there is a listener, it is passed on first."""
    while isinstance(event := receive(connection), ListenerOpened):
        pidfd = open_init(record)
        if pidfd is None:  # it has been killed; nobody is left to ask
            if event.fd >= 0:
                os.close(event.fd)
            continue
        try:
            notify.hand_over(document, answers, pidfd, event, record.pid, describe(record, Status.CREATED))
        finally:
            os.close(pidfd)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(GO)
    return event


def _stopped(record: Record) -> OCIError:
    """While it waited for its start."""
    if not verdict.oom_killed(record.cgroup, record.used_before, record.start_time):
        return StateError(record.id, Status.STOPPED, "start", "cannot start a container that has stopped")
    error = InitDied("process", "AwaitStart", -signal.SIGKILL)
    error.oom_killed = True
    return error


def start(
    connection: socket.socket, directory: StateDirectory, record: Record, document: Spec, answers: Answers | None = None
) -> None:
    """Say go, and hear how it went: init's silence is its execve.

    :raises StateError: somebody else was quicker, or there is no process to run.
    :raises SetupError, HookError: what init could not do.
    """
    with connection:
        if document.process is None:
            raise StateError(record.id, Status.CREATED, "start", "process property must not be empty")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its silence will tell
            connection.send(b"s")
        if not _listens(document):
            _await_end(connection)
        heard = receive(connection)
        if not isinstance(heard, Started):
            raise _stopped(record)
        problem = _last_words(connection, record, document, answers)
    directory.forget_start()
    if isinstance(problem, Failed):
        site = Site(record.id, record.bundle, record.rootfs, filter=program_of(document))
        raise failure(plan_start(document, Host.probe(), site), problem)
    if document.hooks is not None:
        hooks.run_all(document.hooks.poststart, "poststart", describe(record, Status.RUNNING))
