"""What happens to a container, told as it happens, to whoever watches."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Container, Event, Exited, OutOfMemory, Paused, Resumed, observation
from ocirt.errors import NotFoundError, StateError
from tests.observed import MIB, await_the_log, limited, place, reached
from tests.support import SECONDS, Lab, document, python, shell

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]

ALLOCATE = "tail /dev/zero"
PROMPT_SECONDS = 5.0
"""Far more than any event takes, and far less than a test."""


def kinds(events: Iterator[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def test_a_child_is_hit_while_init_lives(lab: Lab) -> None:
    with lab.create(limited(shell(f"{ALLOCATE}; read line; exit 3"), 32 * MIB), stdin=subprocess.PIPE) as container:
        events = container.events()
        container.start()
        hit = next(events)
        assert isinstance(hit, OutOfMemory)
        assert (hit.container_id, hit.kills_count) == (container.id, 1)
        assert time.time() - hit.time_seconds < PROMPT_SECONDS
        assert container.status == "running"
        assert container.process is not None
        assert container.process.stdin is not None
        container.process.stdin.close()
        (end,) = events
        assert isinstance(end, Exited)
        assert end.status == 3
        assert end.status is not None
        assert end.status.oom_killed


def test_every_kill_is_told_once(lab: Lab) -> None:
    with lab.create(limited(shell("for i in 1 2 3; do tail /dev/zero; sleep 0.5; done"), 32 * MIB)) as container:
        events = container.events()
        container.start()
        told = [event.kills_count for event in events if isinstance(event, OutOfMemory)]
    assert told == [1, 2, 3]


def test_init_itself_is_hit(lab: Lab) -> None:
    with lab.create(limited(document("tail", "/dev/zero"), 32 * MIB)) as container:
        events = container.events()
        container.start()
        hit, end = events
    assert isinstance(hit, OutOfMemory)
    assert isinstance(end, Exited)
    assert end.status is not None
    assert end.status.reason == reached("32 MiB")


def test_the_kernel_wakes_whoever_watches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without looking again in between: what a timeout would find is far off."""
    monkeypatch.setattr(observation, "REAP_SECONDS", 10 * PROMPT_SECONDS)
    with lab.create(limited(shell(f"{ALLOCATE}; sleep 0.5; exit 0"), 32 * MIB)) as container:
        events = container.events()
        begin = time.monotonic()
        container.start()
        assert kinds(events) == [OutOfMemory, Exited]
        assert time.monotonic() - begin < PROMPT_SECONDS


def test_the_kernel_tells_of_pauses_in_version_2(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "REAP_SECONDS", 10 * PROMPT_SECONDS)
    with lab.create(document("sleep", "600")) as container:
        container.start()
        if place(container, "freezer").version == 1:
            pytest.skip("the freezer of version 1 tells nobody")
        events = container.events()
        begin = time.monotonic()
        container.pause()
        assert isinstance(next(events), Paused)
        container.resume()
        assert isinstance(next(events), Resumed)
        assert time.monotonic() - begin < PROMPT_SECONDS


def test_out_of_memory_without_a_kill(lab: Lab) -> None:
    """Version 1 can be told to let whoever touches memory wait until there is some (in a system call it is refused)."""
    with lab.create(limited(document("awk", 'BEGIN { s = "x"; while (1) s = s s }'), 32 * MIB)) as container:
        found = place(container, "memory")
        if found.version == 2:
            pytest.skip("version 2 has no such switch")
        Path(found.path, "memory.oom_control").write_text("1")
        events = container.events()
        container.start()
        hit = next(events)
        assert isinstance(hit, OutOfMemory)
        assert hit.kills_count == 0
        assert container.status == "running"


def test_a_notice_without_a_kill_is_no_event(lab: Lab) -> None:
    """Memory may have been freed meanwhile; and version 1 notifies of a cgroup's end, too."""
    with lab.create(limited(document("sleep", "600"), 32 * MIB)) as container:
        source = observation.Memory(observation._record(container, "events"))
        assert list(source.news(told=True)) == []
        source.close()


def test_a_cgroup_below_is_hit(lab: Lab) -> None:
    """By a limit that somebody set there: the container's own cgroup is not told on version 1, so we look."""
    with lab.create(limited(shell(f"read line; {ALLOCATE}; read line"), 64 * MIB), stdin=subprocess.PIPE) as container:
        found = place(container, "memory")
        if found.version == 2:
            pytest.skip("a cgroup with processes in it gives none below it a limit")
        below = Path(found.path, "below")
        below.mkdir()
        (below / "memory.limit_in_bytes").write_text(str(32 * MIB))
        container.start()
        (below / "cgroup.procs").write_text(str(container.pid))
        events = container.events()
        assert container.process is not None
        assert container.process.stdin is not None
        container.process.stdin.write(b"\n")
        assert isinstance(next(events), OutOfMemory)


