"""The operations of a plan: each an imperative, its operands, and the field of config.json that asked for it.

What an operation does is written beside its C function of the same name; what the fields mean, here. Fields hold what
the wire can carry: numbers and strings. ``Fd`` is the place of a descriptor among those that travel with the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NewType

from ocirt.values import Value

Fd = NewType("Fd", int)
"""A slot of the plan's descriptor table."""

NO_FD = Fd(0xFFFFFFFF)

Operands = tuple[tuple[int, ...], tuple[str, ...]]


class Tolerance(IntEnum):
    """What an operation may find without failing (``wire.h``); the only conditions that C knows."""

    MAY_BE_ABSENT = 1
    CREATE_TARGET = 2
    ORDINARY_DIRECTORY = 4
    INSIDE_PROC = 8
    INHERIT_MODE = 16
    INHERIT_OWNER = 32
    COPY_UP = 64
    KEEP_LINK = 128
    COPY_LINK = 256


class Purpose(IntEnum):
    """Why init waits for the host."""

    RECORD = 1
    CGROUPS = 2
    JOINED = 3
    ID_MAPS = 4
    HOOKS = 5
    RLIMITS = 6
    CREATED = 7


class Manner(IntEnum):
    """Who waits for whom at a Sync (``wire.h``)."""

    ASK = 0
    UNASKED = 1
    TELL = 2


UNASKED = (Purpose.RECORD, Purpose.CGROUPS, Purpose.JOINED)
"""What the host does without being asked, while init is busy with what concerns nobody else."""

TOLD = (Purpose.CREATED,)
"""What init only tells of: there is nothing left that it could be kept from."""


PURPOSES = {
    Purpose.RECORD: "record what is to be made",
    Purpose.CGROUPS: "make cgroups",
    Purpose.JOINED: "join cgroups",
    Purpose.ID_MAPS: "write ID maps",
    Purpose.HOOKS: "hooks",
    Purpose.RLIMITS: "resource limits",
    Purpose.CREATED: "created",
}

