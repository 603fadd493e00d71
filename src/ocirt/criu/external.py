"""Mounts that CRIU is not to make anew but to take from the host, by the names that runc gives them.

Such a mount's name is its destination in config.json, so that whoever restores finds the source that belongs to it in
their own config.json; what covers a masked file is named after what it is, ``/dev/null``.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from ocirt.cgroups import layout, mounts
from ocirt.cgroups.files import Cgroup
from ocirt.plan.devices import DEFAULTS
from ocirt.plan.mounts import CGROUP_TYPES
from ocirt.spec import Linux, Spec
from ocirt.spec.options import parse_options

NULL: Final = "/dev/null"
LINKS: Final = 40
"""More symbolic links than that, and the kernel takes it for a loop too (path_resolution(7))."""


@frozen
class Shown:
    """One place of the host's in the container."""

    destination: str
    """As config.json has it."""
    source: str


@frozen
class MountPoint:
    """One line of proc_pid_mountinfo(5)."""

    path: str
    type: str


def shown(document: Spec, bundle: str, cgroup: Cgroup) -> Iterator[Shown]:
    """Everything that the container has of the host's by a bind mount."""
    linux = document.linux or Linux()
    for mount in document.mounts:
        options = parse_options(mount.options)
        destination = _normal(mount.destination)
        if options.bind:
            yield Shown(destination, os.path.join(bundle, mount.source or ""))
        elif mount.type in CGROUP_TYPES and not _has(linux, "cgroup"):
            for entry in mounts.mount_entries(layout.here(), cgroup):
                yield Shown(posixpath.join(destination, entry.name).rstrip("/"), entry.source)
    if _has(linux, "user"):
        for path in (*(device.path for device in DEFAULTS), *(device.path for device in linux.devices)):
            yield Shown(_normal(path), path)


def at_dump(document: Spec, bundle: str, cgroup: Cgroup, pid: int) -> Iterator[str]:
    """What to tell CRIU of the mounts of a container that runs: place and name (criu(8), --external)."""
    found = mount_points(_read(f"/proc/{pid}/mountinfo"))
    told: set[str] = set()
    others = {_normal(mount.destination) for mount in document.mounts}
    for entry in shown(document, bundle, cgroup):
        place = resolve(f"/proc/{pid}/root", entry.destination)
        for path in _at_and_below(place, found, others - {entry.destination}):
            if path not in told:
                told.add(path)
                yield f"mnt[{path}]:{entry.destination}{path[len(place) :]}"
    for masked in document.linux.masked_paths if document.linux else ():
        path = resolve(f"/proc/{pid}/root", masked)
        if path in found and found[path].type != "tmpfs" and path not in told:
            told.add(path)
            yield f"mnt[{path}]:{NULL}"


def at_restore(document: Spec, bundle: str, cgroup: Cgroup) -> Iterator[str]:
    """What those names stand for here; CRIU asks for those that it needs."""
    ours = mount_points(_read("/proc/self/mountinfo"))
    told: set[str] = set()
    for entry in shown(document, bundle, cgroup):
        source = os.path.realpath(entry.source)
        for path in {source, *_at_and_below(source, ours, set())}:
            name = f"{entry.destination}{path[len(source) :]}"
            if name not in told:
                told.add(name)
                yield f"mnt[{name}]:{path}"
    if document.linux is not None and document.linux.masked_paths and NULL not in told:
        yield f"mnt[{NULL}]:{NULL}"


def mount_points(mountinfo: str) -> Mapping[str, MountPoint]:
    """By their paths; where one covers another, the upper one."""
    found = {}
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount.split()[4])
        found[path] = MountPoint(path, filesystem.split()[0])
    return found


def _at_and_below(place: str, found: Mapping[str, MountPoint], others: set[str]) -> list[str]:
    """Mount points of a recursive bind: all below it, but for those that config.json has put there itself."""
    prefix = place.rstrip("/") + "/"
    below = [path for path in found if path.startswith(prefix) and not _is_within(path, others, place)]
    return [*([place] if place in found else []), *below]


def _is_within(path: str, others: set[str], place: str) -> bool:
    return any(
        other.startswith(place.rstrip("/") + "/") and f"{path}/".startswith(f"{other}/") and other != place
        for other in others
    )


def resolve(root: str, path: str) -> str:
    """A path in a container without symbolic links, for which its root is the root (as RESOLVE_IN_ROOT, openat2(2)).

    Only a name for CRIU to compare with its own: nothing is opened by it.
    """
    done: list[str] = []
    left = path.split("/")[::-1]
    links = 0
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            continue
        try:
            target = os.readlink("/".join([root, *done, name]))
        except OSError:
            done.append(name)
            continue
        links += 1
        if links > LINKS:
            break
        if target.startswith("/"):
            done.clear()
        left.extend(target.split("/")[::-1])
    return "/" + "/".join(done)


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _has(linux: Linux, type_: str) -> bool:
    return any(namespace.type == type_ for namespace in linux.namespaces)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
