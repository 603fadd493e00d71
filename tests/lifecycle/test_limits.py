"""Limits of real containers: what config.json says is what the kernel has, on whatever version a controller is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ocirt import Container
from ocirt.cgroups import layout, limits, tree
from ocirt.cgroups.files import Cgroup
from ocirt.errors import SetupError, UnsupportedError
from ocirt.spec import Hook, Hooks, IDMapping, Spec
from ocirt.spec.limits import CPU, RDMA, BlockIO, HugepageLimit, InterfacePriority, Memory, Network, Pids
from ocirt.spec.limits import ThrottleDevice as Throttle
from ocirt.spec.limits import WeightDevice as Weight
from ocirt.spec.linux import Resources
from tests.support import SECONDS, Lab, document, error_of, eventually, linux, namespaces, shell

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]

MIB = 2**20


def disk() -> tuple[int, int]:
    """Some whole disk of this machine."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram", "sr")):
            major, minor = Path(f"/sys/block/{name}/dev").read_text().split(":")
            return int(major), int(minor)
    return 7, 0


DISK = disk()
NUMBER = f"{DISK[0]}:{DISK[1]}"
UNLIMITED = str(2**63 - 1 - (2**63 - 1) % os.sysconf("SC_PAGE_SIZE"))

Files = dict[str, str]
"""What stands in which file."""

VALUES: list[tuple[Resources, Files, Files]] = [
    (Resources(memory=Memory(limit=64 * MIB)), {"memory.limit_in_bytes": "67108864"}, {"memory.max": "67108864"}),
    (Resources(memory=Memory(limit=-1)), {"memory.limit_in_bytes": UNLIMITED}, {"memory.max": "max"}),
    (
        Resources(memory=Memory(limit=64 * MIB, swap=96 * MIB)),
        {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "100663296"},
        {"memory.max": "67108864", "memory.swap.max": "33554432"},
    ),
    (
        Resources(memory=Memory(limit=64 * MIB, swap=64 * MIB)),
        {"memory.memsw.limit_in_bytes": "67108864"},
        {"memory.swap.max": "0"},
    ),
    (
        Resources(memory=Memory(reservation=32 * MIB)),
        {"memory.soft_limit_in_bytes": "33554432"},
        {"memory.low": "33554432"},
    ),
    (Resources(memory=Memory(kernel_tcp=MIB)), {"memory.kmem.tcp.limit_in_bytes": "1048576"}, {}),
    (Resources(memory=Memory(swappiness=7)), {"memory.swappiness": "7"}, {}),
    (Resources(memory=Memory(disable_oom_killer=True)), {"memory.oom_control": "oom_kill_disable 1"}, {}),
    (Resources(memory=Memory(use_hierarchy=True)), {"memory.use_hierarchy": "1"}, {"memory.max": "max"}),
    (
        Resources(memory=Memory(limit=64 * MIB, check_before_update=True)),
        {"memory.limit_in_bytes": "67108864"},
        {"memory.max": "67108864"},
    ),
    (Resources(cpu=CPU(shares=512)), {"cpu.shares": "512"}, {"cpu.weight": "59"}),
    (
        Resources(cpu=CPU(quota=50_000)),
        {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"},
        {"cpu.max": "50000 100000"},
    ),
    (Resources(cpu=CPU(quota=-1)), {"cpu.cfs_quota_us": "-1"}, {"cpu.max": "max 100000"}),
    (Resources(cpu=CPU(period=20_000)), {"cpu.cfs_period_us": "20000"}, {"cpu.max": "max 20000"}),
    (
        Resources(cpu=CPU(quota=5_000, period=10_000, burst=700)),
        {"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000", "cpu.cfs_burst_us": "700"},
        {"cpu.max": "5000 10000", "cpu.max.burst": "700"},
    ),
    (Resources(cpu=CPU(idle=1)), {"cpu.idle": "1"}, {"cpu.idle": "1"}),
    (Resources(cpu=CPU(idle=0, shares=4)), {"cpu.idle": "0"}, {"cpu.idle": "0", "cpu.weight": "2"}),
    (
        Resources(cpu=CPU(realtime_runtime=1_000, realtime_period=100_000)),
        {"cpu.rt_runtime_us": "1000", "cpu.rt_period_us": "100000"},
        {},
    ),
    (Resources(cpu=CPU(cpus="1")), {"cpuset.cpus": "1"}, {"cpuset.cpus": "1"}),
    (Resources(cpu=CPU(mems="0")), {"cpuset.mems": "0"}, {"cpuset.mems": "0"}),
    (Resources(pids=Pids(50)), {"pids.max": "50"}, {"pids.max": "50"}),
    (Resources(pids=Pids(-1)), {"pids.max": "max"}, {"pids.max": "max"}),
    (Resources(pids=Pids(0)), {"pids.max": "0"}, {"pids.max": "0"}),
    (
        Resources(block_io=BlockIO(weight=300)),
        {"blkio.bfq.weight": "300"},
        {"io.bfq.weight|io.weight": "default 300|default 2930"},
    ),
    (
        Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(*DISK, MIB)])),
        {"blkio.throttle.read_bps_device": f"{NUMBER} 1048576"},
        {"io.max": f"{NUMBER} rbps=1048576 wbps=max riops=max wiops=max"},
    ),
    (
        Resources(block_io=BlockIO(throttle_write_bps_device=[Throttle(*DISK, MIB)])),
        {"blkio.throttle.write_bps_device": f"{NUMBER} 1048576"},
        {"io.max": f"{NUMBER} rbps=max wbps=1048576 riops=max wiops=max"},
    ),
    (
        Resources(block_io=BlockIO(throttle_read_iops_device=[Throttle(*DISK, 90)])),
        {"blkio.throttle.read_iops_device": f"{NUMBER} 90"},
        {"io.max": f"{NUMBER} rbps=max wbps=max riops=90 wiops=max"},
    ),
    (
        Resources(block_io=BlockIO(throttle_write_iops_device=[Throttle(*DISK, 90)])),
        {"blkio.throttle.write_iops_device": f"{NUMBER} 90"},
        {"io.max": f"{NUMBER} rbps=max wbps=max riops=max wiops=90"},
    ),
    (
        Resources(hugepage_limits=[HugepageLimit("2MB", 2 * MIB)]),
        {"hugetlb.2MB.limit_in_bytes": "2097152", "hugetlb.2MB.rsvd.limit_in_bytes": "2097152"},
        {"hugetlb.2MB.max": "2097152", "hugetlb.2MB.rsvd.max": "2097152"},
    ),
    (Resources(unified={"cgroup.max.depth": "3"}), {}, {"cgroup.max.depth": "3"}),
    (Resources(unified={"hugetlb.2MB.max": "2097152"}), {}, {"hugetlb.2MB.max": "2097152"}),
    (Resources(unified={"memory.high": "67108864"}), {}, {"memory.high": "67108864"}),
    (Resources(unified={"pids.max": "7"}, pids=Pids(50)), {}, {"pids.max": "7"}),
]


