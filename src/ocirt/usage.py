"""What a container uses that no cgroup keeps account of: its network, and its class of resctrl."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import tree
from ocirt.cgroups.place import Place, number
from ocirt.cgroups.stats import NetworkStats, RDTDomain, RDTStats
from ocirt.state import is_alive

if TYPE_CHECKING:
    from ocirt.state import Record

COLUMNS: Final = (0, 1, 2, 3, 8, 9, 10, 11)
"""Bytes, packets, errors, dropped: received, and sent."""

LIMITS: Final = {
    "L3": ("cbm_mask", "min_cbm_bits", "num_closids"),
    "L3CODE": ("cbm_mask", "min_cbm_bits", "num_closids"),
    "MB": ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"),
}
"""Files of resctrl's ``info`` that are of one value each."""


def network(record: Record) -> tuple[NetworkStats, ...]:
    """By the namespace that init is in; other processes may have left it."""
    try:
        lines = tree.read(f"/proc/{record.pid}/net/dev").splitlines()[2:]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EINVAL):
            return ()
        raise
    found = tuple(_interfaces(lines))
    return found if is_alive(record) else ()  # afterwards, for the pid may be another's by now


def _interfaces(lines: list[str]) -> Iterator[NetworkStats]:
    for line in lines:
        name, _, rest = line.rpartition(":")
        counts = [number(word) for word in rest.split()]
        if len(counts) > COLUMNS[-1]:
            yield NetworkStats(name.strip(), *(counts[column] or 0 for column in COLUMNS))


def resctrl(record: Record) -> RDTStats | None:
    """Where it joined a class; what others in the class use is not told, so a shared one has no domains."""
    if not record.rdt_groups:
        return None
    from ocirt import rdt

    group = Place(record.rdt_groups[0], 1)
    own = record.rdt_groups[-1]
    root = Place(rdt.find() or "", 1)
    return RDTStats(
        _schemata(group),
        _schemata(root),
        {resource: _limits(Place(f"{root.path}/info/{resource}", 1), names) for resource, names in LIMITS.items()},
        tuple(_domains(f"{own}/mon_data")) if own in record.rdt_made else (),
    )


def _schemata(place: Place) -> tuple[str, ...]:
    return tuple(line.strip() for line in place.lines("schemata"))


def _limits(place: Place, names: tuple[str, ...]) -> dict[str, str]:
    found = {name: (place.text(name) or "").strip() for name in names}
    return {name: text for name, text in found.items() if text and (name == "cbm_mask" or number(text) is not None)}


def _domains(directory: str) -> Iterator[RDTDomain]:
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):  # this processor watches nothing
        names = sorted(name for name in os.listdir(directory) if name.startswith("mon_"))
    for name in names:
        place = Place(f"{directory}/{name}", 1)
        counts = (place.number(file) for file in ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes"))
        yield RDTDomain(name, *counts)
