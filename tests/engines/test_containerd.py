"""containerd's shim with ocirt as its runtime: first by ctr, then by what Kubernetes calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ocirt.spec import IDMapping, Root
from tests.engines import daemons
from tests.engines.cri import CallError, Client, Fields, Message
from tests.engines.daemons import CONVERSE, Engine, converse
from tests.engines.images import NAME
from tests.support import document, eventually, linux, namespaces

pytestmark = [pytest.mark.root, pytest.mark.engine]

RUNNING, EXITED = 1, 2
POD, NODE = 0, 2


@pytest.fixture(scope="module")
def ctr() -> Iterator[Engine]:
    with daemons.containerd() as engine:
        yield engine
        daemons.called_nobody_else(engine)
        assert engine.place.run("find", "/run", "-name", "state.json") == "", "a container is left"


def run(ctr: Engine, *args: str) -> list[str]:
    """``ctr run`` with our binary."""
    return ["run", "--runtime=io.containerd.runc.v2", f"--runc-binary={ctr.place.log.program}", *args]


@contextmanager
def task(ctr: Engine, name: str, *flags: str, program: tuple[str, ...] = ("sleep", "1000")) -> Iterator[str]:
    """A container that runs for itself."""
    ctr(*run(ctr, "--detach", *flags, NAME, name, *program))
    try:
        yield name
    finally:
        ctr.tried("tasks", "kill", "--signal=SIGKILL", "--all", name)
        eventually(lambda: status(ctr, name) in ("STOPPED", None), f"{name} ends")
        ctr("tasks", "delete", "--force", name)
        ctr("containers", "delete", name)


def status(ctr: Engine, name: str) -> str | None:
    lines = [line.split() for line in ctr("tasks", "list").splitlines()]
    return next((line[2] for line in lines if line[0] == name), None)


def test_output_and_exit_status_come_from_the_program(ctr: Engine) -> None:
    done = ctr.tried(
        *run(ctr, "--rm", NAME, "status", "sh", "-c", "read line; echo $line; echo error >&2; exit 7"), input="typed\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "error\n", 7)


def test_a_container_is_as_its_flags_say(ctr: Engine) -> None:
    shared = ctr.place.directory / "shared"
    shared.mkdir()
    (shared / "file").write_text("from the host\n")
    script = (
        "id -u; pwd; echo $COLOR; cat /data/file; touch /data/new /new; grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    )
    flags = ["--rm", "--read-only", "--seccomp", "--cwd=/tmp", "--env=COLOR=blue"]
    mount = f"--mount=type=bind,src={shared},dst=/data,options=rbind:ro"
    done = ctr.tried(*run(ctr, *flags, mount, NAME, "flags", "sh", "-c", script))
    assert done.stdout.splitlines() == ["0", "/tmp", "blue", "from the host", "NoNewPrivs:\t1", "Seccomp:\t2"]
    assert done.stderr.count("Read-only file system") == 2


def test_a_missing_program_is_told_in_runcs_words(ctr: Engine) -> None:
    done = ctr.tried(*run(ctr, "--rm", NAME, "missing", "no-such-program"))
    assert done.returncode == 1
    assert 'exec: "no-such-program": executable file not found in $PATH' in done.stderr
    assert "OCI runtime create failed" in done.stderr


def test_privileged(ctr: Engine) -> None:
    script = "grep CapEff /proc/self/status; mount -t tmpfs t /tmp && echo mounted; ls /dev/null"
    done = ctr(*run(ctr, "--rm", "--privileged", NAME, "privileged", "sh", "-c", script))
    assert "mounted" in done
    assert int(done.split()[1], 16) & 1 << 21  # CAP_SYS_ADMIN


def test_a_configuration_with_a_user_namespace(ctr: Engine) -> None:
    """By a file: ctr 1.6 forgets which runtime it was told once it is given ``--uidmap``."""
    rootfs = ctr.place.directory / "rootfs"
    rootfs.mkdir()
    ctr("images", "mount", "--rw", NAME, str(rootfs))
    mappings = (IDMapping(0, 100000, 65536),)
    users = linux(
        namespaces=namespaces("user", "mount", "pid", "ipc", "uts", "network", "cgroup"),
        uid_mappings=mappings,
        gid_mappings=mappings,
        cgroups_path=f"/{ctr.cgroup}/users",
    )
    config = ctr.place.directory / "config.json"
    spec = document("cat", "/proc/self/uid_map", "/proc/self/gid_map").evolve(root=Root(str(rootfs)), linux=users)
    spec.dump(config)
    assert ctr(*run(ctr, "--rm", f"--config={config}", "users")).split() == ["0", "100000", "65536"] * 2
    ctr("images", "unmount", "--rm", str(rootfs))


def test_a_task_is_watched_paused_and_ended(ctr: Engine) -> None:
    flags = ["--memory-limit=67108864", "--cpus=0.5"]
    with task(ctr, "task", *flags, program=("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")) as name:
        assert status(ctr, name) == "RUNNING"
        assert len(ctr("tasks", "ps", name).splitlines()) >= 2
        assert ctr.limit(name, "memory") == 67108864
        assert ctr.limit(name, "cpu") == 50000
        metrics = json.loads(ctr("tasks", "metrics", "--format=json", name))
        assert metrics["memory"]["usage"]["limit"] == 67108864
        assert metrics["memory"]["usage"]["usage"] > 0
        ctr("tasks", "pause", name)
        assert status(ctr, name) == "PAUSED"
        ctr("tasks", "resume", name)
        assert status(ctr, name) == "RUNNING"
        ctr("tasks", "kill", name)
        eventually(lambda: status(ctr, name) == "STOPPED", "it takes SIGTERM")
        assert "process already finished: not found" in ctr.tried("tasks", "kill", name).stderr


def test_processes_beside_it(ctr: Engine) -> None:
    with task(ctr, "beside") as name:
        done = ctr.tried(
            "tasks",
            "exec",
            "--exec-id=1",
            name,
            "sh",
            "-c",
            "read line; echo $line; echo error >&2; exit 5",
            input="typed\n",
        )
        assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "error\n", 5)
        assert (
            ctr("tasks", "exec", "--exec-id=2", "--user=alice", "--cwd=/tmp", name, "sh", "-c", "id -un; pwd")
            == "alice\n/tmp\n"
        )
        failed = ctr.tried("tasks", "exec", "--exec-id=3", name, "no-such-program")
        assert 'exec: "no-such-program": executable file not found in $PATH' in failed.stderr


def test_terminals(ctr: Engine) -> None:
    converse(ctr.command(*run(ctr, "--rm", "--tty", NAME, "terminal", *CONVERSE)))
    with task(ctr, "terminal-beside") as name:
        converse(ctr.command("tasks", "exec", "--tty", "--exec-id=1", name, *CONVERSE))


def test_the_shim_hears_of_memory_that_runs_out(ctr: Engine) -> None:
    """It looks for the cgroup right after create, and watches it."""
    heard = ctr.place.directory / "events"
    with heard.open("wb") as file, subprocess.Popen(ctr.command("events"), stdout=file) as listener:
        try:
            program = ("sh", "-c", "while :; do tail /dev/zero; sleep 0.1; done")  # until we listen
            with task(ctr, "hungry", "--memory-limit=16777216", program=program):
                eventually(lambda: "/tasks/oom" in heard.read_text(), "an event tells")
        finally:
            listener.kill()


@pytest.fixture(scope="module")
def cri(ctr: Engine) -> Client:
    client = Client.of(ctr.place)
    for image in (NAME, daemons.PAUSE):
        eventually(partial(knows, client, image), f"{image} is known")
    return client


def knows(cri: Client, image: str) -> bool:
    return cri("ImageStatus", {1: {1: image}}).message(1).text(1) != ""


@contextmanager
def pod(
    ctr: Engine, cri: Client, name: str, handler: str = "ocirt", network: int = NODE
) -> Iterator[tuple[str, Message]]:
    """One in the host's network, which here is the place's, needs no network plugin; and has the host's name."""
    namespaces = {1: {1: network}}
    config: Message = {
        1: {1: name, 2: f"uid-{name}", 3: "default"},
        **({} if network == NODE else {2: name}),
        3: str(ctr.place.directory / "logs"),
        8: {1: f"/{ctr.cgroup}", 2: namespaces},
    }
    pod_id = cri("RunPodSandbox", {1: config, 2: handler}).text(1)
    try:
        yield pod_id, config
    finally:
        cri("StopPodSandbox", {1: pod_id})
        cri("RemovePodSandbox", {1: pod_id})


