"""What a container uses and what happens to it, as runc writes it: a JSON object a line.

Engines read this: names, units and what is left out where it is zero are those of runc's ``types.Stats``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from ocirt.cgroups.accounts import CPUSET_FLAGS
from ocirt.cli.parse import UsageError
from ocirt.errors import OCIError
from ocirt.state import Status

if TYPE_CHECKING:
    from ocirt.cgroups.stats import (
        BlockIOCount,
        BlockIOStats,
        BlockIOTime,
        Charge,
        CpusetStats,
        CPUStats,
        MemoryStats,
        NetworkStats,
        Pressure,
        RDTStats,
        Stats,
    )
    from ocirt.cli import Call

NO_LIMIT_V1: Final = 0x7FFFFFFFFFFFF000
NO_LIMIT_V2: Final = 0xFFFFFFFFFFFFFFFF
"""runc's words for ``max``: what the file of version 1 says, and the largest number that Go has."""

Members = dict[str, object]


def events(call: Call) -> int:
    """Until the container ends; with ``--stats``, one line."""
    from ocirt import observation
    from ocirt.container import Container

    container = Container.load(call.container_id, root=call.root)
    interval = call.options.seconds("interval")
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0")
    if container.status is Status.STOPPED:
        raise OCIError(f"container with id {container.id} is not running")
    if call.options.on("stats"):
        _print("stats", container.id, described(container.stats()))
        return 0
    for event in observation.watch(container, interval):
        match event:
            case observation.OutOfMemory():
                _print("oom", container.id)
            case observation.Event():
                continue  # runc has no word for it
            case stats:
                _print("stats", container.id, described(stats))
    return 0


def _print(kind: str, container_id: str, data: Members | None = None) -> None:
    event = {"type": kind, "id": container_id, **({"data": data} if data is not None else {})}
    print(json.dumps(event, separators=(",", ":")), flush=True)


def described(stats: Stats) -> Members:
    """``types.Stats``, in its order."""
    return {
        "cpu": _cpu(stats.cpu),
        "cpuset": _cpuset(stats.cpuset),
        "memory": _memory(stats.memory),
        "pids": _given({"current": stats.pids.current_count, "limit": stats.pids.limit_count}),
        "blkio": _block_io(stats.block_io),
        "hugetlb": {size: _hugepages(charge) for size, charge in sorted(stats.hugepages.items())},
        "intel_rdt": _rdt(stats.rdt) if stats.rdt is not None else {},
        "network_interfaces": [_interface(entry) for entry in stats.network] or None,
    }


def _given(members: Mapping[str, object]) -> Members:
    """Go's ``omitempty``."""
    return {name: value for name, value in members.items() if value}


def _nanoseconds(seconds: float | None) -> int:
    return round((seconds or 0) * 1e9)


def _each(seconds: Iterable[float] | None) -> list[int]:
    return [_nanoseconds(value) for value in seconds or ()]


def _cpu(cpu: CPUStats) -> Members:
    usage = _given(
        {
            "total": _nanoseconds(cpu.usage_seconds),
            "percpu": _each(cpu.per_cpu_seconds),
            "percpu_kernel": _each(cpu.per_cpu_system_seconds),
            "percpu_user": _each(cpu.per_cpu_user_seconds),
        }
    )
    throttling = {
        "periods": cpu.periods_count,
        "throttledPeriods": cpu.throttled_periods_count,
        "throttledTime": _nanoseconds(cpu.throttled_seconds),
    }
    split = {"kernel": _nanoseconds(cpu.system_seconds), "user": _nanoseconds(cpu.user_seconds)}
    return {"usage": {**usage, **split}, "throttling": _given(throttling), **_psi(cpu.pressure)}


def _cpuset(cpuset: CpusetStats) -> Members:
    flags: Members = {name: cpuset.flags.get(name, 0) for name in CPUSET_FLAGS}
    cpus, mems = list(cpuset.cpus or ()), list(cpuset.mems or ())
    first = {"cpus": cpus, "cpu_exclusive": flags.pop("cpu_exclusive")}
    return {**(first if cpus else {"cpu_exclusive": first["cpu_exclusive"]}), **_given({"mems": mems}), **flags}


def _memory(memory: MemoryStats) -> Members:
    no_limit = NO_LIMIT_V1 if "hierarchical_memory_limit" in memory.raw else NO_LIMIT_V2
    own = (memory.usage_bytes, memory.limit_bytes, memory.peak_bytes, memory.failures_count)
    return {
        **_given({"cache": memory.cache_bytes}),
        "usage": _entry(*own, no_limit),
        "swap": _charge(memory.swap, no_limit),
        "kernel": _charge(memory.kernel, no_limit),
        "kernelTCP": _charge(memory.kernel_tcp, no_limit),
        **_given({"raw": dict(sorted(memory.raw.items()))}),
        **_psi(memory.pressure),
    }


