"""podman, by root: what it does with a container works when ocirt is its runtime, and nothing else is called.

Also a reader's list of what ocirt is asked for: tests name podman's commands, podman.log the runtime's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engines.images import tar
from tests.engines.place import Place
from tests.engines.podman import IMAGE, Podman, furnished, need, skip_if_it_was_the_engines, states, watched
from tests.engines.terminal import COLUMNS, ROWS, terminal
from tests.support import eventually, make_rootfs

pytestmark = [pytest.mark.root, pytest.mark.engine]


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    with furnished() as made:
        yield made


@pytest.fixture
def podman(there: Place) -> Iterator[Podman]:
    with watched(Podman(there)) as made:
        yield made


def test_a_container_names_ocirt_as_its_runtime(podman: Podman) -> None:
    before = len(podman.place.log.commands())
    container = podman("create", "--network=none", IMAGE, "true").strip()
    assert podman.inspected(container)["OCIRuntime"] == "ocirt"
    assert podman("start", "--attach", container) == ""
    podman("rm", container)
    called = [command for command in podman.place.log.commands()[before:] if command != "state"]
    assert called == ["create", "start", "delete"]
    info = json.loads(podman("info", "--format=json"))["host"]["ociRuntime"]
    assert (info["name"], info["path"]) == ("ocirt", str(podman.place.log.program))
    assert info["version"].startswith("ocirt version ")


def test_streams_and_the_status_are_the_programs(podman: Podman) -> None:
    done = podman.tried(
        "run", "--rm", "-i", "--network=none", IMAGE, "sh", "-c", "cat; echo no >&2; exit 3", input="yes"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "yes", "no\n")


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--no-such-flag", IMAGE], 125, "unknown flag"),
        (["--sysctl=kernel.no_such=1", "--uts=private", IMAGE, "true"], 125, "kernel.no_such"),
        ([IMAGE, "/etc/passwd"], 126, "permission denied"),
        ([IMAGE, "/etc"], 126, "is a directory"),
        ([IMAGE, "no-such"], 127, 'exec: "no-such": executable file not found in $PATH'),
        ([IMAGE, "/no/such"], 127, "no such file or directory"),
        ([IMAGE, "sh", "-c", "kill -TERM -1; sleep 1000 & kill -KILL $!; wait $!"], 137, ""),
    ],
)
def test_the_exit_status_says_whose_failure_it_was(podman: Podman, args: list[str], status: int, words: str) -> None:
    """podman-run(1), Exit Status: told by ocirt's words in its log."""
    done = podman.tried("run", "--rm", "--network=none", *args)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr


def test_without_a_log_podman_reads_standard_error(podman: Podman) -> None:
    """By its path, the runtime is none of which podman knows that it writes JSON."""
    other = podman.place.log.directory / "named-otherwise"
    other.symlink_to(podman.place.log.program)
    before = len(podman.place.log.calls())
    done = podman.tried(f"--runtime={other}", "run", "--rm", "--network=none", IMAGE, "no-such")
    assert (done.returncode, "executable file not found in $PATH" in done.stderr) == (127, True), done.stderr
    assert not any("--log" in call for call in podman.place.log.calls()[before:])


def test_a_person_at_a_terminal(podman: Podman) -> None:
    command = podman.place.command("podman", "run", "-it", "--rm", "--network=none", "--name=tty", IMAGE)
    with terminal(command) as person:
        person.expect("/ # ")
        person.type("tty; stty size; echo $((6 * 7))\n")
        person.expect("/dev/pts/0")
        person.expect(f"{ROWS} {COLUMNS}")
        person.expect("42")
        with terminal(podman.place.command("podman", "exec", "-it", "tty", "sh")) as another:
            another.expect("/ # ")
            another.type("tty; exit 4\n")
            another.expect("/dev/pts/1")
            assert another.left() == 4
        person.type("exit 5\n")
        assert person.left() == 5


def test_attach_sees_what_a_terminal_shows(podman: Podman) -> None:
    podman.started("-it", "--name=shell", IMAGE)
    with terminal(podman.place.command("podman", "attach", "shell")) as person:
        person.type("echo $((6 * 7))\n")
        person.expect("42")
        person.type("exit\n")
        assert person.left() == 0


