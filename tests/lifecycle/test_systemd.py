"""Containers as units of systemd: on a machine that runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from ocirt import Container, Spec, containers
from ocirt.cgroups import layout, systemd
from ocirt.cgroups.units import Unit, has_systemd
from ocirt.errors import SetupError, SpecError
from ocirt.spec import Device
from ocirt.spec.config import Hook, Hooks
from ocirt.spec.limits import CPU, HugepageLimit, Memory, Pids
from ocirt.spec.linux import DeviceRule, Resources
from ocirt.streams import Stream
from tests.support import Lab, document, eventually, linux, namespaces, said, shell

pytestmark = [
    pytest.mark.vm("systemd"),
    pytest.mark.root,
    pytest.mark.skipif(not has_systemd(), reason="systemd is not the init of this machine"),
]


needs_v2 = pytest.mark.skipif(layout.probe().mode != "v2", reason="needs cgroup version 2 alone")


def create(lab: Lab, spec: Spec, *, id: str | None = None, stdout: Stream = subprocess.DEVNULL) -> Container:
    return Container.create(
        id or lab.new_id(),
        lab.bundle(spec),
        root=lab.root,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=STDOUT,
        cgroup_manager="systemd",
    )


def show(unit: str, *names: str) -> dict[str, str]:
    """What systemctl says."""
    output = subprocess.run(
        ["systemctl", "show", unit, *(f"--property={name}" for name in names)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("=", 1) for line in output.splitlines())


def loaded(prefix: str) -> list[str]:
    """Units of that name, failed ones too."""
    output = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"{prefix}*"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [line.split()[0] for line in output.splitlines()]


def own_cgroup(pid: int) -> set[str]:
    """In every hierarchy."""
    return {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}


def test_a_container_is_a_scope_in_the_slice_of_the_machine(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    unit = f"ocirt-{container.id}.scope"
    assert own_cgroup(container.pid) == {f"/system.slice/{unit}"}
    assert show(unit, "ActiveState", "Delegate", "Slice", "Description", "ControlGroup", "TasksAccounting") == {
        "ActiveState": "active",
        "Delegate": "yes",
        "Slice": "system.slice",
        "Description": f"ocirt container {container.id}",
        "ControlGroup": f"/system.slice/{unit}",
        "TasksAccounting": "yes",
    }
    container.start()
    assert container.processes() == (container.pid,)
    container.delete(force=True)
    assert loaded(unit) == []


@pytest.mark.covers("linux.cgroupsPath")
def test_a_path_names_slice_prefix_and_name(lab: Lab) -> None:
    container = create(lab, document("true", linux=linux(cgroups_path=f"ocirt-test.slice:p:{os.getpid()}")))
    unit = f"p-{os.getpid()}.scope"
    assert own_cgroup(container.pid) == {f"/ocirt.slice/ocirt-test.slice/{unit}"}
    assert show(unit, "Slice") == {"Slice": "ocirt-test.slice"}
    container.start()
    assert container.wait(60) == 0
    container.delete()
    assert loaded(unit) == []
    subprocess.run(["systemctl", "stop", "ocirt.slice"], check=True)


@needs_v2
def test_a_name_that_ends_so_is_a_slice_of_its_own(lab: Lab) -> None:
    name = f"ocirt{os.getpid()}.slice"
    container = create(lab, document("sleep", "600", linux=linux(cgroups_path=f"::{name}")))
    assert own_cgroup(container.pid) == {f"/{name}"}
    assert show(name, "ActiveState") == {"ActiveState": "active"}
    container.start()
    container.delete(force=True)
    assert loaded(name) == []


def test_the_program_sees_its_own_cgroup_alone(lab: Lab) -> None:
    types = ("pid", "mount", "ipc", "uts", "network", "cgroup")
    container = create(lab, shell("cat /proc/self/cgroup", linux=linux(namespaces=namespaces(*types))), stdout=PIPE)
    container.start()
    assert {line.split(":", 2)[2] for line in said(container).splitlines()} == {"/"}


def test_an_id_may_have_what_a_unit_may_not(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"), id=f"{lab.new_id()}+x")
    lab.ids.append(container.id)
    (unit,) = loaded(f"ocirt-{lab.ids[0]}")
    assert unit == rf"ocirt-{lab.ids[0]}\x2bx.scope"
    container.delete(force=True)
    assert loaded(f"ocirt-{lab.ids[0]}") == []


def test_annotations_are_properties(lab: Lab) -> None:
    annotations = {
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.TimeoutStopSec": "uint64 7",
        "org.systemd.property.Documentation": "['man:ocirt(1)']",
    }
    container = create(lab, document("sleep", "600", annotations=annotations))
    assert show(f"ocirt-{container.id}.scope", "CollectMode", "TimeoutStopUSec", "Documentation") == {
        "CollectMode": "inactive-or-failed",
        "TimeoutStopUSec": "7s",
        "Documentation": '"man:ocirt(1)"',
    }


def test_an_annotation_that_systemd_refuses_leaves_nothing(lab: Lab) -> None:
    spec = document("sleep", "600", annotations={"org.systemd.property.NoSuchThing": "true"})
    with pytest.raises(SetupError, match="StartTransientUnit") as caught:
        create(lab, spec)
    assert "NoSuchThing" in str(caught.value)
    assert loaded(f"ocirt-{lab.ids[-1]}") == []
    assert lab.remains() == []


def test_a_wrong_annotation_is_told_before_anything_is_made(lab: Lab) -> None:
    with pytest.raises(SpecError, match="value parse error"):
        create(lab, document("true", annotations={"org.systemd.property.CollectMode": "inactive"}))
    assert lab.remains() == []


def test_a_unit_that_is_there_is_left_alone(lab: Lab) -> None:
    name = f"ocirt-test-{os.getpid()}-taken"
    path = f"::{name}"
    other = subprocess.Popen(
        ["systemd-run", "--scope", "--slice=other.slice", f"--unit={name}", "--quiet", "sleep", "600"]
    )
    try:
        eventually(lambda: loaded(name), "the other's scope is there")
        with pytest.raises(SetupError, match="already"):
            create(lab, document("true", linux=linux(cgroups_path=path)))
        assert show(f"{name}.scope", "ActiveState") == {"ActiveState": "active"}
        assert other.poll() is None
        assert lab.remains() == []
    finally:
        other.kill()
        other.wait()
        subprocess.run(["systemctl", "stop", "other.slice"], check=True)


def test_a_cgroup_in_use_is_left_alone(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    with pytest.raises(SetupError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        create(lab, document("true", linux=linux(cgroups_path=f":ocirt:{container.id}")))
    assert container.status == "created"
    assert show(f"ocirt-{container.id}.scope", "ActiveState") == {"ActiveState": "active"}


def test_a_unit_that_failed_before_makes_room(lab: Lab) -> None:
    name = f"ocirt-test-{os.getpid()}-failed.scope"
    systemctl = ["systemd-run", "--scope", f"--unit={name}", "--quiet", "-p", "RuntimeMaxSec=1", "sleep", "600"]
    subprocess.run(systemctl, check=False)
    eventually(lambda: show(name, "ActiveState") == {"ActiveState": "failed"}, "the scope has failed")
    container = create(lab, document("sleep", "600", linux=linux(cgroups_path=f"::{name.removesuffix('.scope')}")))
    assert show(name, "ActiveState") == {"ActiveState": "active"}
    container.delete(force=True)
    assert loaded(name) == []


def test_a_program_that_cannot_be_found_leaves_no_unit(lab: Lab) -> None:
    with pytest.raises(SetupError, match="FindProgram"):
        create(lab, document("/no/such/program"))
    assert loaded(f"ocirt-{lab.ids[-1]}") == []
    assert lab.remains() == []


def test_hooks_run_when_it_is_in_its_cgroup(lab: Lab) -> None:
    seen = lab.directory / "seen"
    script = f'pid=$(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/"); cat /proc/$pid/cgroup > {seen}'
    hooks = Hooks(create_runtime=(Hook("/bin/sh", ("sh", "-c", script)),))
    container = create(lab, document("sleep", "600", hooks=hooks))
    assert {line.split(":", 2)[2] for line in seen.read_text().splitlines()} == own_cgroup(container.pid)


def test_one_is_killed_as_a_whole(lab: Lab) -> None:
    container = create(lab, shell("sleep 600 & sleep 600 & wait"))
    container.start()
    eventually(lambda: len(container.processes()) == 3, "all three run")
    container.kill(signal.SIGKILL, all=True)
    assert container.wait(60) == -signal.SIGKILL
    eventually(lambda: container.status == "stopped", "it has stopped")
    container.delete()
    assert loaded(f"ocirt-{container.id}") == []


@needs_v2
def test_a_frozen_one_is_paused_and_deleted(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    container.start()
    subprocess.run(["systemctl", "freeze", f"ocirt-{container.id}.scope"], check=True)
    assert container.status == "paused"
    container.delete(force=True)
    assert loaded(f"ocirt-{container.id}") == []


def test_a_process_is_executed_in_the_scope(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    container.start()
    process = container.exec(["sleep", "600"], stdin=subprocess.DEVNULL)
    assert own_cgroup(process.pid) == own_cgroup(container.pid)


def test_systemd_may_stop_it(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    container.start()
    subprocess.run(["systemctl", "stop", f"ocirt-{container.id}.scope"], check=True)
    container.wait(60)
    container.delete()
    assert loaded(f"ocirt-{container.id}") == []


def test_it_outlives_a_reload_of_systemd(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    container.start()
    before = own_cgroup(container.pid)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert container.status == "running"
    assert own_cgroup(container.pid) == before


def test_stopping_what_is_not_there_is_no_error() -> None:
    systemd.stop(Unit("ocirt-never-made.scope", "system"))


def test_the_record_says_which_unit_before_there_is_one(lab: Lab) -> None:
    hooks = Hooks(create_runtime=(Hook("/bin/sh", ("sh", "-c", "sleep 600")),))
    script = (
        "import sys; from ocirt import Container\n"
        "Container.create(sys.argv[1], sys.argv[2], root=sys.argv[3], cgroup_manager='systemd')"
    )
    container_id = lab.new_id()
    bundle = lab.bundle(document("true", hooks=hooks)).path
    creator = subprocess.Popen([sys.executable, "-c", script, container_id, str(bundle), str(lab.root)])
    intent = lab.root / container_id / "intent.json"
    eventually(lambda: loaded(f"ocirt-{container_id}"), "the unit is there")
    unit = {"name": f"ocirt-{container_id}.scope", "bus": "system", "ours": True}
    assert json.loads(intent.read_bytes())["record"]["unit"] == unit
    creator.kill()
    creator.wait()
    Container.load(container_id, root=lab.root).delete(force=True)
    assert loaded(f"ocirt-{container_id}") == []
    assert containers(root=lab.root) == []


KILLED = """
import os, signal, sys
from ocirt import Container
from ocirt.cgroups import dbus
id, root, bundle = sys.argv[1:]
send = dbus.Systemd._send

