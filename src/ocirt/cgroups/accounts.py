"""Read what the kernel keeps account of in a container's cgroups, on any layout: one function a controller.

Version 1 is Documentation/admin-guide/cgroup-v1, version 2 admin-guide/cgroup-v2.rst. What is the same in both has
one name in ``stats``; formulas are runc's where the two differ.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import evolve

from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.place import Place, number
from ocirt.cgroups.stats import (
    BlockIOCount,
    BlockIOStats,
    BlockIOTime,
    Charge,
    CpusetStats,
    CPUStats,
    MemoryStats,
    PidsStats,
    Pressure,
    PressureLine,
    RDMAStats,
    Stats,
)
from ocirt.cgroups.verdict import oom_kills

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

CPUSET_FLAGS: Final = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)

CPUS_MOST: Final = 1 << 16
"""Far more than Linux can have."""

SCHEDULERS: Final = ("blkio.bfq", "blkio.throttle", "blkio")
"""Who may keep account of block devices in version 1; of those that do, the first one that has seen anything."""

Entry = tuple[int, int, str, int]
"""Major, minor, operation, value."""


def read(cgroup: Cgroup, time_seconds: float) -> Stats:
    """Everything that the container's cgroups tell."""
    pressure = Place.of_v2(cgroup)
    return Stats(
        time_seconds=time_seconds,
        memory=memory(Place.of(cgroup, "memory"), pressure),
        cpu=cpu(Place.of(cgroup, "cpuacct"), Place.of(cgroup, "cpu"), pressure),
        cpuset=cpuset(Place.of(cgroup, "cpuset")),
        pids=pids(Place.of(cgroup, "pids")),
        block_io=block_io(Place.of(cgroup, "blkio"), pressure),
        hugepages=hugepages(Place.of(cgroup, "hugetlb")),
        rdma=rdma(Place.of(cgroup, "rdma")),
    )


def memory(place: Place, pressure: Place) -> MemoryStats:
    read = _memory_v1 if place.version == 1 else _memory_v2
    return evolve(read(place), pressure=pressure_of(pressure, "memory"))


def _memory_v1(place: Place) -> MemoryStats:
    raw, own = place.table("memory.stat"), _charge_v1(place, "memory")
    return MemoryStats(
        usage_bytes=own.usage_bytes,
        limit_bytes=own.limit_bytes,
        peak_bytes=own.peak_bytes,
        failures_count=own.failures_count,
        cache_bytes=raw.get("cache"),
        swap=_charge_v1(place, "memory.memsw"),
        kernel=_charge_v1(place, "memory.kmem"),
        kernel_tcp=_charge_v1(place, "memory.kmem.tcp"),
        oom_kills_count=oom_kills(place),
        raw=raw,
    )


def _memory_v2(place: Place) -> MemoryStats:
    raw, events = place.table("memory.stat"), place.table("memory.events")
    usage, limit = place.number("memory.current"), place.limit("memory.max")
    return MemoryStats(
        usage_bytes=usage,
        limit_bytes=limit,
        peak_bytes=place.number("memory.peak"),
        failures_count=events.get("max"),
        cache_bytes=raw.get("file"),
        swap=_swap_v2(place, usage, limit),
        kernel=Charge(raw.get("kernel")),
        kernel_tcp=Charge(raw.get("sock")),
        oom_kills_count=events.get("oom_kill"),
        raw=raw,
    )


def _charge_v1(place: Place, prefix: str) -> Charge:
    return Charge(
        place.number(f"{prefix}.usage_in_bytes"),
        place.limit(f"{prefix}.limit_in_bytes"),
        place.number(f"{prefix}.max_usage_in_bytes"),
        place.number(f"{prefix}.failcnt"),
    )


def _swap_v2(place: Place, memory: int | None, memory_limit: int | None) -> Charge:
    """Version 2 counts swap alone; the peak of a sum is not the sum of peaks, so there is none."""
    usage, limit = place.number("memory.swap.current"), place.limit("memory.swap.max")
    if usage is None or memory is None:
        return Charge()
    both = None if limit is None or memory_limit is None else limit + memory_limit
    return Charge(usage + memory, both, None, place.table("memory.swap.events").get("max"))


