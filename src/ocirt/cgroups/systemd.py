"""Cgroups made by systemd: each container is a unit of its own, which systemd shows, stops and accounts for.

systemd makes the unit's cgroup in the hierarchies that it cares for, and moves init there; in the others it is made
by files, at the same path. Inside a scope nobody interferes (``Delegate=``, Control Group APIs and Delegation):
limits are set as properties of the unit, so that systemd knows them, and in the files, since it does not know all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ocirt.cgroups import properties, tree, units
from ocirt.cgroups.choice import Placement
from ocirt.cgroups.files import ORIGIN, Directory
from ocirt.cgroups.layout import Here, Hierarchy, directory
from ocirt.cgroups.properties import Property
from ocirt.cgroups.units import Place, Unit
from ocirt.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.dbus import Systemd
    from ocirt.cgroups.devices import DeviceWrite
    from ocirt.cgroups.settings import Setting
    from ocirt.cgroups.units import Bus

CARED_FOR: Final = frozenset("name=systemd cpu cpuacct blkio memory devices pids".split())
"""Controllers of version 1 whose cgroups systemd makes and removes; of version 2 it is all of them."""


@frozen
class Manager:
    """One systemd: the machine's, or a user's."""

    version: int
    control_group: str
    """What its units' cgroups are below."""


@frozen
class Wanted:
    """A unit to be made for a container."""

    unit: Unit
    place: Place
    placement: Placement
    description: str
    properties: tuple[Property, ...]
    """Of devices and annotations."""
    version_1: bool
    divided: bool = False
    """The container goes to a cgroup below the unit's, which must be empty of processes to have controllers there."""


def choose(
    here: Here,
    cgroups_path: str | None,
    container_id: str,
    *,
    annotations: Mapping[str, str],
    writes: Sequence[DeviceWrite] = (),
    rootless: bool = False,
) -> Wanted:
    """The container's unit, and where its cgroups are.

    :raises SpecError: a name or an annotation is wrong.
    :raises UnsupportedError: no systemd is there for this caller.
    """
    bus: Bus = "user" if rootless else "system"
    place = units.place(cgroups_path, container_id, bus)
    extra = properties.of_annotations(annotations)
    subgroup = units.subgroup(annotations, place)
    _check(here, rootless)
    if here.layout.mode != "v2":
        _check_version_1(place, subgroup)
    path = f"{place.path}/{subgroup}" if subgroup else place.path
    directories = tuple(_directories(here, ask(bus).control_group, path))
    exists = place.is_slice and any(os.path.isdir(directory.path) for directory in directories)
    version_1 = here.layout.mode != "v2"
    devices = properties.of_devices(writes, _device_groups()) if version_1 else ()
    return Wanted(
        Unit(place.name, bus, ours=not exists),
        place,
        Placement(directories, bool(cgroups_path)),
        f"ocirt container {container_id}",
        (*devices, *extra),
        version_1,
        bool(subgroup),
    )


def _check(here: Here, rootless: bool) -> None:
    if not units.has_systemd():
        raise UnsupportedError(ORIGIN, "systemd not running on this host, cannot use systemd cgroups manager")
    if rootless and here.layout.mode != "v2":
        raise UnsupportedError(ORIGIN, "a user's systemd can give away cgroups of version 2 alone")


def _check_version_1(place: Place, subgroup: str) -> None:
    """Who is moved to a slice by files may at that moment be among those whom systemd moves from one hierarchy's
    cgroup to another for a reason of its own, and end up elsewhere."""
    if place.is_slice:
        raise UnsupportedError(ORIGIN, "a slice with processes of its own needs cgroup version 2 alone: name a scope")
    if subgroup:
        raise UnsupportedError(f'annotations["{units.SUBGROUP}"]', "needs cgroup version 2 alone")


@functools.cache
def ask(bus: Bus) -> Manager:
    """Which systemd that is: asked once, since neither changes while it runs."""
    from ocirt.cgroups.dbus import Systemd

    with Systemd(bus) as systemd:
        version = re.search(r"\d+", str(systemd.property("Version")))
        control_group = str(systemd.property("ControlGroup"))
    return Manager(int(version[0]) if version else 0, control_group.removesuffix("/init.scope").rstrip("/"))


def _directories(here: Here, above: str, path: str) -> Iterator[Directory]:
    """The unit's cgroup in every hierarchy; what systemd makes above it stays systemd's."""
    levels = path.strip("/").split("/")[:-1]
    parents = ["/".join(levels[: depth + 1]) for depth in range(len(levels))]
    for hierarchy, _ in here.directories:
        base = directory(hierarchy, f"{above}/")
        cared_for = _cared_for(hierarchy)
        yield Directory(
            f"{base}{path}",
            hierarchy.controllers,
            hierarchy.version,
            () if cared_for else tuple([f"{base}/{parent}" for parent in parents]),
        )


def _cared_for(hierarchy: Hierarchy) -> bool:
    return hierarchy.version == 2 or not CARED_FOR.isdisjoint(hierarchy.controllers)


def _device_groups() -> dict[tuple[str, int], str]:
    return properties.device_groups(tree.read("/proc/devices"))


