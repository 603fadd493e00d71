"""Limits and annotations as properties of a systemd unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.devices import device_list, device_writes
from ocirt.cgroups.properties import (
    INFINITY,
    Property,
    bit_mask,
    device_groups,
    of_annotations,
    of_devices,
    of_settings,
    quota_per_second,
)
from ocirt.cgroups.settings import Setting
from ocirt.errors import SpecError
from ocirt.spec.linux import DeviceRule

NEW = 260


def line(file: str, value: str, otherwise: Setting | None = None) -> Setting:
    return Setting(file.partition(".")[0], file, (value,), "linux.resources", otherwise=otherwise)


def made(*lines: tuple[str, str], version: int = NEW) -> dict[str, object]:
    return {found.name: found.value for found in of_settings([line(*words) for words in lines], version)}


@pytest.mark.parametrize(
    ("file", "value", "expected"),
    [
        ("memory.max", "67108864", Property("MemoryMax", "t", 67108864)),
        ("memory.max", "max", Property("MemoryMax", "t", INFINITY)),
        ("memory.max", "64M", Property("MemoryMax", "t", 67108864)),
        ("memory.max", "0", Property("MemoryMax", "t", 1)),  # systemd takes no 0; the kernel makes it one of this
        ("memory.limit_in_bytes", "-1", Property("MemoryMax", "t", INFINITY)),
        ("memory.high", "1048576", Property("MemoryHigh", "t", 1048576)),
        ("memory.low", "0", Property("MemoryLow", "t", 0)),
        ("memory.min", "4096", Property("MemoryMin", "t", 4096)),
        ("memory.swap.max", "0", Property("MemorySwapMax", "t", 0)),
        ("memory.zswap.max", "max", Property("MemoryZSwapMax", "t", INFINITY)),
        ("memory.oom.group", "1", Property("OOMPolicy", "s", "kill")),
        ("memory.oom.group", "0", Property("OOMPolicy", "s", "continue")),
        ("cpu.weight", "100", Property("CPUWeight", "t", 100)),
        ("cpu.shares", "1024", Property("CPUShares", "t", 1024)),
        ("cpuset.cpus", "0-2,9", Property("AllowedCPUs", "ay", b"\x07\x02")),
        ("cpuset.mems", "0", Property("AllowedMemoryNodes", "ay", b"\x01")),
        ("pids.max", "10", Property("TasksMax", "t", 10)),
        ("pids.max", "0", Property("TasksMax", "t", 1)),
        ("pids.max", "max", Property("TasksMax", "t", INFINITY)),
        ("blkio.weight", "500", Property("BlockIOWeight", "t", 500)),
        ("io.weight", "default 50", Property("IOWeight", "t", 50)),
        ("io.weight", "8:0 50", Property("IODeviceWeight", "a(st)", [("/dev/block/8:0", 50)])),
        ("io.max", "8:0 rbps=1000", Property("IOReadBandwidthMax", "a(st)", [("/dev/block/8:0", 1000)])),
        ("io.max", "8:0 wiops=max", Property("IOWriteIOPSMax", "a(st)", [("/dev/block/8:0", INFINITY)])),
    ],
)
def test_a_file_and_its_property(file: str, value: str, expected: Property) -> None:
    assert of_settings([line(file, value)], NEW) == (expected,)


def test_a_quota_is_told_with_its_period() -> None:
    assert made(("cpu.max", "150000 100000")) == {"CPUQuotaPerSecUSec": 1_500_000, "CPUQuotaPeriodUSec": 100_000}
    assert made(("cpu.max", "max 50000")) == {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 50_000}
    assert made(("cpu.max", "50000")) == {"CPUQuotaPerSecUSec": 500_000}


def test_the_two_files_of_version_1_are_one_quota() -> None:
    assert made(("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "25000")) == {
        "CPUQuotaPerSecUSec": 500_000,
        "CPUQuotaPeriodUSec": 50_000,
    }
    assert made(("cpu.cfs_quota_us", "-1")) == {"CPUQuotaPerSecUSec": INFINITY}


@given(quota=st.integers(1, 10**9), period=st.integers(1000, 1_000_000))
def test_a_quota_is_rounded_up_to_a_whole_percent_and_no_further(quota: int, period: int) -> None:
    rounded = quota_per_second(quota, period)
    assert rounded % 10_000 == 0
    assert (rounded - 10_000) * period < quota * 1_000_000 <= rounded * period


def test_being_idle_leaves_no_weight() -> None:
    assert made(("cpu.idle", "1"), ("cpu.weight", "50")) == {"CPUWeight": 0}
    assert made(("cpu.idle", "0"), ("cpu.weight", "50")) == {"CPUWeight": 50}


def test_what_comes_later_counts_as_it_does_in_the_files() -> None:
    assert made(("memory.max", "1000"), ("memory.max", "2000")) == {"MemoryMax": 2000}


def test_devices_are_listed_together() -> None:
    assert made(("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2 wbps=3")) == {
        "IOReadBandwidthMax": [("/dev/block/8:0", 1), ("/dev/block/8:16", 2)],
        "IOWriteBandwidthMax": [("/dev/block/8:16", 3)],
    }


def test_a_file_that_systemd_does_not_know_is_told_by_what_stands_for_it() -> None:
    lines = [line("io.bfq.weight", "100", otherwise=line("io.weight", "910"))]
    assert of_settings(lines, NEW) == (Property("IOWeight", "t", 910),)


def test_what_systemd_has_no_property_for_is_left_to_the_files() -> None:
    assert made(("hugetlb.2MB.max", "0"), ("cpu.max.burst", "5"), ("memory.swappiness", "5")) == {}


@pytest.mark.parametrize("value", ["", "x", "-5", "1X", "99999999999999999999"])
def test_what_the_kernel_will_refuse_is_no_property(value: str) -> None:
    assert made(("memory.max", value), ("cpu.weight", value), ("cpuset.cpus", value), ("cpu.max", value)) == {}


@pytest.mark.parametrize(
    ("file", "value", "name", "since"),
    [
        ("cpu.idle", "1", "CPUWeight", 252),
        ("cpu.max", "1000 2000", "CPUQuotaPeriodUSec", 242),
        ("cpuset.cpus", "0", "AllowedCPUs", 244),
        ("cpuset.mems", "0", "AllowedMemoryNodes", 244),
        ("memory.min", "1", "MemoryMin", 240),
        ("memory.oom.group", "1", "OOMPolicy", 253),
        ("memory.zswap.max", "1", "MemoryZSwapMax", 253),
    ],
)
def test_an_older_systemd_is_not_asked_for_what_it_does_not_know(file: str, value: str, name: str, since: int) -> None:
    assert name in made((file, value), version=since)
    assert name not in made((file, value), version=since - 1)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_bit_a_cpu(cpus: set[int]) -> None:
    mask = bit_mask(",".join(map(str, cpus)))
    assert {number for number in range(len(mask) * 8) if mask[number // 8] >> number % 8 & 1} == cpus
    assert mask[-1]


def test_the_device_list_as_systemd_has_it() -> None:
    rules = [
        DeviceRule(allow=False, access="rwm"),
        DeviceRule(allow=True, type="c", major=10, minor=229, access="rwm"),
        DeviceRule(allow=True, type="c", major=4, access="rw"),
        DeviceRule(allow=True, type="b", major=99, access="rw"),  # no driver has it
        DeviceRule(allow=False, type="c", major=10, minor=229, access="w"),
    ]
    groups = device_groups("Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 tty\n136 pts\n\nBlock devices:\n  8 sd\n")
    policy, allowed = of_devices(device_writes(device_list(rules)), groups)
    assert policy == Property("DevicePolicy", "s", "strict")
    assert allowed.signature == "a(ss)"
    assert isinstance(allowed.value, list)
    assert {entry for entry in allowed.value if isinstance(entry, tuple)} >= {
        ("/dev/char/10:229", "rm"),
        ("char-/dev/vc/0", "rw"),
        ("char-*", "m"),
        ("block-*", "m"),
        ("/dev/char/1:3", "rwm"),
        ("char-pts", "rwm"),
    }
    assert "99" not in str(allowed.value)


def test_where_all_is_allowed_systemd_has_no_list() -> None:
    rules = [DeviceRule(allow=True, type="a", access="rwm")]
    assert of_devices(device_writes(device_list(rules)), {}) == (Property("DevicePolicy", "s", "auto"),)


def annotated(name: str, text: str) -> tuple[Property, ...]:
    return of_annotations({f"org.systemd.property.{name}": text, "other": "[", "org.systemd.property": "["})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("CollectMode", "'inactive-or-failed'", Property("CollectMode", "s", "inactive-or-failed")),
        ("After", "['a.service', 'b.service']", Property("After", "as", ["a.service", "b.service"])),
        ("TimeoutStopUSec", "uint64 5000000", Property("TimeoutStopUSec", "t", 5_000_000)),
        ("TimeoutStopSec", "5", Property("TimeoutStopUSec", "t", 5_000_000)),
        ("TimeoutStopSec", "1.5", Property("TimeoutStopUSec", "t", 1_500_000)),
        ("TimeoutStopSec", "inf", Property("TimeoutStopUSec", "t", INFINITY)),
        ("FooSEC", "5", Property("FooSEC", "i", 5)),
    ],
)
def test_an_annotation_is_a_property(name: str, text: str, expected: Property) -> None:
    assert annotated(name, text) == (expected,)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("ab", "true", "annotation org.systemd.property.ab name incorrect: too short"),
        ("", "true", "annotation org.systemd.property. name incorrect: too short"),
        ("Foo1", "true", "annotation org.systemd.property.Foo1 name incorrect: contains non-alphabetic character"),
        ("Fooé", "true", "annotation org.systemd.property.Fooé name incorrect: contains non-alphabetic character"),
        ("Foo", "tru", "annotation org.systemd.property.Foo=tru value parse error: "),
        ("FooSec", "'1'", "annotation org.systemd.property.FooSec='1' value parse error: not a number of seconds"),
        ("FooSec", "-1", "annotation org.systemd.property.FooSec=-1 value parse error: not a length of time"),
        ("FooSec", "nan", "annotation org.systemd.property.FooSec=nan value parse error: not a length of time"),
    ],
)
def test_a_wrong_annotation_is_told_by_its_name_in_runcs_words(name: str, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        annotated(name, text)
    (problem,) = caught.value.problems
    assert problem.path == f'annotations["org.systemd.property.{name}"]'
    assert problem.rule.startswith(words)


def test_every_wrong_annotation_is_told() -> None:
    with pytest.raises(SpecError) as caught:
        of_annotations({"org.systemd.property.A": "1", "org.systemd.property.Foo": "", "org.systemd.property.Bar": "1"})
    assert len(caught.value.problems) == 2