def _charge(charge: Charge, no_limit: int) -> Members:
    return _entry(charge.usage_bytes, charge.limit_bytes, charge.peak_bytes, charge.failures_count, no_limit)


def _entry(usage: int | None, limit: int | None, peak: int | None, failures: int | None, no_limit: int) -> Members:
    """What is not kept account of has a limit of 0."""
    shown = limit if limit is not None else no_limit if failures is not None else 0
    return {"limit": shown, **_given({"usage": usage, "max": peak}), "failcnt": failures or 0}


def _hugepages(charge: Charge) -> Members:
    return {**_given({"usage": charge.usage_bytes, "max": charge.peak_bytes}), "failcnt": charge.failures_count or 0}


def _block_io(block_io: BlockIOStats) -> Members:
    tables = {
        "ioServiceBytesRecursive": _counts(block_io.transferred_bytes),
        "ioServicedRecursive": _counts(block_io.operations_count),
        "ioQueueRecursive": _counts(block_io.queued_count),
        "ioServiceTimeRecursive": _times(block_io.service_seconds, 1e9),
        "ioWaitTimeRecursive": _times(block_io.wait_seconds, 1e9),
        "ioMergedRecursive": _counts(block_io.merged_count),
        "ioTimeRecursive": _times(block_io.disk_seconds, 1e3),
        "sectorsRecursive": _counts(block_io.sectors_count),
    }
    return {**_given(tables), **_psi(block_io.pressure)}


def _counts(entries: Iterable[BlockIOCount]) -> list[Members]:
    return [_block(entry, entry.value) for entry in entries]


def _times(entries: Iterable[BlockIOTime], units: float) -> list[Members]:
    return [_block(entry, round(entry.seconds * units)) for entry in entries]


def _block(entry: BlockIOCount | BlockIOTime, value: int) -> Members:
    return _given({"major": entry.major, "minor": entry.minor, "op": entry.operation, "value": value})


def _psi(pressure: Pressure | None) -> Members:
    if pressure is None:
        return {}
    lines = {"some": pressure.some, "full": pressure.full}
    shown = {
        name: {
            "avg10": line.average_10s_percent,
            "avg60": line.average_60s_percent,
            "avg300": line.average_300s_percent,
            "total": round(line.total_seconds * 1e6),
        }
        for name, line in lines.items()
        if line is not None
    }
    return {"psi": shown}


def _rdt(rdt: RDTStats) -> Members:
    cache = rdt.limits.get("L3") or rdt.limits.get("L3CODE") or {}
    bandwidth = rdt.limits.get("MB") or {}
    numbers = ("min_cbm_bits", "num_closids", "bandwidth_gran", "delay_linear", "min_bandwidth")
    return _given(
        {
            "l3_cache_info": {name: int(text) if name in numbers else text for name, text in cache.items()},
            "l3_cache_schema_root": _line(rdt.root_schemata, "L3"),
            "l3_cache_schema": _line(rdt.schemata, "L3"),
            "mem_bw_info": {name: int(text) for name, text in bandwidth.items()},
            "mem_bw_schema_root": _line(rdt.root_schemata, "MB"),
            "mem_bw_schema": _line(rdt.schemata, "MB"),
            "schemata": list(rdt.schemata),
            "mbm_stats": [
                {"mbm_total_bytes": domain.bandwidth_bytes, "mbm_local_bytes": domain.local_bandwidth_bytes or 0}
                for domain in rdt.domains
                if domain.bandwidth_bytes is not None
            ],
            "cmt_stats": [
                {"llc_occupancy": domain.cache_bytes} for domain in rdt.domains if domain.cache_bytes is not None
            ],
        }
    )


def _line(schemata: Iterable[str], resource: str) -> str:
    return next((line for line in schemata if line.startswith(f"{resource}:")), "")


def _interface(entry: NetworkStats) -> Members:
    """By the names of Go's members: they have no others."""
    return {
        "Name": entry.name,
        "RxBytes": entry.received_bytes,
        "RxPackets": entry.received_packets_count,
        "RxErrors": entry.received_errors_count,
        "RxDropped": entry.received_dropped_count,
        "TxBytes": entry.sent_bytes,
        "TxPackets": entry.sent_packets_count,
        "TxErrors": entry.sent_errors_count,
        "TxDropped": entry.sent_dropped_count,
    }