def test_a_detached_life(podman: Podman) -> None:
    """Looked at, frozen, told things and stopped."""
    script = "trap 'echo got it' USR1; trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 1000 & wait $!; done"
    container = podman.started("--name=life", IMAGE, "sh", "-c", script)
    eventually(lambda: podman.logs("life") == "up\n", "the trap is set")
    assert podman("ps", "--format={{.ID}} {{.Names}}", "--no-trunc") == f"{container} life\n"
    assert states(podman.place) == [container]
    seen = ["PID", "COMMAND", "1", "sh", "2", "sleep"]
    eventually(lambda: podman("top", "life", "pid", "comm").split() == seen, "it sleeps")
    assert "sleep 1000" in podman("top", "life", "-ef")
    stats = json.loads(podman("stats", "--no-stream", "--format=json", "life"))[0]
    assert (stats["name"], int(stats["pids"]) >= 2) == ("life", True)
    podman("kill", "--signal=USR1", "life")
    eventually(lambda: podman.logs("life") == "up\ngot it\n", "the signal is there")
    podman("pause", "life")
    assert podman.state("life")["Status"] == "paused"
    podman("unpause", "life")
    assert podman.state("life")["Status"] == "running"
    podman("stop", "--time=60", "life")
    assert podman("wait", "life") == "7\n"
    assert podman.logs("life") == "up\ngot it\nbye\n"
    podman("start", "life")
    podman("restart", "--time=0", "life")
    assert podman.state("life")["Status"] == "running"
    podman("kill", "life")
    assert podman("wait", "life") == "137\n"


def test_executed_processes(podman: Podman) -> None:
    podman.started("--name=main", "--env=A=b", IMAGE, "sleep", "1000")
    assert podman("exec", "main", "sh", "-c", "echo $A; pwd; id -u").split() == ["b", "/", "0"]
    assert podman(
        "exec", "-i", "--user=alice", "--workdir=/tmp", "--env=A=c", "main", "sh", input="pwd; id; echo $A"
    ) == ("/tmp\nuid=1000(alice) gid=1000(alice) groups=29(audio)\nc\n")
    assert podman.tried("exec", "main", "sh", "-c", "exit 9").returncode == 9
    missing = podman.tried("exec", "main", "no-such")
    assert (missing.returncode, "executable file not found in $PATH" in missing.stderr) == (127, True)
    assert podman.tried("exec", "main", "/etc/passwd").returncode == 126
    assert podman.tried("exec", "main", "sh", "-c", "kill -KILL $$").returncode == 137
    podman("exec", "--detach", "main", "touch", "/there")
    eventually(lambda: podman.tried("exec", "main", "test", "-e", "/there").returncode == 0, "it was executed")
    assert "Seccomp:\t2" in podman("exec", "main", "cat", "/proc/self/status")
    assert "CapEff:\t000001" in podman("exec", "--privileged", "main", "cat", "/proc/self/status")


def test_many_at_once_keep_their_statuses(podman: Podman) -> None:
    podman.started("--name=busy", IMAGE, "sleep", "1000")
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda status: podman.tried("exec", "busy", "sh", "-c", f"exit {status}"), range(1, 5))
    assert [each.returncode for each in done] == [1, 2, 3, 4]


def test_what_is_paused_can_be_killed(podman: Podman) -> None:
    podman.started("--name=paused", IMAGE, "sleep", "1000")
    podman("pause", "paused")
    assert podman.tried("exec", "paused", "true").returncode != 0
    podman("kill", "paused")
    assert podman("wait", "paused") == "137\n"


def test_limits_are_the_kernels(podman: Podman) -> None:
    limits = ["--memory=64m", "--cpus=0.5", "--pids-limit=20", "--cpu-shares=512", "--cpuset-cpus=0"]
    container = podman.started(*limits, IMAGE, "sleep", "1000")
    assert cgroup_files(podman, container) == ("67108864", "50000 100000", "20")
    podman("update", "--memory=32m", "--cpus=0.3", container)
    assert cgroup_files(podman, container) == ("33554432", "30000 100000", "20")
    assert "update" in podman.place.log.commands()
    podman("rm", "--force", "--time=0", container)
    container = podman.started("--pids-limit=-1", IMAGE, "sleep", "1000")
    assert cgroup_files(podman, container)[2] == "max"


def test_too_much_memory_is_the_end(podman: Podman) -> None:
    """Of conmon's own account, ``OOMKilled``, nothing is said: on version 1 it misses it with runc as well."""
    hungry = "x=$(yes | head -c 100000000); echo survived"
    done = podman.tried("run", "--rm", "--network=none", "--memory=20m", IMAGE, "sh", "-c", hungry)
    assert (done.returncode, done.stdout) == (137, ""), done


