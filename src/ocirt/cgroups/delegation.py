"""Whose the container's cgroup is: its own user's, where that user is to divide it (config-linux.md, Cgroup ownership).

The kernel then lets the user make cgroups below it and move the container's processes among them, but change none of
the limits that were set from outside (cgroups(7), Cgroups delegation).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import tree
from ocirt.cgroups.files import ORIGIN
from ocirt.errors import SetupError

if TYPE_CHECKING:
    from ocirt.cgroups.files import Cgroup
    from ocirt.spec import Linux, Spec

LIST: Final = "/sys/kernel/cgroup/delegate"
USUAL: Final = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
"""What that file names where the kernel has none of it."""


def owner(document: Spec) -> int | None:
    """The host's uid for ``process.user``, where the container has a cgroup namespace and a writable view of it."""
    linux, process = document.linux, document.process
    if linux is None or process is None:
        return None
    if not any(namespace.type == "cgroup" and not namespace.path for namespace in linux.namespaces):
        return None
    if not any(
        mount.destination == "/sys/fs/cgroup" and mount.source == "cgroup" and "ro" not in mount.options
        for mount in document.mounts
    ):
        return None
    if not any(namespace.type == "user" for namespace in linux.namespaces):
        return process.user.uid
    return _outside(linux, process.user.uid)


def _outside(linux: Linux, uid: int) -> int | None:
    """Unknown where the namespace is somebody else's and the configuration does not repeat its mappings."""
    for mapping in linux.uid_mappings:
        if mapping.container_id <= uid < mapping.container_id + mapping.size:
            return mapping.host_id + uid - mapping.container_id
    return None


def hand_over(cgroup: Cgroup, uid: int) -> None:
    """Of version 2 alone: those of version 1 are not safe in the hands of others.

    :raises SetupError: at ``linux.cgroupsPath``.
    """
    for directory in cgroup.directories:
        if directory.version == 2:
            _hand_over(directory.path, uid)


def _hand_over(path: str, uid: int) -> None:
    try:
        os.chown(path, uid, -1, follow_symlinks=False)
        for name in _files():
            try:
                os.chown(f"{path}/{name}", uid, -1, follow_symlinks=False)
            except FileNotFoundError:  # this cgroup has no such controller
                continue
    except OSError as error:
        raise SetupError(ORIGIN, "DelegateCgroup", "chown", error.errno or 0, str(error.filename or path)) from error


def _files() -> tuple[str, ...]:
    try:
        return tuple(tree.read(LIST).split())
    except FileNotFoundError:
        return USUAL