def cgroup_of(container: Container) -> Cgroup:
    assert container._record is not None
    return container._record.cgroup


def read(container: Container, names: str) -> str:
    """The first of these files that there is, in whichever hierarchy the controller is."""
    controller = names.partition(".")[0]
    cgroup = cgroup_of(container)
    directory = cgroup.directory(1, controller) or cgroup.directory(2)
    assert directory is not None
    for name in names.split("|"):
        path = f"{directory.path}/{name}"
        if os.path.exists(path):
            return tree.read(path).splitlines()[0].removesuffix(" ") if tree.read(path) else ""
    return f"no {names}"


def limited(wanted: Resources, *args: str) -> Spec:
    return document(*(args or ("true",)), linux=linux(resources=wanted))


@pytest.fixture(scope="module")
def on_v2() -> frozenset[str]:
    """The controllers of version 2 that there are."""
    return limits.available(layout.probe(), Cgroup(), rootless=False).v2


@pytest.mark.covers("linux.resources.memory.**", "linux.resources.cpu.**", "linux.resources.pids.**")
@pytest.mark.covers("linux.resources.hugepageLimits.**", "linux.resources.unified.**", "linux.resources.blockIO.weight")
@pytest.mark.covers(*(f"linux.resources.blockIO.throttle{way}Device.**" for way in ("ReadBps", "WriteBps")))
@pytest.mark.covers(*(f"linux.resources.blockIO.throttle{way}Device.**" for way in ("ReadIOPS", "WriteIOPS")))
@pytest.mark.parametrize(("wanted", "old", "new"), VALUES, ids=[repr(wanted) for wanted, _, _ in VALUES])
def test_the_kernel_has_what_config_json_says(
    lab: Lab, on_v2: frozenset[str], wanted: Resources, old: Files, new: Files
) -> None:
    """Or, where its version of cgroups has nothing like it, create says so."""
    controller = next(iter(old or new)).partition(".")[0].replace("blkio", "io")
    files = new if controller in (*on_v2, "cgroup") else old
    if not files:
        with pytest.raises(UnsupportedError):
            lab.create(limited(wanted))
        return
    with _created(lab, limited(wanted)) as container:
        for name, value in files.items():
            assert read(container, name) in value.split("|")
        container.start()
        assert container.wait(SECONDS) == 0


