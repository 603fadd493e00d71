"""The operations that build the container's file tree: mounts, devices, masks, the switch of roots."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.plan.ops import NO_FD, Fd, Op, Operands, Tolerance
from ocirt.spec import options
from ocirt.values import Value

PROPAGATION = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
"""MS_* propagation flags (mount_setattr(2))."""

RECURSIVE = 0x4000
"""MS_REC beside one of them."""


def propagation_flag(name: str) -> int:
    """``rslave`` → MS_SLAVE | MS_REC."""
    if name in PROPAGATION:
        return PROPAGATION[name]
    return PROPAGATION[name[1:]] | RECURSIVE


def propagation_name(flag: int) -> str:
    name = next(name for name, value in PROPAGATION.items() if flag & value)
    return f"r{name}" if flag & RECURSIVE else name


class Attributes(Value):
    """Mount attributes to set and to clear, alone and in the whole tree; then propagation, in order."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: tuple[int, ...] = ()

    def numbers(self, tolerance: int) -> tuple[int, ...]:
        return (self.set, self.clear, self.recursive_set, self.recursive_clear, tolerance, *self.propagation)

    def words(self) -> Iterator[str]:
        own = _words(self.set, self.clear)
        tree = [f"r{word}" for word in _words(self.recursive_set, self.recursive_clear)]
        if words := [*own, *tree, *map(propagation_name, self.propagation)]:
            yield ",".join(words)


def _words(set_: int, clear: int) -> list[str]:
    """The options that say so, with ``relatime`` for an access time mode that only clears."""
    atime = clear & options.ATIME
    words = [
        name
        for name, change in options.ATTRIBUTES.items()
        if not change.clear & options.ATIME
        and ((change.set and set_ & change.set) or (change.clear and clear & change.clear))
    ]
    if mode := set_ & options.ATIME or atime:
        words.append({options.NOATIME: "noatime", options.STRICTATIME: "strictatime"}.get(mode, "relatime"))
    return words


def _tolerances(tolerance: int) -> Iterator[str]:
    if tolerance & Tolerance.MAY_BE_ABSENT:
        yield "(may be absent)"


class SetPropagation(Op):
    """mount_setattr(2) on ``/``: the host's before the pivot, the container's after."""

    flag: int

    def operands(self) -> Operands:
        return (self.flag & ~RECURSIVE, bool(self.flag & RECURSIVE)), ("/",)

    def details(self) -> Iterator[str]:
        yield f"/ {propagation_name(self.flag)}"


class OpenTree(Op):
    """open_tree(2): a copy of a host tree, taken while the host is in view; or, ``inside``, of a part of the rootfs."""

    fd: Fd
    path: str
    recursive: bool
    nofollow: bool = False
    inside: bool = False

    def operands(self) -> Operands:
        return (self.fd, self.recursive, self.nofollow, self.inside), (self.path,)

    def details(self) -> Iterator[str]:
        yield f"{self.path} as fd#{self.fd}"
        if self.inside:
            yield "(of the container)"
        if self.nofollow:
            yield "(not followed)"


class MapOwners(Op):
    """MOUNT_ATTR_IDMAP (mount_setattr(2)): a tree that nobody sees yet shows its IDs as a user namespace maps them."""

    tree: Fd
    namespace: Fd
    recursive: bool

    def operands(self) -> Operands:
        return (self.tree, self.namespace, self.recursive), ()

    def details(self) -> Iterator[str]:
        yield f"fd#{self.tree} as in fd#{self.namespace}"
        if self.recursive:
            yield "recursive"


class AttachRootfs(Op):
    """Mount the rootfs where pivot_root(2) can take it from."""

    path: str
    fd: Fd = NO_FD
    private: bool = False

    def operands(self) -> Operands:
        return (self.fd, self.private), (self.path,)

    def details(self) -> Iterator[str]:
        yield self.path if self.fd == NO_FD else f"fd#{self.fd}"
        if self.private:
            yield "private"


