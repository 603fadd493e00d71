"""Run ocirt-init on a plan and hear what it says.

The program runs from a sealed memfd, never from its file: a container that reaches its init through /proc/PID/exe
finds a copy in memory that nobody can write to any more (CVE-2019-5736).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from ocirt._native import HERE, INIT, ffi, lib
from ocirt.errors import HookError, InitDied, OCIError, SetupError, UnsupportedError, ended
from ocirt.plan import Plan
from ocirt.plan.ops import CLONE_NEW, UNASKED, Clone, Op, Purpose, RunHook, Sync
from ocirt.plan.tree_ops import Attributes, BindMount, MountFilesystem, SetMountAttributes
from ocirt.reaping import reap
from ocirt.spec.options import ATIME
from ocirt.wire import (
    EVENT,
    Cloned,
    Event,
    Failed,
    Frame,
    ListenerOpened,
    NetlinkOpened,
    TerminalOpened,
    TreeOffered,
    decode,
    encode,
)

SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
MFD_EXEC: Final = 0x10

STAGED = CLONE_NEW["user"] | CLONE_NEW["time"]
"""Namespaces that ocirt-init has to create itself: an exec inside a new user namespace would lose its capabilities,
and a time namespace takes in no process before its offsets are written."""

HEARING_SECONDS: Final = 1.0
"""How long an undone launch may take to tell of the processes it consists of."""


@define(eq=False)
class Launch:
    """A plan at work: the process that runs it, and the socket it reports on."""

    prepared: Prepared
    events: socket.socket
    pid: int
    pidfd: int
    stages: list[int] = field(factory=list)
    """pidfds of processes that have handed the plan on."""
    reached: str = "launch"
    """The last thing we heard of, for whoever asks what it died of."""
    births: list[int] = field(init=False)
    """The Clones that we have yet to hear of."""
    early: list[Event] = field(factory=list)
    """What was said by processes whose birth we have yet to hear of."""

    def __attrs_post_init__(self) -> None:
        self.births = list(self.prepared.births)

    def heard(self) -> Iterator[Event]:
        """What it says, until it says no more; a failure is raised."""
        while (event := self._next()) is not None:
            match event:
                case Cloned():
                    continue
                case Failed():
                    raise failure(self.prepared.plan, event)
                case _:
                    yield event

    def _next(self) -> Event | None:
        """In the order of the plan: a process may be quicker to speak than its parent is to tell of it."""
        if self.early and not self._is_early(self.early[0]):
            return self.early.pop(0)
        while (event := receive(self.events)) is not None:
            if isinstance(event, Cloned):
                del self.births[:1]
                self.stages.append(self.pidfd)
                self.pid, self.pidfd = event.pid, event.pidfd
                return event
            if not self._is_early(event):
                return event
            self.early.append(event)
        return self.early.pop(0) if self.early else None

    def _is_early(self, event: Event) -> bool:
        return bool(self.births) and event.index > self.births[0]

    def go(self) -> None:
        """Let it go on after what it has asked for."""
        self._say(lib.WIRE_GO)

    def done(self, purpose: Purpose) -> None:
        """Let it go on, now or later, after what it does not ask for."""
        if purpose in self.prepared.unasked:
            self._say(lib.WIRE_DONE)

    def _say(self, word: int) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died meanwhile, and its silence will tell
            self.events.send(bytes((word,)))

    def settle(self) -> None:
        """Reap the stages that have done their part, so that only the last process is left of the launch."""
        while self.stages:
            pidfd = self.stages.pop()
            reap(pidfd)
            os.close(pidfd)

    def abort(self) -> None:
        """Undo the launch: nothing of it stays."""
        self._hear_of_all()
        self.stages.append(self.pidfd)
        for pidfd in self.stages:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self.events.close()
        self.settle()

    def _hear_of_all(self) -> None:
        """Whom we do not know we cannot reap. A stage goes no further than to its Clone, or to a Sync that fails."""
        with contextlib.suppress(OSError):
            self.events.settimeout(HEARING_SECONDS)
            self.events.shutdown(socket.SHUT_WR)
            while self.births and (event := self._next()) is not None:
                _discard(event)
        for event in self.early:
            _discard(event)

    def died(self) -> InitDied:
        """For when it stopped talking too early."""
        return InitDied("process", self.reached, reap(self.pidfd, os.WNOWAIT))


def _discard(event: Event) -> None:
    """Let go of what came with it."""
    if isinstance(event, (TerminalOpened, NetlinkOpened, TreeOffered, ListenerOpened)) and event.fd >= 0:
        os.close(event.fd)


@frozen
class Prepared:
    """A plan ready for any number of launches.

    A leading Clone of namespaces that any process may be born into is left to the start itself, which spares a process.
    """

    plan: Plan
    namespaces: int
    frame: Frame
    unasked: frozenset[Purpose]
    """What init waits for without asking."""
    births: tuple[int, ...]
    """The numbers of its Clones."""

    @classmethod
    def of(cls, plan: Plan) -> Prepared:
        first = plan.ops[0]
        skipped = isinstance(first, Clone) and not first.flags & STAGED
        flags = first.flags if skipped and isinstance(first, Clone) else 0
        unasked = frozenset(op.purpose for op in plan.ops if isinstance(op, Sync) and op.purpose in UNASKED)
        births = tuple(number for number, op in enumerate(plan.ops[int(skipped) :]) if isinstance(op, Clone))
        return cls(plan, flags, encode(plan, int(skipped)), unasked, births)


def launch(
    prepared: Prepared, descriptors: Sequence[int], stdio: Sequence[int], cgroup: int = -1, container_id: str = ""
) -> Launch:
    """Start ocirt-init with these streams and the plan's descriptors (all stay the caller's), in a v2 cgroup."""
    made = ffi.new("int[3]")
    plan = prepared.frame.encoded(container_id)
    with _program() as program:
        fds = (*stdio, *descriptors)
        error = lib.ocirt_spawn(program, plan, len(plan), fds, len(fds), prepared.namespaces, cgroup, made)
    if error:
        if made[0]:
            reap(made[1])
            os.close(made[1])
        raise spawn_error(prepared.plan.ops[0], error)
    pid, pidfd, events = made
    return Launch(prepared, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, events), pid, pidfd)


def spawn_error(first: Op, error: int) -> OCIError:
    hint = ""
    if error == errno.ENOSPC:
        hint = "the limit of namespaces is reached (sysctl user.max_*_namespaces)"
    if error in (
        errno.ENOMEM,
        errno.E2BIG,
    ):  # a cgroup that it is born into is charged; execve has no page for arguments
        hint = "there is no memory for another process; is the container's limit too low?"
    return SetupError(first.origin, type(first).__name__, "clone3", error, hint=hint)


def receive(events: socket.socket) -> Event | None:
    """One event; ``None`` at the end.

    Where the other side ended without reading all that we had sent, the kernel tells of that first, once, and hands
    out its last words afterwards.
    """
    try:
        frame, ancillary = _frame(events)
    except ConnectionResetError:
        frame, ancillary = _frame(events)
    if not frame:
        return None
    fd = -1
    for _, _, data in ancillary:
        fd = int.from_bytes(data[:4], "little", signed=True)
    return decode(frame, fd)


def _frame(events: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    return events.recvmsg(EVENT.size, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)[:2]


def failure(plan: Plan, event: Failed) -> OCIError:
    """The failed operation in the words of config.json; of ``plan``, the end is enough."""
    op = plan.ops[-1 - event.left]
    if isinstance(op, RunHook):
        return _hook_failure(op, event)
    origin = op.origins[event.value] if event.value < len(op.origins) else op.origin
    error = SetupError(origin, type(op).__name__, event.call, event.errno, event.detail, hint(op, event))
    if isinstance(op, (BindMount, MountFilesystem)):
        error.mounting = (op.source, op.target)
    error.__cause__ = OSError(event.errno, os.strerror(event.errno), event.detail or None)
    return error


def _hook_failure(op: RunHook, event: Failed) -> OCIError:
    if event.call == "timeout":
        return HookError(
            op.origin, op.path, None, event.detail, f"hook ran past specified timeout of {op.timeout_ms / 1000:.1f}s"
        )
    if event.call == "exit":
        return HookError(op.origin, op.path, event.value, event.detail, ended(event.value))
    error = HookError(op.origin, op.path, None, "", f"cannot be run: {os.strerror(event.errno)}")
    error.__cause__ = OSError(event.errno, os.strerror(event.errno), op.path)
    return error


def hint(op: Op, event: Failed) -> str:
    """A remedy, where the errno alone would send people searching. Long, because it is a table."""
    name = type(op).__name__
    match name, event.call, event.errno:
        case "MountFilesystem", "openat2" | "fstat", errno.ELOOP | errno.ENOTDIR if type_ := _kernels_own(op):
            return f'filesystem "{type_}" must be mounted on ordinary directory'
        case "MountFilesystem", "fsopen", errno.ENODEV:
            return "this kernel has no such filesystem (or its module is not loaded)"
        case "MountFilesystem" | "OverlayRootfs" | "OfferOverlay", "mount", errno.E2BIG:
            return "so long a list of lower directories needs Linux 6.8"
        case "MountFilesystem" | "BindMount", _, errno.EROFS:
            return "the mount point does not exist and the filesystem it belongs in is read-only"
        case "MountFilesystem", "fsmount" | "fsconfig", errno.EPERM:
            return "in a user namespace this filesystem also needs its own pid, network or ipc namespace"
        case "BindMount", "open_tree", errno.ENOENT:
            return "the source does not exist"
        case "BindMount", "move_mount", errno.EINVAL:
            return "is one of source and mount point a directory, and the other not a directory?"
        case "BindDevice", "fstat", errno.ENODEV:
            return "no node can be made here, and the host's own at that path is another device"
        case "MakeDevice" | "BindDevice", _, errno.EEXIST:
            return "the image has something else at that path"
        case "BindMount" | "SetMountAttributes", "mount_setattr", errno.EPERM:
            return _locked(op)
        case "MapOwners" | "MountFilesystem", "mount_setattr", errno.EINVAL:
            return "this filesystem, or one mounted below it, does not support id-mapped mounts on this kernel"
        case "SetPropagation" | "PivotRoot", "mount_setattr", errno.EINVAL:
            return "the caller's / is no mount point, as after chroot(2); bind it onto itself and pivot_root(2) there"
        case "PivotRoot", "pivot_root", errno.EINVAL:
            return "the caller's / is an initramfs or no mount point: do without pivot_root(2) (--no-pivot)"
        case "SetRlimits", _, errno.EPERM:
            return "raising a hard limit needs CAP_SYS_RESOURCE"
        case "SetScheduler", _, errno.EPERM:
            return (
                "it needs CAP_SYS_NICE on the host; a real-time policy in cgroups of version 1 also a budget "
                "(linux.resources.cpu.realtimeRuntime), and process scheduler can't be used together with AllowedCPUs"
            )
        case "SetUser", "setresuid" | "setresgid" | "setgroups", errno.EINVAL:
            return "cannot setuid to unmapped uid, or gid, in user namespace: no mapping covers it"
        case "SetAffinity", _, errno.EINVAL:
            return "the container's cgroup has none of these CPUs"
        case "JoinKeyring", _, errno.EDQUOT:
            return "this user has too many keys (sysctl kernel.keys.maxkeys): do without a new keyring, or raise it"
        case "JoinKeyring", _, errno.EPERM:
            return "keyctl(2) is forbidden here, perhaps by a seccomp filter: do without a new keyring"
        case "OpenTerminal", _, errno.ENOENT:
            return "a terminal needs a devpts mount at /dev/pts"
        case "ChangeDirectory", "openat2", errno.ELOOP:
            return "links of procfs are not followed"
        case "KeepDescriptors", "dup3" | "fcntl", errno.EBADF | errno.EINVAL | errno.EMFILE:
            return "the caller's limit of open files (RLIMIT_NOFILE) leaves no such number"
        case "InstallSeccomp", "seccomp", errno.EINVAL:
            return "this kernel has no seccomp filters, or not that flag"
        case "InstallSeccomp", "seccomp", errno.EBUSY:
            return "the caller is under a filter that notifies, and a process may have one of those only"
    return ""


def _kernels_own(op: Op) -> str:
    """The type of a filesystem that must be where it seems to be (CVE-2019-19921)."""
    return op.type if isinstance(op, MountFilesystem) and op.type in ("proc", "sysfs") else ""


def _locked(op: Op) -> str:
    """The flags that a mount got in another user namespace stay with every copy of it (mount_namespaces(7))."""
    asked = op.attributes if isinstance(op, (BindMount, SetMountAttributes)) else Attributes()
    cleared = (asked.clear | asked.recursive_clear) & ~ATIME
    if not cleared:
        return "cannot change locked atime flags: the source has others, from another user namespace"
    words = ",".join(Attributes(clear=cleared).words())
    return f"cannot clear locked flags ({words}): the source has them from another user namespace"


def take_descriptor(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2)).

    :raises OSError: we may not trace that process (ptrace(2)), or it is gone.
    """
    taken = lib.ocirt_take_fd(pidfd, number)
    if taken < 0:
        raise OSError(-taken, os.strerror(-taken))
    return taken