MAY_BE_MISSING = ("memory.swap", "memory.kernelTCP", "cpu.realtimePeriod", "cpu.realtimeRuntime", "blockIO.weight")
"""A kernel may be built, or started, without counting swap, real-time groups and weights of block devices."""


def _created(lab: Lab, spec: Spec) -> Container:
    try:
        return lab.create(spec)
    except SetupError as error:
        sought = error.errno == errno.ENOENT and error.detail.startswith("/sys/fs/cgroup/")
        if sought and error.origin.removeprefix("linux.resources.") in MAY_BE_MISSING:
            pytest.skip(str(error))
        raise


MISSING = [
    (Resources(network=Network(5)), "network.classID"),
    (Resources(network=Network(None, [InterfacePriority("lo", 3)])), "network.priorities[0]"),
    (Resources(rdma={"mlx5_1": RDMA(3)}), "rdma.mlx5_1"),
    (Resources(block_io=BlockIO(leaf_weight=300)), "blockIO.leafWeight"),
    (Resources(block_io=BlockIO(weight_device=[Weight(99, 99, 10)])), "blockIO.weightDevice[0].weight"),
    (Resources(block_io=BlockIO(weight_device=[Weight(99, 99, None, 10)])), "blockIO.weightDevice[0].leafWeight"),
    (
        Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(99, 99, 1)])),
        "blockIO.throttleReadBpsDevice[0].rate",
    ),
    (Resources(memory=Memory(kernel=MIB)), "memory.kernel"),
    (Resources(hugepage_limits=[HugepageLimit("3MB", 1)]), "hugepageLimits[0].limit"),
    (Resources(cpu=CPU(cpus="4000")), "cpu.cpus"),
    (Resources(cpu=CPU(quota=1)), "cpu.quota"),
    (Resources(unified={"cgroup.nothing": "1"}), "unified['cgroup.nothing']"),
]


@pytest.mark.covers("linux.resources.network.**", "linux.resources.rdma.**", "linux.resources.blockIO.**")
@pytest.mark.parametrize(("wanted", "path"), MISSING, ids=[path for _, path in MISSING])
def test_what_cannot_be_had_is_told_at_its_path_and_nothing_is_left(lab: Lab, wanted: Resources, path: str) -> None:
    """No such controller, file, device or value here: after others have been written, too."""
    error = error_of(lambda: lab.create(limited(wanted.evolve(pids=Pids(50)))))
    assert isinstance(error, UnsupportedError | SetupError)
    assert error.origin in (f"linux.resources.{path}", f"linux.resources.{path.removesuffix('[0]')}")
    if isinstance(error, SetupError):
        assert error.operation == "LimitResources"
        assert error.errno
    assert lab.remains() == []


def test_the_kernels_own_error_is_told(lab: Lab) -> None:
    with pytest.raises(SetupError) as caught:
        lab.create(limited(Resources(block_io=BlockIO(throttle_read_bps_device=[Throttle(99, 99, 1)]))))
    assert (caught.value.call, caught.value.errno) == ("write", errno.ENODEV)
    assert caught.value.detail.endswith(("/blkio.throttle.read_bps_device", "/io.max"))
    assert caught.value.hint == "there is no such block device"


def test_limits_belong_to_the_bundle_and_each_of_its_containers_has_them(lab: Lab) -> None:
    bundle = lab.bundle(limited(Resources(pids=Pids(50))))
    for _ in range(2):
        with Container.create(lab.new_id(), bundle, root=lab.root) as container:
            assert read(container, "pids.max") == "50"


@pytest.mark.parametrize("kind", ["prestart", "create_runtime", "create_container"])
def test_limits_are_in_force_before_any_hook(lab: Lab, kind: str) -> None:
    container_id, told = lab.new_id(), lab.directory / "told"
    names = " -o ".join(f"-path '*{container_id}*/{name}'" for name in ("pids.max", "cpu.shares", "cpu.weight"))
    script = f"find /sys/fs/cgroup {names} | xargs cat > {told}"
    hook = Hook("/bin/sh", args=("sh", "-c", script), env=("PATH=/bin:/usr/bin",))
    spec = limited(Resources(pids=Pids(50), cpu=CPU(shares=512))).evolve(hooks=Hooks().evolve(**{kind: (hook,)}))
    with lab.create(spec, id=container_id):
        assert sorted(told.read_text().split()) in (["50", "512"], ["50", "59"])


