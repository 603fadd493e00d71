"""exec: one more process in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirt.cli.handover import Console, PidfdSockets, descriptors, let_go, write_pid_file
from ocirt.cli.parse import Parsed, UsageError

if TYPE_CHECKING:
    from ocirt.cli import Call
    from ocirt.process import Process
    from ocirt.spec import Capabilities, Spec, User
    from ocirt.spec import Process as ProcessSpec


def execute(call: Call) -> int:
    from ocirt.container import Container

    options = call.options
    kept = descriptors(options)
    container = Container.load(call.container_id, root=call.root)
    program = _sized(_program(options, container.spec))
    cgroup = _cgroups(options.all("cgroup"))
    detached = options.on("detach")
    with (
        Console.connect(options.text("console-socket"), terminal=program.terminal, detached=detached) as console,
        PidfdSockets.connect(options.text("pidfd-socket")) as pidfds,
    ):
        stream: int | None = None
        if not (detached or program.terminal):
            from subprocess import PIPE  # which takes 3 ms: engines wait for us, and need none

            stream = PIPE
        process = container.exec(
            program,
            stdin=stream,
            stdout=stream,
            stderr=stream,
            cgroup=cgroup,
            ignore_paused=options.on("ignore-paused"),
            pass_fds=kept,
        )
        let_go(kept)
        try:
            console.hand_over(process)
            pidfds.hand_over(process, "setns")
            _write_pid(options, process)
        except BaseException:
            process.kill()
            raise
    if not detached:
        from ocirt.cli.foreground import attend

        return attend(process, lambda: None)
    process._leave()
    return 0


def _sized(program: ProcessSpec) -> ProcessSpec:
    """With our terminal's size from the beginning: it runs before we could hand that on."""
    if not program.terminal or program.console_size is not None:
        return program
    from ocirt.cli.foreground import host_size
    from ocirt.spec import ConsoleSize

    size = host_size()
    return program if size is None else program.evolve(console_size=ConsoleSize(height=size[0], width=size[1]))


def _write_pid(options: Parsed, process: Process) -> None:
    if options.given("pid-file"):
        write_pid_file(options.text("pid-file"), process.pid)


def _program(options: Parsed, document: Spec) -> ProcessSpec:
    """A file's process, or the container's own with what the flags change (as runc: all else stays)."""
    from ocirt.spec import Process as ProcessSpec

    if options.given("process"):
        return ProcessSpec.load(options.text("process"))
    args = options.arguments[1:]
    if not args:
        raise UsageError("exec args cannot be empty")
    base = document.process or ProcessSpec(cwd="/")
    changes: dict[str, object] = {
        "args": args,
        "env": (*base.env, *options.all("env")),
        "terminal": options.on("tty"),
        "user": _user(options, base.user),
    }
    if options.given("cwd"):
        changes["cwd"] = options.text("cwd")
    if options.given("apparmor"):
        changes["apparmor_profile"] = options.text("apparmor")
    if options.given("process-label"):
        changes["selinux_label"] = options.text("process-label")
    if options.given("no-new-privs"):
        changes["no_new_privileges"] = options.on("no-new-privs")
    if options.given("cap"):
        changes["capabilities"] = _capabilities(base.capabilities, options.all("cap"))
    return base.evolve(**changes)


def _cgroups(given: tuple[str, ...]) -> dict[str, str]:
    """``[<controller>[,<controller>...]:]<path>`` each; without controllers it can be one only."""
    paths: dict[str, str] = {}
    for text in given:
        controllers, colon, path = text.rpartition(":")
        if not colon and len(given) > 1:
            raise UsageError(f"invalid --cgroup argument: {text} (missing <controller>: prefix)")
        for controller in controllers.split(","):
            if colon and not controller:
                raise UsageError(f"invalid --cgroup argument: {text} (empty controller)")
            if controller in paths:
                raise UsageError(f"invalid --cgroup argument: {text}: duplicate controller {controller}")
            paths[controller] = path
    return paths


def _user(options: Parsed, base: User) -> User:
    """Numbers alone: names would have to be looked up in a file that the container may have changed."""
    groups = base.additional_gids + tuple(_number(text, "additional gid") for text in options.all("additional-gids"))
    uid, separator, gid = options.text("user").partition(":")
    changed = base.evolve(additional_gids=groups)
    if options.given("user"):
        changed = changed.evolve(uid=_number(uid, "uid"))
    return changed.evolve(gid=_number(gid, "gid")) if separator else changed


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise UsageError(f'bad {what}: "{text}" is not an unsigned 32-bit number')
    return int(text)


def _capabilities(base: Capabilities | None, added: tuple[str, ...]) -> Capabilities:
    """Ambient ones must be inheritable (capabilities(7)), and no flag makes any inheritable (CVE-2022-29162)."""
    from ocirt.spec import Capabilities

    before = base or Capabilities()
    inherited = tuple(name for name in added if name in before.inheritable)
    return before.evolve(
        bounding=_united(before.bounding, added),
        effective=_united(before.effective, added),
        permitted=_united(before.permitted, added),
        ambient=_united(before.ambient, inherited),
    )


def _united(names: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *added)))
