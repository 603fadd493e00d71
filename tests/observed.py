"""Containers to look at, on whatever layout of cgroups this machine has."""

from __future__ import annotations

import contextlib
import os
import posixpath

from ocirt import Container
from ocirt.cgroups import layout
from ocirt.cgroups.place import Place

MIB = 1 << 20


def place(container: Container, controller: str) -> Place:
    """Where the kernel keeps account of a container."""
    assert container._record is not None
    return Place.of(container._record.cgroup, controller)


def limit_memory(container: Container, limit: int) -> str:
    """Before it is started. What the limit is called here."""
    found = place(container, "memory")
    if found.version == 2:
        _enable("memory", posixpath.dirname(found.path))
    name = "memory.limit_in_bytes" if found.version == 1 else "memory.max"
    _write(f"{found.path}/{name}", str(limit))
    return name


def _enable(controller: str, directory: str) -> None:
    """In all cgroups above; one that has it already may be busy."""
    (root,) = (hierarchy.mountpoint for hierarchy in layout.probe().hierarchies if hierarchy.version == 2)
    if directory != root:
        _enable(controller, posixpath.dirname(directory))
    with contextlib.suppress(OSError):
        _write(f"{directory}/cgroup.subtree_control", f"+{controller}")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def pause(container: Container, paused: bool) -> None:
    """As runc and crun do."""
    found = place(container, "freezer")
    if found.version == 1:
        _write(f"{found.path}/freezer.state", "FROZEN" if paused else "THAWED")
    else:
        _write(f"{found.path}/cgroup.freeze", "1" if paused else "0")
