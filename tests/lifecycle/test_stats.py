"""What a container uses, as the library tells it, beside what the kernel and the container tell themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from ocirt import Container, Stats
from ocirt.cgroups import layout
from ocirt.errors import NotFoundError
from tests.observed import MIB, limited, place
from tests.support import SECONDS, Lab, document, eventually, python, shell

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]


@pytest.fixture
def sleeping(lab: Lab) -> Iterator[Container]:
    with lab.create(limited(document("sleep", "600"), 64 * MIB)) as container:
        container.start()
        yield container


def test_memory_of_a_file_of_known_size(lab: Lab) -> None:
    fill = "head -c 16m /dev/zero >/dev/shm/file; echo full; read line"
    with lab.create(limited(shell(fill), 64 * MIB), stdin=PIPE, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.stdout is not None
        assert container.process.stdout.readline() == b"full\n"
        memory = container.stats().memory
    assert memory.limit_bytes == 64 * MIB
    assert memory.usage_bytes is not None
    assert 16 * MIB <= memory.usage_bytes < 18 * MIB
    assert memory.peak_bytes is None or memory.peak_bytes >= memory.usage_bytes
    assert memory.cache_bytes is not None
    assert 14 * MIB < memory.cache_bytes < 18 * MIB  # the kernel counts up to 64 pages for each processor later
    assert memory.raw["total_shmem" if "total_shmem" in memory.raw else "shmem"] > 14 * MIB
    assert memory.oom_kills_count == 0


def test_cpu_of_a_busy_loop_is_what_proc_tells_of_it(lab: Lab) -> None:
    with lab.start(shell("while :; do :; done")) as container:
        begin = time.monotonic()
        eventually(lambda: ticks(container.pid) > 30, "it was busy for a while")
        before, cpu, after = ticks(container.pid), container.stats().cpu, ticks(container.pid)
        passed = time.monotonic() - begin
    assert cpu.usage_seconds is not None
    assert before / 100 - 0.05 <= cpu.usage_seconds <= after / 100 + 0.1
    assert cpu.usage_seconds < passed + 0.2
    assert cpu.user_seconds is not None
    assert cpu.system_seconds is not None
    assert cpu.user_seconds + cpu.system_seconds == pytest.approx(cpu.usage_seconds, abs=0.1)
    assert cpu.per_cpu_seconds is None or sum(cpu.per_cpu_seconds) == pytest.approx(cpu.usage_seconds, abs=0.1)


def ticks(pid: int) -> int:
    """User and system time of a process (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * 100 // os.sysconf("SC_CLK_TCK")


def test_pids_count_every_process(lab: Lab) -> None:
    with lab.start(shell("for i in 1 2 3; do sleep 600 & done; wait")) as container:
        found = place(container, "pids")
        if not Path(found.path, "pids.current").exists():
            pytest.skip("without a limit no pids controller here")
        eventually(lambda: container.stats().pids.current_count == 4, "the shell and three children")
        if lab.manager != "systemd":  # which has a limit of its own for everybody (DefaultTasksMax=)
            assert container.stats().pids.limit_count is None
        (Path(found.path) / "pids.max").write_text("10")
        assert container.stats().pids.limit_count == 10


def test_the_network_is_the_containers_own(lab: Lab) -> None:
    """Its loopback carries what it sends to itself; the host's interfaces are none of its."""
    send = "until head -c 1000 /dev/zero | nc 127.0.0.1 99 2>/dev/null; do sleep 0.1; done"
    talk = f"nc -l -p 99 >/dev/null & {send}; wait"
    show = "while tail -n 1 /proc/net/dev; do read line || exit; done"
    with lab.create(shell(f"{talk}; {show}"), stdin=PIPE, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        seen, ask = container.process.stdout, container.process.stdin
        assert seen is not None
        assert ask is not None

        def agreed() -> bool:
            """The last acknowledgements may be on their way still."""
            shown = seen.readline().split()
            ask.write(b"\n")
            (loopback,) = container.stats().network
            counted = (loopback.received_bytes, loopback.received_packets_count)
            return counted == (int(shown[1]), int(shown[2])) and loopback.sent_bytes == loopback.received_bytes

        eventually(agreed, "what it sees is what we count")
        (loopback,) = container.stats().network
    assert loopback.name == "lo"
    assert loopback.sent_bytes > 1000
    assert loopback.sent_packets_count == loopback.received_packets_count
    assert (loopback.received_errors_count, loopback.received_dropped_count) == (0, 0)
    assert (loopback.sent_errors_count, loopback.sent_dropped_count) == (0, 0)


def test_the_cpuset_is_what_it_may_use(sleeping: Container) -> None:
    cpuset = sleeping.stats().cpuset
    if cpuset.effective_cpus is None:
        pytest.skip("without a limit no cpuset controller here")
    assert cpuset.effective_cpus == tuple(sorted(os.sched_getaffinity(sleeping.pid)))


def test_pressure_is_told_where_this_kernel_keeps_account_of_it(sleeping: Container) -> None:
    stats = sleeping.stats()
    path = next((h.mountpoint for h in layout.probe().hierarchies if h.version == 2), "")
    try:
        told = bool(path) and "some" in Path(path, "cpu.pressure").read_text("utf-8")
    except OSError:
        told = False
    assert (stats.cpu.pressure is not None) == told
    if stats.cpu.pressure is not None and stats.cpu.pressure.some is not None:
        assert 0 <= stats.cpu.pressure.some.total_seconds < SECONDS


def test_what_this_layout_does_not_tell_is_none(sleeping: Container) -> None:
    stats = sleeping.stats()
    assert (stats.cpu.per_cpu_seconds is None) == (layout.probe().mode == "v2")
    assert stats.rdt is None


def test_another_process_reads_the_same(sleeping: Container, lab: Lab) -> None:
    script = """
import sys, ocirt
stats = ocirt.Container.load(sys.argv[1], root=sys.argv[2]).stats()
print(stats.memory.limit_bytes, stats.network[0].name)
"""
    assert python(script, sleeping.id, str(lab.root)) == f"{64 * MIB} lo\n"


def test_without_a_cgroup_the_network_alone_is_known(lab: Lab) -> None:
    with Container.create(
        lab.new_id(), lab.bundle(document("sleep", "600")), root=lab.root, cgroup_manager="disabled", stdin=DEVNULL
    ) as container:
        container.start()
        stats = container.stats()
    assert stats == Stats(stats.time_seconds, network=stats.network)
    assert [entry.name for entry in stats.network] == ["lo"]


def test_of_one_that_has_ended_the_cgroup_still_tells(lab: Lab) -> None:
    if lab.manager == "systemd":
        pytest.skip("systemd removes a cgroup, and what it knew, with the last process in it")
    with lab.create(limited(shell("head -c 8m /dev/zero >/dev/shm/file"), 64 * MIB)) as container:
        container.start()
        container.wait(SECONDS)
        stats = container.stats()
        assert stats.network == ()
        assert stats.memory.peak_bytes is not None
        assert stats.memory.peak_bytes >= 8 * MIB
    with pytest.raises(NotFoundError):
        container.stats()


def test_again_and_again_until_it_ends(lab: Lab) -> None:
    with lab.start(shell("read line"), stdin=PIPE) as container:
        series = container.stats(0.1)
        first, second, third = islice(series, 3)
        assert second.time_seconds - first.time_seconds == pytest.approx(0.1, abs=0.09)
        assert third.time_seconds > second.time_seconds
        assert container.process is not None
        assert container.process.stdin is not None
        container.process.stdin.close()
        assert len(list(series)) < 100  # and not for ever
        assert list(series) == []


def test_who_looks_seldom_is_not_shown_what_was_missed(sleeping: Container) -> None:
    series = sleeping.stats(0.2)
    next(series)
    time.sleep(1)
    first, second, third = islice(series, 3)
    assert second.time_seconds - first.time_seconds > 0.1
    assert third.time_seconds - second.time_seconds > 0.1


def test_the_first_comes_at_once(sleeping: Container) -> None:
    begin = time.monotonic()
    next(sleeping.stats(600))
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("interval", [0, -1.5, float("nan")])
def test_an_interval_has_to_be_one(sleeping: Container, interval: float) -> None:
    with pytest.raises(ValueError, match="duration interval must be greater than 0"):
        sleeping.stats(interval)