def test_without_cgroups_of_its_own(podman: Podman) -> None:
    output = podman.run("--cgroups=disabled", "--cgroupns=host", IMAGE, "cat", "/proc/self/cgroup")
    assert output.splitlines() == podman.place.run("cat", "/proc/self/cgroup").splitlines()
    (create,) = [call for call in podman.place.log.calls() if "disabled" in call]
    assert create[create.index("disabled") - 1] == "--cgroup-manager"


def test_mounts(podman: Podman) -> None:
    volume = podman.place.directory / "volume"
    volume.mkdir()
    (volume / "file").write_text("data\n")
    write = "echo x >/v/new; (echo y >/again/new) 2>/dev/null || echo read-only"
    script = f"cat /v/file /again/file; {write}; grep -c ' /t ' /proc/mounts"
    output = podman.run(
        *(f"--volume={volume}:/v:z", f"--volume={volume}:/again:ro,rslave", "--tmpfs=/t:size=1m,mode=1777"),
        *("--volume=named:/etc:nocopy", "--mount=type=bind,source=/etc/hostname,destination=/h,ro", "--shm-size=1m"),
        *(IMAGE, "sh", "-c", script),
    )
    assert output == "data\ndata\nread-only\n1\n"
    assert (volume / "new").read_text() == "x\n"
    assert podman("volume", "ls", "--quiet") == "named\n"
    podman("volume", "rm", "named")


def test_a_read_only_root_has_its_places_to_write(podman: Podman) -> None:
    script = "touch /x 2>/dev/null || echo refused; touch /tmp/x /run/x /dev/shm/x && echo written"
    assert podman.run("--read-only", IMAGE, "sh", "-c", script) == "refused\nwritten\n"


def test_who_the_program_is(podman: Podman) -> None:
    assert podman.run("--user=alice", IMAGE, "id") == "uid=1000(alice) gid=1000(alice) groups=29(audio),1000(alice)\n"
    assert podman.run("--user=5:6", "--group-add=7", IMAGE, "id") == "uid=5(5) gid=6(6) groups=6(6),7\n"
    settings = ["--hostname=named", "--env=A=b", "--workdir=/home/alice", "--umask=0077", "--oom-score-adj=300"]
    more = ["--ulimit=nofile=100:200", "--ulimit=nproc=50:60", "--sysctl=net.ipv4.ip_forward=1"]
    script = "hostname; echo $A; pwd; umask; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; ulimit -n"
    assert podman.run(*settings, *more, IMAGE, "sh", "-c", script).split() == [
        *("named", "b", "/home/alice", "0077", "300", "1", "100"),
    ]


def test_what_the_program_may(podman: Podman) -> None:
    chown = 1 << 0
    status = ["grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status"]
    assert podman.run("--cap-drop=all", "--cap-add=chown", IMAGE, *status).split() == [
        *("CapEff:", f"{chown:016x}", "CapBnd:", f"{chown:016x}", "NoNewPrivs:", "0", "Seccomp:", "2"),
    ]
    free = podman.run("--security-opt=seccomp=unconfined", "--security-opt=no-new-privileges", IMAGE, *status).split()
    assert free[-4:] == ["NoNewPrivs:", "1", "Seccomp:", "0"]
    privileged = podman.run("--privileged", IMAGE, "sh", "-c", "ls /dev | wc -l; mount -t tmpfs t /tmp && echo mounted")
    assert privileged.endswith("mounted\n")
    assert int(privileged.split()[0]) > 20


def test_a_seccomp_profile_of_the_users(podman: Podman) -> None:
    profile = podman.place.directory / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = podman.tried("run", "--rm", "--network=none", f"--security-opt=seccomp={profile}", IMAGE, "mkdir", "/x")
    assert (done.returncode, done.stderr) == (1, "mkdir: can't create directory '/x': Operation not supported\n")


def test_a_device_and_its_permissions(podman: Podman) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("needs a device that no container has of itself: /dev/fuse")
    script = "(exec 3</dev/mine) && echo read; (exec 3>/dev/mine) 2>/dev/null || echo refused"
    assert podman.run("--device=/dev/fuse:/dev/mine:r", IMAGE, "sh", "-c", script).split() == ["read", "refused"]


