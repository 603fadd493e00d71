"""Limits of config.json as writes to cgroup files: nothing is lost, and version 2 means what version 1 said."""

from __future__ import annotations

import decimal
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups import v1, v2
from ocirt.cgroups.conversion import in_version, settings_for
from ocirt.cgroups.settings import Controllers, Setting, page_size
from ocirt.errors import UnsupportedError
from ocirt.spec.limits import CPU, RDMA, BlockIO, HugepageLimit, InterfacePriority, Memory, Network, Pids
from ocirt.spec.limits import ThrottleDevice as Throttle
from ocirt.spec.limits import WeightDevice as Weight
from ocirt.spec.linux import Resources
from tests.strategies import resources

V1 = Controllers(v1=frozenset(v1.CONTROLLERS))
V2 = Controllers(v2=frozenset(v2.CONTROLLERS), unified=True)
HYBRID = Controllers(frozenset(("memory", "cpu", "pids")), frozenset(("hugetlb",)), unified=True)
UNSIGNED_MINUS_ONE = 2**64 - 1

# What each member becomes: of version 1 and of version 2, None where that has nothing like it.
MEMBERS: list[tuple[str, Resources, list[str], list[str] | None]] = [
    ("memory.limit", Resources(memory=Memory(limit=4096)), ["memory.limit_in_bytes=4096"], ["memory.max=4096"]),
    (
        "memory.limit",
        Resources(memory=Memory(limit=-1)),
        ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
        ["memory.swap.max=max", "memory.max=max"],
    ),
    (
        "memory.swap",
        Resources(memory=Memory(limit=4096, swap=12288)),
        ["memory.limit_in_bytes=4096", "memory.memsw.limit_in_bytes=12288"],
        ["memory.swap.max=8192", "memory.max=4096"],
    ),
    (
        "memory.swap",
        Resources(memory=Memory(limit=4096, swap=-1)),
        ["memory.limit_in_bytes=4096", "memory.memsw.limit_in_bytes=-1"],
        ["memory.swap.max=max", "memory.max=4096"],
    ),
    (
        "memory.reservation",
        Resources(memory=Memory(reservation=4096)),
        ["memory.soft_limit_in_bytes=4096"],
        ["memory.low=4096"],
    ),
    ("memory.kernel", Resources(memory=Memory(kernel=4096)), ["memory.kmem.limit_in_bytes=4096"], None),
    ("memory.kernelTCP", Resources(memory=Memory(kernel_tcp=4096)), ["memory.kmem.tcp.limit_in_bytes=4096"], None),
    ("memory.swappiness", Resources(memory=Memory(swappiness=60)), ["memory.swappiness=60"], None),
    ("memory.disableOOMKiller", Resources(memory=Memory(disable_oom_killer=True)), ["memory.oom_control=1"], None),
    ("memory.useHierarchy", Resources(memory=Memory(use_hierarchy=True)), ["memory.use_hierarchy=1"], []),
    ("cpu.shares", Resources(cpu=CPU(shares=1024)), ["cpu.shares=1024"], ["cpu.weight=100"]),
    ("cpu.quota", Resources(cpu=CPU(quota=50000)), ["cpu.cfs_quota_us=50000"], ["cpu.max=50000 100000"]),
    ("cpu.quota", Resources(cpu=CPU(quota=-1)), ["cpu.cfs_quota_us=-1"], ["cpu.max=max 100000"]),
    ("cpu.period", Resources(cpu=CPU(period=20000)), ["cpu.cfs_period_us=20000"], ["cpu.max=max 20000"]),
    ("cpu.burst", Resources(cpu=CPU(burst=700)), ["cpu.cfs_burst_us=700"], ["cpu.max.burst=700"]),
    ("cpu.idle", Resources(cpu=CPU(idle=1)), ["cpu.idle=1"], ["cpu.idle=1"]),
    ("cpu.realtimeRuntime", Resources(cpu=CPU(realtime_runtime=950)), ["cpu.rt_runtime_us=950"], None),
    ("cpu.realtimePeriod", Resources(cpu=CPU(realtime_period=1000)), ["cpu.rt_period_us=1000"], None),
    ("cpu.cpus", Resources(cpu=CPU(cpus="0-1")), ["cpuset.cpus=0-1"], ["cpuset.cpus=0-1"]),
    ("cpu.mems", Resources(cpu=CPU(mems="0")), ["cpuset.mems=0"], ["cpuset.mems=0"]),
    ("pids.limit", Resources(pids=Pids(100)), ["pids.max=100"], ["pids.max=100"]),
    ("pids.limit", Resources(pids=Pids(-1)), ["pids.max=max"], ["pids.max=max"]),
    ("pids.limit", Resources(pids=Pids(0)), ["pids.max=0"], ["pids.max=0"]),
    (
        "blockIO.weight",
        Resources(block_io=BlockIO(weight=500)),
        ["blkio.weight=500|blkio.bfq.weight=500"],
        ["io.bfq.weight=500|io.weight=4950"],
    ),
    ("blockIO.leafWeight", Resources(block_io=BlockIO(leaf_weight=10)), ["blkio.leaf_weight=10"], None),
    (
        "blockIO.weightDevice[0].weight",
        Resources(block_io=BlockIO(weight_device=[Weight(8, 16, 10)])),
        ["blkio.weight_device=8:16 10|blkio.bfq.weight_device=8:16 10"],
        ["io.bfq.weight=8:16 10|io.weight=8:16 1"],
    ),
    (
        "blockIO.weightDevice[0].leafWeight",
        Resources(block_io=BlockIO(weight_device=[Weight(8, 16, None, 10)])),
        ["blkio.leaf_weight_device=8:16 10"],
        None,
    ),
    (
        "blockIO.throttleReadBpsDevice[0].rate",
        Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(8, 0, 9)])),
        ["blkio.throttle.read_bps_device=8:0 9"],
        ["io.max=8:0 rbps=9"],
    ),
    (
        "blockIO.throttleWriteBpsDevice[0].rate",
        Resources(block_io=BlockIO(throttle_write_bps_device=[Throttle(8, 0, 0)])),
        ["blkio.throttle.write_bps_device=8:0 0"],
        ["io.max=8:0 wbps=max"],
    ),
    (
        "blockIO.throttleReadIOPSDevice[0].rate",
        Resources(block_io=BlockIO(throttle_read_iops_device=[Throttle(8, 0, 9)])),
        ["blkio.throttle.read_iops_device=8:0 9"],
        ["io.max=8:0 riops=9"],
    ),
    (
        "blockIO.throttleWriteIOPSDevice[0].rate",
        Resources(block_io=BlockIO(throttle_write_iops_device=[Throttle(8, 0, 9)])),
        ["blkio.throttle.write_iops_device=8:0 9"],
        ["io.max=8:0 wiops=9"],
    ),
    (
        "hugepageLimits[0].limit",
        Resources(hugepage_limits=[HugepageLimit("2048KB", 2**21)]),
        ["hugetlb.2MB.limit_in_bytes=2097152", "hugetlb.2MB.rsvd.limit_in_bytes=2097152"],
        ["hugetlb.2MB.max=2097152", "hugetlb.2MB.rsvd.max=2097152"],
    ),
    ("network.classID", Resources(network=Network(class_id=5)), ["net_cls.classid=5"], None),
    (
        "network.priorities[0]",
        Resources(network=Network(None, [InterfacePriority("lo", 3)])),
        ["net_prio.ifpriomap=lo 3"],
        None,
    ),
    (
        "rdma.mlx5_1",
        Resources(rdma={"mlx5_1": RDMA(3, 4)}),
        ["rdma.max=mlx5_1 hca_handle=3 hca_object=4"],
        ["rdma.max=mlx5_1 hca_handle=3 hca_object=4"],
    ),
    ("rdma.mlx5_1", Resources(rdma={"mlx5_1": RDMA(3)}), ["rdma.max=mlx5_1 hca_handle=3"], None),
]
of_every_member = pytest.mark.parametrize(("path", "limits", "old", "new"), MEMBERS)


