"""What a plan is made from besides the configuration, and the descriptors that travel with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import Factory, define, frozen

from ocirt.errors import UnsupportedError
from ocirt.plan.ops import CLONE_NEW, Fd, Op
from ocirt.plan.tree_ops import OpenTree
from ocirt.spec import IDMapping, Linux, Namespace, Process, Spec
from ocirt.values import Value

if TYPE_CHECKING:
    from ocirt.cgroups.mounts import CgroupMountEntry
    from ocirt.host import Host

CAP_MKNOD = 27

KEEP_GROUPS = "run.oci.keep_original_groups"
"""crun's annotation: the process has the caller's supplementary groups."""

FIRST_OPENED = 64
"""Slots from here on are filled by operations; those below travel with the plan. What is kept comes on top of that."""


class NamespaceFile(Value):
    """A namespace of somebody else's: ``path`` in the caller's mount namespace."""

    path: str
    type: str
    origin: str
    unless_own: tuple[str, str] | None = None
    """It must not be the caller's own: which member says so, and why."""


class RootDirectory(Value):
    """A directory to chroot(2) to."""

    path: str
    origin: str


class MappedUserNamespace(Value):
    """A user namespace for its ID mappings alone: nobody lives in it."""

    uid_mappings: tuple[IDMapping, ...]
    gid_mappings: tuple[IDMapping, ...]
    origin: str


class StartSocket(Value):
    """The listening socket of the container's state directory."""


class InitPidfd(Value):
    """A pidfd of the container's init."""


class ProcDirectory(Value):
    """The host's ``/proc``, for what is written there once it is out of sight."""


class CallersFile(Value):
    """What the caller has open at this number."""

    number: int


Descriptor = CallersFile | NamespaceFile | RootDirectory | MappedUserNamespace | StartSocket | InitPidfd | ProcDirectory


@frozen
class Site:
    """The place where one container will stand: what the host has chosen for it."""

    container_id: str
    bundle: str
    """Absolute; what relative paths of config.json start from."""
    rootfs: str
    """Absolute; or the lower directory where ``scratch`` is given."""
    scratch: str | None = None
    """Lay a throw-away layer over the rootfs, kept in a tmpfs mounted here."""
    layers: tuple[str, ...] = ()
    """With ``scratch``, directories that lie between it and the rootfs, the top one first."""
    streams: int = 0
    """Which of the standard streams (a bit each) ocirt made for this container alone."""
    joins_cgroups: bool = False
    """The host moves init to cgroups while it is at work, so it has to wait for that."""
    cgroup_mounts: tuple[CgroupMountEntry, ...] = ()
    """What a mount of type cgroup shows."""
    own_cgroup: bool = True
    """Those are the container's own; if not, they are the caller's, and shown read-only."""
    shown: tuple[str, ...] = ()
    """With ``scratch``, only these names at the top of the rootfs; empty means all of it."""
    keyring: bool = True
    """The container has a session keyring of its own."""
    filter: bytes = b""
    """What the host has compiled ``linux.seccomp`` to; the kernel takes none that is empty."""
    kept: tuple[int, ...] = ()
    """The caller's descriptors that the program finds at the same numbers, which rise."""
    activated: int = 0
    """So many of those, from number 3 on, are what the program is started for (sd_listen_fds(3))."""
    full_views: tuple[str, ...] | None = None
    """Do without pivot_root(2); and where this host shows the whole of procfs or sysfs."""
    notify: str | None = None
    """The directory with the container's socket for sd_notify(3)."""


@frozen
class Namespaces:
    """The namespaces of config.json by type."""

    by_type: Mapping[str, tuple[int, Namespace]]

    @classmethod
    def of(cls, linux: Linux) -> Namespaces:
        return cls({namespace.type: (index, namespace) for index, namespace in enumerate(linux.namespaces)})

    def has(self, type_: str) -> bool:
        """The container does not share it with the caller: created or joined."""
        return type_ in self.by_type

    def creates(self, type_: str) -> bool:
        return type_ in self.by_type and not self.by_type[type_][1].path

    def joins(self, type_: str) -> bool:
        return type_ in self.by_type and bool(self.by_type[type_][1].path)

    def created_flags(self, *without: str) -> int:
        """CLONE_NEW* of all that are created."""
        flags = 0
        for type_ in self.by_type:
            if self.creates(type_) and type_ not in without:
                flags |= CLONE_NEW[type_]
        return flags

    def joined(self) -> list[tuple[int, Namespace]]:
        """Those with a path; a user namespace last (see ``namespaces.c``)."""
        return sorted(
            (entry for entry in self.by_type.values() if entry[1].path), key=lambda entry: entry[1].type == "user"
        )


