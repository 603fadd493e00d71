"""An update changes what it was given, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups import v1, v2
from ocirt.cgroups.conversion import settings_for
from ocirt.cgroups.merge import changed, merged, to_write
from ocirt.cgroups.settings import Controllers
from ocirt.errors import UnsupportedError
from ocirt.spec.limits import CPU, RDMA, BlockIO, HugepageLimit, InterfacePriority, Memory, Network, Pids
from ocirt.spec.limits import ThrottleDevice as Throttle
from ocirt.spec.limits import WeightDevice as Weight
from ocirt.spec.linux import DeviceRule, Resources
from tests.strategies import resources

V1 = Controllers(v1=frozenset(v1.CONTROLLERS))
V2 = Controllers(v2=frozenset(v2.CONTROLLERS), unified=True)
CONTROLLERS = st.sampled_from((V1, V2))


def written(stored: Resources, wanted: Resources, there: Controllers = V1) -> dict[str, str]:
    """The files that an update of a container with these limits writes."""
    before = settings_for(stored, there, strict=False)
    now = settings_for(to_write(stored, wanted), there, strict=False)
    return {setting.file: " & ".join(setting.values) for setting in changed(before, now, wanted)}


CASES = [
    (Resources(pids=Pids(5)), Resources(cpu=CPU(shares=1024)), {"cpu.shares": "1024"}, {"cpu.weight": "100"}),
    # What is asked for by name is written though it is no news.
    (Resources(pids=Pids(5)), Resources(pids=Pids(5)), {"pids.max": "5"}, {"pids.max": "5"}),
    # A lone period or quota keeps the other.
    (
        Resources(cpu=CPU(quota=5000, period=10_000)),
        Resources(cpu=CPU(quota=7000)),
        {"cpu.cfs_quota_us": "7000"},
        {"cpu.max": "7000 10000"},
    ),
    (
        Resources(cpu=CPU(quota=5000, period=10_000)),
        Resources(cpu=CPU(period=20_000)),
        {"cpu.cfs_period_us": "20000"},
        {"cpu.max": "5000 20000"},
    ),
    # Version 2 counts swap by itself, so what lies above memory changes with it.
    (
        Resources(memory=Memory(limit=100, swap=300)),
        Resources(memory=Memory(limit=200)),
        {"memory.limit_in_bytes": "200"},
        {"memory.max": "200", "memory.swap.max": "100"},
    ),
    (
        Resources(memory=Memory(limit=100, swap=300)),
        Resources(memory=Memory(swap=500)),
        {"memory.memsw.limit_in_bytes": "500"},
        {"memory.swap.max": "400"},
    ),
    (
        Resources(memory=Memory(limit=100, swap=300)),
        Resources(memory=Memory(limit=-1)),
        {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"},
        {"memory.max": "max", "memory.swap.max": "max"},
    ),
    # An idle group has no shares of its own.
    (Resources(cpu=CPU(shares=512)), Resources(cpu=CPU(idle=1)), {"cpu.idle": "1"}, {"cpu.idle": "1"}),
    # Entries of lists stand for themselves.
    (
        Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(8, 0, 1), Throttle(8, 1, 2)])),
        Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(8, 1, 3)])),
        {"blkio.throttle.read_bps_device": "8:1 3"},
        {"io.max": "8:1 rbps=3"},
    ),
    (
        Resources(rdma={"a": RDMA(1)}, unified={}),
        Resources(rdma={"b": RDMA(2)}),
        {"rdma.max": "b hca_handle=2"},
        {"rdma.max": "b hca_handle=2"},
    ),
    (Resources(devices=[DeviceRule(False, access="rwm")]), Resources(devices=[DeviceRule(True)]), {}, {}),
]


@pytest.mark.parametrize(("stored", "wanted", "old", "new"), CASES)
def test_only_what_was_given_is_written(
    stored: Resources, wanted: Resources, old: dict[str, str], new: dict[str, str]
) -> None:
    assert written(stored, wanted, V1) == old
    assert written(stored, wanted, V2) == new


@given(resources(), CONTROLLERS)
def test_nothing_given_changes_nothing(stored: Resources, there: Controllers) -> None:
    assert merged(stored, Resources()) == stored
    assert written(stored.evolve(unified={}), Resources(), there) == {}


@given(resources(), resources())
def test_the_second_time_is_as_good_as_the_first(stored: Resources, wanted: Resources) -> None:
    once = merged(stored, wanted)
    assert merged(once, wanted) == once


@given(resources(), resources(), CONTROLLERS)
def test_what_was_not_written_is_as_it_was(stored: Resources, wanted: Resources, there: Controllers) -> None:
    """The kernel's files after the first settings and the update's are those of the merged limits, but for lists."""
    stored, wanted = (limits.evolve(unified={}, block_io=None) for limits in (stored, wanted))
    try:
        whole = settings_for(merged(stored, wanted), there, strict=False)
        files = {setting.file: setting.values for setting in settings_for(stored, there, strict=False)}
        files |= {name: (text,) for name, text in written(stored, wanted, there).items()}
    except UnsupportedError:
        return
    for setting in whole:
        if setting.controller not in ("rdma", "net_prio"):
            assert files[setting.file] == setting.values


def test_lists_grow_and_entries_replace_those_of_their_name() -> None:
    stored = Resources(
        block_io=BlockIO(weight=10, weight_device=[Weight(8, 0, 10), Weight(8, 1, 20)]),
        hugepage_limits=[HugepageLimit("2MB", 1)],
        network=Network(5, [InterfacePriority("lo", 1)]),
        unified={"memory.high": "1"},
        devices=[DeviceRule(False, access="rwm")],
    )
    wanted = Resources(
        block_io=BlockIO(weight_device=[Weight(8, 1, 30), Weight(8, 2, 40)]),
        hugepage_limits=[HugepageLimit("1GB", 2)],
        network=Network(None, [InterfacePriority("lo", 2)]),
        unified={"cpu.max": "max"},
        devices=[DeviceRule(True)],
    )
    assert merged(stored, wanted) == Resources(
        block_io=BlockIO(weight=10, weight_device=[Weight(8, 0, 10), Weight(8, 1, 30), Weight(8, 2, 40)]),
        hugepage_limits=[HugepageLimit("2MB", 1), HugepageLimit("1GB", 2)],
        network=Network(5, [InterfacePriority("lo", 2)]),
        unified={"cpu.max": "max"},
        devices=[DeviceRule(False, access="rwm")],
    )


def test_zeros_are_what_engines_fill_their_documents_with() -> None:
    stored = Resources(memory=Memory(limit=5, swap=6), cpu=CPU(shares=7, cpus="1"), block_io=BlockIO(weight=10))
    zeros = Resources(
        memory=Memory(limit=0, reservation=0, swap=0, swappiness=2**64 - 1),
        cpu=CPU(shares=0, quota=0, period=0, cpus="", mems=""),
        block_io=BlockIO(weight=0),
    )
    assert written(stored, zeros) == {}
    assert written(stored, zeros, V2) == {}