class OverlayRootfs(Op):
    """A throw-away layer, kept in a tmpfs at ``scratch``, over host directories, the top one first: the rootfs."""

    lowers: tuple[str, ...]
    scratch: str
    in_user_namespace: bool

    def operands(self) -> Operands:
        return (self.in_user_namespace,), (self.scratch, *self.lowers)

    def details(self) -> Iterator[str]:
        yield f"{' '.join(self.lowers)} (changes are thrown away)"


class OfferOverlay(Op):
    """Hand the host an overlayfs of its directories, the top one first, that is mounted nowhere.

    Without ``upper`` it is read-only.
    """

    upper: str
    work: str
    lowers: tuple[str, ...]
    in_user_namespace: bool

    def operands(self) -> Operands:
        return (self.in_user_namespace,), (self.upper, self.work, *self.lowers)

    def details(self) -> Iterator[str]:
        yield f"{self.upper or 'nothing'} over {' '.join(self.lowers)}"


class SelectRootfs(Op):
    """An empty directory becomes the rootfs, and shows some names of a host directory.

    They are read-only, or ``layered``: then changes are possible and thrown away.
    """

    lower: str
    scratch: str
    layered: bool
    shown: tuple[str, ...]

    def operands(self) -> Operands:
        return (self.layered,), (self.lower, self.scratch, *self.shown)

    def details(self) -> Iterator[str]:
        yield f"{' '.join(self.shown)} of {self.lower}"
        yield "(changes are thrown away)" if self.layered else "ro"


class MountFilesystem(Op):
    """fsopen(2), fsconfig(2) for each parameter, fsmount(2), move_mount(2)."""

    target: str
    type: str
    source: str = ""
    parameters: tuple[str, ...] = ()
    attributes: Attributes = Attributes()
    tolerance: int = Tolerance.CREATE_TARGET
    mapped: Fd = NO_FD
    remount: int = 0
    """MS_* flags of a remount (mount(2)), for what fsconfig(2) has no word for."""

    def operands(self) -> Operands:
        numbers = (self.mapped, self.remount, *self.attributes.numbers(self.tolerance))
        return numbers, (self.target, self.type, self.source, *self.parameters)

    def details(self) -> Iterator[str]:
        yield f"{self.type} on {self.target}"
        yield from self.attributes.words()
        if self.parameters:
            yield f"[{','.join(self.parameters)}]"
        if self.tolerance & Tolerance.COPY_UP:
            yield "with what is there"
        if self.mapped != NO_FD:
            yield f"IDs as in fd#{self.mapped}"
        if self.remount:
            yield "with version counters"


class BindMount(Op):
    """open_tree(2) of a host path, or what an OpenTree took; attributes; move_mount(2)."""

    target: str
    source: str
    fd: Fd = NO_FD
    recursive: bool = False
    attributes: Attributes = Attributes()
    tolerance: int = Tolerance.CREATE_TARGET
    nofollow: bool = False

    def operands(self) -> Operands:
        numbers = self.attributes.numbers(self.tolerance)
        return (self.fd, self.recursive, self.nofollow, *numbers), (self.target, self.source)

    def details(self) -> Iterator[str]:
        source = self.source if self.fd == NO_FD else f"fd#{self.fd}"
        yield f"{source} on {self.target}"
        if self.recursive:
            yield "recursive"
        if self.nofollow:
            yield "(not followed)"
        yield from self.attributes.words()


class SetMountAttributes(Op):
    """mount_setattr(2) on a mount that stands already."""

    target: str
    attributes: Attributes

    def operands(self) -> Operands:
        return self.attributes.numbers(0), (self.target,)

    def details(self) -> Iterator[str]:
        yield self.target
        yield from self.attributes.words()


