"""Limits that change while others stay: what ``update`` was given, on what a container has.

Zero and the empty string say "unset" where the kernel could not mean anything by them; engines fill whole documents
with them. ``unified`` and the lists are about one file or device each, so entries replace those of their name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from ocirt.cgroups.settings import RESOURCES, Setting
from ocirt.cgroups.v1 import UNSET

if TYPE_CHECKING:
    from ocirt.spec.base import OCIObject
    from ocirt.spec.limits import CPU, BlockIO, Memory, Network
    from ocirt.spec.linux import Resources

Member = TypeVar("Member", bound="OCIObject")
Entry = TypeVar("Entry")

MEMORY: Final = ("limit", "reservation", "swap", "kernel", "kernel_tcp", "swappiness")
CPUS: Final = ("shares", "quota", "burst", "period", "realtime_runtime", "realtime_period", "cpus", "mems", "idle")
ZERO_COUNTS: Final = frozenset(("swappiness", "burst", "idle"))
"""Where 0 is a value like any other."""

LISTS: Final = ("hugepageLimits", "network.priorities", "rdma", "unified", "blockIO.weightDevice", "blockIO.throttle")
"""Members whose entries stand for themselves."""


def merged(stored: Resources, given: Resources) -> Resources:
    """What a container has once it has been given that. Devices never change: whoever uses one keeps it open."""
    return stored.evolve(
        memory=_memory(stored.memory, given.memory),
        cpu=_cpu(stored.cpu, given.cpu),
        block_io=_block_io(stored.block_io, given.block_io),
        hugepage_limits=_upserted(stored.hugepage_limits, given.hugepage_limits, lambda limit: limit.page_size),
        network=_network(stored.network, given.network),
        pids=given.pids or stored.pids,
        rdma={**stored.rdma, **given.rdma},
        unified=given.unified or stored.unified,
    )


def to_write(stored: Resources, given: Resources) -> Resources:
    """The same with the entries of lists that were given, and no others: those stand in no relation to the rest."""
    whole = merged(stored, given)
    lists = {
        name: getattr(given.block_io, name) if given.block_io is not None else ()
        for name in ("weight_device", *(f"throttle_{way}_device" for way in _WAYS))
    }
    return whole.evolve(
        block_io=whole.block_io and whole.block_io.evolve(**lists),
        network=whole.network and whole.network.evolve(priorities=given.network.priorities if given.network else ()),
        hugepage_limits=given.hugepage_limits,
        rdma=given.rdma,
        unified=given.unified,
    )


def changed(before: Iterable[Setting], now: Iterable[Setting], given: Resources) -> tuple[Setting, ...]:
    """Which settings an update is about: what is another than it was, and what was asked for by name.

    The latter since the file may hold something else by now.
    """
    known = {(setting.file, setting.values) for setting in before}
    return tuple(
        setting
        for setting in now
        if setting.origin.startswith(tuple(f"{RESOURCES}.{name}" for name in LISTS))
        or (setting.file, setting.values) not in known
        or _is_given(given, setting.origin)
    )


_WAYS: Final = ("read_bps", "write_bps", "read_iops", "write_iops")

_NAMES: Final[Mapping[str, str]] = {
    "blockIO": "block_io",
    "kernelTCP": "kernel_tcp",
    "disableOOMKiller": "disable_oom_killer",
    "useHierarchy": "use_hierarchy",
    "realtimeRuntime": "realtime_runtime",
    "realtimePeriod": "realtime_period",
    "leafWeight": "leaf_weight",
    "classID": "class_id",
}


def _is_given(given: Resources, origin: str) -> bool:
    value: object = given
    for name in origin.removeprefix(f"{RESOURCES}.").split("."):
        value = getattr(value, _NAMES.get(name, name), None)
    return bool(value) or (value is not None and value is not False and origin.rpartition(".")[2] in ZERO_COUNTS)


def _memory(stored: Memory | None, given: Memory | None) -> Memory | None:
    if stored is None or given is None:
        return given or stored
    result = _overridden(stored, given, MEMORY)
    if given.limit == -1 and not given.swap:
        result = result.evolve(swap=None)  # a bound of both together would bound memory too
    return result.evolve(
        disable_oom_killer=stored.disable_oom_killer or given.disable_oom_killer,
        use_hierarchy=stored.use_hierarchy or given.use_hierarchy,
        check_before_update=given.check_before_update,
    )


def _cpu(stored: CPU | None, given: CPU | None) -> CPU | None:
    if stored is None or given is None:
        return given or stored
    result = _overridden(stored, given, CPUS)
    if given.idle is not None and not given.shares:
        return result.evolve(shares=None)  # the kernel gives it others, and takes none of an idle group
    return result


def _block_io(stored: BlockIO | None, given: BlockIO | None) -> BlockIO | None:
    if stored is None or given is None:
        return given or stored
    lists = {
        name: _upserted(getattr(stored, name), getattr(given, name), lambda entry: (entry.major, entry.minor))
        for name in ("weight_device", *(f"throttle_{way}_device" for way in _WAYS))
    }
    return _overridden(stored, given, ("weight", "leaf_weight")).evolve(**lists)


def _network(stored: Network | None, given: Network | None) -> Network | None:
    if stored is None or given is None:
        return given or stored
    priorities = _upserted(stored.priorities, given.priorities, lambda entry: entry.name)
    return _overridden(stored, given, ("class_id",)).evolve(priorities=priorities)


def _overridden(stored: Member, given: Member, names: Iterable[str]) -> Member:
    values = {name: getattr(given, name) for name in names}
    return stored.evolve(
        **{
            name: value
            for name, value in values.items()
            if value is not None and value != UNSET and (value or name in ZERO_COUNTS)
        }
    )


def _upserted(stored: Iterable[Entry], given: Iterable[Entry], key: Callable[[Entry], Hashable]) -> tuple[Entry, ...]:
    return tuple({**{key(entry): entry for entry in stored}, **{key(entry): entry for entry in given}}.values())
