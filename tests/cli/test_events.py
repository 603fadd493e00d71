"""``events``: runc's shape, member by member, beside runc itself where it is installed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from subprocess import DEVNULL

import pytest

from ocirt import Container, Stats
from ocirt.cgroups import layout
from ocirt.cgroups.accounts import CPUSET_FLAGS
from ocirt.cgroups.stats import (
    BlockIOCount,
    BlockIOStats,
    BlockIOTime,
    Charge,
    CpusetStats,
    CPUStats,
    MemoryStats,
    NetworkStats,
    PidsStats,
    Pressure,
    PressureLine,
    RDTDomain,
    RDTStats,
)
from ocirt.cli.events import described
from ocirt.cli.parse import Flag, Kind, UsageError, parse
from tests.cli.commands import Commands
from tests.observed import MIB, limited
from tests.support import SECONDS, document, eventually

in_containers = pytest.mark.root

EVERYTHING = Stats(
    1.0,
    MemoryStats(
        1,
        2,
        3,
        4,
        5,
        Charge(6, None, 7, 8),
        Charge(9, 10),
        Charge(),
        11,
        {"b": 12, "a": 13},
        Pressure(PressureLine(0.5, 1.5, 2.5, 0.000014)),
    ),
    CPUStats(4.5, 2.5, 0.75, (1.5, 3.0), (1.0, 2.25), (0.5, 0.75), 21, 22, 0.023),
    CpusetStats((0, 1), (0,), (5,), (6,), {"cpu_exclusive": 1, "sched_relax_domain_level": -1}),
    PidsStats(5, None),
    BlockIOStats((BlockIOCount(8, 0, "Read", 4096),), service_seconds=(BlockIOTime(8, 0, "Write", 0.032),)),
    {"2MB": Charge(1, 2, 3, 4)},
    {},
    (NetworkStats("lo", 1, 2, 3, 4, 5, 6, 7, 8),),
    RDTStats(
        ("L3:0=f", "MB:0=10"),
        ("L3:0=ff", "MB:0=100"),
        {"L3": {"cbm_mask": "ff", "min_cbm_bits": "1"}, "L3CODE": {}, "MB": {"bandwidth_gran": "10"}},
        (RDTDomain("mon_L3_00", 100, 101, 102), RDTDomain("mon_L3_01", None, None)),
    ),
)

WORDS: Mapping[str, object] = {
    "cpu": {
        "usage": {
            "total": 4500000000,
            "percpu": [1500000000, 3000000000],
            "percpu_kernel": [500000000, 750000000],
            "percpu_user": [1000000000, 2250000000],
            "kernel": 750000000,
            "user": 2500000000,
        },
        "throttling": {"periods": 21, "throttledPeriods": 22, "throttledTime": 23000000},
    },
    "cpuset": {
        "cpus": [0, 1],
        "cpu_exclusive": 1,
        "mems": [0],
        "mem_hardwall": 0,
        "mem_exclusive": 0,
        "memory_migrate": 0,
        "memory_spread_page": 0,
        "memory_spread_slab": 0,
        "memory_pressure": 0,
        "sched_load_balance": 0,
        "sched_relax_domain_level": -1,
    },
    "memory": {
        "cache": 5,
        "usage": {"limit": 2, "usage": 1, "max": 3, "failcnt": 4},
        "swap": {"limit": 18446744073709551615, "usage": 6, "max": 7, "failcnt": 8},
        "kernel": {"limit": 10, "usage": 9, "failcnt": 0},
        "kernelTCP": {"limit": 0, "failcnt": 0},
        "raw": {"a": 13, "b": 12},
        "psi": {"some": {"avg10": 0.5, "avg60": 1.5, "avg300": 2.5, "total": 14}},
    },
    "pids": {"current": 5},
    "blkio": {
        "ioServiceBytesRecursive": [{"major": 8, "op": "Read", "value": 4096}],
        "ioServiceTimeRecursive": [{"major": 8, "op": "Write", "value": 32000000}],
    },
    "hugetlb": {"2MB": {"usage": 1, "max": 3, "failcnt": 4}},
    "intel_rdt": {
        "l3_cache_info": {"cbm_mask": "ff", "min_cbm_bits": 1},
        "l3_cache_schema_root": "L3:0=ff",
        "l3_cache_schema": "L3:0=f",
        "mem_bw_info": {"bandwidth_gran": 10},
        "mem_bw_schema_root": "MB:0=100",
        "mem_bw_schema": "MB:0=10",
        "schemata": ["L3:0=f", "MB:0=10"],
        "mbm_stats": [{"mbm_total_bytes": 101, "mbm_local_bytes": 102}],
        "cmt_stats": [{"llc_occupancy": 100}],
    },
    "network_interfaces": [
        {
            "Name": "lo",
            "RxBytes": 1,
            "RxPackets": 2,
            "RxErrors": 3,
            "RxDropped": 4,
            "TxBytes": 5,
            "TxPackets": 6,
            "TxErrors": 7,
            "TxDropped": 8,
        }
    ],
}


def test_everything_in_runcs_words_and_order() -> None:
    assert json.dumps(described(EVERYTHING)) == json.dumps(WORDS)


def test_nothing_in_runcs_words() -> None:
    none = {"limit": 0, "failcnt": 0}
    assert described(Stats(1.0)) == {
        "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
        "cpuset": dict.fromkeys(CPUSET_FLAGS, 0),
        "memory": {"usage": none, "swap": none, "kernel": none, "kernelTCP": none},
        "pids": {},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("100ms", 0.1),
        ("1h15m30.5s", 4530.5),
        (".5m", 30),
        ("1.s", 1),
        ("+2us", 2e-6),
        ("2µs", 2e-6),
        ("2μs", 2e-6),
        ("0", 0),
        ("-1s", -1),
        ("3ns", 3e-9),
    ],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    parsed = parse((Flag("interval", "", kind=Kind.DURATION),), ("--interval", text), stops=False)
    assert parsed.seconds("interval") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "5S", "1d", "--1s", ".s", "1s2", "\u0665s", "0s\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="for flag -interval: parse error"):
        parse((Flag("interval", "", kind=Kind.DURATION),), (f"--interval={text}",), stops=False)


def paths(value: object, at: str = "") -> Iterator[str]:
    """Where a document has members; elements of a list are all one."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield f"{at}.{name}".lstrip(".")
            yield from paths(member, f"{at}.{name}".lstrip("."))
    for member in value if isinstance(value, list) else ():
        yield from paths(member, f"{at}[]")