def create(left):
    def step():
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(self, data):
        step()
        send(self, data)
        step()
    dbus.Systemd._send = counted
    Container.create(id, bundle, root=root, cgroup_manager="systemd", stdin=-3, stdout=-3, stderr=-3)

point = 0
killed = True
while killed:
    point += 1
    pid = os.fork()
    if not pid:
        create(point)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    for name in os.listdir(root):
        Container.load(name, root=root).delete(force=True)
    if left := os.popen(f"systemctl list-units --all --plain --no-legend 'ocirt-{id}*'").read():
        sys.exit(f"killed at {point}: {left}")
print(point - 1)
"""
"""A creator that is killed before and after each message to systemd; what is left is deleted at once."""


@pytest.mark.slow
def test_no_unit_is_left_after_delete_wherever_the_creator_was_killed(lab: Lab) -> None:
    bundle = lab.bundle(document("sleep", "600")).path
    lab.root.mkdir(mode=0o700)
    command = [sys.executable, "-c", KILLED, lab.new_id(), str(lab.root), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20  # points
    assert lab.remains() == []


MIB = 2**20

LIMITS: list[tuple[Resources, str, str, str, str]] = [
    (Resources(memory=Memory(limit=64 * MIB)), "MemoryMax", str(64 * MIB), "memory.max", str(64 * MIB)),
    (Resources(memory=Memory(reservation=32 * MIB)), "MemoryLow", str(32 * MIB), "memory.low", str(32 * MIB)),
    (
        Resources(memory=Memory(limit=64 * MIB, swap=80 * MIB)),
        *("MemorySwapMax", str(16 * MIB), "memory.swap.max", str(16 * MIB)),
    ),
    (Resources(cpu=CPU(shares=2048)), "CPUWeight", "174", "cpu.weight", "174"),
    (Resources(cpu=CPU(quota=15_000, period=20_000)), "CPUQuotaPerSecUSec", "750ms", "cpu.max", "15000 20000"),
    (Resources(cpu=CPU(quota=15_000, period=20_000)), "CPUQuotaPeriodUSec", "20ms", "cpu.max", "15000 20000"),
    (Resources(cpu=CPU(idle=1)), "CPUWeight", "idle", "cpu.idle", "1"),
    (Resources(cpu=CPU(cpus="0")), "AllowedCPUs", "0", "cpuset.cpus", "0"),
    (Resources(cpu=CPU(mems="0")), "AllowedMemoryNodes", "0", "cpuset.mems", "0"),
    (Resources(pids=Pids(20)), "TasksMax", "20", "pids.max", "20"),
    (Resources(unified={"memory.high": str(48 * MIB)}), "MemoryHigh", str(48 * MIB), "memory.high", str(48 * MIB)),
    (Resources(unified={"memory.min": str(MIB)}), "MemoryMin", str(MIB), "memory.min", str(MIB)),
    (Resources(unified={"io.weight": "default 42"}), "IOWeight", "42", "io.weight", "default 42"),
]


def file(container: Container, name: str) -> str:
    (directory,) = own_cgroup(container.pid)
    return Path(f"/sys/fs/cgroup{directory}/{name}").read_text().strip()


@needs_v2
@pytest.mark.parametrize(("resources", "name", "told", "path", "written"), LIMITS)
def test_a_limit_is_told_to_systemd_and_is_in_its_file(
    lab: Lab, resources: Resources, name: str, told: str, path: str, written: str
) -> None:
    container = create(lab, document("sleep", "600", linux=linux(resources=resources)))
    unit = f"ocirt-{container.id}.scope"
    assert show(unit, name) == {name: told}
    assert file(container, path) == written
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert file(container, path) == written


@needs_v2
def test_what_systemd_has_no_word_for_is_in_its_file(lab: Lab) -> None:
    resources = Resources(hugepage_limits=(HugepageLimit("2MB", 4 * MIB),), cpu=CPU(burst=1000, quota=2000))
    container = create(lab, document("sleep", "600", linux=linux(resources=resources)))
    assert file(container, "hugetlb.2MB.max") == str(4 * MIB)
    assert file(container, "cpu.max.burst") == "1000"


@needs_v2
def test_an_update_is_told_and_written(lab: Lab) -> None:
    resources = Resources(memory=Memory(limit=64 * MIB), pids=Pids(20))
    container = create(lab, document("sleep", "600", linux=linux(resources=resources)))
    container.start()
    container.update(Resources(memory=Memory(limit=96 * MIB), cpu=CPU(quota=5000)))
    unit = f"ocirt-{container.id}.scope"
    assert show(unit, "MemoryMax", "CPUQuotaPerSecUSec", "TasksMax") == {
        "MemoryMax": str(96 * MIB),
        "CPUQuotaPerSecUSec": "50ms",
        "TasksMax": "20",
    }
    assert (file(container, "memory.max"), file(container, "cpu.max")) == (str(96 * MIB), "5000 100000")
    assert file(container, "pids.max") == "20"


@needs_v2
def test_an_update_that_cannot_be_had_leaves_both_as_they_were(lab: Lab) -> None:
    container = create(lab, document("sleep", "600", linux=linux(resources=Resources(memory=Memory(limit=64 * MIB)))))
    container.start()
    with pytest.raises(SetupError):
        container.update(Resources(memory=Memory(limit=96 * MIB), unified={"cpu.max": "nonsense"}))
    assert show(f"ocirt-{container.id}.scope", "MemoryMax") == {"MemoryMax": str(64 * MIB)}
    assert file(container, "memory.max") == str(64 * MIB)


def test_it_is_paused_and_resumed_by_us(lab: Lab) -> None:
    container = create(lab, document("sleep", "600"))
    container.start()
    container.pause()
    assert container.status == "paused"
    container.resume()
    assert container.status == "running"


@pytest.mark.parametrize(("allow", "status"), [(False, 1), (True, 0)])
def test_a_device_list_outlives_what_systemd_does_to_the_unit(lab: Lab, allow: bool, status: int) -> None:
    screen = Device("c", "/dev/screen", 7, 0)  # vcs(4), which no default rule names
    rules = (DeviceRule(allow=False, access="rwm"), DeviceRule(allow=allow, type="c", major=7, minor=0, access="rw"))
    described = linux(devices=(screen,), resources=Resources(devices=rules))
    container = create(lab, document("sleep", "600", linux=described))
    container.start()
    unit = f"ocirt-{container.id}.scope"
    for command in (["daemon-reload"], ["set-property", "--runtime", unit, "CPUWeight=50"]):
        subprocess.run(["systemctl", *command], check=True)
        for path, expected in (("/dev/screen", status), ("/dev/zero", 0)):
            process = container.exec(["sh", "-c", f": < {path}"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert process.wait(60) == expected, (path, command)


@needs_v2
def test_a_subgroup_holds_the_container_and_the_scope_its_limits(lab: Lab) -> None:
    described = linux(resources=Resources(memory=Memory(limit=64 * MIB), pids=Pids(20)))
    spec = document("sleep", "600", linux=described, annotations={"run.oci.systemd.subgroup": "container"})
    container = create(lab, spec)
    unit = f"ocirt-{container.id}.scope"
    assert own_cgroup(container.pid) == {f"/system.slice/{unit}/container"}
    assert show(unit, "MemoryMax", "TasksMax") == {"MemoryMax": str(64 * MIB), "TasksMax": "20"}
    assert (file(container, "memory.max"), file(container, "../memory.max")) == (str(64 * MIB),) * 2
    container.start()
    process = container.exec(["sleep", "600"], stdin=subprocess.DEVNULL)
    assert own_cgroup(process.pid) == own_cgroup(container.pid)
    container.delete(force=True)
    assert loaded(unit) == []
