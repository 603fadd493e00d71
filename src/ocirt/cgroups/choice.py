"""Where a container's cgroup goes in every hierarchy (config-linux.md, "Cgroups Path").

The same rules as runc's cgroupfs driver: an absolute path starts at the mount, a relative one at our own cgroup, and
without any the container's id is the relative path.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from attrs import frozen

from ocirt.cgroups.files import ORIGIN, Directory
from ocirt.cgroups.layout import Here, Hierarchy
from ocirt.errors import Problem, SpecError, UnsupportedError


@frozen
class Placement:
    """Where the container's cgroup should be; nothing has been looked at yet."""

    directories: tuple[Directory, ...]
    explicit: bool
    """Whether config.json named the place, so that doing without is not an option."""
    own: str = ""
    """The caller's cgroup of version 2: who moves a process needs rights wherever the two ways part."""
    below: Directory | None = None
    """Another place of version 2, for whoever was given its own cgroup but not the one above."""


def choose(here: Here, cgroups_path: str | None, container_id: str) -> Placement:
    """The place in each hierarchy that this process has a place in."""
    if cgroups_path and not here.directories:
        raise UnsupportedError(ORIGIN, "no cgroup hierarchy is mounted here; leave the path out to run without")
    leaf = _cleaned(cgroups_path) if cgroups_path else container_id  # which is a plain file name already
    absolute = cgroups_path is not None and cgroups_path.startswith("/")
    bases = _mountpoints(here) if absolute else _own(here)
    directories = tuple([_directory(hierarchy, base, leaf) for hierarchy, base in bases])
    own = next((directory for hierarchy, directory in here.directories if hierarchy.version == 2), "")
    below: Directory | None = None
    if here.layout.mode == "v2" and own and not absolute:
        below = _directory(here.directories[0][0], own, leaf)
    return Placement(directories, bool(cgroups_path), own, below)


def _directory(hierarchy: Hierarchy, base: str, leaf: str) -> Directory:
    parents = tuple([f"{base}/{parent}" for parent in _above(leaf)])
    return Directory(f"{base}/{leaf}", hierarchy.controllers, hierarchy.version, parents)


def _mountpoints(here: Here) -> Iterator[tuple[Hierarchy, str]]:
    return ((hierarchy, hierarchy.mountpoint) for hierarchy, _ in here.directories)


def _own(here: Here) -> Iterator[tuple[Hierarchy, str]]:
    """Our own cgroups, but for version 2 alone the one above.

    Ours holds processes, so it can never give its children controllers ("no internal processes", cgroups(7)).
    """
    above = here.layout.mode == "v2"
    for hierarchy, directory in here.directories:
        yield hierarchy, posixpath.dirname(directory) if above and directory != hierarchy.mountpoint else directory


def _above(leaf: str) -> tuple[str, ...]:
    """``a`` and ``a/b`` for ``a/b/c``."""
    parts = leaf.split("/")
    return tuple("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _cleaned(path: str) -> str:
    """``path`` without ``.`` and ``..``, which must never lead out of where it starts; and without a leading slash.

    The kernel refuses a newline in a cgroup's name, and ``/proc/PID/cgroup`` could not show it.
    """
    if "\0" in path or "\n" in path:
        raise SpecError([Problem(ORIGIN, path, "must not contain a NUL or a newline")])
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise SpecError([Problem(ORIGIN, path, "cannot be a file name: it is not Unicode text")]) from error
    cleaned = posixpath.normpath("/" + path.lstrip("/"))[1:]
    if not cleaned:
        raise SpecError([Problem(ORIGIN, path, "must name a cgroup below the one it starts at")])
    return cleaned
