"""The configuration that ``runc spec`` and ``runc spec --rootless`` write (runc 1.5)."""

from __future__ import annotations

import os  # the one thing a rootless default asks the machine: who its caller is
from typing import Final

from ocirt.spec.config import Capabilities, Mount, Process, Rlimit, Root, Spec, User
from ocirt.spec.linux import DeviceRule, IDMapping, Linux, Namespace, Resources

CAPABILITIES: Final = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")

MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
    "/sys/devices/virtual/tpm",
)

READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_QUIET: Final = ("nosuid", "noexec", "nodev")
_TERMINALS: Final = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")


def default(rootless: bool, *, uid: int | None, gid: int | None, cgroup2: bool) -> Spec:
    """``uid`` and ``gid`` are the host's IDs that root of a rootless container stands for, by default the caller's."""
    return Spec(
        process=_process(),
        root=Root("rootfs", readonly=True),
        hostname="runc",
        mounts=_mounts(rootless),
        linux=_rootless_linux(uid, gid, cgroup2) if rootless else _linux(cgroup2),
    )


def _process() -> Process:
    return Process(
        terminal=True,
        user=User(uid=0, gid=0),
        args=("sh",),
        env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
        cwd="/",
        capabilities=Capabilities(bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES),
        rlimits=(Rlimit("RLIMIT_NOFILE", hard=1024, soft=1024),),
        no_new_privileges=True,
    )


def _mounts(rootless: bool) -> tuple[Mount, ...]:
    """Group 5, which owns terminals, is not mapped where one ID is; nor may a user without a netns mount sysfs."""
    if rootless:
        group: tuple[str, ...] = ()
        sys = Mount("/sys", "none", "/sys", ("rbind", *_QUIET, "ro"))
    else:
        group = ("gid=5",)
        sys = Mount("/sys", "sysfs", "sysfs", (*_QUIET, "ro"))
    return (
        Mount("/proc", "proc", "proc"),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount("/dev/pts", "devpts", "devpts", (*_TERMINALS, *group)),
        Mount("/dev/shm", "tmpfs", "shm", (*_QUIET, "mode=1777", "size=65536k")),
        Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
        sys,
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_QUIET, "relatime", "ro")),
    )


def _linux(cgroup2: bool) -> Linux:
    return Linux(
        resources=Resources(devices=(DeviceRule(allow=False, access="rwm"),)),
        namespaces=_namespaces("pid", "network", "ipc", "uts", "mount", *(("cgroup",) if cgroup2 else ())),
        masked_paths=MASKED_PATHS,
        readonly_paths=READONLY_PATHS,
    )


def _rootless_linux(uid: int | None, gid: int | None, cgroup2: bool) -> Linux:
    """No network namespace: an ordinary user could not connect it to anything."""
    return Linux(
        uid_mappings=(IDMapping(0, os.geteuid() if uid is None else uid, 1),),
        gid_mappings=(IDMapping(0, os.getegid() if gid is None else gid, 1),),
        namespaces=_namespaces("pid", "ipc", "uts", "mount", *(("cgroup",) if cgroup2 else ()), "user"),
        masked_paths=MASKED_PATHS,
        readonly_paths=READONLY_PATHS,
    )


def _namespaces(*types: str) -> tuple[Namespace, ...]:
    return tuple(Namespace(type) for type in types)