class MakeDevice(Op):
    """mknodat(2); a node that stands there already must be this device."""

    path: str
    mode: int
    major: int
    minor: int
    uid: int = 0
    gid: int = 0

    def operands(self) -> Operands:
        return (self.mode, self.major, self.minor, self.uid, self.gid), (self.path,)

    def details(self) -> Iterator[str]:
        kind = {0o020000: "c", 0o060000: "b", 0o010000: "p"}[self.mode & 0o170000]
        yield f"{self.path} {kind} {self.major}:{self.minor} {self.mode & 0o7777:04o}"
        if self.uid or self.gid:
            yield f"{self.uid}:{self.gid}"


class BindDevice(Op):
    """The host's own node at the same path, where no node can be made; it must be this device."""

    path: str
    type: int
    major: int
    minor: int
    fd: Fd = NO_FD

    def operands(self) -> Operands:
        return (self.fd, self.type, self.major, self.minor), (self.path,)

    def details(self) -> Iterator[str]:
        kind = {0o020000: "c", 0o060000: "b"}[self.type]
        source = "that of the host" if self.fd == NO_FD else f"fd#{self.fd}"
        yield f"{source} on {self.path} {kind} {self.major}:{self.minor}"


class MakeSymlink(Op):
    """symlinkat(2)"""

    path: str
    destination: str
    replace: bool = False

    def operands(self) -> Operands:
        return (self.replace,), (self.path, self.destination)

    def details(self) -> Iterator[str]:
        yield f"{self.path} -> {self.destination}"


class MakeDirectory(Op):
    """mkdirat(2) of what is missing of a path; a mode of its own is set in any case."""

    path: str
    mode: int = 0o755

    def operands(self) -> Operands:
        return (self.mode,), (self.path,)

    def details(self) -> Iterator[str]:
        yield self.path
        if self.mode != 0o755:
            yield f"{self.mode:04o}"


class OpenTerminal(Op):
    """A pseudo-terminal of the container's devpts becomes its three streams (pty(7))."""

    rows: int
    columns: int
    uid: int
    console: bool

    def operands(self) -> Operands:
        return (self.rows, self.columns, self.uid, self.console), ()

    def details(self) -> Iterator[str]:
        yield f"{self.columns}x{self.rows}" if self.rows and self.columns else "of unset size"
        if self.console:
            yield "on /dev/console"


class MaskPath(Op):
    """Hide a file behind ``/dev/null``, a directory behind an empty one."""

    path: str
    label: str = ""

    def operands(self) -> Operands:
        return (), (self.path, self.label) if self.label else (self.path,)

    def details(self) -> Iterator[str]:
        yield f"{self.path} (may be absent)"


class ReadonlyPath(Op):
    """Bind a path onto itself, read-only."""

    path: str

    def operands(self) -> Operands:
        return (), (self.path,)

    def details(self) -> Iterator[str]:
        yield f"{self.path} (may be absent)"


class PivotRoot(Op):
    """pivot_root(2), then let go of the host's tree; one that may be shared must not hear of that."""

    shared: bool = False

    def operands(self) -> Operands:
        return (self.shared,), ()

    def details(self) -> Iterator[str]:
        if self.shared:
            yield "shared"


class CoverRoot(Op):
    """What else can be done where pivot_root(2) cannot: the rootfs on top of the host's root, and chroot(2) to it.

    The host's tree stays below, out of reach; what shows the whole of procfs or sysfs in it does not.
    """

    full_views: tuple[str, ...] = ()

    def operands(self) -> Operands:
        return (), self.full_views

    def details(self) -> Iterator[str]:
        if self.full_views:
            yield f"without {' '.join(self.full_views)}"


class ChangeRoot(Op):
    """chroot(2), for a container without a mount namespace of its own."""

    fd: Fd = NO_FD

    def operands(self) -> Operands:
        return (self.fd,), ()

    def details(self) -> Iterator[str]:
        yield "the rootfs" if self.fd == NO_FD else f"fd#{self.fd}"
