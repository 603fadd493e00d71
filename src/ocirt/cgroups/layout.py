"""Which cgroup hierarchies are mounted, and where in each of them this process is.

Three worlds: version 1 (a hierarchy for each controller, or for a few merged ones), version 2 (one for all), and
hybrid, where version 2 keeps track of processes while controllers stay on version 1.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator
from typing import Literal

from attrs import frozen

from ocirt.cgroups import tree

Mode = Literal["none", "v1", "hybrid", "v2"]

_RESOURCES = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "pids", "rdma")
CONTROLLERS = frozenset((*_RESOURCES, "debug", "net_cls", "net_prio", "perf_event"))
"""Every controller that version 1 has known: the other words among its mount options are options."""


@frozen
class Hierarchy:
    """One mounted hierarchy."""

    controllers: tuple[str, ...]
    """Of version 1, as in ``/proc/self/cgroup``, or one ``name=…``; empty for version 2."""
    mountpoint: str
    version: int
    root: str = "/"
    """Which cgroup the mountpoint shows; not ``/`` inside a container without a cgroup namespace."""

    @property
    def name(self) -> str:
        """What programs know it by: ``memory``, ``cpu,cpuacct``, ``systemd``, ``unified``."""
        return posixpath.basename(self.mountpoint)


@frozen
class Layout:
    """Every hierarchy that is mounted, in the order of the mounts."""

    hierarchies: tuple[Hierarchy, ...]

    @classmethod
    def parse(cls, mountinfo: str) -> Layout:
        """Read ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

        A hierarchy may be mounted many times, since bind mounts in containers' rootfs show up as well: the first one
        is the system's own.
        """
        found: dict[tuple[str, ...], Hierarchy] = {}
        for hierarchy in _hierarchies(mountinfo):
            found.setdefault(hierarchy.controllers, hierarchy)
        return cls(tuple(found.values()))

    @property
    def mode(self) -> Mode:
        versions = {hierarchy.version for hierarchy in self.hierarchies}
        if versions == {1, 2}:
            return "hybrid"
        if versions == {2}:
            return "v2"
        return "v1" if versions else "none"


@frozen
class Here:
    """Where this process stands: what every place for a container is relative to."""

    layout: Layout
    directories: tuple[tuple[Hierarchy, str], ...]
    """Our own cgroup in each hierarchy that tells, as a directory."""

    @classmethod
    def parse(cls, layout: Layout, text: str) -> Here:
        """Read ``/proc/self/cgroup`` (cgroups(7)); the path of version 2 stands there without a controller."""
        own = {
            controller: path
            for _, controllers, path in (line.split(":", 2) for line in text.splitlines())
            for controller in controllers.split(",")
        }
        keys = ((hierarchy, "".join(hierarchy.controllers[:1])) for hierarchy in layout.hierarchies)
        return cls(layout, tuple((hierarchy, directory(hierarchy, own[key])) for hierarchy, key in keys if key in own))


@functools.cache
def probe() -> Layout:
    """The layout of this machine, read once: hierarchies are mounted at boot, and parsing a long mountinfo is slow."""
    return Layout.parse(_read("/proc/self/mountinfo"))


def here() -> Here:
    """Where this process stands now: anybody may move it, so the file is read each time, though it seldom changes."""
    return _here(probe(), _read("/proc/self/cgroup"))


_here = functools.lru_cache(maxsize=8)(Here.parse)


def directory(hierarchy: Hierarchy, path: str) -> str:
    """A cgroup's directory.

    In a container without a cgroup namespace the kernel's path begins with what the mount already begins with.
    """
    root = hierarchy.root.rstrip("/")
    if path.startswith("/..") or not f"{path}/".startswith(f"{root}/"):
        return hierarchy.mountpoint  # a cgroup that the mount does not show: the nearest thing is all that it shows
    return hierarchy.mountpoint + path[len(root) :].rstrip("/")


def path_of(directory: str) -> str:
    """What the kernel calls a cgroup: ``directory`` the other way round."""
    hierarchies = sorted(probe().hierarchies, key=lambda hierarchy: len(hierarchy.mountpoint), reverse=True)
    for hierarchy in hierarchies:
        if f"{directory}/".startswith(f"{hierarchy.mountpoint}/"):
            return hierarchy.root.rstrip("/") + directory[len(hierarchy.mountpoint) :]
    return directory


def _read(path: str) -> str:
    return tree.read(path)


def _hierarchies(mountinfo: str) -> Iterator[Hierarchy]:
    for line in mountinfo.splitlines():
        mount, dash, filesystem = line.partition(" - cgroup")
        if not dash:
            continue
        root, mountpoint = map(_unescape, mount.split()[3:5])
        kind, _, options = filesystem.split(" ", 2)
        if kind == "2":
            yield Hierarchy((), mountpoint, 2, root)
            continue
        controllers = tuple(word for word in options.split(",") if word in CONTROLLERS or word.startswith("name="))
        if controllers:
            yield Hierarchy(controllers, mountpoint, 1, root)


def _unescape(field: str) -> str:
    r"""Undo the kernel's ``\040`` for a space, a tab, a newline and a backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