def test_pauses_are_told(lab: Lab) -> None:
    with lab.create(document("sleep", "600")) as container:
        container.start()
        events = container.events()
        container.pause()
        assert isinstance(next(events), Paused)
        assert container.status == "paused"
        container.resume()
        assert isinstance(next(events), Resumed)
        container.kill(signal.SIGKILL)
        assert kinds(events) == [Exited]


def test_what_happens_before_the_first_look_is_not_missed(lab: Lab) -> None:
    await_the_log()  # where systemd removes the cgroup
    container = lab.create(limited(shell(f"{ALLOCATE}; exit 0"), 32 * MIB))
    events = container.events()
    container.start()
    container.wait(SECONDS)
    assert kinds(events) == [OutOfMemory, Exited]
    container.delete()


def test_a_kill_in_a_cgroup_that_is_gone_is_told(lab: Lab) -> None:
    """systemd removes it at once; here we do, before anybody has looked. The kernel's log knows."""
    await_the_log()
    container = lab.create(limited(shell(f"{ALLOCATE}; exit 0"), 32 * MIB), stderr=subprocess.DEVNULL)
    events = container.events()
    container.start()
    assert container.process is not None
    container.process.wait(SECONDS)
    assert container._record is not None
    container._record.cgroup.remove(kill=False)
    assert kinds(events) == [OutOfMemory, Exited]
    container.delete()


def test_the_end_is_told_at_once(lab: Lab) -> None:
    with lab.create(document("sleep", "600")) as container:
        container.start()
        events = container.events()
        killer = threading.Timer(0.3, container.kill, (signal.SIGKILL,))
        killer.start()
        (end,) = events
        killer.join()
    assert isinstance(end, Exited)
    assert time.time() - end.time_seconds < PROMPT_SECONDS
    assert end.status == -signal.SIGKILL


def test_what_was_executed_does_not_hold_up_the_end(lab: Lab) -> None:
    """The init of a pid namespace is not gone before those are reaped, and they are this process's children."""
    with lab.create(document("sleep", "600")) as container:
        container.start()
        process = container.exec(["sleep", "600"])
        events = container.events()
        container.kill(signal.SIGKILL)
        assert kinds(events) == [Exited]
        assert process.wait(SECONDS) == -signal.SIGKILL


def test_another_process_is_told_too(lab: Lab) -> None:
    script = """
import os, signal, sys, ocirt
container = ocirt.Container.load(sys.argv[1], root=sys.argv[2])
events = container.events()
os.kill(int(sys.argv[3]), signal.SIGUSR1)
print([type(event).__name__ for event in events])
"""
    with lab.create(limited(shell(f"{ALLOCATE}; exit 0"), 32 * MIB)) as container:
        before = signal.signal(signal.SIGUSR1, lambda *_: container.start())
        try:
            assert python(script, container.id, str(lab.root), str(os.getpid())) == "['OutOfMemory', 'Exited']\n"
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_of_one_that_has_ended_the_end_is_all(lab: Lab) -> None:
    with lab.create(shell("exit 3")) as container:
        container.start()
        container.wait(SECONDS)
        (end,) = container.events()
        assert isinstance(end, Exited)
        assert end.status == 3
    with pytest.raises(NotFoundError):
        container.events()


def test_without_a_cgroup_the_end_is_told(lab: Lab) -> None:
    with Container.create(
        lab.new_id(), lab.bundle(document("true")), root=lab.root, cgroup_manager="disabled", stdin=subprocess.DEVNULL
    ) as container:
        events = container.events()
        container.start()
        assert kinds(events) == [Exited]


def test_one_that_is_being_created_has_none_yet(lab: Lab) -> None:
    container_id = lab.new_id()
    lab.root.mkdir(0o700, exist_ok=True)
    (lab.root / container_id).mkdir()
    with pytest.raises(StateError, match="still being created"):
        lab.load(container_id).events()


def test_who_does_not_watch_any_more_leaves_no_files_open(lab: Lab) -> None:
    """The lab compares this process's descriptors before and after."""
    with lab.create(document("sleep", "600")) as container:
        container.start()
        events = container.events()
        del events
