"""pause, resume and update by the command line, as engines call them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ocirt import Container
from ocirt.spec.limits import CPU, Memory, Pids
from ocirt.spec.linux import Resources
from ocirt.state import Status
from tests.cli.commands import Commands
from tests.lifecycle.test_limits import MIB, read
from tests.support import eventually, linux

pytestmark = pytest.mark.root


@pytest.fixture
def running(commands: Commands) -> Iterator[Container]:
    commands.configure(["sleep", "600"])
    commands.detached("run", "--detach", commands.id)
    yield Container.load(commands.id, root=commands.root)
    commands.run("delete", "--force", commands.id)


def resources(commands: Commands) -> Resources:
    linux = Container.load(commands.id, root=commands.root).spec.linux
    assert linux is not None
    assert linux.resources is not None
    return linux.resources


def test_pause_and_resume(commands: Commands, running: Container) -> None:
    del running
    commands.run("pause", commands.id)
    assert commands.state(commands.id)["status"] == "paused"
    assert "container not running" in commands.tried("pause", commands.id).stderr
    commands.run("resume", commands.id)
    assert commands.state(commands.id)["status"] == "running"
    refused = commands.tried("resume", commands.id)
    assert refused.returncode == 1
    assert "container not paused" in refused.stderr


FLAGS = {
    "--blkio-weight": "300",
    "--cpu-period": "50000",
    "--cpu-quota": "20000",
    "--cpu-burst": "1000",
    "--cpu-share": "512",
    "--cpuset-cpus": "1",
    "--cpuset-mems": "0",
    "--memory": "64M",
    "--memory-reservation": "32m",
    "--pids-limit": "20",
}


def test_every_flag_is_a_limit(commands: Commands, running: Container) -> None:
    words = [word for pair in FLAGS.items() for word in pair]
    commands.run("update", *words, commands.id)
    assert read(running, "cpu.cfs_quota_us|cpu.max") in ("20000", "20000 50000")
    assert read(running, "memory.limit_in_bytes|memory.max") == str(64 * MIB)
    found = resources(commands)
    assert found.memory == Memory(limit=64 * MIB, reservation=32 * MIB)
    assert found.cpu == CPU(shares=512, quota=20000, burst=1000, period=50000, cpus="1", mems="0")
    assert found.pids == Pids(20)
    assert found.block_io is not None
    assert found.block_io.weight == 300
    commands.run("update", "--memory", "-1", "--pids-limit=-1", "--cpu-idle", "1", commands.id)
    assert resources(commands).memory == Memory(limit=-1, reservation=32 * MIB)
    assert read(running, "pids.max") == "max"
    assert read(running, "cpu.idle") == "1"


@pytest.mark.parametrize("name", ["-", "limits.json"])
def test_a_document_from_a_file_or_from_standard_input(commands: Commands, running: Container, name: str) -> None:
    """As containerd and CRI-O fill it: zeros and nulls say nothing, and devices are not changed."""
    document = json.dumps(
        {
            "devices": [{"allow": True, "access": "rwm"}],
            "memory": {"limit": 64 * MIB, "swap": 0, "swappiness": None},
            "cpu": {"shares": 512, "quota": 0, "cpus": ""},
            "pids": None,
        }
    )
    (commands.bundle / "limits.json").write_text(document)
    commands.run("update", "--resources", name, commands.id, input=document)
    before = resources(commands)
    assert before.memory == Memory(limit=64 * MIB, swap=0)
    assert read(running, "memory.limit_in_bytes|memory.max") == str(64 * MIB)
    assert read(running, "cpu.shares|cpu.weight") in ("512", "59")
    assert [rule.allow for rule in before.devices] == [False]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--memory", "many"), "invalid value for memory: 'many' is no size"),
        (("--cpu-quota", "1.5"), "invalid value for cpu-quota: "),
        (("--cpuset-cpus", "a"), "linux.resources.cpu.cpus"),
        (("--l3-cache-schema", "L3:0=f"), "updating a non-existent Intel RDT configuration is not supported"),
        (("--cpuset-cpus", "4000"), "unable to apply cgroup configuration: linux.resources.cpu.cpus"),
        (("--resources", "/dev/null"), "is not JSON"),
        (("--resources", "none.json"), "none.json: no such file or directory"),
    ],
)
def test_what_is_wrong_is_told(commands: Commands, running: Container, words: tuple[str, ...], told: str) -> None:
    refused = commands.tried("update", *words, commands.id)
    assert refused.returncode == 1
    assert told in refused.stderr
    assert read(running, "pids.max") == "max"


def test_kill_of_all_where_nobody_is_left_is_no_error(commands: Commands) -> None:
    commands.configure(["true"])
    commands.detached("run", "--detach", commands.id)
    container = Container.load(commands.id, root=commands.root)
    eventually(lambda: container.status is Status.STOPPED, "it ends")
    commands.run("kill", "--all", commands.id, "KILL")
    assert "container not running" in commands.tried("kill", commands.id, "KILL").stderr
    commands.run("delete", commands.id)


def test_limits_that_only_version_1_knows_may_be_left_out(commands: Commands) -> None:
    """Kernels ignore this one on version 1 too, since Linux 6.6; before, it is refused there as well (5.16)."""
    members = linux(resources=Resources(memory=Memory(kernel=MIB), pids=Pids(50)))
    commands.configure(["true"], linux=members)
    refused = commands.tried("run", commands.id)
    assert refused.returncode == 1
    assert "linux.resources.memory.kernel" in refused.stderr
    done = commands.tried("--ignore-v1-limits", "run", commands.id)
    assert (done.returncode, done.stderr) == (0, "")