def cpu(account: Place, quota: Place, pressure: Place) -> CPUStats:
    used = _cpu_v1(account) if account.version == 1 else _cpu_v2(account)
    table = quota.table("cpu.stat")
    throttled = table.get("throttled_time") if quota.version == 1 else table.get("throttled_usec")
    return CPUStats(
        *used,
        periods_count=table.get("nr_periods"),
        throttled_periods_count=table.get("nr_throttled"),
        throttled_seconds=_scaled(throttled, 1e9 if quota.version == 1 else 1e6),
        pressure=pressure_of(pressure, "cpu"),
    )


Times = tuple[float, ...] | None


def _cpu_v1(place: Place) -> tuple[float | None, float | None, float | None, Times, Times, Times]:
    """Nanoseconds; the split by user and system in clock ticks."""
    split = place.table("cpuacct.stat")
    per_cpu = [number(word) for word in (place.text("cpuacct.usage_percpu") or "").split()]
    every = [[number(word) for word in line.split()] for line in place.lines("cpuacct.usage_all")[1:]]
    return (
        _scaled(place.number("cpuacct.usage"), 1e9),
        _scaled(split.get("user"), TICKS_PER_SECOND),
        _scaled(split.get("system"), TICKS_PER_SECOND),
        _all_scaled(per_cpu),
        _all_scaled([line[1] for line in every if len(line) == 3]),
        _all_scaled([line[2] for line in every if len(line) == 3]),
    )


def _cpu_v2(place: Place) -> tuple[float | None, float | None, float | None, Times, Times, Times]:
    table = place.table("cpu.stat")
    usage, user, system = (_scaled(table.get(f"{kind}_usec"), 1e6) for kind in ("usage", "user", "system"))
    return usage, user, system, None, None, None


def _scaled(value: int | None, units: float) -> float | None:
    return None if value is None else value / units


def _all_scaled(values: list[int | None]) -> Times:
    return tuple(value / 1e9 for value in values if value is not None) or None


def cpuset(place: Place) -> CpusetStats:
    effective = "{}.effective" if place.version == 2 else "effective_{}"
    flags = {name: place.number(f"cpuset.{name}") for name in (CPUSET_FLAGS if place.version == 1 else ())}
    return CpusetStats(
        cpus=numbers(place.text("cpuset.cpus")),
        mems=numbers(place.text("cpuset.mems")),
        effective_cpus=numbers(place.text("cpuset." + effective.format("cpus"))),
        effective_mems=numbers(place.text("cpuset." + effective.format("mems"))),
        flags={name: value for name, value in flags.items() if value is not None},
    )


def numbers(text: str | None) -> tuple[int, ...] | None:
    """``0-3,7`` (cpuset(7), list format)."""
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = number(first), number(last or first)
        if begin is not None and end is not None and 0 <= begin <= end < CPUS_MOST:
            found.extend(range(begin, end + 1))
    return tuple(found)


def pids(place: Place) -> PidsStats:
    return PidsStats(place.number("pids.current"), place.limit("pids.max"))


def block_io(place: Place, pressure: Place) -> BlockIOStats:
    stalls = pressure_of(pressure, "io")
    if place.version != 1:
        entries = list(_io_stat(place.lines("io.stat")))
        return BlockIOStats(_counts(entries, "rbytes", "wbytes"), _counts(entries, "rios", "wios"), pressure=stalls)
    return BlockIOStats(
        transferred_bytes=_blkio_counts(place, "io_service_bytes"),
        operations_count=_blkio_counts(place, "io_serviced"),
        queued_count=_blkio_counts(place, "io_queued"),
        merged_count=_blkio_counts(place, "io_merged"),
        sectors_count=_blkio_counts(place, "sectors"),
        service_seconds=_blkio_times(place, "io_service_time", 1e9),
        wait_seconds=_blkio_times(place, "io_wait_time", 1e9),
        disk_seconds=_blkio_times(place, "time", 1e3),
        pressure=stalls,
    )


