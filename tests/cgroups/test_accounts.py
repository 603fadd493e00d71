"""What is read of every controller on every layout, in which units; and that nothing else gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroups import accounts
from ocirt.cgroups.files import Cgroup
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

from . import kernels

PRESSURE = Pressure(PressureLine(1.5, 2.25, 3.0, 4.0), PressureLine(0.5, 0.25, 0.0, 1.5))
RDMA = {"mlx4_0": RDMAStats(2, 4, 3, None)}


def read(cgroup: Cgroup) -> Stats:
    return accounts.read(cgroup, 1.5)


def test_version_1(tmp_path: Path) -> None:
    stats = read(kernels.v1(tmp_path))
    assert stats.time_seconds == 1.5
    assert stats.memory == MemoryStats(
        usage_bytes=101,
        limit_bytes=67108864,
        peak_bytes=102,
        failures_count=3,
        cache_bytes=11,
        swap=Charge(104, None, 105, 6),
        kernel=Charge(107, None, 108, 9),
        kernel_tcp=Charge(),  # this kernel has none
        oom_kills_count=2,
        raw={"cache": 11, "rss": 12, "hierarchical_memory_limit": 64, "total_cache": 13},
        pressure=None,
    )
    assert stats.cpu == CPUStats(4.5, 2.5, 0.75, (1.5, 3.0), (1.0, 2.25), (0.5, 0.75), 21, 22, 0.023)
    flags = {"cpu_exclusive": 1, "sched_relax_domain_level": -1}
    assert stats.cpuset == CpusetStats((0, 1, 2, 7), (0,), (0, 1), (1,), flags)
    assert stats.pids == PidsStats(5, None)
    assert stats.hugepages == {"1GB": Charge(6, None, 7, 8), "2MB": Charge(1, 2, 3, 4)}
    assert stats.rdma == RDMA


def test_block_devices_of_version_1_are_told_of_by_whoever_has_seen_any(tmp_path: Path) -> None:
    read_, write = BlockIOCount(8, 0, "Read", 4096), BlockIOCount(8, 0, "Write", 8192)
    assert read(kernels.v1(tmp_path)).block_io == BlockIOStats(
        transferred_bytes=(read_, write, BlockIOCount(8, 0, "Total", 12288)),
        operations_count=(BlockIOCount(8, 0, "Read", 1), BlockIOCount(253, 16, "Write", 2)),
        queued_count=(BlockIOCount(8, 0, "Read", 35),),
        merged_count=(BlockIOCount(8, 0, "Read", 36),),
        sectors_count=(BlockIOCount(8, 0, "", 31),),
        service_seconds=(BlockIOTime(8, 0, "Read", 0.032),),
        wait_seconds=(BlockIOTime(8, 0, "Read", 0.033),),
        disk_seconds=(BlockIOTime(8, 0, "", 0.034),),
    )


def test_version_2(tmp_path: Path) -> None:
    stats = read(kernels.v2(tmp_path))
    assert stats.memory == MemoryStats(
        usage_bytes=101,
        limit_bytes=67108864,
        peak_bytes=102,
        failures_count=3,
        cache_bytes=11,
        swap=Charge(106, 67108864 + 1048576, None, 6),
        kernel=Charge(107),
        kernel_tcp=Charge(108),
        oom_kills_count=2,
        raw={"anon": 12, "file": 11, "kernel": 107, "sock": 108},
        pressure=PRESSURE,
    )
    assert stats.cpu == CPUStats(4.5, 2.5, 0.75, None, None, None, 21, 22, 0.023)
    assert stats.cpuset == CpusetStats((), (), (0, 1), (1,))
    assert stats.pids == PidsStats(5, 64)
    assert stats.hugepages == {"1GB": Charge(6, None, None, None), "2MB": Charge(1, 2, None, 4)}
    assert stats.rdma == RDMA
    assert stats.block_io == BlockIOStats(
        (BlockIOCount(8, 0, "Read", 4096), BlockIOCount(8, 0, "Write", 8192)),
        (BlockIOCount(8, 0, "Read", 1), BlockIOCount(8, 0, "Write", 2)),
    )


def test_hybrid_is_version_1_with_the_pressure_of_version_2(tmp_path: Path) -> None:
    stats = read(kernels.hybrid(tmp_path))
    assert stats.cpu.usage_seconds == 4.5
    assert (stats.memory.usage_bytes, stats.memory.pressure) == (101, PRESSURE)


def test_swap_without_a_limit_has_none_though_memory_has_one(tmp_path: Path) -> None:
    cgroup = kernels.v2(tmp_path, {**kernels.V2, "memory.swap.max": "max\n"})
    assert read(cgroup).memory.swap == Charge(106, None, None, 6)


@pytest.mark.parametrize("made", [kernels.v1, kernels.v2])
def test_a_cgroup_that_is_gone_tells_nothing(tmp_path: Path, made: object) -> None:
    assert callable(made)
    cgroup = made(tmp_path)
    for directory in cgroup.directories:
        for file in Path(directory.path).iterdir():
            file.unlink()
        Path(directory.path).rmdir()
    assert read(cgroup) == Stats(1.5)


def test_without_a_cgroup_nothing_is_known() -> None:
    assert read(Cgroup()) == Stats(1.5)


@pytest.mark.parametrize("text", ["", "\n", "x\n", "1e3\n", "1_000\n", "\u0661\n", "1 2\n", "9" * 5000])
def test_what_is_no_number_is_left_out(tmp_path: Path, text: str) -> None:
    files = dict.fromkeys(kernels.V2, text)
    stats = read(kernels.v2(tmp_path, files))
    assert stats.memory == MemoryStats(raw=stats.memory.raw)
    assert set(stats.memory.raw) <= {"1"}  # "1 2" is a line of memory.stat like any other
    assert stats.cpu == CPUStats()
    assert stats.pids == PidsStats()
    assert stats.block_io == BlockIOStats()


@pytest.mark.parametrize(
    ("text", "found"),
    [("0-3\n", (0, 1, 2, 3)), ("\n", ()), ("2-1", ()), ("0-99999999999", ()), ("-5", ()), ("3,x,4", (3, 4))],
)
def test_lists_of_numbers(text: str, found: tuple[int, ...]) -> None:
    assert accounts.numbers(text) == found
