"""Create a container: from a bundle to an init that waits for its start (runtime.md, Create).

Everything that is made is entered in ``undo`` at once, and in the record before it is made: whatever happens, this
process or a later ``delete`` can take it back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import define, frozen

from ocirt import hooks, idmap
from ocirt.bundle import Bundle
from ocirt.cgroups import choice, devices, files, layout, mounts
from ocirt.errors import HookError, OCIError, SetupError, SpecError, UnsupportedError
from ocirt.host import Host
from ocirt.launch import Launch, launch
from ocirt.plan import Plan, Site, plan_create
from ocirt.plan.context import Descriptor, InitPidfd, NamespaceFile, RootDirectory, StartSocket
from ocirt.plan.ops import CLONE_NEW, Purpose
from ocirt.process import Process, Terminal, reap_abandoned
from ocirt.spec import Linux, Spec
from ocirt.state import CONFIG, SCRATCH, Record, StateDirectory, StateStore, Status, boot_id, now, start_time
from ocirt.streams import Streams
from ocirt.wire import SyncRequested, TerminalOpened

CgroupManager = Literal["cgroupfs", "disabled"]

NS_GET_NSTYPE = 0xB703
"""ioctl_ns(2)"""


@frozen
class Request:
    """What the caller of create asked for."""

    container_id: str
    bundle: Bundle
    cgroup_manager: CgroupManager = "cgroupfs"
    throw_away_layer: bool = False


@frozen
class Cgroups:
    """The container's cgroup and how the others take part in it."""

    cgroup: files.Cgroup
    mounts: tuple[mounts.CgroupMountEntry, ...]

    @classmethod
    def choose(cls, document: Spec, container_id: str, host: Host, manager: CgroupManager) -> Cgroups:
        """:raises SpecError, UnsupportedError, SetupError: at ``linux.cgroupsPath`` or ``linux.resources.devices``."""
        linux = document.linux or Linux()
        wants_mount = any(mount.type in ("cgroup", "cgroup2") for mount in document.mounts)
        if manager == "disabled":
            cgroup = files.Cgroup()
            if not wants_mount:
                return cls(cgroup, ())
        here = layout.here()
        if manager != "disabled":
            rules = linux.resources.devices if linux.resources else ()
            devices.check_supported(here.layout, rules, rootless=not host.privileged)
            placement = choice.choose(here, linux.cgroups_path, container_id)
            cgroup = files.survey(placement, rootless=not host.privileged)
        return cls(cgroup, mounts.mount_entries(here, cgroup) if wants_mount else ())


@define
class Creation:
    """A container on its way: what is known of it so far."""

    request: Request
    host: Host
    directory: StateDirectory
    record: Record
    plan: Plan
    streams: Streams
    undo: contextlib.ExitStack
    terminal: Terminal | None = None
    hooks_began: bool = False

    @property
    def document(self) -> Spec:
        return self.request.bundle.spec

    def run(self) -> tuple[Record, Process]:
        """Make it."""
        listener = self.directory.listen()
        self.undo.callback(listener.close)
        self.record.cgroup.make()
        self.undo.callback(_remove_cgroup, self.record.cgroup)
        if self.host.privileged:
            linux = self.document.linux
            rules = linux.resources.devices if linux and linux.resources else ()
            self.record.cgroup.allow_devices(devices.device_writes(rules))
        launched = self._launch(listener)
        try:
            self._attend(launched)
        except BaseException:
            self._close_terminal()
            launched.abort()
            raise
        launched.settle()
        listener.close()
        return self.record, self._process(launched)

    def _launch(self, listener: socket.socket) -> Launch:
        with contextlib.ExitStack() as stack:
            descriptors = open_descriptors(self.plan.descriptors, stack, listener=listener.fileno())
            cgroup = self.record.cgroup.open_v2()
            if cgroup is not None:
                stack.callback(os.close, cgroup)
            return launch(self.plan, descriptors, self.streams.child, -1 if cgroup is None else cgroup)

    def _attend(self, launched: Launch) -> None:
        """The host's part, whenever init asks for it; until it is created."""
        for event in launched.heard():
            match event:
                case SyncRequested(Purpose.ID_MAPS):
                    idmap.install(launched.pid, self.document.linux or Linux(), self.host)
                case SyncRequested(Purpose.HOOKS):
                    self._run_hooks(launched.pid)
                case SyncRequested(Purpose.RLIMITS):
                    self._set_rlimits(launched.pid)
                case TerminalOpened(fd):
                    self.terminal = Terminal(fd)
                    continue
                case SyncRequested(Purpose.CREATED):
                    self._commit(launched.pid)
                    launched.go()
                    return
            launched.reached = type(event).__name__ if not isinstance(event, SyncRequested) else event.purpose.name
            launched.go()
        raise launched.died()

    def _commit(self, pid: int) -> None:
        """From here on the container exists: it is found by its record, and init may outlive us."""
        self.record = self.record._replace(pid=pid, start_time=start_time(pid)[1], boot=boot_id(), created=now())
        self.directory.write_record(self.record)

    def _run_hooks(self, pid: int) -> None:
        wanted = self.document.hooks
        if wanted is None:
            return
        self.hooks_began = True
        described = describe(self.record._replace(pid=pid), Status.CREATING)
        hooks.run_all(wanted.prestart, "prestart", described)
        hooks.run_all(wanted.create_runtime, "createRuntime", described)

    def _set_rlimits(self, pid: int) -> None:
        process = self.document.process
        for index, limit in enumerate(process.rlimits if process else ()):
            number = getattr(resource, limit.type, None)
            if number is None:
                raise UnsupportedError(f"process.rlimits[{index}].type", f"Python knows no {limit.type} here")
            set_rlimit(pid, number, limit.soft, limit.hard, f"process.rlimits[{index}]")

    def _close_terminal(self) -> None:
        if self.terminal is not None:
            self.terminal.close()

    def _process(self, launched: Launch) -> Process:
        program = self.document.process
        process = Process(program.args if program else (), launched.pid, launched.pidfd)
        process.terminal = self.terminal
        self.streams.give_to(process)
        return process