def test_an_init_of_podmans(podman: Podman) -> None:
    if not Path("/usr/libexec/podman/catatonit").exists():
        pytest.skip("needs /usr/libexec/podman/catatonit (Debian: apt-get install catatonit)")
    assert podman.run("--init", IMAGE, "cat", "/proc/1/comm") == "podman-init\n"


def test_descriptors_are_handed_on(podman: Podman) -> None:
    reader, writer = os.pipe()
    try:
        done = podman.place.tried(
            *("sh", "-c", f'exec podman "$@" 3>/proc/self/fd/{writer}', "sh"),
            *("run", "--rm", "--network=none", "--preserve-fds=1", IMAGE, "sh", "-c", "echo through >&3"),
            pass_fds=(writer,),
        )
    finally:
        os.close(writer)
    with open(reader, "rb") as pipe:
        assert (done.returncode, pipe.read()) == (0, b"through\n"), done.stderr


def test_user_namespaces(podman: Podman) -> None:
    volume = podman.place.directory / "mapped"
    volume.mkdir()
    script = "cat /proc/self/uid_map; touch /v/mine; stat -c %u /v /v/mine"
    mappings = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000"]
    assert podman.run(*mappings, f"--volume={volume}:/v:U", IMAGE, "sh", "-c", script).split() == [
        *("0", "100000", "5000", "0", "0"),
    ]
    assert (volume / "mine").stat().st_uid == 100000
    volume.chmod(0o777)
    os.chown(volume, 0, 0)
    assert podman.run(*mappings, f"--volume={volume}:/v:idmap", IMAGE, "stat", "-c", "%u", "/v") == "0\n"


