"""What the contenders share: a rootfs, bundles of it, state directories, a mount namespace of the benchmark's own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from attrs import frozen

from benchmarks.contender import Unable
from ocirt import Bundle, Limits, Spec, containers
from ocirt.cgroups import layout
from ocirt.plan.ops import CLONE_NEW

FLOOR = Path(__file__).with_name("floor.c")
STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
V2_CONTROLLERS = Path("/sys/fs/cgroup/unified/cgroup.controllers")


@frozen
class Place:
    """Where everything is."""

    directory: Path
    state: Path
    """State directories of all runtimes; on the tmpfs of /run for root, where theirs are by default."""
    log: IO[bytes]
    """What contenders complained of."""

    def bundle(self, name: str, *args: str, cgroups: bool = True, limits: Limits | None = None) -> Bundle:
        """runc's default configuration for these arguments, without a terminal; or also without its cgroup mount.

        It says to be of a version that Debian's crun and runc know.
        """
        spec = Spec.default()
        assert spec.process is not None
        assert spec.root is not None
        mounts = tuple(mount for mount in spec.mounts if cgroups or mount.type != "cgroup")
        spec = spec.evolve(
            oci_version="1.0.2",
            process=spec.process.evolve(terminal=False, args=args),
            root=spec.root.evolve(path=str(self.rootfs)),
            mounts=mounts,
        )
        if limits is not None and spec.linux is not None and spec.linux.resources is not None:
            resources = limits.resources().evolve(devices=spec.linux.resources.devices)
            spec = spec.evolve(linux=spec.linux.evolve(resources=resources))
        path = self.directory / name
        path.mkdir(exist_ok=True)
        spec.dump(path / "config.json")
        return Bundle(path, spec)

    @property
    def rootfs(self) -> Path:
        """Of busybox alone."""
        directory = self.directory / "rootfs"
        if directory.is_dir():
            return directory
        busybox = shutil.which("busybox")
        if busybox is None:
            raise Unable("needs a static busybox (Debian: apt-get install busybox-static)")
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            (directory / name).mkdir(parents=True)
        shutil.copy(busybox, directory / "bin/busybox")
        for name in ("true", "sleep"):
            (directory / "bin" / name).symlink_to("busybox")
        return directory

    def floor(self, *, cgroups: bool) -> tuple[str, ...]:
        """The command of floor.c, compiled."""
        program = self.directory / "floor"
        if not program.exists():
            compile_floor(program)
        parents = [f"{hierarchy.name}={path}" for hierarchy, path in layout.here().directories]
        return (str(program), str(self.rootfs), *(parents if cgroups else ()))


def compile_floor(program: Path) -> None:
    """:raises Unable: there is no compiler, or it finds fault."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unable("needs a C compiler and libc's headers (Debian: apt-get install gcc libc6-dev)")
    args = [compiler, "-O2", "-static", *STRICT, "-o", str(program), str(FLOOR)]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unable(done.stderr.strip())


def program(name: str) -> str:
    """The path of a runtime.

    :raises Unable: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise Unable(f"{name} is not installed")
    return found


def need_root() -> None:
    """:raises Unable: we are somebody else, for whom each contender does other things, if it does any."""
    if os.geteuid() != 0:
        raise Unable("compared as root only")


@contextmanager
def place() -> Iterator[Place]:
    """Make one; and remove it, with what a contender that failed may have left there."""
    state = "/run" if os.access("/run", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="ocirt-benchmarks-") as directory,
        tempfile.TemporaryDirectory(prefix="ocirt-benchmarks-", dir=state) as states,
        tempfile.TemporaryFile() as log,
    ):
        Path(directory).chmod(0o755)
        try:
            yield Place(Path(directory), Path(states), log)
        finally:
            for container in containers(root=Path(states) / "ocirt"):
                container.delete(force=True)


def enter_own_mount_namespace() -> None:
    """Where all contenders run, so that nothing is changed for anybody else.

    ``/run`` is a tmpfs there, as on every machine that an init system has booted: a small machine may keep it on its
    disk, and then the time of a life is the time of that disk. And crun refuses hybrid mode as long as
    ``cgroup.controllers`` of version 2 names any controller. It uses none of them, so it is enough that it sees an
    empty file there.
    """
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEW["mount"]) < 0:  # os.unshare is there from Python 3.12 on
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    if V2_CONTROLLERS.exists():
        subprocess.run(["mount", "--bind", os.devnull, str(V2_CONTROLLERS)], check=True)
