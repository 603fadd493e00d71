"""Let a created container's init go on to the user's program (runtime.md, Start)."""

from __future__ import annotations

import contextlib
import select
import socket

from ocirt import hooks
from ocirt.creation import describe
from ocirt.errors import StateError
from ocirt.host import Host
from ocirt.launch import failure, receive
from ocirt.plan import Site, plan_start
from ocirt.spec import Spec
from ocirt.state import Record, StateDirectory, Status
from ocirt.wire import Failed, Started


def _await_end(connection: socket.socket) -> None:
    """Init closes its end by its execve, or by its death; what it said before can be read afterwards."""
    waiter = select.poll()
    waiter.register(connection, 0)  # POLLHUP alone: one wake-up, not two
    waiter.poll()


def start(connection: socket.socket, directory: StateDirectory, record: Record, document: Spec) -> None:
    """Say go, and hear how it went: init's silence is its execve.

    :raises StateError: somebody else was quicker, or there is no process to run.
    :raises SetupError, HookError: what init could not do.
    """
    with connection:
        if document.process is None:
            raise StateError(record.id, Status.CREATED, "start", "process property must not be empty")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its silence will tell
            connection.send(b"s")
        _await_end(connection)
        heard = receive(connection)
        if not isinstance(heard, Started):
            raise StateError(record.id, Status.STOPPED, "start", "cannot start a container that has stopped")
        problem = receive(connection)
    directory.forget_start()
    if isinstance(problem, Failed):
        site = Site(record.id, record.bundle, record.rootfs)
        raise failure(plan_start(document, Host.probe(), site), problem)
    if document.hooks is not None:
        hooks.run_all(document.hooks.poststart, "poststart", describe(record, Status.RUNNING))
