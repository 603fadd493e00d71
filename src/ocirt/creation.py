"""Create a container: from a bundle to an init that waits for its start (runtime.md, Create).

Everything that is made is entered in ``undo`` at once, and in the record before it is made: whatever happens, this
process or a later ``delete`` can take it back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import define, field

from ocirt import notify
from ocirt.cgroups import limits, verdict
from ocirt.errors import HookError, InitDied, SetupError, SpecError, UnsupportedError
from ocirt.host import NAMESPACE_FILES
from ocirt.launch import Launch, launch
from ocirt.plan.context import (
    CallersFile,
    Descriptor,
    InitPidfd,
    MappedUserNamespace,
    NamespaceFile,
    ProcDirectory,
    RootDirectory,
    StartSocket,
)
from ocirt.plan.ops import CLONE_NEW, Purpose
from ocirt.preparation import Prepared, Request, prepare
from ocirt.process import Process, Terminal, reap_abandoned
from ocirt.spec import Linux, Spec
from ocirt.state import (
    NOTIFY,
    SCRATCH,
    Record,
    StateDirectory,
    StateStore,
    Status,
    boot_id,
    check_id,
    describe,
    now,
    start_time,
)
from ocirt.streams import Streams
from ocirt.wire import COMMITTED, ListenerOpened, NetlinkOpened, SyncRequested, TerminalOpened

if TYPE_CHECKING:
    from ocirt import rdt
    from ocirt.cgroups.settings import Setting
    from ocirt.cgroups.systemd import Wanted

NS_GET_NSTYPE = 0xB703
"""ioctl_ns(2)"""


@define
class Creation:
    """A container on its way: what is known of it so far, and how to take it back."""

    store: StateStore
    request: Request
    prepared: Prepared
    streams: Streams
    undo: contextlib.ExitStack
    listener: socket.socket = field(factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    terminal: Terminal | None = None
    hooks_began: bool = False
    tasks_limited: bool = False
    began: int = 0
    """When init did, in clock ticks after boot, once there is a unit: systemd removes that as soon as init is dead."""
    rdt_group: rdt.Group | None = None
    directory: StateDirectory = field(init=False)
    record: Record = field(init=False)

    @property
    def document(self) -> Spec:
        return self.request.bundle.spec

    def run(self) -> tuple[Record, Process]:
        """Make it.

        Init starts before the id is ours: it waits for that as soon as it has the namespaces that take the kernel
        longest. Only where it has to be born into its cgroup, that must exist before.
        """
        with self.listener:
            if self.prepared.born_in_cgroup:
                self._record()
                self._make_cgroup()
                self._allow_devices()
                self._limit()
            launched = self._launch()
            try:
                self._keep_pace(launched)
                process = self._process()
                self.streams.release()
                self._attend(launched)
            except BaseException:
                if self.terminal is not None:
                    self.terminal.close()
                launched.abort()
                raise
        process._began(launched.pid, launched.pidfd, self.terminal, launched.events)  # one thing in two files
        launched.settle()
        return self.record, process

    def _record(self) -> None:
        """Take the id, and write down what is about to be made."""
        request = self.request
        self.directory = self.store.claim(request.container_id)
        self.undo.callback(self.directory.close)
        self.undo.callback(self._clean_up)
        self.record = Record(
            request.container_id,
            request.bundle._directory,
            self.prepared.rootfs,
            self.document.oci_version,
            self.document.annotations,
            self.prepared.cgroup(request.container_id),
            rdt_groups=self.rdt_group.joined if self.rdt_group else (),
            rdt_made=self.rdt_group.made if self.rdt_group else (),
            keyring=request.new_keyring,
            unit=self.prepared.unit.unit if self.prepared.unit else None,
            plain=self.prepared.plain,
        )
        self.directory.intend(self.record, request.bundle._config)  # as with its preparation
        if request.throw_away_layer:
            os.mkdir(SCRATCH, 0o700, dir_fd=self.directory.fd)
        if request.notifies:
            os.mkdir(NOTIFY, dir_fd=self.directory.fd)
            os.chmod(NOTIFY, 0o755, dir_fd=self.directory.fd)  # whatever our umask is
        self.directory.listen(self.listener)

    def _clean_up(self) -> None:
        """After a failure. A create that failed once hooks may have run ends like any other life (runtime.md)."""
        self.directory.remove()
        wanted = self.document.hooks
        if wanted is None or not self.hooks_began:
            return
        from ocirt import hooks

        for index, hook in enumerate(wanted.poststop):
            with contextlib.suppress(HookError):  # a warning at most, and there is a better error to tell
                hooks.run(hook, f"hooks.poststop[{index}]", describe(self.record, Status.STOPPED))

    def _make_cgroup(self, launched: Launch | None = None) -> None:
        pid = 0
        if launched is not None and self.prepared.unit is not None:
            pid = launched.pid
            self._start_unit(self.prepared.unit, launched)
        found = self.record.cgroup.make(but=pid)
        self.undo.callback(self.record.cgroup.remove, kill=True)
        if found and not pid:
            self.record = self.record._replace(used_before=verdict.used(self.record.cgroup))
        if self.prepared.owner is not None:
            from ocirt.cgroups import delegation

            delegation.hand_over(self.record.cgroup, self.prepared.owner)
        if launched is not None and self.prepared.unit is not None and self.prepared.unit.divided:
            with self._unless_gone(launched):
                self._join_cgroup(launched)

    def _start_unit(self, unit: Wanted, launched: Launch) -> None:
        """Unless init has failed already: why, it tells in a moment."""
        from ocirt.cgroups import systemd

        self.began = start_time(launched.pid)[1]
        try:
            systemd.start(unit, launched.pid, self.prepared.early_limits)
        except SetupError:
            if not _has_ended(launched.pidfd):
                raise
        else:
            if self.record.unit is not None:
                self.undo.callback(systemd.stop, self.record.unit)

    def _allow_devices(self) -> None:
        self.record.cgroup.allow_devices(self.prepared.device_writes)
        if self.prepared.device_program is not None:
            from ocirt.cgroups import device_filter

            device_filter.attach_to(self.record.cgroup, self.prepared.device_program)

    def _keep_pace(self, launched: Launch) -> None:
        """The host's part of what init does not ask for: it is busy meanwhile, and should not have to wait."""
        cgroup = None if self.prepared.born_in_cgroup else self.prepared.placement
        if not self.prepared.born_in_cgroup:
            self._record()
        if self.rdt_group is not None:  # before it has children: those are born into it
            from ocirt import rdt

            rdt.make(self.rdt_group, self.undo)
            rdt.join(self.rdt_group.joined, launched.pid)
        launched.done(Purpose.RECORD)
        if cgroup is not None:
            self._make_cgroup(launched)
            launched.done(Purpose.CGROUPS)
            with self._unless_gone(launched):
                self._allow_devices()
                self._limit()
                self._join_cgroup(launched)
            launched.done(Purpose.JOINED)
        self._identify(launched.pid)

    def _limit(self) -> None:
        """Before anybody is in the cgroup. Only those who build the container must not run into its limit of tasks."""
        if self.prepared.limits:
            self._apply(self.prepared.early_limits)

    @contextlib.contextmanager
    def _unless_gone(self, launched: Launch) -> Iterator[None]:
        """systemd removes a cgroup with its last process, init: if that failed already, it tells why soon."""
        try:
            yield
        except SetupError as error:
            if self.record.unit is None or error.errno != errno.ENOENT or not _has_ended(launched.pidfd):
                raise

    def _limit_tasks(self, launched: Launch) -> None:
        """Once init is alone, and before there is a hook; those who made it count until they are reaped."""
        if self.prepared.late_limits and not self.tasks_limited:
            launched.settle()
            with self._told(self.prepared.late_limits):
                self._apply(self.prepared.late_limits)
            self.tasks_limited = True

    def _told(self, settings: Sequence[Setting]) -> contextlib.AbstractContextManager[None]:
        """What systemd hears of only now."""
        if self.record.unit is None:
            return contextlib.nullcontext()
        from ocirt.cgroups import systemd

        return systemd.updated(self.record.unit, (), settings)

    def _apply(self, settings: Sequence[Setting]) -> None:
        here = self.prepared.here
        limits.apply(self.record.cgroup, settings, limits.top_of(here.layout) if here is not None else None)

    def _join_cgroup(self, launched: Launch) -> None:
        """Unless init has failed already, and was reaped by whoever ignores SIGCHLD: why, it tells in a moment."""
        try:
            self.record.cgroup.join(launched.pid)
        except SetupError as error:
            if error.errno != errno.ESRCH:
                raise

    def _launch(self) -> Launch:
        prepared = self.prepared.launch
        with contextlib.ExitStack() as stack:
            descriptors = open_descriptors(prepared.plan.descriptors, stack, listener=self.listener.fileno())
            cgroup = self.record.cgroup.open_v2() if self.prepared.born_in_cgroup else None
            if cgroup is not None:
                stack.callback(os.close, cgroup)
            return launch(
                prepared,
                descriptors,
                self.streams.child,
                -1 if cgroup is None else cgroup,
                self.request.container_id,
            )

    def _attend(self, launched: Launch) -> None:
        """The host's part, whenever init asks for it; until it is created."""
        for event in launched.heard():
            match event:
                case SyncRequested(Purpose.ID_MAPS):
                    from ocirt import idmap

                    idmap.install(launched.pid, self.document.linux or Linux(), self.prepared.host)
                case SyncRequested(Purpose.HOOKS):
                    self._limit_tasks(launched)
                    self._run_hooks(launched.pid)
                case SyncRequested(Purpose.RLIMITS):
                    self._set_rlimits(launched.pid)
                case TerminalOpened(fd):
                    self.terminal = Terminal(fd)
                    continue
                case NetlinkOpened(fd):
                    self._move_net_devices(fd)
                case SyncRequested(Purpose.CREATED):
                    self._limit_tasks(launched)
                    self._commit(launched.pid)
                    return
                case ListenerOpened():
                    state = describe(self.record._replace(pid=launched.pid), Status.CREATING)
                    notify.hand_over(self.document, self.request.answers, launched.pidfd, event, launched.pid, state)
            launched.reached = type(event).__name__ if not isinstance(event, SyncRequested) else event.purpose.name
            launched.go()
        raise self._died(launched)

    def _died(self, launched: Launch) -> InitDied:
        error = launched.died()
        error.oom_killed = verdict.oom_killed(
            self.record.cgroup, self.record.used_before, self.began or self.record.start_time
        )
        return error

    def _commit(self, pid: int) -> None:
        """From here on the container exists: it is found by its record, and init may outlive us."""
        if self.record.pid != pid:
            self._identify(pid)
        self.directory.commit()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, COMMITTED)

    def _identify(self, pid: int) -> None:
        self.record = self.record._replace(pid=pid, start_time=start_time(pid)[1], boot=boot_id(), created=now())
        self.directory.prepare(self.record)

    def _run_hooks(self, pid: int) -> None:
        wanted = self.document.hooks
        if wanted is None:
            return
        from ocirt import hooks

        self.hooks_began = True
        described = describe(self.record._replace(pid=pid), Status.CREATING)
        hooks.run_all(wanted.prestart, "prestart", described)
        hooks.run_all(wanted.create_runtime, "createRuntime", described)

    def _move_net_devices(self, inside: int) -> None:
        """``inside`` is a netlink socket of the container's network namespace."""
        from ocirt import netdevices

        try:
            netdevices.move(self.document.linux.net_devices if self.document.linux else {}, inside)
        except OSError as error:  # most likely there is no descriptor left to receive or open a socket with
            raise SetupError("linux.netDevices", "OfferNetlink", "socket", error.errno or 0) from error

    def _set_rlimits(self, pid: int) -> None:
        process = self.document.process
        for index, limit in enumerate(process.rlimits if process else ()):
            number = getattr(resource, limit.type, None)
            if number is None:
                raise UnsupportedError(f"process.rlimits[{index}].type", f"Python knows no {limit.type} here")
            set_rlimit(pid, number, limit.soft, limit.hard, f"process.rlimits[{index}]")

    def _process(self) -> Process:
        """What the caller will have of init, made while there is time."""
        program = self.document.process
        process = Process(program.args if program else ())
        self.streams.give_to(process)
        return process