CLONE_NEW = {
    "time": 0x80,
    "mount": 0x20000,
    "cgroup": 0x2000000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
"""Namespace types of OCI and their CLONE_NEW* flags (namespaces(7))."""


FILTER_FLAGS = {
    "TSYNC": 1,
    "LOG": 2,
    "SPEC_ALLOW": 4,
    "NEW_LISTENER": 8,
    "TSYNC_ESRCH": 16,
    "WAIT_KILLABLE_RECV": 32,
}
"""SECCOMP_FILTER_FLAG_* of seccomp(2)."""


def namespace_names(flags: int) -> str:
    return " ".join(name for name, flag in CLONE_NEW.items() if flags & flag)


class Op(Value, kw_only=True, hidden=("origins",)):
    """One step. ``origin`` is the member of config.json that it stands for; ``origins`` those of its list operands."""

    origin: str = "-"
    origins: tuple[str, ...] = ()

    def operands(self) -> Operands:
        """The numbers and strings that C reads, in the order its function says."""
        return (), ()

    def details(self) -> Iterator[str]:
        """The operands as a person would say them."""
        numbers, strings = self.operands()
        yield from map(str, numbers)
        yield from strings


class JoinNamespaces(Op):
    """setns(2) into namespaces of others."""

    pairs: tuple[tuple[int, Fd], ...]

    def operands(self) -> Operands:
        return tuple(number for pair in self.pairs for number in pair), ()

    def details(self) -> Iterator[str]:
        return (f"{namespace_names(flag)}=fd#{fd}" for flag, fd in self.pairs)


class JoinProcess(Op):
    """setns(2) into the namespaces of a process, by its pidfd."""

    pidfd: Fd
    flags: int

    def operands(self) -> Operands:
        return (self.pidfd, self.flags), ()

    def details(self) -> Iterator[str]:
        yield f"fd#{self.pidfd} {namespace_names(self.flags)}"


class Unshare(Op):
    """unshare(2): for namespaces that can be entered only once something else is done."""

    flags: int

    def operands(self) -> Operands:
        return (self.flags,), ()

    def details(self) -> Iterator[str]:
        yield namespace_names(self.flags)


class Clone(Op):
    """clone3(2): what follows runs in a child, with new namespaces."""

    flags: int

    def operands(self) -> Operands:
        return (self.flags,), ()

    def details(self) -> Iterator[str]:
        yield namespace_names(self.flags) or "process"


class Sync(Op):
    """A meeting with the host: mostly, wait until it has done its part."""

    purpose: Purpose

    def operands(self) -> Operands:
        return (self.purpose, self.manner), ()

    @property
    def manner(self) -> Manner:
        if self.purpose in UNASKED:
            return Manner.UNASKED
        return Manner.TELL if self.purpose in TOLD else Manner.ASK

    def details(self) -> Iterator[str]:
        yield f"host: {PURPOSES[self.purpose]}"


class BecomeRoot(Op):
    """setresuid(2) to 0 in the user namespace; groups are dropped where that is allowed."""

    may_set_groups: bool

    def operands(self) -> Operands:
        return (self.may_set_groups,), ()

    def details(self) -> Iterator[str]:
        yield "0:0" if self.may_set_groups else "0:0 (groups stay)"


class WriteProc(Op):
    """Write a file below the host's ``/proc``."""

    path: str
    value: str

    def operands(self) -> Operands:
        return (), (self.path, self.value)

    def details(self) -> Iterator[str]:
        yield f"{self.path} {self.value.strip()!r}"


class SetHostname(Op):
    """sethostname(2), in the container's own UTS namespace."""

    name: str

    def operands(self) -> Operands:
        return (), (self.name,)


class SetDomainname(Op):
    """setdomainname(2), in the container's own UTS namespace."""

    name: str

    def operands(self) -> Operands:
        return (), (self.name,)


class LoopbackUp(Op):
    """Bring ``lo`` up: in a new network namespace it is down (netdevice(7))."""


class OfferNetlink(Op):
    """Hand the host a socket of the container's network, and wait until it has moved devices there."""

    devices: tuple[tuple[str, str], ...]
    """Each one's name on the host and in the container; the host knows them, and this is for the reader."""

    def details(self) -> Iterator[str]:
        return (old if old == new else f"{old}={new}" for old, new in self.devices)


class SetUmask(Op):
    """umask(2)"""

    mask: int

    def operands(self) -> Operands:
        return (self.mask,), ()

    def details(self) -> Iterator[str]:
        yield f"{self.mask:04o}"


class SetRlimits(Op):
    """setrlimit(2), each (resource, soft, hard)."""

    limits: tuple[tuple[int, int, int], ...]

    def operands(self) -> Operands:
        return tuple(number for limit in self.limits for number in limit), ()

    def details(self) -> Iterator[str]:
        return (f"{resource}={soft}:{hard}" for resource, soft, hard in self.limits)


class SetNoNewPrivileges(Op):
    """prctl(PR_SET_NO_NEW_PRIVS)"""


class DropBounding(Op):
    """Keep these capabilities in the bounding set and drop all others."""

    keep: int

    def operands(self) -> Operands:
        return (self.keep,), ()

    def details(self) -> Iterator[str]:
        yield f"keep={self.keep:#x}"


class SetUser(Op):
    """setgroups(2), setresgid(2), setresuid(2), permitted capabilities kept for now."""

    uid: int
    gid: int
    may_set_groups: bool
    groups: tuple[int, ...] = ()

    def operands(self) -> Operands:
        return (self.uid, self.gid, self.may_set_groups, *self.groups), ()

    def details(self) -> Iterator[str]:
        yield f"{self.uid}:{self.gid}"
        if self.groups:
            yield f"+{list(self.groups)}"


class SetCapabilities(Op):
    """capset(2), and the ambient set; bit N is capability N."""

    effective: int
    permitted: int
    inheritable: int
    ambient: int

    def operands(self) -> Operands:
        return (self.effective, self.permitted, self.inheritable, self.ambient), ()

    def details(self) -> Iterator[str]:
        for name in ("effective", "permitted", "inheritable", "ambient"):
            yield f"{name}={getattr(self, name):#x}"


class ChangeDirectory(Op):
    """chdir(2), before the user is set or, if that was refused, after."""

    path: str
    again: bool = False

    def operands(self) -> Operands:
        return (self.again,), (self.path,)

    def details(self) -> Iterator[str]:
        yield self.path
        if self.again:
            yield "(unless done)"


class PrepareStdio(Op):
    """``/dev/null`` becomes the container's own, and the streams that ocirt made (a bit each) the user's."""

    uid: int
    ours: int

    def operands(self) -> Operands:
        return (self.uid, self.ours), ()

    def details(self) -> Iterator[str]:
        streams = [name for bit, name in enumerate(("stdin", "stdout", "stderr")) if self.ours >> bit & 1]
        yield f"{' '.join(streams)} owned by {self.uid}" if streams else "as they are"


class FindHome(Op):
    """HOME for an environment without one, from the container's ``/etc/passwd``."""

    uid: int

    def operands(self) -> Operands:
        return (self.uid,), ()


class FindProgram(Op):
    """Look ``name`` up in the container's PATH, as execvp(3) would."""

    name: str
    directories: tuple[str, ...]

    def operands(self) -> Operands:
        return (), (self.name, *self.directories)

    def details(self) -> Iterator[str]:
        yield self.name if "/" in self.name else f"{self.name} in {':'.join(self.directories)}"


class RunHook(Op, hidden=("state",)):
    """Run a hook here; ``state`` is the JSON before and after init's own pid (config.md, POSIX-platform Hooks)."""

    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    timeout_ms: int
    inside: bool
    state: tuple[str, str]

    def operands(self) -> Operands:
        numbers = (self.timeout_ms, len(self.args), len(self.env), self.inside)
        return numbers, (self.path, *self.state, *self.args, *self.env)

    def details(self) -> Iterator[str]:
        yield self.path
        if self.timeout_ms:
            yield f"within {self.timeout_ms / 1000:g} s"


class AwaitStart(Op):
    """Listen on the container's start socket until somebody says go."""

    listener: Fd

    def operands(self) -> Operands:
        return (self.listener,), ()

    def details(self) -> Iterator[str]:
        yield f"fd#{self.listener}"


class Exec(Op, hidden=("env",)):
    """execve(2) of what FindProgram found."""

    args: tuple[str, ...]
    env: tuple[str, ...]

    def operands(self) -> Operands:
        return (len(self.args), len(self.env)), (*self.args, *self.env)

    def details(self) -> Iterator[str]:
        yield " ".join(self.args)


class InstallSeccomp(Op, hidden=("program",)):
    """seccomp(2): from here on ``program``, an array of struct sock_filter, decides about every system call."""

    program: bytes
    flags: int
    sends: bool = False
    """The listener can be sent, for the filter lets sendmsg(2) pass."""

    def operands(self) -> Operands:
        return (self.flags, self.sends, *memoryview(self.program).cast("Q")), ()

    def details(self) -> Iterator[str]:
        yield f"{len(self.program) // 8} instructions"
        yield from (name.lower() for name, flag in FILTER_FLAGS.items() if self.flags & flag)


class KeepDescriptors(Op):
    """The program finds files of the caller's open: each in its slot, and the number that it gets, in rising order."""

    pairs: tuple[tuple[Fd, int], ...]

    def operands(self) -> Operands:
        return tuple(number for pair in self.pairs for number in pair), ()

    def details(self) -> Iterator[str]:
        return (f"fd#{fd}={number}" for fd, number in self.pairs)


class KillWhenOrphaned(Op):
    """A plan of its own: kill ``pidfd`` once nobody holds the other end of ``lifeline``."""

    pidfd: Fd
    lifeline: Fd

    def operands(self) -> Operands:
        return (self.pidfd, self.lifeline), ()
