"""checkpoint and restore: a container's processes to files, and back (CRIU)."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, cast

from ocirt.cli.handover import Console, write_pid_file
from ocirt.cli.parse import UsageError
from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from ocirt.cli import Call
    from ocirt.container import Container
    from ocirt.criu.dump import DumpOptions
    from ocirt.criu.options import CgroupsMode, Common, NetworkLock
    from ocirt.criu.restoring import RestoreOptions
    from ocirt.preparation import CgroupManager

IMAGES: Final = "checkpoint"
"""Below the current directory, where no --image-path says otherwise."""


def checkpoint(call: Call) -> int:
    from ocirt.container import Container

    options = call.options
    wanted: DumpOptions = {
        **_common(call),
        "leave_running": options.on("leave-running"),
        "pre_dump": options.on("pre-dump"),
        "parent_path": options.text("parent-path") or None,
        "tcp_skip_in_flight": options.on("tcp-skip-in-flight"),
        "link_remap": options.on("link-remap"),
        "page_server": _page_server(options.text("page-server")),
        "status_fd": options.number("status-fd") if options.given("status-fd") else None,
    }
    Container.load(call.container_id, root=call.root).checkpoint(_images(call), **wanted)
    return 0


def restore(call: Call) -> int:
    """In the foreground this is the process, as with ``run``."""
    from ocirt.cli.foreground import attend

    if call.options.on("no-pivot"):
        raise UnsupportedError("--no-pivot", "a root directory is only left by pivot_root(2)")
    detached = call.options.on("detach")
    with contextlib.ExitStack() as undo:
        container = _restored(call, undo, detached=detached)
        process = container.process
        assert process is not None  # it is our child
        if call.options.given("pid-file"):
            write_pid_file(call.options.text("pid-file"), process.pid)
        status = 0 if detached else attend(process, lambda: None)
        if detached:
            undo.pop_all()
    return status


def _restored(call: Call, undo: contextlib.ExitStack, *, detached: bool) -> Container:
    """Its terminal is handed over; ``undo`` deletes it."""
    from ocirt import checkpoint
    from ocirt.bundle import Bundle

    options = call.options
    bundle = Bundle.load(options.text("bundle"))
    terminal = bundle.spec.process is not None and bundle.spec.process.terminal
    wanted: RestoreOptions = {
        **_common(call),
        "tcp_close": options.on("tcp-close"),
        "lsm_profile": options.text("lsm-profile") or None,
        "lsm_mount_context": options.text("lsm-mount-context") or None,
    }
    with Console.connect(options.text("console-socket"), terminal=terminal, detached=detached) as console:
        container = checkpoint.restore(
            _images(call),
            call.container_id,
            bundle,
            root=call.root,
            cgroup_manager=cast("CgroupManager", call.cgroup_manager),
            strict_resources=not call.settings.on("ignore-v1-limits"),
            **wanted,
        )
        undo.callback(_delete, container)
        assert container.process is not None
        console.hand_over(container.process)
    return container


def _delete(container: Container) -> None:
    from ocirt.errors import NotFoundError

    with contextlib.suppress(NotFoundError):
        container.delete(force=True)


def _common(call: Call) -> Common:
    options = call.options
    return {
        "work_path": options.text("work-path") or None,
        "tcp_established": options.on("tcp-established"),
        "ext_unix_sk": options.on("ext-unix-sk"),
        "shell_job": options.on("shell-job"),
        "file_locks": options.on("file-locks"),
        "manage_cgroups_mode": cast("CgroupsMode | None", options.text("manage-cgroups-mode") or None),
        "empty_network": _empty_network(options.all("empty-ns")),
        "auto_dedup": options.on("auto-dedup"),
        "lazy_pages": options.on("lazy-pages"),
        "network_lock": cast("NetworkLock | None", options.text("network-lock") or None),
        "criu": call.settings.text("criu") or None,
    }


def _images(call: Call) -> str:
    return call.options.text("image-path") or os.path.join(os.getcwd(), IMAGES)


def _empty_network(names: tuple[str, ...]) -> bool:
    """CRIU can do it with no other namespace."""
    for name in names:
        if name != "network":
            raise UsageError(f"namespace {name} is not supported")
    return bool(names)


def _page_server(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError("Use --page-server ADDRESS:PORT to specify page server")
    return address.removeprefix("[").removesuffix("]"), int(port)
