"""Freezing and killing what is in a cgroup, on real processes."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from ocirt.cgroups import layout, tree
from ocirt.cgroups.files import Cgroup

from .machines import Spawn

HERE = layout.here()

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not HERE.directories, reason="no cgroup hierarchy is mounted here"),
]


@pytest.fixture(params=["everything", "version 1", "version 2"])
def cgroup(request: pytest.FixtureRequest, cgroup: Cgroup) -> Cgroup:
    """As on machines of each kind: version 1 freezes by one file, version 2 by another, and kills by a third."""
    versions = {"everything": (1, 2), "version 1": (1,), "version 2": (2,)}[request.param]
    part = Cgroup(tuple(directory for directory in cgroup.directories if directory.version in versions))
    if not part.directories:
        pytest.skip(f"no cgroup {request.param} here")
    return part


def pause(cgroup: Cgroup) -> None:
    files = {"freezer": ("freezer.state", "FROZEN"), "": ("cgroup.freeze", "1")}
    path, (file, value) = next(
        (directory.path, files[key])
        for directory in cgroup.directories
        for key in files.keys() & (directory.controllers or {""})
    )
    tree.write(f"{path}/{file}", value)
    deadline = time.monotonic() + 5
    while not cgroup.frozen() and time.monotonic() < deadline:
        time.sleep(0.001)


def test_sigkill_leaves_nobody(cgroup: Cgroup, spawn: Spawn) -> None:
    script = "sleep 60 & sleep 60 & (sleep 60 & sleep 60) & echo; wait"
    process = spawn("sh", "-c", f"kill -STOP $$; {script}")
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    cgroup.join(process.pid)
    process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    assert len(cgroup.processes()) >= 4
    cgroup.kill()
    assert cgroup.processes() == ()
    assert process.wait(5) == -signal.SIGKILL


def test_removal_ends_those_in_the_way_if_told_to(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn()
    cgroup.join(process.pid)
    cgroup.remove(kill=True)
    assert process.wait(5) == -signal.SIGKILL
    assert not any(os.path.exists(directory.path) for directory in cgroup.directories)


def test_removal_ends_the_paused_as_well(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn()
    cgroup.join(process.pid)
    pause(cgroup)
    cgroup.remove(kill=True)
    assert process.wait(5) == -signal.SIGKILL


def test_those_who_moved_below_in_one_hierarchy_are_killed_too(cgroup: Cgroup, spawn: Spawn) -> None:
    directory = next(d for d in cgroup.directories if "cpuset" not in d.controllers)
    process = spawn()
    os.makedirs(f"{directory.path}/a/b")
    tree.write(f"{directory.path}/a/b/cgroup.procs", str(process.pid))
    cgroup.kill()
    assert process.wait(5) == -signal.SIGKILL
    cgroup.remove()


def test_a_fork_bomb_does_not_get_away(cgroup: Cgroup, spawn: Spawn) -> None:
    script = "kill -STOP $$; while :; do (sleep 0.05) & done"
    process = spawn("sh", "-c", script)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    cgroup.join(process.pid)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.1)
    cgroup.kill()
    assert cgroup.processes() == ()


def test_another_signal_is_delivered_once_and_nothing_stays_frozen(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sh", "-c", "trap 'echo term; exit 7' TERM; echo; while :; do sleep 0.01; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    cgroup.join(process.pid)
    cgroup.kill(signal.SIGTERM)
    assert process.wait(5) == 7
    assert process.stdout.read() == b"term\n"
    assert not cgroup.frozen()


def test_a_paused_container_is_killed_but_not_woken_by_other_signals(cgroup: Cgroup, spawn: Spawn) -> None:
    # It handles the signal: what would end a process by default, version 2 delivers to the frozen as well.
    code = "import signal; signal.signal(signal.SIGTERM, print); print(flush=True)\nwhile True: signal.pause()"
    process = spawn(sys.executable, "-c", code)
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    cgroup.join(process.pid)
    assert not cgroup.frozen()
    pause(cgroup)
    assert cgroup.frozen()
    cgroup.kill(signal.SIGTERM)
    assert cgroup.frozen()
    assert process.poll() is None
    cgroup.kill()
    assert process.wait(5) == -signal.SIGKILL