def text(setting: Setting) -> str:
    alternative = "" if setting.otherwise is None else f"|{text(setting.otherwise)}"
    return f"{setting.file}={'&'.join(setting.values)}{alternative}"


@of_every_member
def test_version_1(path: str, limits: Resources, old: list[str], new: object) -> None:
    found = settings_for(limits, V1)
    assert [text(setting) for setting in found] == old
    assert found[-1].origin.startswith("linux.resources.")
    assert found[0].origin in (f"linux.resources.{path}", "linux.resources.memory.limit")


@of_every_member
def test_version_2(path: str, limits: Resources, old: object, new: list[str] | None) -> None:
    """What cannot be converted is an error at its path, or nothing if that is to be tolerated."""
    if new is not None:
        assert [text(setting) for setting in settings_for(limits, V2)] == new
        return
    if path.startswith("rdma"):
        return
    with pytest.raises(UnsupportedError) as caught:
        settings_for(limits, V2)
    assert caught.value.origin == f"linux.resources.{path}".removesuffix("[0]" if "priorities" in path else "-")
    assert settings_for(limits, V2, strict=False) == ()


@pytest.mark.parametrize("machine", [V1, V2, HYBRID, Controllers()])
def test_what_engines_write_for_unset_asks_for_nothing_new(machine: Controllers) -> None:
    """Docker and podman send zeros, nulls and, where the schema has unsigned numbers, 2**64-1."""
    limits = Resources(
        memory=Memory(limit=0, reservation=0, swap=0, kernel=0, kernel_tcp=0, swappiness=UNSIGNED_MINUS_ONE),
        cpu=CPU(shares=0, quota=0, period=0, cpus="", mems="", realtime_runtime=0, realtime_period=0),
        block_io=BlockIO(weight=0, leaf_weight=0),
        network=Network(0),
    )
    found = {text(setting) for setting in settings_for(limits, machine)}
    assert found <= {"cpu.rt_runtime_us=0", "net_cls.classid=0"}


