"""Docker with ocirt as its default runtime: what its users do, and what they are told when something fails."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.engines import daemons
from tests.engines.daemons import CONVERSE, Engine, converse
from tests.engines.images import NAME
from tests.support import eventually

pytestmark = [pytest.mark.root, pytest.mark.engine]

RUN = ("run", "--rm", "--network=none")


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with daemons.dockerd() as engine:
        yield engine
        assert engine("ps", "--all", "--quiet") == "", "a test has left a container"
        daemons.called_nobody_else(engine)


@contextmanager
def container(
    docker: Engine, *flags: str, network: str = "none", program: tuple[str, ...] = ("sleep", "1000")
) -> Iterator[str]:
    """The id of one that runs for itself."""
    container_id = docker("run", "--detach", f"--network={network}", *flags, NAME, *program).strip()
    try:
        yield container_id
    finally:
        docker.tried("rm", "--force", "--volumes", container_id)


def inspected(docker: Engine, container_id: str, template: str) -> str:
    return docker("inspect", f"--format={{{{{template}}}}}", container_id).strip()


def test_docker_knows_the_runtime(docker: Engine) -> None:
    info = json.loads(docker("info", "--format={{json .}}"))
    assert info["DefaultRuntime"] == "ocirt"
    assert info["Runtimes"]["ocirt"]["path"] == str(docker.place.log.program)
    with container(docker, "--runtime=ocirt") as chosen:
        assert inspected(docker, chosen, ".HostConfig.Runtime") == "ocirt"


def test_output_and_exit_status_come_from_the_program(docker: Engine) -> None:
    done = docker.tried(*RUN, "--interactive", NAME, "sh", "-c", "cat; echo error >&2; exit 7", input="typed\n")
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "error\n", 7)


@pytest.mark.parametrize(
    ("flags", "program", "status", "message"),
    [
        ((), "no-such-program", 127, 'exec: "no-such-program": executable file not found in $PATH'),
        ((), "/bin/no-such", 127, "no such file or directory"),
        ((), "/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ((), "/etc", 126, 'exec: "/etc": is a directory: permission denied'),
        (("--volume=/tmp:/etc/passwd",), "true", 125, "Are you trying to mount a directory onto a file"),
    ],
)
def test_failures_are_told_apart(
    docker: Engine, flags: tuple[str, ...], program: str, status: int, message: str
) -> None:
    done = docker.tried(*RUN, *flags, NAME, program)
    assert done.returncode == status
    assert message in done.stderr
    assert "OCI runtime create failed" in done.stderr


def test_a_container_is_as_its_flags_say(docker: Engine) -> None:
    shared = docker.place.directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    script = """
        id -u; id -G; pwd; hostname; echo $COLOR
        echo from the container >/data/file && cat /data/file
        touch /new 2>&1; touch /scratch/new && echo scratch
        test -c /dev/zram && echo device
        ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl
        grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status
        grep -c ' /scratch tmpfs .*noexec' /proc/mounts
    """
    flags = [
        *("--read-only", "--tmpfs=/scratch", f"--volume={shared}:/data", "--device=/dev/null:/dev/zram"),
        *("--user=1000:1000", "--group-add=29", "--workdir=/tmp", "--hostname=there", "--env=COLOR=blue"),
        *("--ulimit=nofile=99", "--sysctl=net.ipv4.ip_default_ttl=77", "--security-opt=no-new-privileges"),
    ]
    lines = docker(*RUN, *flags, NAME, "sh", "-c", script).splitlines()
    assert lines[:5] == ["1000", "1000 29", "/tmp", "there", "blue"]
    assert lines[5:9] == ["from the container", "touch: /new: Read-only file system", "scratch", "device"]
    assert lines[9:11] == ["99", "77"]
    assert [line.split() for line in lines[11:]] == [
        *(["CapEff:", "0000000000000000"], ["NoNewPrivs:", "1"], ["Seccomp:", "2"], ["1"]),
    ]
    assert (shared / "file").stat().st_uid == 1000


def test_capabilities_and_the_default_filter(docker: Engine) -> None:
    """Docker's own seccomp profile: unshare(2) of a user namespace is refused even to root, unless CAP_SYS_ADMIN."""
    script = "grep CapEff /proc/self/status; mount -t tmpfs t /tmp && echo mounted; unshare -U true && echo unshared"

    def tried(*flags: str) -> tuple[int, bool, bool]:
        output = docker.tried(*RUN, *flags, NAME, "sh", "-c", script).stdout
        return int(output.split()[1], 16), "mounted" in output, "unshared" in output

    default, mounted, unshared = tried()
    assert (default, mounted, unshared) == (0xA80425FB, False, False)
    assert tried("--cap-add=SYS_ADMIN", "--cap-drop=CHOWN") == (0xA80425FB & ~1 | 1 << 21, True, True)
    assert tried("--cap-drop=ALL", "--security-opt=seccomp=unconfined") == (0, False, True)
    everything, mounted, unshared = tried("--privileged")
    assert (everything & default == default, everything >> 21 & 1, mounted, unshared) == (True, 1, True, True)


