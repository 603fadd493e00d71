"""What tests of real containers share: a root filesystem, configurations for it, and a look at what was left."""

from __future__ import annotations

import gc
import itertools
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from io import FileIO
from pathlib import Path
from subprocess import PIPE, STDOUT

from attrs import Factory, define

from ocirt import Bundle, Container, Spec, containers, filters
from ocirt.cgroups import layout
from ocirt.errors import OCIError
from ocirt.preparation import CgroupManager
from ocirt.process import reap_abandoned
from ocirt.spec import Linux, Namespace, Process
from ocirt.streams import Stream

SECONDS = 60
"""Nothing here takes a tenth of it, on the slowest machine; what takes longer hangs."""

_numbers = itertools.count(1)


def busybox() -> str | None:
    """A busybox that needs no shared library."""
    found = shutil.which("busybox")
    if found is None:
        return None
    dynamic = b"/ld-linux" in Path(found).read_bytes()
    return None if dynamic else found


def busybox_names(program: str) -> list[str]:
    """All but its own."""
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in names if name != "busybox"]


def make_rootfs(directory: Path) -> Path:
    """A root filesystem of busybox alone, with all its names; like an image's, open to everybody."""
    program = busybox()
    assert program is not None
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (directory / name).mkdir(parents=True)
    shutil.copy(program, directory / "bin/busybox")
    for name in busybox_names(program):
        (directory / "bin" / name).symlink_to("busybox")
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755)
    (directory / "tmp").chmod(0o1777)
    return directory


def process(*args: str, **changes: object) -> Process:
    """runc's default process, without its terminal."""
    base = Spec.default().process
    assert base is not None
    return base.evolve(terminal=False, args=args, **changes)


def document(*args: str, **changes: object) -> Spec:
    """runc's default configuration for these arguments, without a terminal."""
    return Spec.default().evolve(**{"process": process(*args), **changes})


def linux(**changes: object) -> Linux:
    """runc's default ``linux`` with some members changed."""
    base = Spec.default().linux
    assert base is not None
    return base.evolve(**changes)


def namespaces(*types: str, **paths: str) -> tuple[Namespace, ...]:
    """Those to be created, and those to be joined."""
    created = tuple(Namespace(type_) for type_ in types)
    return (*created, *(Namespace(type_, path) for type_, path in paths.items()))


def shell(script: str, **changes: object) -> Spec:
    """A configuration that runs a script of busybox's shell."""
    return document("sh", "-c", script, **changes)


