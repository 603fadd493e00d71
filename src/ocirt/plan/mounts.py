"""The mounts of config.json in their order (config.md, Mounts).

Read-only filesystems that later steps still have to write to, to make mount points or devices, are mounted writable
and made read-only at the end (``late``).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ocirt.errors import UnsupportedError
from ocirt.plan.context import Context
from ocirt.plan.namespaces import see_cgroups, settle_cgroups
from ocirt.plan.ops import NO_FD, Fd, Op, Tolerance
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

CGROUP_TYPES = ("cgroup", "cgroup2")

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
        if mount.type in CGROUP_TYPES and not options.bind:
            yield from _cgroup(context, target, options, origin)
        elif options.bind:
            yield _bind(context, mount, target, options, origin)
        elif options.remount:
            yield _remount(target, options, origin)
        else:
            yield _filesystem(mount, target, options, origin)
    yield from settle_cgroups(context, shown=shown is not None)


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


def _filesystem(mount: Mount, target: str, options: MountOptions, origin: str) -> MountFilesystem:
    if mount.type is None or mount.type in ("none", "bind"):
        raise UnsupportedError(
            f"{origin}.type", f'{mount.type or "none"} names no filesystem; a bind mount has "bind" among its options'
        )
    tolerance = _tolerance(mount, target)
    parameters = _parameters(options)
    if mount.type == "tmpfs" and not any(key == "mode" for key, _ in options.data):
        tolerance |= Tolerance.INHERIT_MODE
    without = RDONLY if _waits(mount, target, options) else 0
    return MountFilesystem(
        target,
        mount.type,
        mount.source or "",
        tuple(parameters),
        _attributes(options, without=without),
        tolerance,
        origin=origin,
        origins=(origin, *(f"{origin}.options[{mount.options.index(word)}]" for word in parameters)),
    )


def _remount(target: str, options: MountOptions, origin: str) -> SetMountAttributes:
    if parameters := _parameters(options):
        raise UnsupportedError(
            f"{origin}.options", f"remount changes the mount alone, not its filesystem: {parameters[0]}"
        )
    return SetMountAttributes(target, _attributes(options), origin=origin)


def _parameters(options: MountOptions) -> list[str]:
    """For fsconfig(2), as ``key`` or ``key=value``."""
    return [*options.superblock, *(key if value is None else f"{key}={value}" for key, value in options.data)]


def _bind(context: Context, mount: Mount, target: str, options: MountOptions, origin: str) -> BindMount:
    if options.data:
        raise UnsupportedError(
            f"{origin}.options",
            f"bind mounts cannot have any filesystem-specific options applied: {options.data[0][0]}",
        )
    source = posixpath.join(context.site.bundle, mount.source or "")
    return BindMount(
        target,
        source,
        source_fd(context, source, options.recursive, f"{origin}.source"),
        options.recursive,
        _attributes(options),
        _tolerance(mount, target),
        origin=origin,
    )


def source_fd(context: Context, path: str, recursive: bool, origin: str) -> Fd:
    """Nothing where init can open the path at its turn, or the slot of a tree taken beforehand."""
    return NO_FD if context.sees_host else context.slots.open_tree(path, recursive, origin)


def _cgroup(context: Context, target: str, options: MountOptions, origin: str) -> Iterator[Op]:
    """The container's cgroups; the caller's own are shown read-only whatever the options say (CVE-2023-25809)."""
    site = context.site
    set_ = options.set | (0 if site.own_cgroup else RDONLY)
    attributes = Attributes(set_, options.clear & ~set_, propagation=tuple(map(propagation_flag, options.propagation)))
    real = context.namespaces.creates("cgroup") and (context.host.privileged or context.namespaces.has("user"))
    if len(site.cgroup_mounts) == 1 and not site.cgroup_mounts[0].name:
        yield _cgroup_entry(context, target, 0, attributes, real, origin)
        return
    shell = Attributes(NOSUID | NODEV | NOEXEC)
    yield MountFilesystem(target, "tmpfs", "cgroup", ("mode=755",), shell, origin=origin)
    for index, entry in enumerate(site.cgroup_mounts):
        yield _cgroup_entry(context, f"{target}/{entry.name}", index, attributes, real, origin)
        for link in entry.links:
            yield MakeSymlink(f"{target}/{link}", entry.name, origin=origin)
    if set_ & RDONLY:
        yield SetMountAttributes(target, Attributes(set=RDONLY), origin=origin)


def _cgroup_entry(
    context: Context, target: str, index: int, attributes: Attributes, real: bool, origin: str
) -> MountFilesystem | BindMount:
    entry = context.site.cgroup_mounts[index]
    if real:
        return MountFilesystem(target, entry.type, "cgroup", entry.options, attributes, origin=origin)
    fd = source_fd(context, entry.source, recursive=False, origin=origin)
    return BindMount(target, entry.source, fd, attributes=attributes, origin=origin)
