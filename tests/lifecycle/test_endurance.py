"""Many lives leave as much behind as one: nothing."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

import pytest

from ocirt import Bundle, Container
from ocirt.cgroups import layout
from ocirt.errors import OCIError
from ocirt.spec.limits import CPU, Memory, Pids
from ocirt.spec.linux import Resources
from tests.observed import place
from tests.support import SECONDS, Caller, Lab, document, host_mounts, linux

pytestmark = pytest.mark.root

MEBIBYTE = 1 << 20


def memory() -> int:
    """Of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def live(lab: Lab, bundle: Bundle, container_id: str) -> None:
    with Container.create(container_id, bundle, root=lab.root, stdin=-3, stdout=-3, stderr=-3) as container:
        container.start()
        assert container.wait(SECONDS) == 0


@pytest.mark.slow
def test_a_thousand_lives_in_a_row_leave_nothing(lab: Lab) -> None:
    bundle, container_id = lab.bundle(document("true")), lab.new_id()
    for _ in range(50):
        live(lab, bundle, container_id)
    gc.collect()
    before, mounts, used = Caller.now(), host_mounts(), memory()
    for _ in range(1000):
        live(lab, bundle, container_id)
    gc.collect()
    assert Caller.now() == before
    assert host_mounts() == mounts
    assert lab.remains() == []
    assert memory() - used < 4 * MEBIBYTE  # one page for each life


def cgroups_of(ids: list[str]) -> set[str]:
    """All over the machine, with those above that were made for them; others come and go meanwhile."""
    roots = [hierarchy.mountpoint for hierarchy in layout.here().layout.hierarchies]
    return {path for root in roots for path, _, _ in os.walk(root) if any(id in path for id in ids)}


@pytest.mark.slow
@pytest.mark.systemd_too
@pytest.mark.covers("linux.cgroupsPath")
def test_five_hundred_lives_leave_the_cgroups_as_they_were(lab: Lab) -> None:
    """Wherever they are, with limits, and with cgroups of their own below; whoever ends them."""
    ids = [lab.new_id() for _ in range(3)]
    if lab.manager == "systemd":
        paths = (None, f":ocirt:{ids[1]}", f"system.slice:ocirt:{ids[2]}")
    else:
        paths = (None, f"/{ids[1]}/parent/{ids[1]}", f"{ids[2]}/nested")
    resources = Resources(memory=Memory(limit=64 * MEBIBYTE), cpu=CPU(quota=50_000, cpus="0"), pids=Pids(50))
    bundles = [
        lab.bundle(document("sleep", "600", linux=linux(resources=resources, cgroups_path=path))) for path in paths
    ]
    for turn in range(500):
        which = turn % 3
        with Container.create(ids[which], bundles[which], root=lab.root, cgroup_manager=lab.manager) as container:
            if turn % 5 == 0:
                os.makedirs(f"{place(container, 'pids').path}/own/below")
            container.start()
            assert turn or cgroups_of(ids) != set()
            container.kill(signal.SIGKILL)
            if turn % 2:
                container.wait(SECONDS)
    assert cgroups_of(ids) == set()


@pytest.mark.slow
def test_eight_threads_of_a_hundred_lives_leave_nothing(lab: Lab) -> None:
    bundle = lab.bundle(document("true"))
    live(lab, bundle, lab.new_id())
    before, mounts = Caller.now(), host_mounts()
    failures: list[BaseException] = []

    def lives(container_id: str) -> None:
        try:
            for _ in range(100):
                live(lab, bundle, container_id)
        except (OCIError, AssertionError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=lives, args=(lab.new_id(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Caller.now() == before
    assert host_mounts() == mounts
    assert lab.remains() == []


def test_failures_leave_nothing_either(lab: Lab) -> None:
    bundle = lab.bundle(document("no-such-program"))
    before = Caller.now()
    for _ in range(50):
        with pytest.raises(OCIError):
            Container.create(lab.new_id(), bundle, root=lab.root)
    assert Caller.now() == before
    assert lab.remains() == []


def test_executions_leave_nothing(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        execute(container)
        before = Caller.now()
        for _ in range(50):
            execute(container)
        assert Caller.now() == before
        assert container.processes() == (container.pid,)


def execute(container: Container) -> None:
    with container.exec(["true"], stdin=-3, stdout=-1) as process:
        assert process.communicate(timeout=SECONDS) == (b"", None)
