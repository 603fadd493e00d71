"""Configurations of containers that real engines run, taken over: what such a container sees is what theirs sees."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.spec.engine import EngineConfig
from ocirt.spec.imported import Imported, Note
from tests.engines import daemons
from tests.engines import podman as podmans
from tests.engines.daemons import Engine
from tests.engines.images import NAME
from tests.engines.place import Place

pytestmark = [pytest.mark.root, pytest.mark.engine]

SEE = """
    id -u; id -g; id -G; pwd; hostname; echo "$COLOR $HOSTNAME"
    ulimit -Sn; ulimit -Hn; ulimit -c
    grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status
    cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/ip_unprivileged_port_start
    cat /proc/sys/kernel/domainname
    for path in / /data /vol /home /small /dev/shm /proc /sys /proc/sys /sys/fs/cgroup /etc/hosts; do
        while read -r source place type options rest; do
            test "$place" = $path || continue
            echo "$place $type" $(echo $options | tr , '\\n' | grep -xE 'r[ow]|no(suid|dev|exec)|(size|mode)=.*')
        done </proc/self/mounts
    done
    ls -l /dev/zram | cut -d' ' -f1,5-
    head -c 1 /proc/kcore 2>&1 | wc -c; cat /proc/timer_list 2>&1 | wc -c
    touch /new 2>&1; cat /data/file; touch /data/x 2>&1; cat /vol/file; cat /etc/hosts
    mkdir /tmp/x 2>&1
    ls /sys/class/net
"""
"""What of its surroundings a program may find out."""

LIMITS = """
    for file in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares \\
            pids/pids.max cpuset/cpuset.cpus devices/devices.list; do
        cat /sys/fs/cgroup/$file 2>/dev/null | sort
    done
    cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory.low /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max 2>/dev/null
    echo seen
"""

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["read"], "action": "SCMP_ACT_KILL", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
    ],
}


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with daemons.dockerd() as engine:
        yield engine


def ran(place: Place, spec: Spec, name: str) -> str:
    """What the configuration's program says, run there by ocirt alone."""
    bundle = place.directory / name
    bundle.mkdir()
    spec.dump(bundle / "config.json")
    command = (sys.executable, "-m", "ocirt", "--root", f"/run/{name}", "run", "--bundle", str(bundle), name)
    return place.run(*command)


def taken_over(place: Place, document: str, script: str) -> Imported:
    """From the JSON, looked up there: its root filesystem is mounted in that place alone."""
    code = (
        "import json, sys\nfrom ocirt import Spec, lookup\n"
        "found = Spec.from_docker_inspect(sys.stdin.buffer.read(), lookup.here())\n"
        "print(json.dumps([found.spec.to_json(), found.notes]))"
    )
    made, notes = json.loads(place.run(sys.executable, "-c", code, input=document))
    spec = Spec.from_json(made)
    assert spec.process is not None
    return Imported(
        spec.evolve(process=spec.process.evolve(args=("sh", "-c", script))), tuple(Note(*note) for note in notes)
    )


def test_a_container_taken_over_sees_what_dockers_own_sees(docker: Engine) -> None:
    shared = docker.place.directory / "shared"
    shared.mkdir()
    (shared / "file").write_text("shared\n")
    profile = docker.place.directory / "profile.json"
    profile.write_text(json.dumps(PROFILE))
    flags = [
        *("--network=none", "--memory=64m", "--memory-reservation=32m", "--cpus=0.5", "--cpu-shares=512"),
        *("--pids-limit=50", "--cpuset-cpus=0", "--ulimit=nofile=99:100", "--ulimit=core=-1"),
        *("--device=/dev/null:/dev/zram:rw", "--device-cgroup-rule=c 42:* rwm", "--cap-add=NET_ADMIN"),
        *("--cap-drop=CHOWN", "--user=alice:audio", "--group-add=daemon", "--workdir=/tmp", "--hostname=there"),
        *("--domainname=example", "--env=COLOR=blue", "--sysctl=net.ipv4.ip_default_ttl=77", "--read-only"),
        *("--security-opt=no-new-privileges", f"--security-opt=seccomp={profile}", "--oom-score-adj=100"),
        *("--tmpfs=/home:size=1m,exec", "--mount=type=tmpfs,target=/small,tmpfs-size=4096,tmpfs-mode=0700"),
        *(f"--volume={shared}:/data:ro", "--volume=named:/vol", "--shm-size=8m", "--label=one=two"),
        *("--stop-signal=SIGUSR1", "--add-host=h:192.0.2.1", "--log-opt=max-size=1m", "--restart=on-failure:3"),
    ]
    docker("run", "--rm", "--network=none", "--volume=named:/vol", NAME, "sh", "-c", "echo volume >/vol/file")
    made = docker("run", "--detach", "--name=rich", *flags, NAME, "sleep", "1000").strip()
    try:
        seen = docker("exec", made, "sh", "-c", SEE)
        limits = docker("exec", "--user=0", made, "sh", "-c", LIMITS)
        found = taken_over(docker.place, docker("inspect", made), SEE)
        assert ran(docker.place, found.spec, "taken") == seen
        process = found.spec.process
        assert process is not None
        root = process.evolve(args=("sh", "-c", LIMITS), user=process.user.evolve(uid=0))
        assert ran(docker.place, found.spec.evolve(process=root), "limited") == limits
    finally:
        docker("rm", "--force", "--volumes", made)
        docker("volume", "rm", "named")
    assert "hello" not in seen
    assert {"there", "blue there", "99", "100", "77", "volume", "shared"} <= set(seen.splitlines())
    assert found.spec.annotations == {"one": "two", "org.opencontainers.image.stopSignal": "SIGUSR1"}
    assert sorted(note.path.partition("[")[0] for note in found.notes) == [
        *("GraphDriver.Data.MergedDir", "HostConfig.LogConfig", "HostConfig.RestartPolicy"),
        *("HostnamePath", "HostsPath", "Mounts", "ResolvConfPath"),
    ]


