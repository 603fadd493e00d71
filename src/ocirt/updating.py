"""Other limits for a container that is there already (runc's update)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, cast

from attrs import frozen

from ocirt.cgroups import layout, limits, merge
from ocirt.cgroups.conversion import in_version, settings_for
from ocirt.errors import SpecError, UnsupportedError
from ocirt.host import Host
from ocirt.spec import Linux, Resources, Spec

if TYPE_CHECKING:
    from ocirt.cgroups.settings import Setting
    from ocirt.spec import JSON
    from ocirt.state import Record, StateDirectory

RDT: Final = "linux.intelRdt"


@frozen
class Schemata:
    """What changes of a class of resctrl."""

    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None

    def __bool__(self) -> bool:
        return bool(self.l3_cache_schema or self.mem_bw_schema)

    def applied_to(self, linux: Linux) -> Linux:
        """:raises UnsupportedError: the container has no class."""
        if not self:
            return linux
        if linux.intel_rdt is None:
            raise UnsupportedError(RDT, "updating a non-existent Intel RDT configuration is not supported")
        changes = {"l3_cache_schema": self.l3_cache_schema, "mem_bw_schema": self.mem_bw_schema}
        given = {name: value for name, value in changes.items() if value}
        return linux.evolve(intel_rdt=linux.intel_rdt.evolve(**given))


def update(directory: StateDirectory, record: Record, given: Resources, schemata: Schemata, *, strict: bool) -> Spec:
    """Change what was given and nothing else; the configuration as it is from now on.

    Whoever calls holds the container's lock. Nothing here touches the freezer: a paused container stays so.

    :raises OCIError: then all limits are what they were.
    """
    document = Spec.from_json(cast("JSON", directory.read_config()))
    linux = document.linux or Linux()
    stored = in_version(linux.resources or Resources(), document.oci_version)
    given = in_version(given, document.oci_version)
    resources = merge.merged(stored, given)
    updated = document.evolve(linux=schemata.applied_to(linux).evolve(resources=resources))
    if problems := updated.check():
        raise SpecError(problems, "update")
    before, settings = _settings(record, stored, given, strict=strict)
    files = limits.replaced(record.cgroup, settings, limits.top_of(layout.probe()))
    with _unit(record, before, settings), files, _schemata(record, schemata):
        directory.reconfigure(updated.dumps(indent=None).encode())
    return updated


def _settings(
    record: Record, stored: Resources, given: Resources, *, strict: bool
) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """What was written, and what is to be; what is stored was said before, and is not to be complained of again."""
    controllers = limits.available(layout.probe(), record.cgroup, rootless=Host.probe().rootless)
    memory = given.memory and given.memory.evolve(swap=None)  # which alone would lack the limit that is stored
    settings_for(given.evolve(memory=memory), controllers, strict=strict)
    before = settings_for(stored, controllers, strict=False)
    now = settings_for(merge.to_write(stored, given), controllers, strict=False)
    settings = merge.changed(before, now, given)
    if settings and not record.cgroup.directories:
        raise UnsupportedError(settings[0].origin, "without a cgroup of its own the container cannot be limited")
    limits.check_permitted(record.cgroup, settings)
    return before, settings


def _unit(record: Record, before: Sequence[Setting], now: Sequence[Setting]) -> AbstractContextManager[None]:
    """systemd hears of it first, or it would undo it when it is told of something else."""
    if record.unit is None or not now:
        return contextlib.nullcontext()
    from ocirt.cgroups import systemd

    return systemd.updated(record.unit, before, now)


def _schemata(record: Record, wanted: Schemata) -> AbstractContextManager[None]:
    if not wanted:
        return contextlib.nullcontext()
    from ocirt import rdt

    lines = {"l3CacheSchema": wanted.l3_cache_schema, "memBwSchema": wanted.mem_bw_schema}
    given = tuple(rdt.Line(f"{RDT}.{name}", text) for name, text in lines.items() if text)
    return rdt.replaced(record.rdt_groups[0], given)
