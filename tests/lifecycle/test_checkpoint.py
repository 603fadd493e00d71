"""Containers that are written to files and go on later, or elsewhere (CRIU)."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import pytest
from attrs import define

import ocirt
from ocirt import Bundle, Container, CriuError, HookError, Terminal
from ocirt.spec import Hook, Hooks, IDMapping, Memory, Mount, Pids, Resources
from tests.support import SECONDS, Lab, eventually, linux, make_rootfs, namespaces, shell

pytestmark = pytest.mark.root
in_vm = pytest.mark.vm

COUNT = "i=0; while :; do i=$((i+1)); mkdir -p /count/$i; sleep 0.05; done"
"""Its number is nowhere but in its memory: a shell that began anew would begin at 1.

Directories, because an open file whose size has changed since the checkpoint cannot be restored.
"""


@define
class Counter:
    """A container that counts, where the host can see it."""

    lab: Lab
    bundle: Bundle
    container: Container
    seen: Path

    def value(self) -> int:
        return highest(self.seen)

    def forget(self) -> None:
        """What is seen from here on is counted from here on."""
        for path in self.seen.iterdir():
            path.rmdir()

    def goes_on(self) -> int:
        """Its value, once it has become more."""
        before = self.value()
        eventually(lambda: self.value() > before, "counts on")
        return self.value()

    def reaches(self, number: int) -> int:
        eventually(lambda: self.value() > number, f"counts beyond {number}")
        return self.value()


def highest(directory: Path) -> int:
    return max((int(name) for name in os.listdir(directory) if name.isdigit()), default=0)


def counter(lab: Lab, script: str = COUNT, more: tuple[Mount, ...] = (), **changes: object) -> Counter:
    directory = lab.directory / "count"
    directory.mkdir(exist_ok=True)
    base = shell(script)
    shown = Mount("/count", "none", str(directory), ("rbind", "rw"))
    spec = base.evolve(mounts=(*base.mounts, shown, *more), **changes)
    bundle = lab.bundle(spec)
    container = Container.create(lab.new_id(), bundle, root=lab.root, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    container.start()
    return Counter(lab, bundle, container, directory)


def restored(lab: Lab, images: str | Path, bundle: Bundle) -> Container:
    return ocirt.restore(images, lab.new_id(), bundle, root=lab.root, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)


def ended(container: Container) -> None:
    """Let go of a container whose checkpoint was its end."""
    assert container.process is not None
    assert container.process.wait(SECONDS) == -9
    container.process.close()


def gone(container: Container) -> None:
    """Kill it, delete it, and let go of it."""
    container.delete(force=True)
    assert container.process is not None
    container.process.close()


@in_vm
def test_memory_survives(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    reached = count.reaches(20)
    images = count.container.checkpoint(tmp_path / "images")
    assert not (own_lab.root / count.container.id).exists()
    assert stat.S_IMODE(os.stat(images).st_mode) == 0o700
    ended(count.container)
    count.forget()
    container = restored(own_lab, images, count.bundle)
    assert container.status == "running"
    assert count.reaches(0) > reached
    container.kill(9)
    assert container.wait(SECONDS) == -9
    container.delete()
    gone_process = container.process
    assert gone_process is not None
    gone_process.close()


@in_vm
def test_leave_running(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images", leave_running=True)
    assert count.container.status == "running"
    count.goes_on()
    gone(count.container)
    container = restored(own_lab, images, count.bundle)
    count.goes_on()
    gone(container)


@in_vm
def test_memory_first_and_then_the_rest(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    count.container.checkpoint(tmp_path / "first", pre_dump=True)
    assert count.container.status == "running"
    reached = count.goes_on()
    images = count.container.checkpoint(tmp_path / "second", parent_path="../first")
    assert os.readlink(f"{images}/parent") == "../first"
    ended(count.container)
    container = restored(own_lab, images, count.bundle)
    assert count.goes_on() > reached
    gone(container)


@in_vm
def test_files_mounts_and_what_is_hidden(own_lab: Lab, tmp_path: Path) -> None:
    """Content of a tmpfs, an open file and its offset, masked and read-only paths."""
    script = (
        "echo kept >/tmpfs/file; exec 5>/root/log; echo one >&5; "
        "mkdir -p /count/1; until [ -e /count/go ]; do sleep 0.05; done; "
        "echo two >&5; cat /tmpfs/file /root/log >/count/out; "
        "cat /proc/kcore >>/count/out; ls /sys/firmware >>/count/out; "
        "echo x >/proc/sys/kernel/domainname || echo read-only >>/count/out; echo end >>/count/out; sleep 1000"
    )
    memory = Mount("/tmpfs", "tmpfs", "tmpfs", ("nosuid",))
    count = counter(own_lab, script, more=(memory,), root=shell("true").root.evolve(readonly=False))
    count.reaches(0)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    container = restored(own_lab, images, count.bundle)
    (count.seen / "go").touch()
    out = count.seen / "out"
    eventually(lambda: out.exists() and out.read_text().endswith("end\n"), "output")
    assert out.read_text().split() == ["kept", "one", "two", "read-only", "end"]
    gone(container)


@in_vm
def test_output_goes_to_the_new_pipe(own_lab: Lab, tmp_path: Path) -> None:
    base = shell("while read line; do echo got $line; done; echo end")
    bundle = own_lab.bundle(base)
    first = Container.create(own_lab.new_id(), bundle, root=own_lab.root, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    first.start()
    assert first.process is not None
    assert first.process.stdin is not None
    assert first.process.stdout is not None
    first.process.stdin.write(b"one\n")
    assert first.process.stdout.readline() == b"got one\n"
    images = first.checkpoint(tmp_path / "images")
    ended(first)
    second = ocirt.restore(images, own_lab.new_id(), bundle, root=own_lab.root, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    assert second.process is not None
    output, _ = second.process.communicate(b"two\n", timeout=SECONDS)
    assert output == b"got two\nend\n"
    assert second.wait(SECONDS) == 0
    gone(second)


@in_vm
def test_a_terminal(own_lab: Lab, tmp_path: Path) -> None:
    """CRIU makes a new one in the container, and we get its other side."""
    base = shell("while read line; do echo got $line; done")
    assert base.process is not None
    bundle = own_lab.bundle(base.evolve(process=base.process.evolve(terminal=True)))
    first = Container.create(own_lab.new_id(), bundle, root=own_lab.root)
    first.start()
    assert first.process is not None
    assert first.process.terminal is not None
    assert "got one" in typed(first.process.terminal, "one")
    images = first.checkpoint(tmp_path / "images")
    ended(first)
    second = restored(own_lab, images, bundle)
    assert second.process is not None
    assert second.process.terminal is not None
    assert "got two" in typed(second.process.terminal, "two")
    gone(second)


def typed(terminal: Terminal, line: str) -> str:
    """What is seen after a line was typed."""
    terminal.write(f"{line}\n".encode())
    seen = b""

    def read() -> bool:
        nonlocal seen
        seen += terminal.read()
        return f"got {line}".encode() in seen

    eventually(read, "an answer")
    return seen.decode()


@in_vm
def test_a_network_of_somebody_elses(own_lab: Lab, tmp_path: Path) -> None:
    """One that was joined is joined again, and another may stand in its place."""
    with network() as first, network() as second:
        count = counter(own_lab, linux=linux(namespaces=namespaces("pid", "mount", "ipc", "uts", network=first)))
        images = count.container.checkpoint(tmp_path / "images")
        ended(count.container)
        spec = count.bundle.spec
        moved = spec.evolve(linux=linux(namespaces=namespaces("pid", "mount", "ipc", "uts", network=second)))
        container = restored(own_lab, images, own_lab.bundle(moved))
        count.goes_on()
        assert os.stat(f"/proc/{container.pid}/ns/net").st_ino == os.stat(second).st_ino
        gone(container)


@contextlib.contextmanager
def network() -> Iterator[str]:
    """A network namespace, as long as a process lives in it."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    path = f"/proc/{holder.pid}/ns/net"
    try:
        eventually(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino, "a network")
        yield path
    finally:
        holder.kill()
        holder.wait()