def test_a_small_init(docker: Engine) -> None:
    """docker-init comes from the host, by a bind mount."""
    first = docker(*RUN, "--init", NAME, "sh", "-c", "cat /proc/1/comm")
    assert first == "docker-init\n"


def test_exec(docker: Engine) -> None:
    with container(docker) as made:
        script = "cat; id -un; pwd; echo $COLOR; exit 5"
        flags = ["--interactive", "--user=alice", "--workdir=/tmp", "--env=COLOR=blue"]
        done = docker.tried("exec", *flags, made, "sh", "-c", script, input="typed\n")
        assert (done.stdout, done.returncode) == ("typed\nalice\n/tmp\nblue\n", 5)
        everything = docker("exec", "--privileged", made, "grep", "CapEff", "/proc/self/status").split()[1]
        assert int(everything, 16) >> 21 & 1  # CAP_SYS_ADMIN
        docker("exec", "--detach", made, "touch", "/tmp/detached")
        eventually(lambda: docker.tried("exec", made, "test", "-e", "/tmp/detached").returncode == 0, "it has run")
        missing = docker.tried("exec", made, "no-such-program")
        assert missing.returncode in (126, 127)  # Docker 20.10 says 126 of runc's too
        assert 'exec: "no-such-program": executable file not found in $PATH' in missing.stdout + missing.stderr


def test_terminals(docker: Engine) -> None:
    converse(docker.command(*RUN, "-it", NAME, *CONVERSE))
    with container(docker) as made:
        converse(docker.command("exec", "-it", made, *CONVERSE))


def test_limits_are_the_kernels_and_can_be_changed(docker: Engine) -> None:
    with container(docker, "--memory=64m", "--cpus=0.5", "--pids-limit=50") as made:
        assert [docker.limit(made, name) for name in ("memory", "cpu", "pids")] == [64 << 20, 50000, 50]
        docker("update", "--memory=32m", "--memory-swap=64m", "--cpus=0.25", "--pids-limit=20", made)
        assert [docker.limit(made, name) for name in ("memory", "cpu", "pids")] == [32 << 20, 25000, 20]
        stats = json.loads(docker("stats", "--no-stream", "--format={{json .}}", made))
        assert stats["MemUsage"].endswith("/ 32MiB")
        assert stats["PIDs"] == "1"
        assert "sleep 1000" in docker("top", made)
        docker("pause", made)
        assert inspected(docker, made, ".State.Status") == "paused"
        docker("unpause", made)
        assert inspected(docker, made, ".State.Status") == "running"


def test_memory_that_runs_out_is_told(docker: Engine) -> None:
    """The shim watches the cgroup from its start on; a shell that goes on gives it the time."""
    program = ("sh", "-c", "while :; do tail /dev/zero; sleep 0.1; done")
    with container(docker, "--memory=16m", program=program) as made:
        since = ("events", "--since=1h", "--until=0s", f"--filter=container={made}", "--filter=event=oom")
        eventually(lambda: "oom" in docker(*since), "an event tells")
        docker("kill", made)
        docker("wait", made)
        assert inspected(docker, made, ".State.OOMKilled") == "true"
    with container(docker, "--memory=16m", program=("tail", "/dev/zero")) as made:
        assert docker("wait", made) == "137\n"


def test_stopping_starting_and_killing(docker: Engine) -> None:
    program = (
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done",
    )
    with container(docker, program=program) as made:
        logged(docker, made, "ready", 1)
        docker("kill", "--signal=USR1", made)
        logged(docker, made, "usr1", 1)
        docker("stop", "--time=60", made)
        logged(docker, made, "bye", 1)
        assert inspected(docker, made, ".State.ExitCode") == "3"
        docker("start", made)
        logged(docker, made, "ready", 2)
        docker("restart", "--time=60", made)
        logged(docker, made, "ready", 3)
        docker("kill", made)
        assert docker("wait", made) == "137\n"
        again = docker.tried("kill", made)
        assert re.search("[Cc]ontainer .* is not running", again.stderr)