@define
class Lab:
    """A place for the containers of one test: a state root of its own, ids of its own, and a rootfs."""

    directory: Path
    rootfs: Path
    manager: CgroupManager = "cgroupfs"
    """Who makes the cgroups, of those containers that ``create`` makes."""
    ids: list[str] = Factory(list)

    @property
    def root(self) -> Path:
        return self.directory / "state"

    def new_id(self) -> str:
        """One that no other test, running at the same time, may have."""
        container_id = f"test-{os.getpid()}-{next(_numbers)}"
        self.ids.append(container_id)
        return container_id

    def bundle(self, spec: Spec) -> Bundle:
        """Of this test's rootfs, unless ``spec`` names another."""
        path = self.directory / f"bundle-{next(_numbers)}"
        path.mkdir()
        if spec.root.path == "rootfs":
            spec = spec.evolve(root=spec.root.evolve(path=str(self.rootfs)))
        spec.dump(path / "config.json")
        return Bundle(path, spec)

    def create(
        self,
        spec: Spec,
        *,
        id: str | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = None,
        die_with_parent: bool = False,
        pass_fds: Collection[int] = (),
    ) -> Container:
        """A created container."""
        return Container.create(
            id if id is not None else self.new_id(),
            self.bundle(spec),
            root=self.root,
            cgroup_manager=self.manager,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            die_with_parent=die_with_parent,
            pass_fds=pass_fds,
        )

    def start(self, spec: Spec, *, stdin: Stream = subprocess.DEVNULL, stdout: Stream = PIPE) -> Container:
        """A running container; its output is a pipe."""
        container = self.create(spec, stdin=stdin, stdout=stdout, stderr=STDOUT)
        try:
            container.start()
        except BaseException:
            if container.process is not None:
                container.process.close()
            raise
        return container

    def output(self, spec: Spec) -> str:
        """What a container wrote, to both streams, in the life that it had for this."""
        with self.create(spec, stdout=PIPE, stderr=STDOUT) as container:
            container.start()
            return said(container)

    def load(self, container: Container | str) -> Container:
        """As another process would find it."""
        return Container.load(container if isinstance(container, str) else container.id, root=self.root)

    def sweep(self) -> None:
        """Delete what a test left on purpose."""
        for container in containers(root=self.root):
            container.delete(force=True)

    def cgroups(self) -> list[str]:
        """The directories of our containers' cgroups, in all hierarchies."""
        own = {*self.ids, *(f"ocirt-{id}.scope" for id in self.ids)}
        slices = {f"{hierarchy.mountpoint}/system.slice" for hierarchy in layout.here().layout.hierarchies}
        parents = {*(directory for _, directory in layout.here().directories), *filter(os.path.isdir, slices)}
        return sorted(entry.path for parent in parents for entry in os.scandir(parent) if entry.name in own)

    def remains(self) -> list[str]:
        """Whatever of this lab's containers is still on the machine; compiled filters are kept on purpose."""
        names = set(os.listdir(self.root) if self.root.is_dir() else []) - {filters.NAME}
        state = [f"state {name}" for name in names]
        cgroups = [f"cgroup {path}" for path in self.cgroups()]
        return [*state, *cgroups, *(f"mount {line}" for line in host_mounts() if str(self.directory) in line)]


def said(container: Container) -> str:
    """All output of a container that was created with its output in a pipe."""
    assert container.process is not None
    output, _ = container.process.communicate(timeout=SECONDS)
    assert output is not None
    return output.decode()


def host_mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text("utf-8").splitlines()


def children() -> list[str]:
    """Of this process, zombies too."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.rpartition(") ")[2].split()[1]) == os.getpid():
            found.append(f"child {stat.rpartition(')')[0]})")
    return found


def open_files() -> dict[str, str]:
    """Descriptors of this process and what they are; but for the init program, of which each process keeps one."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the directory's own, while it was listed
            continue
        if not target.startswith("/memfd:ocirt-init"):
            found[name] = target
    return found


@define
class Caller:
    """What of this process a container's life must not change."""

    files: dict[str, str]
    children: list[str]
    threads: int

    @classmethod
    def now(cls) -> Caller:
        gc.collect()
        reap_abandoned()
        return cls(open_files(), children(), threading.active_count())


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for what the kernel does in its own time."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def is_let_go(other: FileIO) -> bool:
    """Nobody has the other end of this pipe any more; or soon, since the kernel closes files in its own time."""
    ready, _, _ = select.select([other], [], [], SECONDS)
    return bool(ready) and other.read(1) == b""


def checked(lab: Lab) -> Iterator[Lab]:
    """Hand out a lab, and see that a test has left nothing behind once its containers are deleted."""
    before = Caller.now()
    gc.freeze()  # what thousands of tests have left alive need not be looked at for each of the next
    yield lab
    lab.sweep()
    eventually(lambda: Caller.now().children == before.children, f"children are gone: {Caller.now().children}")
    assert lab.remains() == []
    assert Caller.now() == before


def error_of(operation: Callable[[], object]) -> OCIError | None:
    """How it failed in a typed way, if it did; anything else is a bug and goes on."""
    try:
        operation()
    except OCIError as error:
        return error
    return None


def python(script: str, *args: str) -> str:
    """What another Python process prints, which has our package and none of our descriptors."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