def _blkio_counts(place: Place, name: str) -> tuple[BlockIOCount, ...]:
    return tuple(BlockIOCount(*entry) for entry in _blkio(place, name))


def _blkio_times(place: Place, name: str, units: float) -> tuple[BlockIOTime, ...]:
    entries = _blkio(place, name)
    return tuple(BlockIOTime(major, minor, operation, value / units) for major, minor, operation, value in entries)


def _blkio(place: Place, name: str) -> list[Entry]:
    for scheduler in SCHEDULERS:
        if found := [entry for line in place.lines(f"{scheduler}.{name}_recursive") if (entry := _entry(line))]:
            return found
    return []


def _entry(line: str) -> Entry | None:
    """``8:0 Read 4096``, or without the word; the grand total has no device."""
    words = line.split()
    device, *operation, value = words if len(words) in (2, 3) else ("", "")
    major, minor = _device(device)
    count = number(value)
    return None if major is None or minor is None or count is None else (major, minor, "".join(operation), count)


def _io_stat(lines: list[str]) -> Iterator[Entry]:
    """``8:0 rbytes=4096 wbytes=0 …``"""
    for line in lines:
        device, *words = line.split() or [""]
        major, minor = _device(device)
        for word in words:
            name, _, value = word.partition("=")
            if major is not None and minor is not None and (count := number(value)) is not None:
                yield major, minor, name, count


def _device(text: str) -> tuple[int | None, int | None]:
    major, _, minor = text.partition(":")
    return number(major), number(minor)


def _counts(entries: list[Entry], read: str, write: str) -> tuple[BlockIOCount, ...]:
    """In the words of version 1."""
    words = {read: "Read", write: "Write"}
    return tuple(
        BlockIOCount(major, minor, words[name], value) for major, minor, name, value in entries if name in words
    )


def hugepages(place: Place) -> Mapping[str, Charge]:
    """Reservations where they are kept account of: a process is refused those, and killed for the lack of pages."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(place.path) if place.version else []
    sizes = {found[1] for name in names if (found := re.match(r"hugetlb\.(\d+[KMG]B)\.", name))}
    return {size: _hugepage(place, f"hugetlb.{size}", names) for size in sorted(sizes)}


def _hugepage(place: Place, prefix: str, names: list[str]) -> Charge:
    if place.version == 1:
        reserved = f"{prefix}.rsvd"
        return _charge_v1(place, reserved if f"{reserved}.usage_in_bytes" in names else prefix)
    kind = f"{prefix}.rsvd" if f"{prefix}.rsvd.current" in names else prefix
    failures = place.table(f"{prefix}.events").get("max")
    return Charge(place.number(f"{kind}.current"), place.limit(f"{kind}.max"), None, failures)


def rdma(place: Place) -> Mapping[str, RDMAStats]:
    current, most = _rdma(place, "rdma.current"), _rdma(place, "rdma.max")
    return {
        device: RDMAStats(
            used.get("hca_handle"),
            most.get(device, {}).get("hca_handle"),
            used.get("hca_object"),
            most.get(device, {}).get("hca_object"),
        )
        for device, used in current.items()
    }


def _rdma(place: Place, name: str) -> dict[str, dict[str, int]]:
    """``mlx4_0 hca_handle=2 hca_object=max``"""
    found: dict[str, dict[str, int]] = {}
    for line in place.lines(name):
        device, *words = line.split() or [""]
        pairs = (word.partition("=")[::2] for word in words)
        found[device] = {key: value for key, text in pairs if (value := number(text)) is not None}
    return found


def pressure_of(place: Place, resource: str) -> Pressure | None:
    """``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``, the total in microseconds."""
    found = {}
    for line in place.lines(f"{resource}.pressure"):
        kind, *words = line.split() or [""]
        members = dict(word.partition("=")[::2] for word in words)
        with contextlib.suppress(KeyError, ValueError):
            short, middle, long = (float(members[name]) for name in ("avg10", "avg60", "avg300"))
            found[kind] = PressureLine(short, middle, long, int(members["total"]) / 1e6)
    return Pressure(found.get("some"), found.get("full")) if found else None
