"""Settings written into real cgroups of ours: in any order, and back to what was if one cannot be had."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from ocirt.cgroups import layout, limits, tree
from ocirt.cgroups.conversion import asks, settings_for
from ocirt.cgroups.files import Cgroup, Directory
from ocirt.cgroups.settings import Controllers, Setting
from ocirt.errors import SetupError, UnsupportedError
from ocirt.spec.limits import CPU, Memory, Network, Pids
from ocirt.spec.linux import DeviceRule, Resources

from .machines import Spawn

HERE = layout.here()
TOP = limits.top_of(HERE.layout)
MIB = 2**20

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not HERE.directories, reason="no cgroup hierarchy is mounted here"),
]


def settings(resources: Resources) -> tuple[Setting, ...]:
    return settings_for(resources, limits.available(HERE.layout, Cgroup(), rootless=False))


def apply(cgroup: Cgroup, resources: Resources) -> None:
    limits.apply(cgroup, settings(resources), TOP)


def replace(cgroup: Cgroup, resources: Resources) -> None:
    with limits.replaced(cgroup, settings(resources), TOP):
        pass


def directory(cgroup: Cgroup, controller: str) -> Directory:
    found = cgroup.directory(1, controller) or cgroup.directory(2)
    assert found is not None
    return found


def present(cgroup: Cgroup, resources: Resources) -> Mapping[str, str]:
    """What stands in the files that these limits are about; not in a file where nothing does: of version 2 there is
    one as soon as its controller was enabled on the way."""
    files = {f"{directory(cgroup, item.controller).path}/{item.file}" for item in settings(resources)}
    return {path: value for path in files if os.path.exists(path) and (value := tree.read(path).strip())}


CHANGES = [
    (Memory(limit=64 * MIB, swap=64 * MIB), Memory(limit=128 * MIB, swap=128 * MIB)),
    (Memory(limit=128 * MIB, swap=128 * MIB), Memory(limit=64 * MIB, swap=64 * MIB)),
    (Memory(limit=64 * MIB, swap=96 * MIB), Memory(limit=-1)),
    (Memory(limit=64 * MIB, swap=96 * MIB), Memory(limit=80 * MIB, swap=-1)),
]


@pytest.mark.parametrize(("first", "then"), CHANGES)
def test_memory_and_swap_change_together_in_any_direction(cgroup: Cgroup, first: Memory, then: Memory) -> None:
    if not os.path.exists(f"{directory(cgroup, 'memory').path}/memory.memsw.limit_in_bytes") and TOP is None:
        pytest.skip("the kernel does not count swap")
    apply(cgroup, Resources(memory=first))
    apply(cgroup, Resources(memory=then))
    wanted = settings(Resources(memory=then))
    there = present(cgroup, Resources(memory=then))
    for setting in wanted:
        value = there[f"{directory(cgroup, 'memory').path}/{setting.file}"]
        assert value == setting.values[0] or (setting.values[0] == "-1" and int(value) > 2**62)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (CPU(quota=5_000, period=10_000, burst=5_000), CPU(quota=1_000, period=1_000, burst=1_000)),
        (CPU(quota=1_000, period=1_000, burst=1_000), CPU(quota=500_000, period=1_000_000, burst=400_000)),
        (CPU(shares=512, idle=0), CPU(idle=1)),
        (CPU(idle=1), CPU(shares=512, idle=0)),
    ],
)
def test_bandwidth_changes_together_in_any_direction(cgroup: Cgroup, first: CPU, then: CPU) -> None:
    apply(cgroup, Resources(cpu=first))
    apply(cgroup, Resources(cpu=then))
    there = present(cgroup, Resources(cpu=then))
    assert sorted(there.values()) == sorted(setting.values[0] for setting in settings(Resources(cpu=then)))


def test_if_one_cannot_be_had_all_become_what_they_were(cgroup: Cgroup) -> None:
    before = Resources(memory=Memory(limit=64 * MIB, reservation=32 * MIB), pids=Pids(50), cpu=CPU(shares=512))
    wanted = Resources(
        memory=Memory(limit=32 * MIB, reservation=MIB),
        pids=Pids(7),
        cpu=CPU(shares=700, quota=20_000, cpus="4000"),
    )
    apply(cgroup, before)
    unchanged = present(cgroup, wanted)
    with pytest.raises(SetupError) as caught:
        replace(cgroup, wanted)
    assert caught.value.origin == "linux.resources.cpu.cpus"
    assert present(cgroup, wanted) == unchanged


def test_it_is_undone_by_devices_too(cgroup: Cgroup) -> None:
    """A file with a line for each device keeps those of the others."""
    v1 = any("blkio" in hierarchy.controllers for hierarchy in HERE.layout.hierarchies)
    controller, version = ("blkio", 1) if v1 else ("io", 2)
    file, form = ("blkio.throttle.read_bps_device", "{} {}") if v1 else ("io.max", "{} rbps={}")

    def rate(device: str, number: object, origin: str) -> Setting:
        return Setting(controller, file, (form.format(device, number),), origin, version=version)

    path = f"{directory(cgroup, controller).path}/{file}"
    limits.apply(cgroup, (rate("7:1", 2 * MIB, "before"),), TOP)
    unchanged = tree.read(path)
    wanted = (rate("7:1", MIB, "good"), rate("7:0", MIB, "good"), rate("99:99", 1, "bad"))
    with pytest.raises(SetupError) as caught, limits.replaced(cgroup, wanted, TOP):
        pass
    assert caught.value.origin == "bad"
    assert tree.read(path) == unchanged
    assert "2097152" in unchanged


def allocating(spawn: Spawn, cgroup: Cgroup) -> subprocess.Popen[bytes]:
    """A process that has 32 MiB of memory, all of it taken in the cgroup."""
    script = f"""
