"""What is said to systemd, and what becomes of its answers. The real one is met in tests/lifecycle/test_systemd.py."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ocirt
from ocirt import Container
from ocirt.cgroups import dbus, systemd
from ocirt.cgroups.choice import Placement
from ocirt.cgroups.properties import INFINITY, Property
from ocirt.cgroups.settings import Setting
from ocirt.cgroups.systemd import Manager, Wanted
from ocirt.cgroups.units import Unit, has_systemd, place
from ocirt.errors import SetupError, UnsupportedError
from tests.support import Lab, document

from . import machines
from .bus import Answer, Bus, Call, started

UNIT = Unit("p-x.scope", "system")

Start = Callable[..., Bus]


@pytest.fixture(autouse=True)
def manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which systemd it is was asked before."""
    monkeypatch.setattr(systemd, "ask", lambda _: Manager(252, ""))


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a bus of the machine's that answers so."""
    running: list[Iterator[Bus]] = []

    def start(greeting: bytes = b"OK 0\r\n", **answers: Answer) -> Bus:
        path = tmp_path / "bus"
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path},guid=0")
        running.append(Bus(path, answers, greeting).serve())
        return next(running[-1])

    yield start
    for served in running:
        next(served, None)


def wanted(path: str = "a-b.slice:p:x", *properties: Property, ours: bool = True) -> Wanted:
    found = place(path, "demo", "system")
    unit = Unit(found.name, "system", ours)
    return Wanted(unit, found, Placement((), True), "words", properties, version_1=False)


def fails(name: str) -> Answer:
    return lambda call: [call.fails(f"org.freedesktop.systemd1.{name}", f"words of {name}")]


def test_a_scope_is_started_with_its_process_in_its_slice(bus: Start) -> None:
    served = bus(StartTransientUnit=started)
    systemd.start(wanted("a-b.slice:p:x", Property("TasksMax", "t", 5)), 77)
    assert [method for method, _ in served.calls] == ["Subscribe", "StartTransientUnit"]
    assert served.calls[1][1] == (
        "p-x.scope",
        "replace",
        [
            ("Description", ("s", "words")),
            ("Slice", ("s", "a-b.slice")),
            ("Delegate", ("b", True)),
            ("PIDs", ("au", [77])),
            ("MemoryAccounting", ("b", True)),
            ("CPUAccounting", ("b", True)),
            ("IOAccounting", ("b", True)),
            ("TasksAccounting", ("b", True)),
            ("DefaultDependencies", ("b", False)),
            ("TasksMax", ("t", 5)),
        ],
        [],
    )


def test_a_slice_is_started_without_a_process(bus: Start) -> None:
    served = bus(StartTransientUnit=started)
    systemd.start(wanted("a.slice:p:a-b.slice"), 77)
    name, _, properties, _ = served.calls[1][1]
    assert name == "a-b.slice"
    assert isinstance(properties, list)
    assert properties[1] == ("Wants", ("as", ["a.slice"]))
    assert not {"PIDs", "Delegate", "Slice"} & {name for name, _ in properties}


def test_a_slice_that_was_there_is_told_of_limits_and_stays(bus: Start) -> None:
    served = bus()
    there = wanted("a.slice:p:a-b.slice", Property("TasksMax", "t", 5), ours=False)
    systemd.start(there, 77, [Setting("memory", "memory.max", ("4096",), "linux.resources.memory.limit")])
    systemd.stop(there.unit)
    limits = [("MemoryMax", ("t", 4096)), ("TasksMax", ("t", 5))]
    assert served.calls == [("SetUnitProperties", ("a-b.slice", True, limits))]


@pytest.mark.parametrize(
    ("path", "annotations", "origin"),
    [
        ("::a.slice", {}, "linux.cgroupsPath"),
        ("::a", {"run.oci.systemd.subgroup": "b"}, 'annotations["run.oci.systemd.subgroup"]'),
    ],
)
def test_what_only_version_2_can_do_is_refused_beside_version_1(
    monkeypatch: pytest.MonkeyPatch, path: str, annotations: dict[str, str], origin: str
) -> None:
    monkeypatch.setattr("ocirt.cgroups.units.has_systemd", lambda: True)
    with pytest.raises(UnsupportedError, match="needs cgroup version 2 alone") as caught:
        systemd.choose(machines.HYBRID, path, "demo", annotations=annotations)
    assert caught.value.origin == origin
    assert systemd.choose(machines.V2, path, "demo", annotations=annotations).unit.name.startswith("a.")


