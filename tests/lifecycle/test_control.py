"""Holding a container, letting it go on, and changing its limits while it runs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocirt import Container
from ocirt.cgroups import freezing, tree
from ocirt.errors import SetupError, SpecError, StateError, UnsupportedError
from ocirt.spec import IntelRdt
from ocirt.spec.limits import CPU, HugepageLimit, Memory, Pids
from ocirt.spec.linux import DeviceRule, Resources
from ocirt.state import Status
from tests import resctrl as fake
from tests.lifecycle.test_limits import MIB, limited, read
from tests.support import SECONDS, Lab, document, eventually, linux, shell

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]

COUNTING = "i=0; while :; do i=$((i+1)); echo $i; done > /dev/shm/count"


def count(container: Container) -> int:
    path = Path(f"/proc/{container.pid}/root/dev/shm/count")
    return path.stat().st_size if path.exists() else 0


# pause and resume


def test_a_paused_container_stands_still_until_it_is_resumed(lab: Lab) -> None:
    with lab.start(shell(COUNTING)) as container:
        eventually(lambda: count(container), "it has begun")
        container.pause()
        assert str(container.status) == "paused"
        before = count(container)
        time.sleep(0.1)
        assert count(container) == before
        lab.load(container).resume()
        assert container.status is Status.RUNNING
        eventually(lambda: count(container) > before, "it goes on")


def test_whoever_forks_without_end_is_paused_too(lab: Lab) -> None:
    """Version 1 may stay half-way while there are ever new processes."""
    spec = limited(Resources(pids=Pids(60)), "sh", "-c", "while :; do (true) & (true) & wait; done")
    with lab.start(spec) as container:
        for _ in range(5):
            container.pause()
            assert str(container.status) == "paused"
            container.resume()
            assert str(container.status) == "running"


def test_a_created_container_can_be_paused_and_is_created_again(lab: Lab) -> None:
    with lab.create(document("true")) as container:
        container.pause()
        with pytest.raises(StateError, match="cannot start a container in the paused state"):
            container.start()
        container.resume()
        assert container.status is Status.CREATED
        container.start()
        assert container.wait(SECONDS) == 0


def test_what_cannot_be_paused_or_resumed_is_told_in_runcs_words(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        with pytest.raises(StateError) as caught:
            container.resume()
        assert caught.value.reason == "container not paused"
        container.pause()
        with pytest.raises(StateError) as caught:
            container.pause()
        assert caught.value.reason == "container not running"
        container.kill(signal.SIGKILL)
        container.wait(SECONDS)
        for operation, words in ((container.pause, "not running"), (container.resume, "not paused")):
            with pytest.raises(StateError) as caught:
                operation()
            assert (caught.value.status, caught.value.reason) == ("stopped", f"container {words}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_paused_container_can_be_killed(lab: Lab, number: signal.Signals) -> None:
    """SIGKILL at once; what can be caught, once it is resumed."""
    with lab.start(shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")) as container:
        assert container.process is not None
        assert container.process.stdout is not None
        assert container.process.stdout.readline() == b"ready\n"
        container.pause()
        container.kill(number)
        if number == signal.SIGTERM:
            assert container.status is Status.PAUSED
            container.resume()
        assert container.wait(SECONDS) == (-signal.SIGKILL if number == signal.SIGKILL else 3)


def test_processes_that_would_not_all_stop_go_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.start(document("sleep", "600")) as container:
        monkeypatch.setattr(freezing, "ATTEMPTS", 0)
        with pytest.raises(SetupError, match="unable to freeze") as caught:
            container.pause()
        assert (caught.value.operation, caught.value.errno) == ("FreezeCgroup", errno.EBUSY)
        assert container.status is Status.RUNNING


def test_without_a_cgroup_there_is_nothing_to_pause(lab: Lab) -> None:
    bundle = lab.bundle(document("sleep", "600"))
    with Container.create(lab.new_id(), bundle, root=lab.root, cgroup_manager="disabled") as container:
        with pytest.raises(UnsupportedError, match="freezer"):
            container.pause()
        with pytest.raises(UnsupportedError) as caught:
            container.update(Resources(pids=Pids(5)))
        assert caught.value.origin == "linux.resources.pids.limit"


# update


def test_an_update_changes_what_it_was_given_and_is_remembered(lab: Lab) -> None:
    start = Resources(pids=Pids(50), cpu=CPU(quota=50_000, period=100_000), devices=[DeviceRule(False, access="rwm")])
    with lab.create(limited(start, "sleep", "600")) as container:
        container.start()
        container.update(Resources(cpu=CPU(quota=20_000), devices=[DeviceRule(True)]))
        assert read(container, "cpu.cfs_quota_us|cpu.max") in ("20000", "20000 100000")
        assert read(container, "pids.max") == "50"
        other = lab.load(container)
        for found in (container, other):
            assert found.spec.linux is not None
            assert found.spec.linux.resources == start.evolve(cpu=CPU(quota=20_000, period=100_000))
        other.update(Resources(cpu=CPU(period=50_000), pids=Pids(60)))
        assert read(container, "cpu.cfs_period_us|cpu.max") in ("50000", "20000 50000")
        assert read(container, "pids.max") == "60"
        assert lab.load(container).exec(["true"]).wait(SECONDS) == 0


def test_a_container_without_limits_can_get_some(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        container.update(
            Resources(memory=Memory(limit=64 * MIB), pids=Pids(9), hugepage_limits=[HugepageLimit("2MB", 0)])
        )
        assert read(container, "memory.limit_in_bytes|memory.max") == str(64 * MIB)
        assert read(container, "pids.max") == "9"
        assert read(container, "hugetlb.2MB.limit_in_bytes|hugetlb.2MB.max") == "0"


@pytest.mark.parametrize("status", [Status.CREATED, Status.PAUSED])
def test_a_container_that_waits_can_be_updated_and_goes_on_waiting(lab: Lab, status: Status) -> None:
    with lab.create(document("sleep", "600")) as container:
        if status is Status.PAUSED:
            container.start()
            container.pause()
        container.update(Resources(pids=Pids(9), memory=Memory(limit=64 * MIB), cpu=CPU(shares=512)))
        assert container.status is status
        assert read(container, "pids.max") == "9"


def test_if_one_limit_cannot_be_had_all_stay_as_they_were(lab: Lab) -> None:
    start = Resources(pids=Pids(50), memory=Memory(limit=64 * MIB))
    with lab.create(limited(start, "sleep", "600")) as container:
        container.start()
        with pytest.raises(SetupError) as caught:
            container.update(Resources(pids=Pids(9), memory=Memory(limit=32 * MIB), cpu=CPU(cpus="4000")))
        assert caught.value.origin == "linux.resources.cpu.cpus"
        assert read(container, "pids.max") == "50"
        assert read(container, "memory.limit_in_bytes|memory.max") == str(64 * MIB)
        assert lab.load(container).spec.linux == container.spec.linux
        assert container.spec.linux is not None
        assert container.spec.linux.resources == start


def test_an_update_that_cannot_be_recorded_is_taken_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with lab.create(limited(Resources(pids=Pids(50)), "sleep", "600")) as container:
        rename = os.rename

        def refuse(source: str, target: str, **at: int) -> None:
            if source == ".intent.json":
                raise OSError(errno.ENOSPC, "full")
            rename(source, target, **at)

        monkeypatch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match="full"):
            container.update(Resources(pids=Pids(9)))
        monkeypatch.undo()
        assert read(container, "pids.max") == "50"
        assert lab.load(container).spec.linux == limited(Resources(pids=Pids(50))).linux


def test_wrong_limits_are_told_before_anything_is_written(lab: Lab) -> None:
    with lab.create(limited(Resources(pids=Pids(50), memory=Memory(limit=64 * MIB)))) as container:
        with pytest.raises(SpecError, match=r"memory\+swap limit should be >= memory limit"):
            container.update(Resources(pids=Pids(9), memory=Memory(swap=MIB)))
        assert read(container, "pids.max") == "50"


def test_a_stopped_container_has_no_limits_to_change(lab: Lab) -> None:
    with lab.start(document("true")) as container:
        container.wait(SECONDS)
        with pytest.raises(StateError) as caught:
            container.update(Resources(pids=Pids(9)))
        assert caught.value.reason == "container not running"


def test_updates_of_two_processes_do_not_lose_each_other(lab: Lab) -> None:
    """Each rewrites the configuration, and so they take turns."""
    script = """