def start(wanted: Wanted, pid: int, settings: Iterable[Setting] = ()) -> None:
    """Make the unit with these limits; systemd has moved ``pid`` to a scope when this returns.

    :raises SetupError: it could not be made, and nothing is left.
    """
    limits = properties.of_settings(settings, ask(wanted.unit.bus).version)
    if not wanted.unit.ours:
        change(wanted.unit, (*limits, *wanted.properties))
        return
    from ocirt.cgroups.dbus import UNIT_EXISTS, Refused, Systemd

    unit = wanted.unit
    with contextlib.ExitStack() as undo, Systemd(unit.bus) as systemd:
        systemd.follow_jobs()
        undo.callback(_stop_quietly, unit)
        try:
            result = _started(systemd, unit.name, tuple(_properties(wanted, pid, limits)))
        except Refused as error:
            if error.name == UNIT_EXISTS:  # it is somebody else's
                undo.pop_all()
            raise _failed(unit, "StartTransientUnit", str(error)) from error
        if result != "done":
            raise _failed(unit, "StartTransientUnit", f"its job ended as {result!r}")
        undo.pop_all()


def _stop_quietly(unit: Unit) -> None:
    """There is a better error to tell."""
    with contextlib.suppress(SetupError):
        stop(unit)


def _started(systemd: Systemd, name: str, made: Sequence[Property]) -> str:
    """A unit that has failed keeps its name until it is told otherwise; whoever had it is gone."""
    from ocirt.cgroups.dbus import UNIT_EXISTS, Refused

    try:
        return systemd.start(name, made)
    except Refused as error:
        if error.name != UNIT_EXISTS:
            raise
    with contextlib.suppress(Refused):  # it was about to go anyway
        systemd.call("ResetFailedUnit", "s", name)
    return systemd.start(name, made)


def _properties(wanted: Wanted, pid: int, limits: Sequence[Property]) -> Iterator[Property]:
    """The limits after what makes room for them, and annotations last: of the same property, the last one counts."""
    yield Property("Description", "s", wanted.description)
    if wanted.place.is_slice:
        yield Property("Wants", "as", [wanted.place.slice])
    else:
        yield Property("Slice", "s", wanted.place.slice)
        yield Property("Delegate", "b", True)
        yield Property("PIDs", "au", [pid])
    for name in ("Memory", "CPU", "BlockIO" if wanted.version_1 else "IO", "Tasks"):
        yield Property(f"{name}Accounting", "b", True)
    yield Property("DefaultDependencies", "b", False)
    yield from limits
    yield from wanted.properties


def stop(unit: Unit) -> None:
    """Make the unit absent: at once or after a crash, from any process; one that is not ours stays.

    :raises SetupError: it is still there.
    """
    if not unit.ours:
        return
    from ocirt.cgroups.dbus import NO_SUCH_UNIT, Refused, Systemd

    with Systemd(unit.bus) as systemd:
        systemd.follow_jobs()
        try:
            result = systemd.stop(unit.name)
        except Refused as error:
            if error.name != NO_SUCH_UNIT:
                raise _failed(unit, "StopUnit", str(error)) from error
            return
        try:
            systemd.call("ResetFailedUnit", "s", unit.name)
        except Refused as error:
            if error.name != NO_SUCH_UNIT:
                raise _failed(unit, "ResetFailedUnit", str(error)) from error
    if result not in ("done", "canceled"):
        raise _failed(unit, "StopUnit", f"its job ended as {result!r}")


def change(unit: Unit, changed: Sequence[Property]) -> None:
    """Change the unit's properties, until it or the machine stops.

    :raises SetupError: systemd refuses, and nothing has changed.
    """
    from ocirt.cgroups.dbus import Refused, Systemd

    if not changed:
        return
    with Systemd(unit.bus) as systemd:
        try:
            systemd.set(unit.name, changed)
        except Refused as error:
            raise _failed(unit, "SetUnitProperties", str(error)) from error


def attach(unit: Unit, pid: int, below: str = "") -> None:
    """Move one more process to the unit, or to a cgroup below its own.

    A user's systemd may do so from anywhere: it has the machine's do it.

    :raises SetupError: systemd refuses.
    """
    from ocirt.cgroups.dbus import Refused, Systemd

    with Systemd(unit.bus) as systemd:
        try:
            systemd.call("AttachProcessesToUnit", "ssau", unit.name, below, [pid])
        except Refused as error:
            raise _failed(unit, "AttachProcessesToUnit", str(error)) from error


@contextlib.contextmanager
def updated(unit: Unit, before: Iterable[Setting], now: Iterable[Setting]) -> Iterator[None]:
    """Tell systemd of limits that are about to be written to the container's files; after an error, of those before.

    :raises SetupError: systemd refuses, and nothing has changed.
    """
    version = ask(unit.bus).version
    changed = properties.of_settings(now, version)
    change(unit, changed)
    try:
        yield
    except BaseException:
        known = {made.name: made for made in properties.of_settings(before, version)}
        with contextlib.suppress(SetupError):  # there is a better error to tell
            change(unit, [known.get(made.name, properties.unset(made)) for made in changed])
        raise


def _failed(unit: Unit, call: str, reason: str) -> SetupError:
    return SetupError(ORIGIN, "SystemdUnit", call, 0, f"{unit.name}: {reason}")