def created(
    cri: Client, pod_id: str, pod_config: Message, name: str, *program: str, memory: int = 0, network: int = NODE
) -> str:
    config: Message = {
        1: {1: name},
        2: {1: NAME},
        3: program,
        6: [{1: "COLOR", 2: "blue"}],
        11: f"{name}.log",
        15: {1: {4: memory, 1: 100000, 2: 50000}, 2: {3: {1: network}, 7: 1, 15: {1: 0}}},
    }
    return cri("CreateContainer", {1: pod_id, 2: config, 3: pod_config}).text(1)


def seen(cri: Client, container: str) -> Fields:
    return cri("ContainerStatus", {1: container}).message(1)


def test_a_pod(ctr: Engine, cri: Client) -> None:
    """RuntimeClass's handler chooses us; the rest is what a kubelet does."""
    assert cri("Version").text(2) == "containerd"
    with pod(ctr, cri, "web") as (pod_id, config):
        assert cri("PodSandboxStatus", {1: pod_id}).message(1).text(9) == "ocirt"
        container = created(cri, pod_id, config, "main", "sh", "-c", "echo said; sleep 1000", memory=67108864)
        cri("StartContainer", {1: container})
        assert seen(cri, container).number(3) == RUNNING
        answer = cri("ExecSync", {1: container, 2: ["sh", "-c", "echo $COLOR; echo error >&2; exit 6"], 3: 60})
        assert (answer.text(1), answer.text(2), answer.number(3)) == ("blue\n", "error\n", 6)
        with pytest.raises(CallError, match=r"timeout|deadline"):
            cri("ExecSync", {1: container, 2: ["sleep", "1000"], 3: 1})
        log = ctr.place.directory / "logs/main.log"
        eventually(lambda: log.exists() and "stdout F said" in log.read_text(), "its output is logged")
        assert ctr.limit(container, "memory") == 67108864
        stats = cri("ContainerStats", {1: container}).message(1)
        assert stats.message(3, 2).number(1) > 0  # the working set
        cri("UpdateContainerResources", {1: container, 2: {4: 33554432, 1: 100000, 2: 25000}})
        assert (ctr.limit(container, "memory"), ctr.limit(container, "cpu")) == (33554432, 25000)
        cri("StopContainer", {1: container, 2: 0})
        ended = seen(cri, container)
        assert (ended.number(3), ended.number(7)) == (EXITED, 137)
        cri("RemoveContainer", {1: container})


