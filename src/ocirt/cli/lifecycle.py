"""The commands that make a container, let it run and end it."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from ocirt.cli.parse import UsageError
from ocirt.errors import NotFoundError, OCIError, StateError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cli import Call
    from ocirt.container import Container
    from ocirt.preparation import CgroupManager
    from ocirt.process import Process

NOT_RUNNING: Final = "container not running"
REAL_TIME: Final = r"(RTMIN|RTMAX)([+-]\d+)?"


def create(call: Call) -> int:
    with contextlib.ExitStack() as undo:
        _, process = _create(call, undo, detached=True)
        _write_pid(call, process)
        undo.pop_all()
    return 0


def start(call: Call) -> int:
    _load(call).start()
    return 0


def run(call: Call) -> int:
    """In the foreground this is the process: its streams, its terminal, its signals and its exit status."""
    from ocirt.cli.foreground import attend

    detached = call.options.on("detach")
    with contextlib.ExitStack() as undo:
        container, process = _create(call, undo, detached=detached)
        begin = _beginning(call, container, process)
        status = 0
        if detached:
            begin()
        else:
            status = attend(process, begin)
        if detached or call.options.on("keep"):
            undo.pop_all()
    return status


def _beginning(call: Call, container: Container, process: Process) -> Callable[[], None]:
    def begin() -> None:
        container.start()
        _write_pid(call, process)

    return begin


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
    from ocirt.bundle import Bundle
    from ocirt.cli.handover import Console, activation, descriptors, let_go
    from ocirt.container import Container
    from ocirt.preparation import Request
    from ocirt.state import StateStore

    options = call.options
    activated = activation()
    kept = descriptors(options, activated)
    if options.on("no-pivot"):
        raise UnsupportedError(
            "--no-pivot", "a root directory is only left by pivot_root(2), which undoes all ways back"
        )
    bundle = Bundle.load(options.text("bundle"))
    program = bundle.spec.process
    terminal = program is not None and program.terminal
    with Console.connect(options.text("console-socket"), terminal=terminal, detached=detached) as console:
        manager = cast("CgroupManager", call.cgroup_manager)
        request = Request(
            call.container_id,
            bundle,
            manager,
            new_keyring=not options.on("no-new-keyring"),
            strict_resources=not call.settings.on("ignore-v1-limits"),
            kept=kept,
            activated=activated,
        )
        container = Container._create(request, StateStore(call.root))  # as run() does
        undo.callback(_delete, container)
        let_go(kept)
        process = container.process
        if process is None:
            raise OCIError("a container that was just created has no process")
        console.hand_over(process)
    return container, process


def _delete(container: Container) -> None:
    with contextlib.suppress(NotFoundError):  # a start that fails has done it already
        container.delete(force=True)


def _write_pid(call: Call, process: Process) -> None:
    if call.options.given("pid-file"):
        from ocirt.cli.handover import write_pid_file

        write_pid_file(call.options.text("pid-file"), process.pid)


def _load(call: Call) -> Container:
    from ocirt.container import Container

    return Container._find(call.container_id, call.root)  # nobody here waits for it
