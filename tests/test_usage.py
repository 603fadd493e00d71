"""What no cgroup keeps account of: the network, whose interfaces a container may name, and resctrl."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import rdt, usage
from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.stats import NetworkStats, RDTDomain
from ocirt.spec import IntelRdt
from ocirt.state import Record, boot_id, start_time
from tests import resctrl as fake
from tests.resctrl import Resctrl

COUNTS = " ".join(map(str, range(1, 17)))


@pytest.fixture
def resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resctrl:
    return fake.mounted(tmp_path, monkeypatch)


def record(**changes: object) -> Record:
    """Of this very process."""
    own = Record("c", "/b", "/r", "1.3.0", {}, Cgroup(), "", os.getpid(), start_time(os.getpid())[1], boot_id())
    return own._replace(**changes)  # type: ignore[arg-type]  # of its fields


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"    lo: {COUNTS}", "lo"),
        (f"\x1b[31m:{COUNTS}", "\x1b[31m"),
        (f"a:b: {COUNTS}", "a:b"),
        (f"\udcff: {COUNTS}", "\udcff"),
    ],
)
def test_an_interface_may_have_any_name(line: str, name: str) -> None:
    assert list(usage._interfaces([line])) == [NetworkStats(name, 1, 2, 3, 4, 9, 10, 11, 12)]


@pytest.mark.parametrize("line", ["", "lo", "lo:", "lo: 1 2 3"])
def test_what_is_no_interface_is_left_out(line: str) -> None:
    assert list(usage._interfaces([line])) == []


def test_the_network_of_a_process() -> None:
    assert [entry.name for entry in usage.network(record())] == [
        line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text("utf-8").splitlines()[2:]
    ]


@pytest.mark.parametrize("changes", [{"start_time": 1}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_a_process_that_is_not_the_containers_any_more_tells_nothing(changes: dict[str, object]) -> None:
    assert usage.network(record(**changes)) == ()


def test_a_container_in_no_class_of_resctrl() -> None:
    assert usage.resctrl(record()) is None


def joined(resctrl: Resctrl, *, monitoring: bool, shared: bool = False) -> Record:
    """A container in a class, with numbers to read in its directories."""
    own = resctrl.root / ("class" if shared else "c")
    os.mkdir(own)
    directories = [own]
    if monitoring:
        directories.append(own / "mon_groups" / "c")
        os.mkdir(directories[-1])
    for number, directory in enumerate(directories, 1):
        fake.REAL_MKDIR(directory / "mon_data")
        for domain in ("mon_L3_00", "mon_L3_01"):
            fake.REAL_MKDIR(directory / "mon_data" / domain)
            (directory / "mon_data" / domain / "llc_occupancy").write_text(f"{number}00\n")
            (directory / "mon_data" / domain / "mbm_total_bytes").write_text(f"{number}01\n")
        (directory / "mon_data" / "mon_L3_01" / "mbm_local_bytes").write_text("Unavailable\n")
    made = [str(path) for path in reversed(directories) if not (shared and path == own)]
    return record(rdt_groups=tuple(map(str, directories)), rdt_made=tuple(made))


def test_a_class_of_its_own(resctrl: Resctrl) -> None:
    (resctrl.root / "info/L3/cbm_mask").write_text("fffff\n")
    (resctrl.root / "info/L3/num_closids").write_text("16\n")
    stats = usage.resctrl(joined(resctrl, monitoring=False))
    assert stats is not None
    assert stats.schemata == stats.root_schemata == ("MB:0= 100;1= 100", "L3:0=fffff;1=fffff")
    assert stats.limits == {
        "L3": {"cbm_mask": "fffff", "num_closids": "16"},
        "L3CODE": {},
        "MB": {"bandwidth_gran": "10"},
    }
    assert stats.domains == (RDTDomain("mon_L3_00", 100, 101, None), RDTDomain("mon_L3_01", 100, 101, None))


def test_a_monitoring_group_is_the_containers_alone(resctrl: Resctrl) -> None:
    stats = usage.resctrl(joined(resctrl, monitoring=True, shared=True))
    assert stats is not None
    assert [domain.cache_bytes for domain in stats.domains] == [200, 200]


def test_what_others_use_in_a_shared_class_is_not_the_containers(resctrl: Resctrl) -> None:
    stats = usage.resctrl(joined(resctrl, monitoring=False, shared=True))
    assert stats is not None
    assert stats.domains == ()


def test_the_directories_are_those_that_a_life_records(resctrl: Resctrl) -> None:
    group = rdt.survey(IntelRdt(enable_monitoring=True), "c")
    assert group.joined == (str(resctrl.root / "c"), str(resctrl.root / "c/mon_groups/c"))
    assert group.made == tuple(reversed(group.joined))