def test_namespaces_of_the_hosts(podman: Podman) -> None:
    kinds = ("pid", "ipc", "uts", "net", "cgroup")
    look = ["sh", "-c", f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done"]
    host = podman.place.run(*look).split()
    shared = ["--pid=host", "--ipc=host", "--uts=host", "--network=host", "--cgroupns=host"]
    assert podman("run", "--rm", *shared, IMAGE, *look).split() == host
    private = podman("run", "--rm", "--network=none", "--cgroupns=private", IMAGE, *look).split()
    assert not set(private) & set(host)


def test_a_container_of_no_image(podman: Podman) -> None:
    """--rootfs, itself and below an overlay."""
    rootfs = make_rootfs(podman.place.directory / "rootfs")
    run = ["run", "--rm", "--network=none"]
    podman(*run, "--rootfs", f"{rootfs}:O", "touch", "/above")
    assert not (rootfs / "above").exists()
    podman(*run, "--rootfs", str(rootfs), "touch", "/itself")
    assert (rootfs / "itself").exists()


def test_files_go_in_and_out_and_become_an_image(podman: Podman) -> None:
    """What podman does to a running container beside the runtime, pausing it meanwhile."""
    container = podman.started(IMAGE, "sleep", "1000")
    podman("cp", "-", f"{container}:/tmp", input=tar({"note": b"copied\n"}).decode("latin-1"))
    assert podman("exec", container, "cat", "/tmp/note") == "copied\n"
    before = len(podman.place.log.commands())
    podman("commit", "--quiet", "--pause", container, "localhost/committed")
    assert [command for command in podman.place.log.commands()[before:] if command != "state"] == ["pause", "resume"]
    assert podman.run("localhost/committed", "cat", "/tmp/note") == "copied\n"
    podman("rmi", "--force", "localhost/committed")


def test_a_pod_shares_its_namespaces(podman: Podman) -> None:
    if not Path("/usr/libexec/podman/catatonit").exists():
        pytest.skip("the pause image needs /usr/libexec/podman/catatonit (Debian: apt-get install catatonit)")
    podman("pod", "create", "--name=pod", "--network=none", "--hostname=shared", "--memory=64m")
    podman("run", "--detach", "--pod=pod", "--name=one", IMAGE, "sleep", "1000")
    podman("run", "--detach", "--pod=pod", "--name=two", IMAGE, "sleep", "1000")
    look = ["sh", "-c", "hostname; for kind in net ipc uts; do readlink /proc/self/ns/$kind; done"]
    assert podman("exec", "one", *look) == podman("exec", "two", *look)
    assert podman("exec", "one", "hostname") == "shared\n"
    podman("pod", "pause", "pod")
    assert podman.state("two")["Status"] == "paused"
    podman("pod", "unpause", "pod")
    podman("pod", "kill", "pod")
    eventually(lambda: podman("pod", "inspect", "pod", "--format={{.State}}") == "Exited\n", "all have ended")
    podman("pod", "rm", "pod")


def test_another_containers_namespaces(podman: Podman) -> None:
    podman.started("--name=first", IMAGE, "sleep", "1000")
    joined = ["run", "--rm", "--pid=container:first", "--network=container:first", "--ipc=container:first"]
    assert "sleep 1000" in podman(*joined, IMAGE, "ps")


def test_a_health_check(podman: Podman) -> None:
    check = ["--health-cmd=test -e /healthy || exit 1", "--health-interval=disable", "--health-retries=1"]
    podman.started("--name=patient", *check, IMAGE, "sleep", "1000")
    assert podman.tried("healthcheck", "run", "patient").returncode == 1
    podman("exec", "patient", "touch", "/healthy")
    podman("healthcheck", "run", "patient")
    assert podman("container", "inspect", "patient", "--format={{.State.Health.Status}}") == "healthy\n"


def test_a_bridge(podman: Podman) -> None:
    """podman makes the network namespace and names it; ocirt joins it."""
    before = len(podman.place.log.calls())
    started = podman.tried("run", "--detach", "--name=server", IMAGE, "nc", "-l", "-p", "7", "-e", "echo", "hello")
    skip_if_it_was_the_engines(podman.place, started, before)
    assert started.returncode == 0, started.stderr
    address = podman("container", "inspect", "server", "--format={{.NetworkSettings.IPAddress}}").strip()
    assert address.startswith("10.88.")
    script = f"until nc {address} 7 </dev/null 2>/dev/null; do sleep 0.1; done"
    assert podman("run", "--rm", IMAGE, "sh", "-c", script) == "hello\n"


def test_hooks_of_a_directory(podman: Podman) -> None:
    """oci-hooks(5)"""
    folder = podman.place.directory / "hooks"
    folder.mkdir()
    # All but startContainer, whose program is looked for in the container.
    for stage in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        script = folder / f"{stage}.sh"
        script.write_text(f"#!/bin/sh\ncat >{folder}/new && mv {folder}/new {folder}/{stage}.state\n")
        script.chmod(0o755)
        hook = {"version": "1.0.0", "hook": {"path": str(script)}, "when": {"always": True}, "stages": [stage]}
        (folder / f"{stage}.json").write_text(json.dumps(hook))
    podman(f"--hooks-dir={folder}", "run", "--rm", "--network=none", "--name=hooked", IMAGE, "true")
    eventually((folder / "poststop.state").exists, "the last hook has run")
    told = {path.stem: json.loads(path.read_text())["status"] for path in folder.glob("*.state")}
    assert told == {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "poststart": "running",
        "poststop": "stopped",
    }


def test_checkpoint_and_restore(podman: Podman) -> None:
    need("criu")
    unable = podman.place.tried("criu", "check")
    if unable.returncode != 0:
        pytest.skip(f"criu check: {unable.stderr.strip().splitlines()[-1]}")
    container = podman.started(IMAGE, "sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done")
    eventually(lambda: podman.logs(container) != "", "it counts")
    podman("container", "checkpoint", container)
    seen = podman.logs(container).splitlines()
    podman("container", "restore", container)
    eventually(lambda: len(podman.logs(container).splitlines()) > len(seen), "it goes on")
    assert podman.logs(container).splitlines()[len(seen)] == str(len(seen) + 1)


def cgroup_files(podman: Podman, container: str) -> tuple[str, ...]:
    """Limits of memory, CPU time and tasks, from where its init is."""
    pid = podman.state(container)["Pid"]
    lines = podman.place.run("cat", f"/proc/{pid}/cgroup").splitlines()
    places = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    if "memory" not in places:
        folder = Path(f"/sys/fs/cgroup{places['']}")
        return tuple((folder / name).read_text().strip() for name in ("memory.max", "cpu.max", "pids.max"))
    v1 = Path("/sys/fs/cgroup")
    cpu = v1 / f"cpu{places['cpu']}"
    return (
        (v1 / f"memory{places['memory']}/memory.limit_in_bytes").read_text().strip(),
        " ".join((cpu / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")),
        (v1 / f"pids{places['pids']}/pids.max").read_text().strip(),
    )