@in_vm
def test_a_paused_container(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    reached = count.reaches(5)
    count.container.pause()
    images = count.container.checkpoint(tmp_path / "images", leave_running=True)
    assert count.container.status == "paused"
    count.container.resume()
    count.goes_on()
    gone(count.container)
    container = restored(own_lab, images, count.bundle)
    assert count.goes_on() > reached
    gone(container)


@in_vm
def test_limits_exec_and_the_rest_of_its_life(own_lab: Lab, tmp_path: Path) -> None:
    """What is not in the image comes from the bundle; afterwards it is a container like any other."""
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    spec = count.bundle.spec
    base = spec.linux
    assert base is not None
    limited = base.evolve(resources=Resources(memory=Memory(limit=200 << 20), pids=Pids(limit=77)))
    container = restored(own_lab, images, own_lab.bundle(spec.evolve(linux=limited)))
    count.goes_on()
    used = container.stats()
    assert (used.memory.limit_bytes, used.pids.limit_count) == (200 << 20, 77)
    process = container.exec(["sh", "-c", "ls /count | wc -l; exit 3"], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 3, output
    assert output is not None
    assert int(output) > 0
    assert process.pid not in container.processes()
    container.pause()
    assert container.status == "paused"
    container.resume()
    again = own_lab.load(container)
    assert again.status == "running"
    again.kill(9)
    assert container.wait(SECONDS) == -9
    assert again.status == "stopped"
    again.delete()
    assert container.process is not None
    container.process.close()


@in_vm
def test_a_user_namespace(own_lab: Lab, tmp_path: Path) -> None:
    """Its root has to read the image, and nobody but the host's may change it."""
    tmp_path.chmod(0o755)
    for path in (own_lab.rootfs, *own_lab.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)
    mapping = (IDMapping(0, 100000, 65536),)
    own = namespaces("pid", "mount", "ipc", "uts", "network", "user")
    base = linux(namespaces=own, uid_mappings=mapping, gid_mappings=mapping)
    bundle = own_lab.bundle(shell("while :; do sleep 0.05; done", linux=base))
    first = Container.create(own_lab.new_id(), bundle, root=own_lab.root, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    first.start()
    images = first.checkpoint(tmp_path / "images")
    ended(first)
    info = os.stat(images)
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 100000, 0o710)
    second = restored(own_lab, images, bundle)
    process = second.exec(["cat", "/proc/self/uid_map"], stdin=DEVNULL, stdout=PIPE)
    output, _ = process.communicate(timeout=SECONDS)
    assert output is not None
    assert output.split() == [b"0", b"100000", b"65536"]
    gone(second)


@in_vm
def test_processes_of_exec_stay_behind(own_lab: Lab, tmp_path: Path) -> None:
    """Children of ours: CRIU waits for init's end, which waits until we have reaped them."""
    count = counter(own_lab)
    process = count.container.exec(["sleep", "1000"], stdin=DEVNULL, stdout=DEVNULL)
    images = count.container.checkpoint(tmp_path / "images")
    assert process.wait(SECONDS) == -9
    process.close()
    ended(count.container)
    container = restored(own_lab, images, count.bundle)
    assert len(container.processes()) <= 2
    gone(container)


@in_vm
def test_one_image_twice(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    first, second = (restored(own_lab, images, count.bundle) for _ in range(2))
    assert {first.status, second.status} == {"running"}
    assert first.pid != second.pid
    gone(first)
    gone(second)


@in_vm
def test_another_place(own_lab: Lab, tmp_path: Path) -> None:
    """Another bundle, another rootfs without mount points, another source of the bind mount."""
    count = counter(own_lab)
    reached = count.reaches(5)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_rootfs(tmp_path / "other")
    spec = count.bundle.spec
    mounts = tuple(m.evolve(source=str(elsewhere)) if m.destination == "/count" else m for m in spec.mounts)
    moved = spec.evolve(mounts=mounts, root=spec.root.evolve(path=str(tmp_path / "other")))
    container = restored(own_lab, images, own_lab.bundle(moved))
    eventually(lambda: highest(elsewhere) > reached, "counts elsewhere")
    gone(container)


@in_vm
def test_what_is_mounted_below_a_bind_mount(own_lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
    try:
        (source / "below/file").write_text("seen")
        count = counter(own_lab, more=(Mount("/deep", "none", str(source), ("rbind", "ro")),))
        images = count.container.checkpoint(tmp_path / "images")
        ended(count.container)
        container = restored(own_lab, images, count.bundle)
        process = container.exec(["cat", "/deep/below/file"], stdin=DEVNULL, stdout=PIPE)
        assert process.communicate(timeout=SECONDS)[0] == b"seen"
        gone(container)
    finally:
        subprocess.run(["umount", source / "below"], check=True)


@in_vm
def test_hooks_see_the_new_container(own_lab: Lab, tmp_path: Path) -> None:
    told = tmp_path / "told"
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    hook = Hook("/bin/sh", ("sh", "-c", f"cat >>{told}"))
    bundle = own_lab.bundle(count.bundle.spec.evolve(hooks=Hooks(create_runtime=(hook,))))
    container = restored(own_lab, images, bundle)
    state = json.loads(told.read_text())
    assert (state["id"], state["pid"], state["status"]) == (container.id, container.pid, "creating")
    gone(container)


@in_vm
def test_a_hook_that_fails_leaves_nothing(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    hook = Hook("/bin/sh", ("sh", "-c", "exit 7"))
    bundle = own_lab.bundle(count.bundle.spec.evolve(hooks=Hooks(create_runtime=(hook,))))
    with pytest.raises(HookError, match=r"hooks\.createRuntime\[0\]"):
        restored(own_lab, images, bundle)
    assert own_lab.remains() == []


@in_vm
def test_a_dump_that_fails_changes_nothing(own_lab: Lab, tmp_path: Path) -> None:
    """A file of the host's that is open in the container but lies nowhere in it."""
    with (tmp_path / "outside").open("w") as outside:
        bundle = own_lab.bundle(shell("while :; do echo on; sleep 0.05; done"))
        container = Container.create(own_lab.new_id(), bundle, root=own_lab.root, stdin=DEVNULL, stdout=outside)
        container.start()
    with pytest.raises(CriuError) as caught:
        container.checkpoint(tmp_path / "images")
    log = tmp_path / "images/dump.log"
    assert f"log file: {log}" in str(caught.value)
    assert "outside" in str(caught.value), str(caught.value)
    assert log.exists()
    assert container.status == "running"
    before = (tmp_path / "outside").stat().st_size
    eventually(lambda: (tmp_path / "outside").stat().st_size > before, "goes on")
    gone(container)


@in_vm
def test_a_restore_that_fails_leaves_nothing(own_lab: Lab, tmp_path: Path) -> None:
    count = counter(own_lab)
    images = count.container.checkpoint(tmp_path / "images")
    ended(count.container)
    next(Path(images).glob("core-*.img")).unlink()
    with pytest.raises(CriuError, match=r"restore\.log"):
        restored(own_lab, images, count.bundle)
    assert own_lab.remains() == []