import sys
from ocirt import Container
from ocirt.spec.limits import Pids
from ocirt.spec.linux import Resources
container = Container.load(sys.argv[1], root=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100, 200):
    container.update(Resources(pids=Pids(number)))
    assert container.load(sys.argv[1], root=sys.argv[2]).spec.linux.resources.pids == Pids(number)
"""
    with lab.create(document("true")) as container:
        command = [sys.executable, "-c", script, container.id, str(lab.root)]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        other.stdin.close()
        for number in range(100, 200):
            container.update(Resources(cpu=CPU(shares=number)))
            assert resources_of(lab.load(container)).cpu == CPU(shares=number)
        assert other.wait(SECONDS) == 0
        other.stdout.close()
        assert resources_of(lab.load(container)).pids == Pids(199)


def resources_of(container: Container) -> Resources:
    assert container.spec.linux is not None
    assert container.spec.linux.resources is not None
    return container.spec.linux.resources


# intelRdt


def test_a_class_of_resctrl_is_updated(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resctrl = fake.mounted(tmp_path, monkeypatch)
    wanted = IntelRdt(l3_cache_schema="L3:0=f")
    with lab.create(document("true", linux=linux(intel_rdt=wanted))) as container:
        container.update(l3_cache_schema="L3:0=3", mem_bw_schema="MB:0=50")
        assert resctrl.schemata(container.id).startswith("MB:0=50\n")
        found = lab.load(container).spec.linux
        assert found is not None
        assert found.intel_rdt == IntelRdt(l3_cache_schema="L3:0=3", mem_bw_schema="MB:0=50")
        (resctrl.root / container.id / "tasks").write_text("")


def test_without_a_class_there_is_none_to_update(lab: Lab) -> None:
    with lab.create(document("true")) as container:
        before = read(container, "pids.max")  # systemd has a default of its own
        with pytest.raises(UnsupportedError) as caught:
            container.update(Resources(pids=Pids(9)), l3_cache_schema="L3:0=3")
        assert caught.value.needs == "updating a non-existent Intel RDT configuration is not supported"
        assert read(container, "pids.max") == before != "9"


def test_other_files_are_not_touched(lab: Lab) -> None:
    """What somebody else has written meanwhile stays: only that is written which was asked for.

    systemd writes all again that it was ever told.
    """
    lab.manager = "cgroupfs"
    with lab.create(limited(Resources(pids=Pids(50), cpu=CPU(shares=512)))) as container:
        assert container._record is not None
        directory = container._record.cgroup.directory(1, "pids") or container._record.cgroup.directory(2)
        assert directory is not None
        tree.write(f"{directory.path}/pids.max", "33")
        container.update(Resources(cpu=CPU(shares=700)))
        assert read(container, "pids.max") == "33"
        container.update(Resources(pids=Pids(50)))
        assert read(container, "pids.max") == "50"
