"""What a mount of type ``cgroup`` shows: the container's own cgroup of every hierarchy.

Version 2 is one mount at the destination itself. Version 1 is a tmpfs with a directory for each hierarchy, in hybrid
mode with ``unified`` among them: bind mounts of the container's cgroups, or real mounts where a cgroup namespace
makes them start at the container's own.
"""

from __future__ import annotations

from attrs import frozen

from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.layout import Here, Hierarchy


@frozen
class CgroupMountEntry:
    """One hierarchy as the container sees it."""

    name: str
    """The directory below the destination; empty for the destination itself."""
    type: str
    """``cgroup`` or ``cgroup2``, for a real mount."""
    options: tuple[str, ...]
    """What selects the hierarchy in a real mount."""
    source: str
    """The host directory to bind where there is no cgroup namespace."""
    links: tuple[str, ...]
    """Symbolic links to make beside the directory: the single names of merged controllers."""


def mount_entries(here: Here, cgroup: Cgroup) -> tuple[CgroupMountEntry, ...]:
    """Every hierarchy that the container is in; where it got no cgroup of its own, it stays in ours."""
    places = {directory.controllers: directory.path for directory in cgroup.directories}
    alone = here.layout.mode == "v2"
    return tuple(
        CgroupMountEntry(
            name="" if alone else hierarchy.name,
            type="cgroup2" if hierarchy.version == 2 else "cgroup",
            options=_selection(hierarchy),
            source=places.get(hierarchy.controllers, own),
            links=_links(hierarchy),
        )
        for hierarchy, own in here.directories
    )


def _selection(hierarchy: Hierarchy) -> tuple[str, ...]:
    """A named hierarchy has no controllers, and mount(8) wants to hear that as ``none``."""
    if any(word.startswith("name=") for word in hierarchy.controllers):
        return ("none", *hierarchy.controllers)
    return hierarchy.controllers


def _links(hierarchy: Hierarchy) -> tuple[str, ...]:
    if len(hierarchy.controllers) < 2:
        return ()
    return tuple(controller for controller in hierarchy.controllers if controller != hierarchy.name)
