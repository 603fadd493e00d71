"""The systemd unit that holds a container: its name, its slice, and where that is among the cgroups.

``linux.cgroupsPath`` is ``slice:prefix:name`` where systemd makes cgroups. The container's unit is the scope
``prefix-name.scope`` in that slice, or, where the name ends so, a slice itself (systemd.scope(5), systemd.slice(5)).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from ocirt.errors import Problem, SpecError, UnsupportedError

ORIGIN: Final = "linux.cgroupsPath"

Bus = Literal["system", "user"]
"""Whose systemd: the machine's, or the calling user's own instance."""

SLICE: Final = ".slice"
SCOPE: Final = ".scope"

SUBGROUP: Final = "run.oci.systemd.subgroup"
"""crun's annotation: a cgroup below the scope's for the container, which the scope's limits hold from outside."""

PREFIX: Final = "ocirt"
DEFAULT_SLICE: Final[dict[Bus, str]] = {"system": "system.slice", "user": "user.slice"}

NAME: Final = re.compile(r"[A-Za-z0-9:_.@\\-]{1,255}")
"""What systemd takes for a unit's name (systemd.unit(5))."""

CONTROLLERS: Final = frozenset("cpu cpuacct cpuset io blkio memory devices pids bpf-firewall bpf-devices".split())
"""What a cgroup's name may not begin with, and then have a dot: the kernel's files there are named so."""


class Unit(NamedTuple):
    """What is recorded of a unit before it is made, so that whoever deletes the container can stop it."""

    name: str
    bus: Bus
    ours: bool = True
    """It goes with the container; not so a slice that was there before."""


class Place(NamedTuple):
    """Where a container's unit goes."""

    slice: str
    """Whose child it is; or for a slice, which is where its own name says, what it wants to have there too."""
    name: str

    @property
    def is_slice(self) -> bool:
        return self.name.endswith(SLICE)

    @property
    def path(self) -> str:
        """Its cgroup, below the one of its systemd; begins with a slash."""
        if self.is_slice:
            return slice_path(self.name)
        return f"{slice_path(self.slice).rstrip('/')}/{cgroup_name(self.name)}"


def place(cgroups_path: str | None, container_id: str, bus: Bus) -> Place:
    """What ``linux.cgroupsPath`` says, or the defaults.

    :raises SpecError: it is not ``slice:prefix:name``, or no unit can be named so.
    """
    if not cgroups_path:
        return _checked(Place(DEFAULT_SLICE[bus], f"{PREFIX}-{escaped(container_id)}{SCOPE}"), container_id)
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        wanted = 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups'
        rule = f'{wanted}, got "{cgroups_path}" instead'
        raise SpecError([Problem(ORIGIN, None, rule)])
    slice_, prefix, name = parts
    if not name.endswith(SLICE):
        name = f"{prefix}-{name}{SCOPE}" if prefix else f"{name}{SCOPE}"
    return _checked(Place(slice_ or DEFAULT_SLICE[bus], name), cgroups_path)


def subgroup(annotations: Mapping[str, str], found: Place) -> str:
    """Where below the unit's cgroup the container goes: a name, or nothing for the unit's own.

    :raises SpecError: no cgroup can be named so.
    :raises UnsupportedError: only a scope is handed over as a whole.
    """
    name = annotations.get(SUBGROUP, "")
    if not name:
        return ""
    origin = f'annotations["{SUBGROUP}"]'
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:_.@+-]{0,199}", name) or cgroup_name(name) != name:
        raise SpecError([Problem(origin, name, "must be the name of one cgroup, and none of the kernel's files")])
    if found.is_slice:
        raise UnsupportedError(origin, "a slice is systemd's own to divide: name a scope in linux.cgroupsPath")
    return name


def _checked(found: Place, text: str) -> Place:
    slice_path(found.slice)
    if found.is_slice and slice_path(found.name) == "/":
        raise SpecError([Problem(ORIGIN, text, "must not name the root of all slices")])
    if found.name == SCOPE or not NAME.fullmatch(found.name):
        rule = f"names the unit {found.name!r}, which systemd does not take: letters, digits and : _ . @ \\ - alone"
        raise SpecError([Problem(ORIGIN, text, rule)])
    return found


def slice_path(name: str) -> str:
    """``/a.slice/a-b.slice`` for ``a-b.slice``: every dash is a level (systemd.slice(5)).

    :raises SpecError: it is no name of a slice.
    """
    stem = name.removesuffix(SLICE)
    if stem == "-" and stem != name:
        return "/"
    parts = stem.split("-")
    if stem == name or not all(parts) or not NAME.fullmatch(name):
        raise SpecError([Problem(ORIGIN, None, f"invalid slice name: {name}")])
    return "".join(f"/{cgroup_name('-'.join(parts[:depth]) + SLICE)}" for depth in range(1, len(parts) + 1))


def cgroup_name(unit: str) -> str:
    """A unit's directory: its name, with a mark before what could be taken for one of the kernel's files."""
    stem = unit.rpartition(".")[0]
    return f"_{unit}" if unit[0] in "_." or unit.startswith("cgroup.") or stem in CONTROLLERS else unit


def below(unit: Unit, directory: str) -> str:
    """Where below the unit's own cgroup a directory is; with a slash, or empty."""
    return directory.partition(f"/{cgroup_name(unit.name)}")[2]


def has_systemd() -> bool:
    """It is the machine's init (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def escaped(text: str) -> str:
    """Characters that a unit's name cannot hold as ``\\x2b`` (systemd-escape(1))."""
    return re.sub(r"[^A-Za-z0-9:_.-]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), text)