@define
class Slots:
    """Hands out places in the descriptor table while a plan is being made."""

    first_opened: int = FIRST_OPENED
    descriptors: list[Descriptor] = Factory(list)
    trees: list[Op] = Factory(list)
    """What has to be taken of the host beforehand."""
    opened: int = 0

    def add(self, descriptor: Descriptor) -> Fd:
        if len(self.descriptors) == self.first_opened:
            raise UnsupportedError("-", f"a plan holds no more than {self.first_opened} descriptors")
        self.descriptors.append(descriptor)
        return Fd(len(self.descriptors) - 1)

    def once(self, descriptor: Descriptor) -> Fd:
        """The place of one that several operations use."""
        if descriptor in self.descriptors:
            return Fd(self.descriptors.index(descriptor))
        return self.add(descriptor)

    def mapped(self, uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...], origin: str) -> Fd:
        """One user namespace for all mounts with the same mappings."""
        for number, known in enumerate(self.descriptors):
            if isinstance(known, MappedUserNamespace) and (known.uid_mappings, known.gid_mappings) == (uids, gids):
                return Fd(number)
        return self.add(MappedUserNamespace(uids, gids, origin))

    def next_tree(self) -> Fd:
        self.opened += 1
        return Fd(self.first_opened + self.opened - 1)

    def open_tree(self, path: str, recursive: bool, origin: str, *, nofollow: bool = False) -> Fd:
        fd = self.next_tree()
        self.trees.append(OpenTree(fd, path, recursive, nofollow, origin=origin))
        return fd


@frozen
class Context:
    """Everything that a planning function may look at."""

    document: Spec
    linux: Linux
    host: Host
    site: Site
    namespaces: Namespaces
    slots: Slots

    @classmethod
    def of(cls, document: Spec, host: Host, site: Site) -> Context:
        linux = document.linux or Linux()
        return cls(document, linux, host, site, Namespaces.of(linux), Slots(FIRST_OPENED + len(site.kept)))

    @property
    def process(self) -> Process | None:
        return self.document.process

    @property
    def is_staged(self) -> bool:
        """The plan begins in another process than it ends in: only a process that has entered these namespaces, or
        made them and said what is in them, can have a child that is wholly inside."""
        namespaces = self.namespaces
        return bool(namespaces.joined()) or namespaces.creates("user") or namespaces.creates("time")

    @property
    def sees_host(self) -> bool:
        """Host paths can be opened at their turn, by init itself.

        Not so where root in a new user namespace has fewer rights than the caller, or where the mounts are those
        of another mount namespace: then the trees are taken beforehand.
        """
        return not (self.namespaces.joins("mount") or (self.host.privileged and self.namespaces.has("user")))

    @property
    def may_make_devices(self) -> bool:
        """mknod(2) needs CAP_MKNOD in the first user namespace."""
        if self.host.rootless or self.namespaces.has("user"):
            return False
        return bool(self.host.capabilities >> CAP_MKNOD & 1)

    @property
    def keeps_groups(self) -> bool:
        """For files that the caller may open by its groups alone (podman's ``--group-add keep-groups``)."""
        return self.document.annotations.get(KEEP_GROUPS, "0") not in ("0", "false", "")

    @property
    def may_set_groups(self) -> bool:
        """setgroups(2) is closed where an ordinary user mapped nothing but itself (user_namespaces(7))."""
        if self.keeps_groups:
            return False
        if self.host.privileged or not self.host.setgroups:
            return self.host.setgroups
        return self.namespaces.creates("user") and not self.host.maps_itself(self.linux.gid_mappings, self.host.egid)
