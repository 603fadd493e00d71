"""Let a created container's init go on to the user's program (runtime.md, Start).

Most often that takes three facts of the configuration, and nothing of the plan: so neither is loaded before it is
needed, which for a command that does nothing but start is the better part of its time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ocirt.errors import InitDied, OCIError, StateError
from ocirt.state import Json, Record, StateDirectory, Status, describe, open_init

if TYPE_CHECKING:
    import socket

    from ocirt.answers import Answers
    from ocirt.spec import Spec
    from ocirt.wire import Failed

SHORT: Final = 24
"""Bytes of what init says unless it is a failure: ``wire.SHORT_EVENT``, without what that imports."""

NOTIFY: Final = "SCMP_ACT_NOTIFY"

FRAME: Final = 4096
"""More than the longest, ``wire.EVENT``."""


class Wishes(NamedTuple):
    """What of a configuration matters to a start."""

    process: bool
    listener: bool
    """Its filter leaves system calls to somebody else."""
    poststart: bool

    @classmethod
    def of(cls, document: Spec) -> Wishes:
        from ocirt.seccomp import notifies, profile_of

        profile = profile_of(document.linux)
        hooks = document.hooks
        return cls(
            document.process is not None,
            profile is not None and notifies(profile),
            hooks is not None and bool(hooks.poststart),
        )

    @classmethod
    def read(cls, config: object) -> Wishes:
        """The same from the JSON that create has kept, which was checked then."""
        members = cast("Json", config)
        linux = cast("Json", members.get("linux", {}))
        profile = cast("Json", linux.get("seccomp", {}))
        rules = cast("list[Json]", profile.get("syscalls", ()))
        hooks = cast("Json", members.get("hooks", {}))
        return cls(
            "process" in members,
            bool(profile.get("defaultAction")) and any(rule["action"] == NOTIFY for rule in rules),
            bool(hooks.get("poststart")),
        )


def start(
    connection: socket.socket,
    directory: StateDirectory,
    record: Record,
    wishes: Wishes,
    spec: Callable[[], Spec],
    answers: Answers | None = None,
) -> None:
    """Say go, and hear how it went: init's silence is its execve.

    :param spec: the configuration, for the rare cases in which ``wishes`` do not say all.
    :raises StateError: somebody else was quicker, or there is no process to run.
    :raises SetupError, HookError: what init could not do.
    """
    with connection:
        if not wishes.process:
            raise StateError(record.id, Status.CREATED, "start", "process property must not be empty")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its silence will tell
            connection.send(b"s")
        problem = _conversation(connection, record, spec(), answers) if wishes.listener else _answer(connection, record)
    directory.forget_start()
    if problem is not None:
        raise _failure(problem, record, spec())
    if wishes.poststart and (wanted := spec().hooks) is not None:
        from ocirt import hooks

        hooks.run_all(wanted.poststart, "poststart", describe(record, Status.RUNNING))


def _answer(connection: socket.socket, record: Record) -> Failed | None:
    """Init closes its end by its execve, or by its death; what it said before can be read afterwards.

    That it has started it says in a short frame, and with a failure in another one.
    """
    waiter = select.poll()
    waiter.register(connection, 0)  # POLLHUP alone: one wake-up, not two
    waiter.poll()
    frames = tuple(_frames(connection))
    if not frames or len(frames[0]) != SHORT:
        raise _stopped(record)
    if len(frames) == 1:
        return None
    from ocirt.wire import Failed, decode

    problem = decode(frames[1], -1)
    return problem if isinstance(problem, Failed) else None


def _frames(connection: socket.socket) -> Iterator[bytes]:
    """Until the end. That it did not read all that we had sent the kernel tells first, and once (unix(7))."""
    while True:
        try:
            frame = connection.recv(FRAME)
        except ConnectionResetError:
            continue
        if not frame:
            return
        yield frame


def _conversation(connection: socket.socket, record: Record, document: Spec, answers: Answers | None) -> Failed | None:
    """Where its filter notifies, init has more to say before it is silent: the listener is passed on."""
    from ocirt import notify
    from ocirt.launch import receive
    from ocirt.wire import GO, Failed, ListenerOpened, Started

    if not isinstance(receive(connection), Started):
        raise _stopped(record)
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
    return event if isinstance(event, Failed) else None


def _stopped(record: Record) -> OCIError:
    """While it waited for its start."""
    from ocirt.cgroups import verdict

    if not verdict.oom_killed(record.cgroup, record.used_before, record.start_time):
        return StateError(record.id, Status.STOPPED, "start", "cannot start a container that has stopped")
    error = InitDied("process", "AwaitStart", -signal.SIGKILL)
    error.oom_killed = True
    return error


def _failure(problem: Failed, record: Record, document: Spec) -> OCIError:
    """In the words of config.json, which only the plan knows."""
    from ocirt.host import Host
    from ocirt.launch import failure
    from ocirt.plan import Site, plan_start
    from ocirt.seccomp import program_of

    site = Site(record.id, record.bundle, record.rootfs, filter=program_of(document))
    return failure(plan_start(document, Host.probe(), site), problem)