def test_failures_that_a_kubelet_tells(ctr: Engine, cri: Client) -> None:
    with pytest.raises(CallError, match=r"no runtime for .nobody. is configured"), pod(ctr, cri, "n", handler="nobody"):
        pass
    with pod(ctr, cri, "failing") as (pod_id, config):
        container = created(cri, pod_id, config, "main", "no-such-program")
        with pytest.raises(CallError, match=r"executable file not found in \$PATH"):
            cri("StartContainer", {1: container})
        assert seen(cri, container).number(7) == 128


def test_a_pod_with_a_network_of_its_own(ctr: Engine, cri: Client) -> None:
    """containerd makes the namespace and has plugins fill it; the pod and its containers join it."""
    if not Path("/usr/lib/cni/ptp").exists():
        pytest.skip("needs network plugins (Debian: apt-get install containernetworking-plugins)")
    if ctr.place.tried("ip", "link", "add", "probe", "type", "veth", "peer", "name", "other").returncode != 0:
        pytest.skip("this kernel has no veth, the pairs of devices that pods are connected by")
    ctr.place.run("ip", "link", "delete", "probe")
    with pod(ctr, cri, "apart", network=POD) as (pod_id, config):
        address = cri("PodSandboxStatus", {1: pod_id}).message(1, 5).text(1)
        container = created(cri, pod_id, config, "main", "sleep", "1000", network=POD)
        cri("StartContainer", {1: container})
        shown = cri("ExecSync", {1: container, 2: ["sh", "-c", "hostname; ip -4 address show dev eth0"], 3: 60}).text(1)
        assert shown.startswith("apart\n")
        assert f" {address}/" in shown
