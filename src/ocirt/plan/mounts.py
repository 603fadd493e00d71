"""The mounts of config.json in their order (config.md, Mounts).

Read-only filesystems that later steps still have to write to, to make mount points or devices, are mounted writable
and made read-only at the end (``late``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ocirt.errors import UnsupportedError
from ocirt.plan.binds import bind, mapped_ids, source_fd
from ocirt.plan.context import Context
from ocirt.plan.descriptors import NOTIFY
from ocirt.plan.namespaces import is_mapped, see_cgroups, settle_cgroups
from ocirt.plan.ops import NO_FD, Op, Tolerance
from ocirt.plan.overlay import LONGEST_VALUE, ONE_BY_ONE
from ocirt.plan.tree_ops import (
    Attributes,
    BindMount,
    MakeSymlink,
    MountFilesystem,
    SetMountAttributes,
    propagation_flag,
)
from ocirt.spec import Mount
from ocirt.spec.options import NODEV, NOEXEC, NOSUID, RDONLY, MountOptions, parse_options

if TYPE_CHECKING:
    from ocirt.cgroups.mounts import CgroupMountEntry

CGROUP_TYPES = ("cgroup", "cgroup2")

MS_REMOUNT = 0x20
OLD_FLAGS = {"sync": 0x10, "mand": 0x40, "iversion": 0x800000, "lazytime": 0x2000000}
"""MS_* flags that a remount sets or resets (mount(2))."""

PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled"
    ).split()
)
"""What lxcfs and the like may cover below /proc: reports, nothing that a process is controlled by (runc's list)."""


def mounts(context: Context) -> Iterator[Op]:
    """Every mount, in listed order; before the first that shows cgroups we must be in ours."""
    shown = next((index for index, mount in enumerate(context.document.mounts) if mount.type in CGROUP_TYPES), None)
    for index, mount in enumerate(context.document.mounts):
        if index == shown:
            yield from see_cgroups(context)
        origin = f"mounts[{index}]"
        options = parse_options(mount.options)
        target = posixpath.normpath("/" + mount.destination.lstrip("/"))
        if options.remount:
            yield _remount(mount, target, options, origin)
        elif options.bind:
            yield from bind(context, index, target, options, _attributes(options), _tolerance(mount, target))
        elif mount.type in CGROUP_TYPES:
            yield from _cgroup(context, mount, target, options, origin)
        elif mount.type == "sysfs" and _is_foreign_network(context):
            yield _host_sys(context, mount, target, options, origin)
        else:
            yield _filesystem(context, mount, target, options, origin)
    yield from _notify(context)
    yield from settle_cgroups(context, shown=shown is not None)


def _notify(context: Context) -> Iterator[Op]:
    """The directory alone is read-only: that the socket in it is connected to is no change of a file."""
    source, origin = context.site.notify, "NOTIFY_SOCKET"
    if source is None:
        return
    fd = source_fd(context, source, recursive=False, origin=origin)
    attributes = Attributes(set=RDONLY | NOSUID | NODEV | NOEXEC)
    yield BindMount(NOTIFY, source, fd, False, attributes, int(Tolerance.CREATE_TARGET), False, origin=origin)


def late(context: Context) -> Iterator[Op]:
    """Read-only at last: what had to be writable until everything below it was there."""
    for index, mount in enumerate(context.document.mounts):
        options = parse_options(mount.options)
        target = posixpath.normpath("/" + mount.destination.lstrip("/"))
        if _waits(mount, target, options):
            yield SetMountAttributes(target, Attributes(set=RDONLY), origin=f"mounts[{index}].options")


def _waits(mount: Mount, target: str, options: MountOptions) -> bool:
    if options.bind or options.remount or not options.set & RDONLY:
        return False
    return mount.type == "tmpfs" or target == "/dev"


def _attributes(options: MountOptions, *, without: int = 0) -> Attributes:
    return Attributes(
        options.set & ~without,
        options.clear,
        options.recursive_set,
        options.recursive_clear,
        tuple(map(propagation_flag, options.propagation)),
    )


def _tolerance(mount: Mount, target: str) -> int:
    """Where proc and sysfs go, no symlink may lead (CVE-2019-19921); below /proc goes nothing that matters."""
    tolerance = int(Tolerance.CREATE_TARGET)
    if mount.type in ("proc", "sysfs"):
        tolerance |= Tolerance.ORDINARY_DIRECTORY
    if target in PROC_FILES or (target == "/proc" and mount.type == "proc"):
        tolerance |= Tolerance.INSIDE_PROC
    return tolerance


def _filesystem(context: Context, mount: Mount, target: str, options: MountOptions, origin: str) -> MountFilesystem:
    if mount.type is None or mount.type in ("none", "bind"):
        raise UnsupportedError(
            f"{origin}.type", f'{mount.type or "none"} names no filesystem; a bind mount has "bind" among its options'
        )
    _check_words(context, mount, options, origin)
    parameters = [(part, word) for word in _parameters(options) for part in _parts(context, mount, word)]
    without = RDONLY if _waits(mount, target, options) else 0
    mapping = mapped_ids(context, mount, options, origin)
    if mapping is not None and context.namespaces.has("user"):
        raise UnsupportedError(
            mapping[1], "id-mapped mounts are only supported for bind-mounts where there is a user namespace"
        )
    return MountFilesystem(
        target,
        mount.type,
        mount.source or "",
        tuple(part for part, _ in parameters),
        _attributes(options, without=without),
        _tolerance(mount, target) | _inherited(mount, options),
        NO_FD if mapping is None else mapping[0],
        _old_flags(options),
        origin=origin,
        origins=(origin, *(f"{origin}.options[{mount.options.index(word)}]" for _, word in parameters)),
    )


def _parts(context: Context, mount: Mount, parameter: str) -> Iterator[str]:
    """overlayfs's list of lower directories, one by one where it is longer than any value of fsconfig(2) may be."""
    key, _, value = parameter.partition("=")
    long = len(value.encode("utf-8", "surrogateescape")) > LONGEST_VALUE
    if mount.type != "overlay" or key != "lowerdir" or not long or context.host.kernel < ONE_BY_ONE:
        yield parameter
        return
    for lower in re.split(r"(?<!\\):", value):
        yield "lowerdir+=" + re.sub(r"\\(.)", r"\1", lower)


def _old_flags(options: MountOptions) -> int:
    """``iversion`` has no place in the new mount API; the remount that sets it would reset its neighbours."""
    if "iversion" not in options.superblock:
        return 0
    return MS_REMOUNT | sum(OLD_FLAGS.get(word, 0) for word in options.superblock)


def _inherited(mount: Mount, options: MountOptions) -> int:
    """What a tmpfs takes of the directory that it covers, unless the options say otherwise."""
    if mount.type != "tmpfs":
        return 0
    said = {key for key, _ in options.data}
    inherited = 0 if "mode" in said else int(Tolerance.INHERIT_MODE)
    if options.tmpcopyup:
        inherited |= Tolerance.COPY_UP | (0 if said & {"uid", "gid"} else Tolerance.INHERIT_OWNER)
    return inherited


def _check_words(context: Context, mount: Mount, options: MountOptions, origin: str) -> None:
    """Options that the kernel would take without effect, or refuse without a reason."""
    if "mand" in options.superblock and context.host.kernel >= (5, 15):
        raise UnsupportedError(
            f"{origin}.options[{mount.options.index('mand')}]", "Linux has no mandatory locks any more, since 5.15"
        )
    if not context.namespaces.creates("user"):
        return
    mappings = {"uid": context.linux.uid_mappings, "gid": context.linux.gid_mappings}
    for key, value in options.data:
        if key in mappings and value and value.isdigit() and not is_mapped(mappings[key], int(value)):
            word = f"{key}={value}"
            raise UnsupportedError(
                f"{origin}.options[{mount.options.index(word)}]",
                f"cannot specify {word} mount option{' for rootless container' if context.host.rootless else ''}: "
                f"the user namespace has no such {key}; leave it out or map it in linux.{key}Mappings",
            )


def _is_foreign_network(context: Context) -> bool:
    """sysfs asks for rights over the network namespace that it shows: here one of an older user namespace."""
    namespaces = context.namespaces
    if namespaces.creates("user"):
        return not namespaces.creates("network")
    return namespaces.joins("user") and not namespaces.has("network")


def _host_sys(context: Context, mount: Mount, target: str, options: MountOptions, origin: str) -> BindMount:
    """The host's own /sys, as crun does; no part of it may be written to, its cgroups least of all (CVE-2023-25809)."""
    if not options.set & RDONLY:
        raise UnsupportedError(
            f"{origin}.type",
            "sysfs in a user namespace needs a network namespace that belongs to it: add one to linux.namespaces, or "
            'add "ro" to the options, which shows that of the host',
        )
    _refuse_mapping(context, mount, options, origin)
    own = _attributes(options)
    attributes = own.evolve(recursive_set=own.recursive_set | RDONLY, recursive_clear=own.recursive_clear & ~RDONLY)
    fd = source_fd(context, "/sys", True, origin)
    return BindMount(target, "/sys", fd, True, attributes, _tolerance(mount, target), origin=origin)


def _refuse_mapping(context: Context, mount: Mount, options: MountOptions, origin: str) -> None:
    mapping = mapped_ids(context, mount, options, origin)
    if mapping is not None:
        raise UnsupportedError(mapping[1], "id-mapped mounts are only supported for bind-mounts")


def _remount(mount: Mount, target: str, options: MountOptions, origin: str) -> SetMountAttributes:
    if mount.uid_mappings or options.idmap:
        raise UnsupportedError(f"{origin}.options", "IDs can be mapped only before a mount is seen: not in a remount")
    if parameters := [*options.superblock, *_parameters(options)]:
        raise UnsupportedError(
            f"{origin}.options", f"remount changes the mount alone, not its filesystem: {parameters[0]}"
        )
    return SetMountAttributes(target, _attributes(options), origin=origin)


def _parameters(options: MountOptions) -> list[str]:
    """For fsconfig(2), as ``key`` or ``key=value``."""
    superblock = [word for word in options.superblock if word != "iversion"]
    return [*superblock, *(key if value is None else f"{key}={value}" for key, value in options.data)]


def _cgroup(context: Context, mount: Mount, target: str, options: MountOptions, origin: str) -> Iterator[Op]:
    """The container's cgroups; the caller's own are shown read-only whatever the options say (CVE-2023-25809)."""
    _refuse_mapping(context, mount, options, origin)
    site = context.site
    set_ = options.set | (0 if site.own_cgroup else RDONLY)
    attributes = Attributes(set_, options.clear & ~set_, propagation=tuple(map(propagation_flag, options.propagation)))
    real = context.namespaces.creates("cgroup") and (context.host.privileged or context.namespaces.has("user"))
    if len(site.cgroup_mounts) == 1 and not site.cgroup_mounts[0].name:
        yield _cgroup_entry(context, target, 0, attributes, real, origin)
        return
    if mount.type == "cgroup2" and site.cgroup_mounts:
        yield _cgroup_entry(context, target, _unified(site.cgroup_mounts, origin), attributes, real, origin)
        return
    shell = Attributes(NOSUID | NODEV | NOEXEC)
    yield MountFilesystem(target, "tmpfs", "cgroup", ("mode=755",), shell, origin=origin)
    for index, entry in enumerate(site.cgroup_mounts):
        yield _cgroup_entry(context, f"{target}/{entry.name}", index, attributes, real, origin)
        for link in entry.links:
            yield MakeSymlink(f"{target}/{link}", entry.name, origin=origin)
    if set_ & RDONLY:
        yield SetMountAttributes(target, Attributes(set=RDONLY), origin=origin)


def _unified(entries: Sequence[CgroupMountEntry], origin: str) -> int:
    """Version 2 beside version 1: who names it wants it alone."""
    for index, entry in enumerate(entries):
        if entry.type == "cgroup2":
            return index
    raise UnsupportedError(f"{origin}.type", 'there is no cgroup hierarchy of version 2 here: use type "cgroup"')


def _cgroup_entry(
    context: Context, target: str, index: int, attributes: Attributes, real: bool, origin: str
) -> MountFilesystem | BindMount:
    entry = context.site.cgroup_mounts[index]
    if real:
        return MountFilesystem(target, entry.type, "cgroup", entry.options, attributes, origin=origin)
    fd = source_fd(context, entry.source, recursive=False, origin=origin)
    return BindMount(target, entry.source, fd, attributes=attributes, origin=origin)