def adopt_orphans() -> None:
    """Become a subreaper (prctl(2)). It is for a command to decide: in a library, it would change its caller."""
    if error := lib.ocirt_adopt_orphans():
        raise OSError(error, os.strerror(error))


_lock = threading.Lock()
_sealed: int | None = None


@contextlib.contextmanager
def _program() -> Iterator[int]:
    """The init as an open file that can be executed and not changed: one for the life of this process.

    Its seals are looked at each time: the caller may have closed every descriptor, ours too, and the number may be
    another file's by now.
    """
    global _sealed
    with _lock:
        if _sealed is None or not _is_sealed(_sealed):
            _sealed = _seal()
        program = _sealed
    if program is not None:
        yield program
        return
    copy = _private_copy()
    try:
        yield copy
    finally:
        os.close(copy)


def _is_sealed(fd: int) -> bool:
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS)
    except OSError:
        return False


def _seal() -> int | None:
    """``None`` where executable memfds are forbidden (sysctl vm.memfd_noexec=2)."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("ocirt-init", flags | MFD_EXEC)
    except OSError as error:
        if error.errno == errno.EACCES:
            return None
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create("ocirt-init", flags)  # before Linux 6.3 all of them were executable
    _copy(fd)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def _private_copy() -> int:
    """A nameless file, new for each launch: a container that gets hold of one has it to itself."""
    path = f"{INIT}.{os.getpid()}.{threading.get_ident()}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
    except OSError as error:
        raise UnsupportedError(
            "host", f"vm.memfd_noexec forbids executable memory files, and {HERE} is not writable: {error}"
        ) from error
    try:
        _copy(fd)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
        os.unlink(path)


def _copy(fd: int) -> None:
    with open(INIT, "rb") as file:
        _write_all(fd, file.read())


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