def create(store: StateStore, request: Request, streams: Streams) -> tuple[Record, Process]:
    """Create a container and leave it waiting for its start.

    :raises OCIError: and nothing is left.
    """
    reap_abandoned()
    document, host = request.bundle.spec, Host.probe()
    if problems := document.check():
        raise SpecError(problems, str(request.bundle.path / "config.json"))
    rootfs = str(request.bundle.rootfs)
    hooks_due: list[Record] = []
    with store.claim(request.container_id) as directory, contextlib.ExitStack() as undo:
        undo.callback(_run_poststop, document, hooks_due)
        undo.callback(directory.remove)
        chosen = Cgroups.choose(document, request.container_id, host, request.cgroup_manager)
        scratch = f"{directory.path}/{SCRATCH}" if request.throw_away_layer else None
        plan = plan_create(document, host, _site(request, rootfs, scratch, streams, chosen))
        record = Record(
            request.container_id,
            str(request.bundle.path),
            rootfs,
            document.oci_version,
            now(),
            dict(document.annotations),
            chosen.cgroup,
        )
        directory.write_record(record)
        directory.write(CONFIG, config_bytes(document))
        if scratch:
            os.mkdir(scratch, 0o700)
        creation = Creation(request, host, directory, record, plan, streams, undo)
        try:
            result = creation.run()
        except (OCIError, OSError) as error:
            if creation.hooks_began or isinstance(error, HookError):
                hooks_due.append(creation.record)
            raise
        undo.pop_all()
        return result


def _site(request: Request, rootfs: str, scratch: str | None, streams: Streams, chosen: Cgroups) -> Site:
    return Site(
        request.container_id,
        str(request.bundle.path),
        rootfs,
        scratch,
        streams.ours,
        chosen.cgroup.task_files(),
        chosen.mounts,
        own_cgroup=bool(chosen.cgroup.directories),
    )


def config_bytes(document: Spec) -> bytes:
    return document.dumps(indent=None).encode()


def open_descriptors(
    wanted: Sequence[Descriptor],
    stack: contextlib.ExitStack,
    *,
    listener: int = -1,
    init: int = -1,
) -> list[int]:
    """What the plan's slots stand for; those opened here are closed with the stack."""
    return [_open(descriptor, stack, listener, init) for descriptor in wanted]


def _open(descriptor: Descriptor, stack: contextlib.ExitStack, listener: int, init: int) -> int:
    match descriptor:
        case StartSocket():
            return listener
        case InitPidfd():
            return init
        case NamespaceFile():
            return _open_namespace(descriptor, stack)
        case RootDirectory(path, origin):
            return _open_path(path, os.O_PATH | os.O_DIRECTORY, origin, "ChangeRoot", stack)


def _open_path(path: str, flags: int, origin: str, operation: str, stack: contextlib.ExitStack) -> int:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise SetupError(origin, operation, "open", error.errno or 0, path) from error
    stack.callback(os.close, fd)
    return fd


def _open_namespace(wanted: NamespaceFile, stack: contextlib.ExitStack) -> int:
    """A namespace file of the right type, found out before anything is done with it."""
    fd = _open_path(wanted.path, os.O_RDONLY | os.O_NONBLOCK, wanted.origin, "JoinNamespaces", stack)
    try:
        type_ = fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError as error:
        raise SetupError(
            wanted.origin, "JoinNamespaces", "ioctl(NS_GET_NSTYPE)", error.errno or 0, wanted.path, "no namespace file"
        ) from error
    if type_ != CLONE_NEW[wanted.type]:
        raise SetupError(
            wanted.origin, "JoinNamespaces", "", 0, f"{wanted.path} is not a {wanted.type} namespace"
        )
    return fd


def describe(record: Record, status: Status) -> Mapping[str, object]:
    """The state as runtime.md defines it: what hooks get and ``state`` shows."""
    state: dict[str, object] = {"ociVersion": record.oci_version, "id": record.id, "status": str(status)}
    state["pid"] = 0 if status is Status.STOPPED else record.pid
    state["bundle"] = record.bundle
    state["annotations"] = dict(record.annotations)
    return state


def _run_poststop(document: Spec, due: list[Record]) -> None:
    """A create that failed once hooks may have run ends like any other life (runtime.md, Lifecycle)."""
    wanted = document.hooks
    if wanted is None:
        return
    for record in due:
        for index, hook in enumerate(wanted.poststop):
            with contextlib.suppress(HookError):  # a warning at most, and there is a better error to tell
                hooks.run(hook, f"hooks.poststop[{index}]", describe(record, Status.STOPPED))


def set_rlimit(pid: int, number: int, soft: int, hard: int, origin: str) -> None:
    """prlimit(2), where 2**64-1 is infinity."""
    limits = tuple(-1 if value == 2**64 - 1 else value for value in (soft, hard))
    try:
        resource.prlimit(pid, number, limits)
    except (OSError, ValueError) as error:
        number_of_error = error.errno or 0 if isinstance(error, OSError) else 1
        raise SetupError(
            origin, "SetRlimits", "prlimit", number_of_error, "", "raising a hard limit needs CAP_SYS_RESOURCE"
        ) from error


def _remove_cgroup(cgroup: files.Cgroup) -> None:
    """After a failure: whoever is left in it goes with it."""
    cgroup.kill()
    cgroup.remove()