def test_in_every_hierarchy_the_path_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above it is systemd's, but where systemd cares for no controller."""
    monkeypatch.setattr("ocirt.cgroups.units.has_systemd", lambda: True)
    found = systemd.choose(machines.V1, "a-b.slice:p:x", "demo", annotations={}).placement.directories
    assert {directory.path.partition("/a.slice")[2] for directory in found} == {"/a-b.slice/p-x.scope"}
    assert {directory.controllers: directory.parents for directory in found} == {
        ("name=systemd",): (),
        ("cpu", "cpuacct"): (),
        ("memory",): (),
        ("cpuset",): ("/sys/fs/cgroup/cpuset/a.slice", "/sys/fs/cgroup/cpuset/a.slice/a-b.slice"),
    }


def test_a_job_may_end_before_it_is_named(bus: Start) -> None:
    bus(StartTransientUnit=lambda call: started(call, early=True))
    systemd.start(wanted(), 77)


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled", "dependency", "skipped"])
def test_a_job_that_does_not_end_well_is_an_error_with_its_result_and_leaves_no_unit(bus: Start, result: str) -> None:
    served = bus(StartTransientUnit=lambda call: started(call, result), StopUnit=started)
    with pytest.raises(SetupError) as caught:
        systemd.start(wanted(), 77)
    assert str(caught.value) == (
        f"linux.cgroupsPath: SystemdUnit p-x.scope: its job ended as '{result}': StartTransientUnit"
    )
    assert [method for method, _ in served.calls[2:]] == ["Subscribe", "StopUnit", "ResetFailedUnit"]


def test_a_unit_that_failed_is_forgotten_and_the_start_tried_once_more(bus: Start) -> None:
    answers = iter([fails("UnitExists"), started])
    served = bus(StartTransientUnit=lambda call: next(answers)(call))
    systemd.start(wanted(), 77)
    assert [method for method, _ in served.calls] == [
        *("Subscribe", "StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"),
    ]


def test_a_unit_that_stays_is_somebody_elses(bus: Start) -> None:
    served = bus(StartTransientUnit=fails("UnitExists"))
    with pytest.raises(SetupError, match="words of UnitExists"):
        systemd.start(wanted(), 77)
    assert [method for method, _ in served.calls].count("StartTransientUnit") == 2
    assert "StopUnit" not in [method for method, _ in served.calls]


def test_a_unit_is_stopped_and_forgotten(bus: Start) -> None:
    served = bus(StopUnit=started)
    systemd.stop(UNIT)
    assert served.calls == [
        ("Subscribe", ()),
        ("StopUnit", ("p-x.scope", "replace")),
        ("ResetFailedUnit", ("p-x.scope",)),
    ]


def test_a_unit_that_is_gone_is_stopped(bus: Start) -> None:
    bus(StopUnit=fails("NoSuchUnit"))
    systemd.stop(UNIT)


def test_a_unit_that_goes_meanwhile_is_stopped(bus: Start) -> None:
    bus(StopUnit=started, ResetFailedUnit=fails("NoSuchUnit"))
    systemd.stop(UNIT)


def test_a_unit_that_does_not_stop_is_an_error(bus: Start) -> None:
    bus(StopUnit=lambda call: started(call, "timeout"))
    with pytest.raises(SetupError, match=r"p-x\.scope: its job ended as 'timeout'"):
        systemd.stop(UNIT)


def test_no_change_is_not_told(bus: Start) -> None:
    served = bus()
    systemd.change(UNIT, ())
    assert served.calls == []