@pytest.mark.parametrize(
    "memory", [Memory(kernel=-1), Memory(kernel_tcp=-1), Memory(swappiness=0), Memory(disable_oom_killer=False)]
)
def test_version_2_is_not_asked_for_what_it_does_anyway(memory: Memory) -> None:
    assert settings_for(Resources(memory=memory), V2) == ()


@of_every_member
def test_a_limit_without_its_controller_is_an_error(
    path: str, limits: Resources, old: list[str], new: list[str] | None
) -> None:
    with pytest.raises(UnsupportedError, match=r"controller is not available here"):
        settings_for(limits, Controllers())
    if new:
        with pytest.raises(UnsupportedError, match=r"controller is not available here") as caught:
            settings_for(limits, Controllers(unified=True), strict=False)
        assert caught.value.origin.startswith("linux.resources.")


def test_in_hybrid_mode_each_controller_has_its_own_version() -> None:
    limits = Resources(memory=Memory(limit=4096), hugepage_limits=[HugepageLimit("1GB", 0)])
    assert [setting.file for setting in settings_for(limits, HYBRID)] == [
        "memory.limit_in_bytes",
        "hugetlb.1GB.max",
        "hugetlb.1GB.rsvd.max",
    ]


def test_the_order_of_version_1() -> None:
    limits = Resources(
        pids=Pids(1),
        block_io=BlockIO(weight=10),
        cpu=CPU(cpus="0", mems="0", shares=2, quota=3000),
        memory=Memory(limit=4096, swap=4096),
    )
    assert [setting.file for setting in settings_for(limits, V1)] == [
        "cpuset.cpus",
        "cpuset.mems",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "cpu.shares",
        "cpu.cfs_quota_us",
        "pids.max",
        "blkio.weight",
    ]


def test_the_order_of_version_2_ends_with_unified() -> None:
    limits = Resources(
        unified={"memory.max": "5", "cgroup.max.depth": "3"},
        pids=Pids(1),
        block_io=BlockIO(weight=10),
        cpu=CPU(cpus="0", shares=2, idle=0, quota=3000, burst=1),
        memory=Memory(limit=4096, swap=4096, reservation=4096),
    )
    assert [setting.file for setting in settings_for(limits, V2)] == [
        "pids.max",
        "memory.swap.max",
        "memory.max",
        "memory.low",
        "io.bfq.weight",
        "cpu.idle",
        "cpu.weight",
        "cpu.max.burst",
        "cpu.max",
        "cpuset.cpus",
        "memory.max",
        "cgroup.max.depth",
    ]


def test_usage_is_checked_before_a_limit_where_the_kernel_would_kill() -> None:
    limits = Resources(memory=Memory(limit=4096, check_before_update=True))
    assert [setting.above for setting in settings_for(limits, V2)] == ["memory.current"]
    limits = Resources(memory=Memory(limit=-1, swap=4096, check_before_update=True))
    assert [setting.above for setting in settings_for(limits, V2)] == ["memory.current", ""]
    assert {setting.above for setting in settings_for(limits, V1)} == {""}


# unified