def create(store: StateStore, request: Request, streams: Streams) -> tuple[Record, Process]:
    """Create a container and leave it waiting for its start.

    :raises OCIError: and nothing is left.
    """
    reap_abandoned()
    check_id(request.container_id)
    if problems := request.bundle.spec.check():
        raise SpecError(problems, f"{request.bundle._directory}/config.json")
    notify.check(request.bundle.spec, request.answers)
    prepared = prepare(store, request, streams.ours)
    group = rdt_group(request)
    with contextlib.ExitStack() as undo:
        creation = Creation(store, request, prepared, streams, undo, rdt_group=group)
        result = creation.run()
        undo.pop_all()
        creation.directory.close()
        return result


def rdt_group(request: Request) -> rdt.Group | None:
    linux = request.bundle.spec.linux
    if linux is None or linux.intel_rdt is None:
        return None
    from ocirt import rdt

    return rdt.survey(linux.intel_rdt, request.container_id)


def _has_ended(pidfd: int) -> bool:
    waiter = select.poll()
    waiter.register(pidfd, select.POLLIN)
    return bool(waiter.poll(0))


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
        case CallersFile(number):
            return number
        case StartSocket():
            return listener
        case InitPidfd():
            return init
        case NamespaceFile():
            return _open_namespace(descriptor, stack)
        case MappedUserNamespace():
            from ocirt import idmap

            fd = idmap.namespace(descriptor)
            stack.callback(os.close, fd)
            return fd
        case ProcDirectory():
            return _open_path("/proc", os.O_PATH | os.O_DIRECTORY, "host", "SetLabel", stack)
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
        raise SetupError(wanted.origin, "JoinNamespaces", "", 0, f"{wanted.path} is not a {wanted.type} namespace")
    own = f"/proc/thread-self/ns/{NAMESPACE_FILES[wanted.type]}"
    if wanted.unless_own is not None and os.path.samestat(os.fstat(fd), os.stat(own)):
        raise UnsupportedError(*wanted.unless_own)
    return fd


def set_rlimit(pid: int, number: int, soft: int, hard: int, origin: str) -> None:
    """prlimit(2), where 2**64-1 is infinity."""
    infinity = 2**64 - 1
    try:
        resource.prlimit(pid, number, (-1 if soft == infinity else soft, -1 if hard == infinity else hard))
    except (OSError, ValueError) as error:
        number_of_error = error.errno or 0 if isinstance(error, OSError) else 1
        raise SetupError(
            origin, "SetRlimits", "prlimit", number_of_error, "", "raising a hard limit needs CAP_SYS_RESOURCE"
        ) from error