def test_a_change_that_is_refused_is_an_error_in_systemds_words(bus: Start) -> None:
    bus(SetUnitProperties=fails("PropertyReadOnly"))
    with pytest.raises(SetupError, match="words of PropertyReadOnly") as caught:
        systemd.change(UNIT, (Property("TasksMax", "t", 5),))
    assert caught.value.call == "SetUnitProperties"


@pytest.mark.root
def test_an_update_that_fails_is_taken_back(bus: Start) -> None:
    """Of what had no limit before, there is none again."""
    served = bus()
    before = [Setting("memory", "memory.max", ("4096",), "")]
    now = [Setting("memory", "memory.max", ("8192",), ""), Setting("cpu", "cpu.max", ("1000 10000",), "")]
    with pytest.raises(OSError, match="boom"), systemd.updated(UNIT, before, now):
        raise OSError("boom")
    quota = ("CPUQuotaPerSecUSec", ("t", 100_000)), ("CPUQuotaPeriodUSec", ("t", 10_000))
    none = ("CPUQuotaPerSecUSec", ("t", INFINITY)), ("CPUQuotaPeriodUSec", ("t", INFINITY))
    assert [call[1] for call in served.calls] == [
        ("p-x.scope", True, [("MemoryMax", ("t", 8192)), *quota]),
        ("p-x.scope", True, [("MemoryMax", ("t", 4096)), *none]),
    ]


def test_a_systemd_that_does_not_answer_is_waited_for_no_longer_than_said(
    bus: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(call: Call) -> list[object]:
        return []

    bus(StopUnit=silent)
    monkeypatch.setattr(dbus, "SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(SetupError) as caught:
        systemd.stop(UNIT)
    assert caught.value.errno == errno.ETIMEDOUT
    assert 0.1 < time.monotonic() - began < 5


def test_a_bus_that_lets_nobody_in_is_an_error(bus: Start) -> None:
    bus(greeting=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(SetupError, match="REJECTED EXTERNAL") as caught:
        systemd.stop(UNIT)
    assert caught.value.errno == errno.EACCES


def test_no_bus_is_an_error_that_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/absent")
    with pytest.raises(SetupError) as caught:
        systemd.stop(UNIT)
    assert (caught.value.errno, caught.value.detail) == (errno.ENOENT, f"{tmp_path}/absent")


def test_a_users_bus_is_where_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    assert dbus.address("user") == "/run/user/7/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "tcp:host=h;unix:abstract=/x%20y,guid=1")
    assert dbus.address("user") == "\0/x y"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "tcp:host=h")
    with pytest.raises(UnsupportedError, match="no bus of this machine"):
        dbus.address("user")


def test_a_user_without_a_session_is_told_how_to_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    with pytest.raises(UnsupportedError, match="loginctl enable-linger"):
        dbus.address("user")


@pytest.mark.skipif(has_systemd(), reason="systemd is there")
@pytest.mark.root
def test_without_systemd_its_cgroups_are_refused_in_runcs_words(lab: Lab) -> None:
    bundle = lab.bundle(document("true"))
    with pytest.raises(UnsupportedError, match="systemd not running on this host, cannot use systemd cgroups manager"):
        Container.create(lab.new_id(), bundle, root=lab.root, cgroup_manager="systemd")
    assert lab.remains() == []


@pytest.mark.skipif(has_systemd(), reason="systemd is there")
@pytest.mark.root
@pytest.mark.parametrize("flag", ["--systemd-cgroup", "--cgroup-manager=systemd"])
def test_both_flags_ask_for_systemd(lab: Lab, flag: str) -> None:
    bundle = lab.bundle(document("true"))
    command = [sys.executable, "-m", "ocirt", "--root", str(lab.root), flag, "create", "-b", str(bundle.path), "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "systemd not running on this host, cannot use systemd cgroups manager" in done.stderr


def test_who_needs_no_systemd_pays_nothing_for_it() -> None:
    script = (
        "import sys, ocirt, ocirt.container, ocirt.cli.lifecycle; "
        "print([name for name in sys.modules if 'jeepney' in name or name.startswith('ocirt.cgroups.systemd')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(ocirt.__file__).parent.parent)}
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert output.stdout == "[]\n"
