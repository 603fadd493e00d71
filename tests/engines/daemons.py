"""containerd and dockerd in a place of their own, with ocirt as their runtime and busybox as the one image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen

from ocirt.cgroups import layout
from tests import support
from tests.engines.images import busybox_image
from tests.engines.place import Person, Place, place
from tests.engines.terminal import COLUMNS, ROWS, terminal
from tests.support import eventually

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian's programs and no others of the same name."""

PAUSE = "localhost/pause:latest"
"""What holds the namespaces of a pod."""

CONTAINERD = """\
version = 2
root = "{directory}/root"
state = "/run/containerd"
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "ocirt"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ocirt]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ocirt.options]
BinaryName = "{program}"
Root = "/run/ocirt"
SystemdCgroup = false
"""


NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.77.0/24"}]]}}],
}
"""A pair of devices for each pod, one end in the place and one in the pod (www.cni.dev, ptp plugin)."""

LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
    "cpu": ("cpu.cfs_quota_us", "cpu.max"),
}
"""Files of version 1 and 2 of cgroups."""


CONVERSE = (
    *("sh", "-c"),
    f"""tty; until [ "$(stty size)" = "{ROWS} {COLUMNS}" ]; do sleep 0.1; done
    echo sized; read line; echo got $line; exit 4""",
)
"""Engines tell the size once the program runs."""


@frozen
class Engine:
    """A client whose daemon runs in this place."""

    place: Place
    client: tuple[str, ...]
    cgroup: str
    """All cgroups of its containers are below this one, in every hierarchy."""

    def tried(self, *args: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return self.place.tried(*self.client, *args, input=input)

    def __call__(self, *args: str, input: str = "") -> str:
        return self.place.run(*self.client, *args, input=input)

    def command(self, *args: str) -> list[str]:
        return self.place.command(*self.client, *args)

    def limit(self, container: str, controller: str) -> int:
        """What the kernel has for a container: bytes, tasks, or microseconds of each 0.1 s."""
        hierarchies = layout.here().layout.hierarchies
        one, two = LIMITS[controller]
        (mountpoint, file) = next(
            (found.mountpoint, one if found.version == 1 else two)
            for found in hierarchies
            if controller in found.controllers or (found.version == 2 and len(hierarchies) == 1)
        )
        (directory,) = Path(mountpoint, self.cgroup).rglob(container)
        return int((directory / file).read_text().split()[0])


@contextmanager
def containerd() -> Iterator[Engine]:
    """ctr, whose namespace names the cgroup; both images are known to Kubernetes' part too."""
    with _place() as (there, name), _containerd(there, name) as engine:
        image = str(busybox_image().docker_archive(there.directory / "image.tar"))
        pause = busybox_image({"Cmd": ["sleep", "inf"]}).docker_archive(there.directory / "pause.tar", PAUSE)
        engine("images", "import", image)
        for archive in (image, str(pause)):
            engine("--namespace=k8s.io", "images", "import", archive)
        yield engine


@contextmanager
def dockerd() -> Iterator[Engine]:
    """docker, with a bridge if the kernel has what it takes.

    containerd is started as ever: the one that dockerd would start makes a directory in /opt.
    """
    _need("dockerd", "docker", package="docker.io")
    with _place() as (there, name), _containerd(there, name):
        directory = there.directory
        config = {
            "runtimes": {"ocirt": {"path": str(there.log.program)}},
            "default-runtime": "ocirt",
            "containerd": f"{directory}/containerd.sock",
            "data-root": f"{directory}/root/docker",
            "exec-root": "/run/docker",
            "pidfile": f"{directory}/docker.pid",
            "hosts": [f"unix://{directory}/docker.sock"],
            "deprecated-key-path": f"{directory}/key.json",  # /etc/docker otherwise
            "cgroup-parent": f"/{name}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "shutdown-timeout": 1,
            **({} if has_bridges(there) else {"bridge": "none", "iptables": False}),
        }
        (directory / "daemon.json").write_text(json.dumps(config), "utf-8")
        engine = Engine(there, ("docker", f"--host=unix://{directory}/docker.sock"), name)
        with _daemon(engine, ["dockerd", f"--config-file={directory}/daemon.json"]):
            engine("load", "--input", str(busybox_image().docker_archive(directory / "image.tar")))
            yield engine


def has_bridges(there: Place) -> bool:
    """Whether dockerd can make its usual network here."""
    script = "iptables -t nat -S && ip link add probe type bridge && ip link del probe"
    return there.tried("sh", "-c", script).returncode == 0


def called_nobody_else(engine: Engine) -> None:
    """The proof that it was ocirt that ran all these containers."""
    log = engine.place.log
    assert log.others() == []
    assert "create" in log.commands()


def converse(command: list[str]) -> None:
    """A program, CONVERSE, has a terminal of the right size, on which it understands and is understood."""
    with terminal(command) as shown:
        for text in ("/dev/pts/0", "sized"):
            shown.expect(text)
        shown.type("word\n")
        shown.expect("got word")
        assert shown.left() == 4


@contextmanager
def _place() -> Iterator[tuple[Place, str]]:
    """A place with storage in memory, and a name for its cgroups, which are removed."""
    if support.busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    with ExitStack() as last, place() as there:
        name = f"oe-{there.pid}"
        last.callback(_remove_cgroups, name)
        there.memory_on(there.directory / "root", options="mode=711")
        yield there.by(Person(there.directory, {"PATH": PATH})), name


@contextmanager
def _containerd(there: Place, name: str) -> Iterator[Engine]:
    _need("containerd", "ctr", "containerd-shim-runc-v2", package="containerd")
    config = there.directory / "config.toml"
    config.write_text(CONTAINERD.format(directory=there.directory, program=there.log.program, pause=PAUSE), "utf-8")
    networks = there.directory / "cni"
    networks.mkdir()
    (networks / "pods.conflist").write_text(json.dumps(NETWORK), "utf-8")
    engine = Engine(there, ("ctr", f"--address={there.directory}/containerd.sock", f"--namespace={name}"), name)
    with _kept_in_memory(there, "/var/lib/cni"), _daemon(engine, ["containerd", f"--config={config}"]):
        yield engine


@contextmanager
def _kept_in_memory(there: Place, directory: str) -> Iterator[None]:
    """Where no setting moves it; and the machine has no such directory afterwards that had none before."""
    known = os.path.isdir(directory)
    there.memory_on(directory)
    try:
        yield
    finally:
        if not known:
            os.rmdir(directory)


@contextmanager
def _daemon(engine: Engine, command: list[str]) -> Iterator[None]:
    """Wait until it answers. It ends with the place, by force: the tests have seen what it did by then."""
    there = engine.place
    log = there.directory / f"{command[0]}.log"
    with log.open("wb") as file, subprocess.Popen(there.command(*command), stdout=file, stderr=file) as daemon:
        try:
            eventually(
                lambda: daemon.poll() is not None or engine.tried("version").returncode == 0, f"{command[0]} answers"
            )
            if daemon.returncode is not None:
                pytest.skip(f"{command[0]} does not run here: {log.read_text('utf-8').strip().splitlines()[-1]}")
            yield
        finally:
            there.end()


def _need(*programs: str, package: str) -> None:
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (Debian: apt-get install {package})")


def _remove_cgroups(name: str) -> None:
    """Of processes that have ended; the kernel may need a moment to see that."""
    for hierarchy in layout.here().layout.hierarchies:
        for directory, _, _ in os.walk(Path(hierarchy.mountpoint, name), topdown=False):
            eventually(partial(_removed, directory), f"{directory} is empty")


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