def logged(docker: Engine, container_id: str, line: str, count: int) -> None:
    eventually(lambda: docker("logs", container_id).splitlines().count(line) == count, f"{count} times {line}")


def test_files_are_copied(docker: Engine) -> None:
    directory = docker.place.directory
    (directory / "in").write_text("copied\n")
    with container(docker) as made:
        docker("cp", f"{directory}/in", f"{made}:/tmp/file")
        assert docker("exec", made, "cat", "/tmp/file") == "copied\n"
        docker("cp", f"{made}:/tmp/file", f"{directory}/out")
    assert (directory / "out").read_text() == "copied\n"


def test_health_is_asked_for(docker: Engine) -> None:
    flags = ["--health-cmd=test -e /tmp/well", "--health-interval=1s", "--health-retries=1"]
    with container(docker, *flags) as made:
        eventually(lambda: inspected(docker, made, ".State.Health.Status") == "unhealthy", "it is not well")
        docker("exec", made, "touch", "/tmp/well")
        eventually(lambda: inspected(docker, made, ".State.Health.Status") == "healthy", "it is well")


def test_a_container_may_share_anothers_namespaces(docker: Engine) -> None:
    with container(docker, "--ipc=shareable") as made:
        script = "cat /proc/1/comm; for name in net ipc pid; do readlink /proc/self/ns/$name; done"
        joined = f"container:{made}"
        flags = [f"--network={joined}", f"--ipc={joined}", f"--pid={joined}"]
        inside = docker("exec", made, "sh", "-c", script)
        assert docker("run", "--rm", *flags, NAME, "sh", "-c", script) == inside


def test_networks(docker: Engine) -> None:
    """libnetwork's prestart hook finds the network namespace by the pid that it is told, and puts eth0 there."""
    assert docker(*RUN, NAME, "ls", "/sys/class/net") == "lo\n"
    addresses = ("busybox", "ip", "-o", "address")
    assert docker("run", "--rm", "--network=host", NAME, *addresses) == docker.place.run(*addresses)
    if not daemons.has_bridges(docker.place):
        pytest.skip("this kernel or machine has no bridges or no iptables for Docker's usual network")
    with container(docker, network="bridge") as made:
        address = inspected(docker, made, ".NetworkSettings.IPAddress")
        assert f" {address}/" in docker("exec", made, "ip", "-4", "address", "show", "dev", "eth0")
        assert "1 packets received" in docker("run", "--rm", "--network=bridge", NAME, "ping", "-c1", "-W60", address)


def test_an_image_is_built(docker: Engine) -> None:
    """The classic builder runs every RUN as a container."""
    directory = docker.place.directory / "build"
    directory.mkdir()
    (directory / "Dockerfile").write_text(
        f'FROM {NAME}\nARG WHAT\nRUN echo "$WHAT" >/made && id -u >>/made\nUSER alice\nRUN id -un >/tmp/who\n'
        'CMD ["cat", "/made", "/tmp/who"]\n'
    )
    flags = ["--network=none", "--tag=built", "--build-arg=WHAT=this"]
    docker("build", *flags, str(directory))
    assert docker(*RUN, "built") == "this\n0\nalice\n"
    (directory / "Dockerfile").write_text(f"FROM {NAME}\nRUN exit 9\n")
    failed = docker.tried("build", "--network=none", str(directory))
    assert failed.returncode != 0
    assert "returned a non-zero code: 9" in failed.stdout + failed.stderr
    docker("container", "prune", "--force")


COMPOSE = f"""\
version: "2.4"
services:
  web:
    image: {NAME}
    network_mode: none
    command: sleep 1000
    mem_limit: 64m
  other:
    image: {NAME}
    network_mode: service:web
    depends_on: [web]
    command: sleep 1000
"""


def test_compose(docker: Engine) -> None:
    if shutil.which("docker-compose", path=daemons.PATH) is None:
        pytest.skip("needs docker-compose (Debian: apt-get install docker-compose)")
    file = docker.place.directory / "compose.yaml"
    file.write_text(COMPOSE)
    compose = ["docker-compose", *docker.client[1:], f"--file={file}", "--project-name=composed"]
    docker.place.run(*compose, "up", "--detach")
    try:
        assert docker.place.run(*compose, "exec", "-T", "web", "echo", "here") == "here\n"
        web, other = (
            docker("ps", "--quiet", "--no-trunc", f"--filter=name={name}").strip() for name in ("web", "other")
        )
        assert docker.limit(web, "memory") == 64 << 20
        assert inspected(docker, other, ".HostConfig.NetworkMode") == f"container:{web}"
    finally:
        docker.place.run(*compose, "down", "--timeout=0")
