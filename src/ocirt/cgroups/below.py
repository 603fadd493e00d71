"""A cgroup inside a container's own, which one of its processes goes to (runc exec --cgroup)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from ocirt.cgroups.files import Cgroup
from ocirt.errors import UnsupportedError

ORIGIN = "--cgroup"
"""No member of config.json says so."""


def below(cgroup: Cgroup, paths: Mapping[str, str]) -> Cgroup:
    """Where a process goes that is to be in ``paths`` below the container's cgroups.

    :param paths: by controller of version 1; without one, in every hierarchy.
    :raises UnsupportedError: it would leave the container's, or the controller has no hierarchy here.
    """
    known = {controller for directory in cgroup.directories for controller in directory.controllers}
    for controller in paths:
        if controller and controller not in known:
            raise UnsupportedError(ORIGIN, f"unknown controller {controller} in SubCgroupPaths")
    directories = []
    for directory in cgroup.directories:
        wanted = next((paths[name] for name in (*directory.controllers, "") if name in paths), "")
        directories.append(directory._replace(path=_joined(directory.path, wanted)))
    return Cgroup(tuple(directories))


def _joined(top: str, wanted: str) -> str:
    """Compared by whole names once it is normal: neither ``..`` nor ``../NAMEx`` leads out."""
    path = posixpath.normpath(f"{top}/{wanted}")
    if path != top and not path.startswith(f"{top}/"):
        raise UnsupportedError(ORIGIN, f"bad sub cgroup path: {wanted} is not a sub cgroup path")
    return path
