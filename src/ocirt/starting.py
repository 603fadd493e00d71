"""Let a created container's init go on to the user's program (runtime.md, Start)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ocirt import hooks
from ocirt.creation import describe
from ocirt.errors import StateError
from ocirt.host import Host
from ocirt.launch import failure, receive
from ocirt.plan import Site, plan_start
from ocirt.spec import Spec
from ocirt.state import Record, StateDirectory, Status
from ocirt.wire import Failed, Started


def start(directory: StateDirectory, record: Record, document: Callable[[], Spec]) -> None:
    """Say go, and hear how it went: init's silence is its execve.

    :raises StateError: somebody else was quicker, or there is no process to run.
    :raises SetupError, HookError: what init could not do.
    """
    if document().process is None:
        raise StateError(record.id, Status.CREATED, "start", "process property must not be empty")
    connection = directory.connect()
    if connection is None:
        raise StateError(record.id, Status.RUNNING, "start", "cannot start an already running container")
    with connection:
        with contextlib.suppress(BrokenPipeError):
            connection.send(b"s")
        heard = receive(connection)
        if not isinstance(heard, Started):
            raise StateError(record.id, Status.STOPPED, "start", "cannot start a container that has stopped")
        problem = receive(connection)
    directory.forget_start()
    if isinstance(problem, Failed):
        raise failure(plan_start(document(), Host.probe(), Site(record.id, record.bundle, record.rootfs)), problem)
    _run_poststart(document(), record)


def _run_poststart(document: Spec, record: Record) -> None:
    if document.hooks is not None:
        hooks.run_all(document.hooks.poststart, "poststart", describe(record, Status.RUNNING))