def test_a_privileged_container_with_the_hosts_namespaces(docker: Engine) -> None:
    flags = ["--privileged", "--network=host", "--pid=host", "--ipc=host", "--uts=host"]
    see = """
        grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status
        for name in net pid ipc uts; do readlink /proc/self/ns/$name; done; hostname
        ls /dev | grep -vxE 'console|core' ; mount -t tmpfs t /tmp && echo mounted; head -c 0 /dev/kmsg && echo allowed
    """
    made = docker("run", "--detach", *flags, NAME, "sleep", "1000").strip()
    try:
        seen = docker("exec", "--privileged", made, "sh", "-c", see)
        found = taken_over(docker.place, docker("inspect", made), see)
        said = ran(docker.place, found.spec, "privileged")
    finally:
        docker("rm", "--force", made)
    (theirs, others), (ours, same) = map(_capabilities, (seen, said))
    assert others == same
    assert theirs & ours == theirs  # Docker 20.10 does not know them all
    assert {"mounted", "allowed"} <= set(seen.splitlines())


def _capabilities(seen: str) -> tuple[int, list[str]]:
    """Those that are effective, and what else there was to see."""
    lines = seen.splitlines()
    (effective,) = (line.split()[1] for line in lines if line.startswith("CapEff:"))
    return int(effective, 16), [line for line in lines if not line.startswith("Cap")]


def test_dockers_own_configuration_made_standalone(docker: Engine) -> None:
    """While its container runs, from containerd's directory."""
    made = docker("run", "--detach", "--network=none", "--memory=64m", "--user=alice", NAME, "sleep", "1000").strip()
    try:
        directory = docker.place.run("find", "/run/containerd", "-path", f"*/{made}/config.json").strip()
        standalone = _standalone(docker.place, directory)
        see = "id; hostname; grep -E '^(Cap...|Seccomp):' /proc/self/status; cat /etc/hosts | wc -l; echo $PPID $$"
        inside = docker("exec", made, "sh", "-c", see.replace("$PPID $$", "0 1"))
        said = ran(docker.place, _running(standalone.spec, see.replace("cat /etc/hosts | wc -l", "true")), "standalone")
    finally:
        docker("rm", "--force", made)
    lines = inside.splitlines()
    assert said.splitlines() == [*lines[:-2], lines[-1]]
    told = {note.path for note in standalone.notes}
    assert {"root.path", "linux.cgroupsPath"} <= told
    assert any(path.startswith("hooks.prestart") for path in told)
    spec = standalone.spec.dumps()
    assert "libnetwork" not in spec
    assert f"containers/{made}" not in spec


def _standalone(place: Place, config: str) -> Imported:
    found = Spec.from_engine(f"/proc/{place.pid}/root{config}")  # as it is seen from here
    return EngineConfig(found.spec, str(Path(config).parent)).standalone()


def _running(spec: Spec, script: str) -> Spec:
    assert spec.process is not None
    return spec.evolve(process=spec.process.evolve(args=("sh", "-c", script)))


def test_podmans_configuration_made_standalone() -> None:
    """Of a container that joins another's namespaces: without them it has its own."""
    with podmans.furnished() as place:
        podman = podmans.Podman(place)
        first = podman.started("--hostname=first", podmans.IMAGE, "sleep", "1000")
        second = podman(
            "run",
            "--detach",
            f"--network=container:{first}",
            f"--pid=container:{first}",
            "--volume=v:/v",
            podmans.IMAGE,
            "sleep",
            "1000",
        ).strip()
        try:
            config = podman("inspect", "--format={{.OCIConfigPath}}", second).strip()
            standalone = _standalone(place, config)
            script = "ls /sys/class/net; echo $$; grep -oE ' (/dev/shm|/run/.containerenv|/v) ' /proc/self/mounts"
            said = ran(place, _running(standalone.spec, script), "podmans")
        finally:
            podman("rm", "--force", "--time=0", second)
            podman("rm", "--force", "--time=0", first)
            podman("volume", "rm", "v")
    assert said.splitlines() == ["lo", "1", " /v ", " /dev/shm "]
    became = {note.became for note in standalone.notes}
    assert {"a new network namespace", "a new pid namespace", "a tmpfs of its own, of 64 MiB", "kept"} <= became
    assert not any(name.startswith("io.podman") for name in standalone.spec.annotations)


def test_containerds_configuration_made_standalone() -> None:
    """Its root filesystem is beside the file, by a relative path."""
    with daemons.containerd() as ctr:
        program = f"--runc-binary={ctr.place.log.program}"
        ctr("run", "--runtime=io.containerd.runc.v2", program, "--detach", NAME, "short", "sleep", "1000")
        try:
            config = ctr.place.run("find", "/run/containerd", "-path", "*/short/config.json").strip()
            standalone = _standalone(ctr.place, config)
            said = ran(
                ctr.place, _running(standalone.spec, "id -un; test -x /bin/sleep && echo there; echo $$"), "ctrs"
            )
        finally:
            ctr("task", "kill", "--signal=KILL", "short")
            ctr("task", "delete", "--force", "short")
            ctr("container", "delete", "short")
    assert said.splitlines() == ["root", "there", "1"]
    assert standalone.spec.root.path == str(Path(config).parent / "rootfs")
    assert {note.path for note in standalone.notes} == {"root.path", "linux.cgroupsPath"}