import mmap, signal
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
print("ready", flush=True)
signal.sigwait((signal.SIGUSR1,))
memory = mmap.mmap(-1, {32 * MIB})
for page in range(0, {32 * MIB}, mmap.PAGESIZE):
    memory[page] = 1
print("done", flush=True)
signal.pause()
"""
    process = spawn(sys.executable, "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    cgroup.join(process.pid)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"done\n"
    return process


def test_a_limit_below_usage_is_refused_with_the_numbers(cgroup: Cgroup, spawn: Spawn) -> None:
    """By version 1 itself, in whose place version 2 would kill: there if ``checkBeforeUpdate`` says so."""
    if directory(cgroup, "memory").version == 1:
        apply(cgroup, Resources(memory=Memory(swappiness=0)))  # or swap would take what is above the limit
    process = allocating(spawn, cgroup)
    with pytest.raises(SetupError) as caught:
        apply(cgroup, Resources(memory=Memory(limit=MIB, check_before_update=True)))
    assert caught.value.errno == errno.EBUSY
    assert caught.value.origin == "linux.resources.memory.limit"
    assert caught.value.hint.startswith(
        ("unable to set memory limit to 1048576 (current usage: ", "rejecting memory limit 1048576 <= usage ")
    )
    assert process.poll() is None


@pytest.mark.skipif(HERE.layout.mode == "v2", reason="cpu.shares is a file of version 1")
@pytest.mark.parametrize(
    ("shares", "words"),
    [(1, "the minimum allowed cpu-shares is 2"), (300_000, "the maximum allowed cpu-shares is 262144")],
)
def test_shares_that_the_kernel_changes_without_a_word_are_an_error(cgroup: Cgroup, shares: int, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        apply(cgroup, Resources(cpu=CPU(shares=shares)))


@pytest.mark.skipif(TOP is None, reason="needs cgroup version 2")
def test_controllers_of_version_2_are_handed_down_from_the_mount(name: str) -> None:
    """However deep the cgroup is; and nobody is asked to where that has been done."""
    assert TOP is not None
    controllers = tree.read(f"{TOP}/cgroup.controllers").split()
    parents = (f"{TOP}/{name}", f"{TOP}/{name}/a")
    cgroup = Cgroup((Directory(f"{TOP}/{name}/a/b", (), 2, parents, parents),))
    cgroup.make()
    try:
        wanted = settings_for(
            Resources(unified={"hugetlb.2MB.max": "0"}), Controllers(v2=frozenset(controllers), unified=True)
        )
        limits.apply(cgroup, wanted, TOP)
        for path in parents:
            assert tree.read(f"{path}/cgroup.subtree_control").split() == ["hugetlb"]
        assert tree.read(f"{TOP}/{name}/a/b/hugetlb.2MB.max") == "0\n"
    finally:
        cgroup.remove()


@pytest.mark.skipif(TOP is None, reason="needs cgroup version 2")
def test_who_has_processes_cannot_hand_controllers_down(name: str, spawn: Spawn) -> None:
    assert TOP is not None
    cgroup = Cgroup((Directory(f"{TOP}/{name}/a", (), 2, (f"{TOP}/{name}",), (f"{TOP}/{name}",)),))
    cgroup.make()
    process = spawn()
    try:
        tree.write(f"{TOP}/{name}/cgroup.procs", str(process.pid))
        with pytest.raises(SetupError, match="no internal processes") as caught:
            limits.apply(cgroup, (Setting("hugetlb", "hugetlb.2MB.max", ("0",), "here", version=2),), TOP)
        assert (caught.value.origin, caught.value.operation) == ("here", "EnableControllers")
        assert f"{TOP}/{name}/cgroup.subtree_control" in caught.value.detail
    finally:
        process.kill()
        process.wait()
        cgroup.remove()


@pytest.mark.skipif(TOP is None, reason="needs cgroup version 2")
def test_below_a_threaded_cgroup_there_are_no_limits_of_memory(name: str) -> None:
    assert TOP is not None
    cgroup = Cgroup(
        (
            Directory(
                f"{TOP}/{name}/a/b", (), 2, (f"{TOP}/{name}", f"{TOP}/{name}/a"), (f"{TOP}/{name}", f"{TOP}/{name}/a")
            ),
        )
    )
    cgroup.make()
    try:
        tree.write(f"{TOP}/{name}/a/cgroup.type", "threaded")
        with pytest.raises(SetupError, match="cannot enter cgroupv2") as caught:
            limits.apply(cgroup, (Setting("hugetlb", "hugetlb.2MB.max", ("0",), "here", version=2),), TOP)
        assert (caught.value.origin, caught.value.errno) == ("here", errno.EOPNOTSUPP)
    finally:
        cgroup.remove()


def test_an_ordinary_user_without_a_cgroup_is_told_what_is_missing() -> None:
    wanted = settings_for(Resources(pids=Pids(1)), Controllers(frozenset(("pids",))))
    with pytest.raises(UnsupportedError, match="rootless needs no limits") as caught:
        limits.check_permitted(Cgroup((Directory("/sys/fs/cgroup/memory/x", ("memory",), 1),)), wanted)
    assert caught.value.origin == "linux.resources.pids.limit"
    limits.check_permitted(Cgroup((Directory("/sys/fs/cgroup/pids/x", ("pids",), 1),)), wanted)


@pytest.mark.parametrize(
    ("resources", "answer"),
    [
        (Resources(), False),
        (Resources(devices=(DeviceRule(False, access="rwm"),)), False),
        (Resources(memory=Memory(), cpu=CPU(), network=Network()), False),
        (Resources(pids=Pids(-1)), True),
        (Resources(unified={"memory.high": "1"}), True),
    ],
)
def test_what_has_no_limits_costs_nothing(resources: Resources, answer: bool) -> None:
    """Who asks for none is not looked up in the kernel's files."""
    assert asks(resources) is answer