@pytest.mark.parametrize(
    ("value", "lines"), [("max", ("max",)), ("8:0 rbps=1\n8:16 wbps=2\n", ("8:0 rbps=1", "8:16 wbps=2")), ("", ("\n",))]
)
def test_unified_is_written_line_by_line(value: str, lines: tuple[str, ...]) -> None:
    (setting,) = settings_for(Resources(unified={"io.max": value}), V2)
    assert setting == Setting("io", "io.max", lines, "linux.resources.unified['io.max']", version=2)


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (V1, "invalid configuration: cannot use unified on cgroup v1"),
        (HYBRID, 'unified resource "io.max" can\'t be set: controller "io" not available'),
    ],
)
def test_unified_without_its_controller(machine: Controllers, words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        settings_for(Resources(unified={"io.max": "8:0 rbps=1"}), machine)
    assert (caught.value.origin, caught.value.needs) == ("linux.resources.unified['io.max']", words)


def test_every_cgroup_of_version_2_has_the_files_of_cgroup_itself() -> None:
    (setting,) = settings_for(Resources(unified={"cgroup.max.depth": "1"}), HYBRID)
    assert setting.controller == "cgroup"


# The formulas, stated in another way.


@given(st.integers(2, 262_144))
def test_a_weight_is_the_least_number_on_or_above_the_curve(shares: int) -> None:
    """log10(weight) as a polynomial of log2(shares) through (1, 0), (10, 2) and (18, 4), to fifty digits."""
    with decimal.localcontext() as context:
        context.prec = 50
        x = decimal.Decimal(shares).ln() / decimal.Decimal(2).ln()
        y = 2 * (x - 1) * (18 - x) / ((10 - 1) * (18 - 10)) + 4 * (x - 1) * (x - 10) / ((18 - 1) * (18 - 10))
        exact = (decimal.Decimal(10) ** y).quantize(decimal.Decimal("1e-9"))
    assert v2.weight_of_shares(shares) == max(1, math.ceil(exact))


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (2**64 - 1, 10_000)]
)
def test_weights_that_everybody_relies_on(shares: int, weight: int) -> None:
    assert v2.weight_of_shares(shares) == weight


@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_more_shares_never_weigh_less(some: int, more: int) -> None:
    assert v2.weight_of_shares(some) <= v2.weight_of_shares(some + more)


@given(st.integers(10, 1000))
def test_weights_of_block_devices_lie_on_a_straight_line(weight: int) -> None:
    exact = 1 + Fraction(weight - 10, 1000 - 10) * (10_000 - 1)
    assert exact - 1 < v2.io_weight(weight) <= exact
    assert (v2.io_weight(10), v2.io_weight(1000)) == (1, 10_000)


@given(st.integers(1, 2**62), st.integers(0, 2**62))
def test_swap_is_what_lies_above_memory(limit: int, more: int) -> None:
    assert v2.swap_max(limit, limit + more) == more


@pytest.mark.parametrize(("limit", "swap", "result"), [(-1, 0, -1), (-1, 7, 7), (7, -1, -1), (-1, -1, -1), (0, -1, -1)])
def test_unlimited_swap(limit: int, swap: int, result: int) -> None:
    assert v2.swap_max(limit, swap) == result


@pytest.mark.parametrize(
    ("limit", "swap", "words"),
    [
        (0, 7, "unable to set swap limit without memory limit"),
        (8, 7, "memory+swap limit should be >= memory limit"),
    ],
)
def test_swap_that_cannot_be_said(limit: int, swap: int, words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        settings_for(Resources(memory=Memory(limit=limit, swap=swap)), V2)
    assert (caught.value.origin, caught.value.needs) == ("linux.resources.memory.swap", words)


@pytest.mark.parametrize(
    ("size", "name"),
    [
        ("64KB", "64KB"),
        ("2MB", "2MB"),
        ("2048KB", "2MB"),
        ("1048576KB", "1GB"),
        ("1024MB", "1GB"),
        ("1024GB", "1024GB"),
    ],
)
def test_sizes_of_pages_have_the_kernels_names(size: str, name: str) -> None:
    assert page_size(size) == name


@given(resources())
def test_every_setting_says_who_asked_for_it(limits: Resources) -> None:
    """And version 1 takes everything but ``unified``."""
    for setting in settings_for(limits.evolve(unified={}), V1):
        assert setting.origin.startswith("linux.resources.")
        assert setting.values
        assert setting.controller in v1.CONTROLLERS


@given(resources(), st.sampled_from((V1, V2)))
def test_what_stands_for_a_setting_is_in_the_same_hierarchy(limits: Resources, machine: Controllers) -> None:
    for setting in settings_for(limits.evolve(unified={}), machine, strict=False):
        assert setting.version == (1 if machine is V1 else 2)
        if setting.otherwise is not None:
            assert setting.otherwise.version == setting.version
            assert setting.otherwise.controller == setting.controller
            assert setting.otherwise.origin == setting.origin


@pytest.mark.parametrize(
    ("version", "limit", "meant"),
    [("1.0.2-dev", 0, -1), ("1.2.1", 0, -1), ("1.3.0", 0, 0), ("1.10.0", 0, 0), ("1.0.2", 5, 5), ("1.0.2", -1, -1)],
)
def test_no_tasks_were_no_limit_before_version_1_3(version: str, limit: int, meant: int) -> None:
    assert in_version(Resources(pids=Pids(limit)), version) == Resources(pids=Pids(meant))
    assert in_version(Resources(), version) == Resources()