@contextmanager
def watching(commands: Commands, *options: str) -> Iterator[Iterator[Mapping[str, object]]]:
    """What ``events`` writes, line by line; it ends by itself."""
    line = commands.line("events", *options, commands.id)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield map(json.loads, process.stdout)
        assert process.wait(SECONDS) == 0


def running(commands: Commands, *args: str) -> Container:
    commands.configure(args)
    commands.detached("run", "-d", commands.id)
    return Container.load(commands.id, root=commands.root)


@in_containers
def test_the_members_are_runcs(commands: Commands) -> None:
    """What runc has of a container like this one we have, and at the same places."""
    if shutil.which("runc") is None or layout.probe().mode == "v2":
        pytest.skip("needs runc, and a layout on which it does not enable more controllers than it was asked for")
    running(commands, "sleep", "600")
    ours = set(paths(json.loads(commands.run("events", "--stats", commands.id))["data"]))
    runc, name = ("runc", "--root", str(commands.bundle / "runc")), f"{commands.id}-runc"
    subprocess.run(
        [*runc, "run", "-d", "-b", str(commands.bundle), name],
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        check=True,
        timeout=SECONDS,
    )
    try:
        told = subprocess.run([*runc, "events", "--stats", name], capture_output=True, check=True, timeout=SECONDS)
    finally:
        subprocess.run([*runc, "delete", "-f", name], stdin=DEVNULL, check=True, timeout=SECONDS)
    theirs = set(paths(json.loads(told.stdout)["data"]))
    assert theirs - ours == set()
    more = ("network_interfaces", "hugetlb", "cpu.psi", "memory.psi", "blkio.psi")  # of a namespace and of hybrid
    assert [path for path in ours - theirs if not path.startswith(more)] == []


@in_containers
class TestInContainers:
    def test_stats_are_one_line(self, commands: Commands) -> None:
        running(commands, "sleep", "600")
        text = commands.run("events", "--stats", commands.id)
        assert text.startswith(f'{{"type":"stats","id":"{commands.id}","data":{{"cpu":{{"usage":{{"total":')
        assert text.endswith("}}\n")
        assert text.count("\n") == 1

    def test_stats_come_after_each_interval_until_it_ends(self, commands: Commands) -> None:
        container = running(commands, "sleep", "600")
        with watching(commands, "--interval", "100ms") as lines:
            kinds = [next(lines)["type"] for _ in range(3)]
            container.kill(signal.SIGKILL)
            assert {line["type"] for line in lines} <= {"stats"}
        assert kinds == ["stats"] * 3

    def test_memory_that_runs_out_is_told(self, commands: Commands) -> None:
        commands.configure(["sh", "-c", "tail /dev/zero; exit 0"], linux=limited(document(), 32 * MIB).linux)
        commands.detached("create", commands.id)
        container = Container.load(commands.id, root=commands.root)
        with watching(commands, "--interval", "200ms") as lines:
            assert next(lines)["type"] == "stats"  # now it watches
            container.start()
            told = [line for line in lines if line["type"] == "oom"]
        assert told == [{"type": "oom", "id": commands.id}]

    @pytest.mark.parametrize("interval", ["0", "-1s", "0ms"])
    def test_an_interval_has_to_be_one(self, commands: Commands, interval: str) -> None:
        running(commands, "sleep", "600")
        done = commands.tried("events", f"--interval={interval}", commands.id)
        assert done.returncode == 1
        assert done.stderr.endswith('msg="duration interval must be greater than 0"\n')

    def test_of_one_that_does_not_run_there_is_nothing_to_tell(self, commands: Commands) -> None:
        container = running(commands, "true")
        eventually(lambda: container.status == "stopped", "it ends")
        done = commands.tried("events", "--stats", commands.id)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"container with id {commands.id} is not running" in done.stderr

    def test_of_one_that_is_not_there(self, commands: Commands) -> None:
        assert "container does not exist" in commands.tried("events", "nobody").stderr
