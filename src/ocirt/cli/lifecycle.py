"""The commands that make a container, let it run and end it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Final, cast

from ocirt.cli.parse import Parsed, UsageError
from ocirt.errors import BundleError, NotFoundError, OCIError, StateError

if TYPE_CHECKING:
    import socket

    from ocirt.bundle import Bundle
    from ocirt.cli import Call
    from ocirt.container import Container
    from ocirt.preparation import CgroupManager
    from ocirt.process import Process
    from ocirt.sdnotify import Proxy

PIDFD_RECEIVER: Final = "run.oci.pidfd_receiver"
"""crun's annotation for what ``--pidfd-socket`` says."""

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"

BEGUN: Final = "begun"
"""Python's option -X by which ``command/ocirt.c`` tells a descriptor's number."""

NOT_RUNNING: Final = "container not running"
REAL_TIME: Final = r"(RTMIN|RTMAX)([+-]\d+)?"


def create(call: Call) -> int:
    with contextlib.ExitStack() as undo:
        _, process = _create(call, undo, detached=True)
        _write_pid(call, process)
        process._leave()
        undo.pop_all()
    return 0


def start(call: Call) -> int:
    container = _load(call)
    container._begun = _begun()
    with _proxy(container) as proxy:
        process = _watched(container) if proxy is not None else None
        container.start()
        _await_readiness(process, proxy)
    return 0


def _begun() -> socket.socket | None:
    """The program that has started us had begun this command, and it did not go as it most often goes."""
    number = sys._xoptions.get(BEGUN)
    if not isinstance(number, str):
        return None
    import socket

    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))


def run(call: Call) -> int:
    """In the foreground this is the process: its streams, its terminal, its signals and its exit status."""
    detached = call.options.on("detach")
    adopts = not detached and not call.options.on("no-subreaper")
    if adopts:
        from ocirt.launch import adopt_orphans

        adopt_orphans()
    with contextlib.ExitStack() as last, contextlib.ExitStack() as undo:
        container, process = _create(call, undo, detached=detached)
        proxy = last.enter_context(_proxy(container))  # it is in use until the container is gone
        status = 0
        if detached:
            _begin(call, container, process)
            _await_readiness(process, proxy)
            process._leave()
        else:
            from ocirt.cli.foreground import attend

            status = attend(process, lambda: _begin(call, container, process, proxy), reaps=adopts)
        if detached or call.options.on("keep"):
            undo.pop_all()
    return status


def _begin(call: Call, container: Container, process: Process, proxy: Proxy | None = None) -> None:
    container.start()
    _write_pid(call, process)
    if proxy is not None:
        proxy.accompany(process.fileno(), os.getpid())


def _proxy(container: Container) -> contextlib.AbstractContextManager[Proxy | None]:
    """Where a service manager started us, and the container knows of it."""
    address = os.environ.get(NOTIFY_SOCKET)
    if not address:
        return contextlib.nullcontext()
    from ocirt.sdnotify import Proxy

    with container._store.open(container.id, "start") as directory:  # as with _create
        return Proxy.open(address, directory) or contextlib.nullcontext()


def _await_readiness(process: Process | None, proxy: Proxy | None) -> None:
    """Before that, a service manager must not believe that we have done what we were started for."""
    if proxy is not None and process is not None:
        proxy.serve(process.fileno(), process.pid, once=True)


def kill(call: Call) -> int:
    container = _load(call)
    name = call.options.arguments[1] if len(call.options.arguments) > 1 else "TERM"
    everybody = call.options.on("all")
    try:
        container.kill(signal_number(name), all=everybody)
    except StateError as error:
        if not everybody or error.reason != NOT_RUNNING:  # engines make sure that nobody is left, and none is
            raise
    return 0


def delete(call: Call) -> int:
    """By force a container that is not there counts as deleted."""
    force = call.options.on("force")
    with contextlib.suppress(*([NotFoundError] if force else [])):
        _load(call).delete(force=force)
    return 0


def signal_number(text: str) -> int:
    """A number, or a name with or without SIG in any case; crun's ``RTMIN+3`` too.

    :raises UsageError: there is no such signal.
    """
    if text.isascii() and text.isdigit() and int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name.startswith("RT") and (place := re.fullmatch(REAL_TIME, name)) is not None:
        number = signal.Signals[f"SIG{place[1]}"] + int(place[2] or "0")
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    if f"SIG{name}" in signal.Signals.__members__:
        return signal.Signals[f"SIG{name}"]
    raise UsageError(f'unknown signal "{text}"')


def _create(call: Call, undo: contextlib.ExitStack, *, detached: bool) -> tuple[Container, Process]:
    """A created container whose console is handed over; ``undo`` deletes it."""
    from ocirt.cli.handover import Console, PidfdSockets, activation, descriptors, let_go
    from ocirt.container import Container
    from ocirt.preparation import Request
    from ocirt.state import StateStore

    options = call.options
    activated = activation()
    kept = descriptors(options, activated)
    bundle = _bundle(options)
    program = bundle.spec.process
    terminal = program is not None and program.terminal
    with (
        Console.connect(options.text("console-socket"), terminal=terminal, detached=detached) as console,
        PidfdSockets.connect(options.text("pidfd-socket"), bundle.spec.annotations.get(PIDFD_RECEIVER)) as pidfds,
    ):
        manager = cast("CgroupManager", call.cgroup_manager)
        request = Request(
            call.container_id,
            bundle,
            manager,
            new_keyring=not options.on("no-new-keyring"),
            strict_resources=not call.settings.on("ignore-v1-limits"),
            kept=kept,
            activated=activated,
            pivots=not options.on("no-pivot"),
            notifies=_notifies(),
        )
        stream: int | None = None
        if not (detached or terminal):
            from subprocess import PIPE  # whose import takes 3 ms: engines wait for us, and need none

            stream = PIPE
        container = Container._create(request, StateStore(call.root), stream, stream, stream)  # as run() does
        undo.callback(_delete, container)
        let_go(kept)
        process = container.process
        if process is None:
            raise OCIError("a container that was just created has no process")
        console.hand_over(process)
        pidfds.hand_over(process, "standard")
    return container, process


def _notifies() -> bool:
    if not (address := os.environ.get(NOTIFY_SOCKET)):
        return False
    from ocirt import sdnotify

    sdnotify.check(address)
    return True


def _bundle(options: Parsed) -> Bundle:
    """A bundle that is no directory is told before its config.json is missed."""
    from ocirt.bundle import Bundle
    from ocirt.spec import Spec

    path = options.text("bundle")
    if options.given("config"):
        os.stat(path)
        return Bundle(path, Spec.load(options.text("config")))
    try:
        return Bundle.load(path)
    except BundleError:
        os.stat(path)
        raise


def _delete(container: Container) -> None:
    with contextlib.suppress(NotFoundError):  # a start that fails has done it already
        container.delete(force=True)


def _write_pid(call: Call, process: Process) -> None:
    if call.options.given("pid-file"):
        from ocirt.cli.handover import write_pid_file

        write_pid_file(call.options.text("pid-file"), process.pid)


def _watched(container: Container) -> Process | None:
    return type(container).load(container.id, root=container._store.root).process


def _load(call: Call) -> Container:
    from ocirt.container import Container

    return Container._find(call.container_id, call.root)  # nobody here waits for it