@pytest.mark.parametrize("tasks", [0, 1])
@pytest.mark.parametrize("types", [(), ("user",), ("time",), ("user", "time")])
def test_the_fewest_tasks_are_enough_for_a_program_alone(lab: Lab, tasks: int, types: tuple[str, ...]) -> None:
    """Those who build the container are more than one."""
    mapped = (IDMapping(0, 200000, 65536),) if "user" in types else ()
    members = linux(
        resources=Resources(pids=Pids(tasks)),
        namespaces=namespaces("pid", "network", "ipc", "uts", "mount", *types),
        uid_mappings=mapped,
        gid_mappings=mapped,
    )
    spec = shell("echo alone; sleep 1 & echo never", linux=members)
    assert lab.output(spec) == "alone\nsh: can't fork: Resource temporarily unavailable\n"


def test_those_who_built_a_container_do_not_count_once_there_are_hooks(lab: Lab) -> None:
    mapped = (IDMapping(0, 200000, 65536),)
    members = linux(
        resources=Resources(pids=Pids(2)),
        namespaces=namespaces("pid", "network", "ipc", "uts", "mount", "user", "time"),
        uid_mappings=mapped,
        gid_mappings=mapped,
    )
    hook = Hook("/bin/true")
    assert lab.output(shell("echo fine", linux=members, hooks=Hooks(create_container=(hook,)))) == "fine\n"


def test_without_a_cgroup_of_its_own_a_container_cannot_be_limited(lab: Lab) -> None:
    bundle = lab.bundle(limited(Resources(pids=Pids(50))))
    with pytest.raises(UnsupportedError) as caught:
        Container.create(lab.new_id(), bundle, root=lab.root, cgroup_manager="disabled")
    assert caught.value.origin == "linux.resources.pids.limit"


# What limits do.


def test_a_fork_bomb_is_held_by_the_number_of_tasks(lab: Lab) -> None:
    spec = shell("bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done").evolve(
        linux=linux(resources=Resources(pids=Pids(20)))
    )
    with lab.create(spec, stderr=subprocess.DEVNULL) as container:
        container.start()
        eventually(lambda: read(container, "pids.events") not in ("", "max 0"), "it runs into its limit")
        for _ in range(50):
            assert int(read(container, "pids.current")) <= 20
            time.sleep(0.002)


def test_a_busy_loop_is_held_to_its_quota(lab: Lab) -> None:
    quota, seconds = 0.2, 1.5
    spec = limited(Resources(cpu=CPU(quota=20_000, period=100_000)), "sh", "-c", "while :; do :; done")
    with lab.create(spec) as container:
        began = time.monotonic()
        container.start()
        time.sleep(seconds)
        used, wall = cpu_seconds(container), time.monotonic() - began
    assert 0 < used <= quota * wall + 0.1


def cpu_seconds(container: Container) -> float:
    directory = cgroup_of(container).directory(1, "cpuacct")
    if directory is not None:
        return int(tree.read(f"{directory.path}/cpuacct.usage")) / 1e9
    return int(read(container, "cpu.stat").split()[1]) / 1e6


def test_an_endless_allocation_is_killed_at_its_limit_of_memory(lab: Lab) -> None:
    """busybox's tail keeps a line that never ends; without swap it would go there."""
    spec = limited(Resources(memory=Memory(limit=32 * MIB, swap=32 * MIB)), "tail", "/dev/zero")
    with _created(lab, spec) as container:
        container.start()
        assert container.wait(SECONDS) == -signal.SIGKILL


def test_a_program_sees_the_cpus_that_it_has(lab: Lab) -> None:
    assert lab.output(limited(Resources(cpu=CPU(cpus="1")), "nproc")) == "1\n"


def test_no_tasks_are_no_limit_in_an_older_configuration(lab: Lab) -> None:
    """podman before 5.4.1 writes 0 when its user says -1, for create and for update."""
    nothing = Resources(pids=Pids(0))
    with lab.start(limited(nothing, "sleep", "600").evolve(oci_version="1.0.2-dev")) as container:
        assert read(container, "pids.max") == "max"
        container.update(Resources(pids=Pids(9)))
        assert read(container, "pids.max") == "9"
        container.update(nothing)
        assert read(container, "pids.max") == "max"
