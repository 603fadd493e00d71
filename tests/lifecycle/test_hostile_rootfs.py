"""Images made to break out: whatever they put where the runtime looks, the host stays as it was (CVE numbers below)."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt._native import INIT
from ocirt.errors import OCIError, SetupError
from ocirt.spec import Device, Mount, Root, User
from tests.support import SECONDS, Lab, document, linux, process, shell

pytestmark = pytest.mark.root


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host with files under the names that a runtime makes; it must not change."""
    directory = tmp_path / "out"
    directory.mkdir()
    for name in ("ptmx", "console", "null", "keep"):
        (directory / name).write_text(name)

    def look() -> list[tuple[str, int, int, str]]:
        return [
            (path.name, path.lstat().st_mode, path.lstat().st_uid, path.read_text() if path.is_file() else "")
            for path in sorted(directory.rglob("*"))
        ]

    before = look()
    yield directory
    assert look() == before


def run(lab: Lab, spec: Spec) -> str:
    """Its output, or the error that it was refused with."""
    try:
        return lab.output(spec)
    except OCIError as error:
        assert lab.remains() == []
        return str(error)


def writable(spec: Spec) -> Spec:
    return spec.evolve(root=Root("rootfs"))


def without(spec: Spec, *prefixes: str) -> Spec:
    return spec.evolve(mounts=tuple(mount for mount in spec.mounts if not mount.destination.startswith(prefixes)))


@pytest.mark.parametrize("place", ["proc", "sys"])
@pytest.mark.parametrize("trick", ["link to a directory", "link to the root", "relative link", "file", "FIFO"])
def test_proc_and_sys_are_mounted_on_directories_only(own_lab: Lab, place: str, trick: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2025-54867"""
    target = own_lab.rootfs / place
    (own_lab.rootfs / "bad").mkdir()
    target.rmdir()
    match trick:
        case "link to a directory":
            target.symlink_to("/bad")
        case "link to the root":
            target.symlink_to("/")
        case "relative link":
            target.symlink_to("bad")
        case "file":
            target.touch()
        case "FIFO":
            os.mkfifo(target)
    with pytest.raises(SetupError) as caught:
        own_lab.create(document("true"))
    assert caught.value.origin == ("mounts[0]" if place == "proc" else "mounts[5]")
    assert f'filesystem "{place}{"fs" if place == "sys" else ""}" must be mounted on ordinary directory' in str(
        caught.value
    )
    assert own_lab.remains() == []


@pytest.mark.parametrize("number", range(3, 12))
def test_no_inherited_descriptor_leads_out(own_lab: Lab, number: int) -> None:
    """CVE-2024-21626, by the working directory itself and by a link to it."""
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in ("/", "/etc", "/usr")]
    for fd in opened:
        os.set_inheritable(fd, True)
    (own_lab.rootfs / "link").symlink_to(f"/proc/self/fd/{number}")
    try:
        for cwd in (f"/proc/self/fd/{number}", "/link"):
            text = run(own_lab, writable(document().evolve(process=process("ls", "-d", "../../../usr/share", cwd=cwd))))
            assert "process.cwd" in text
    finally:
        for fd in opened:
            os.close(fd)


@pytest.mark.parametrize("link", ["absolute", "relative", "pts alone"])
def test_devices_are_not_made_outside(own_lab: Lab, canaries: Path, link: str) -> None:
    """CVE-2026-41579: /dev of the image leads to the host."""
    dev = own_lab.rootfs / "dev"
    if link == "pts alone":
        (dev / "pts").symlink_to(canaries)
    else:
        dev.rmdir()
        dev.symlink_to(canaries if link == "absolute" else os.path.relpath(canaries, own_lab.rootfs))
    run(own_lab, writable(without(document("true"), "/dev")))


@pytest.mark.covers("linux.devices[].path")
def test_a_listed_device_is_not_made_outside(own_lab: Lab, canaries: Path) -> None:
    (own_lab.rootfs / "sub").symlink_to(canaries)
    spec = writable(without(document("true"), "/dev")).evolve(
        linux=linux(devices=(Device("c", "/sub/new", 1, 3), Device("c", "/sub/keep", 1, 3)))
    )
    run(own_lab, spec)


@pytest.mark.parametrize("readonly", [True, False])
def test_the_console_is_not_made_outside(own_lab: Lab, canaries: Path, readonly: bool) -> None:
    """CVE-2026-88264"""
    (own_lab.rootfs / "dev/console").symlink_to(canaries / "new")
    (own_lab.rootfs / "dev/pts").mkdir()
    spec = without(document(), "/dev").evolve(root=Root("rootfs", readonly=readonly))
    mounts = (*spec.mounts, Mount("/dev/pts", "devpts", "devpts", ("newinstance", "ptmxmode=0666")))
    program = process("true").evolve(terminal=True)
    try:
        own_lab.create(spec.evolve(mounts=mounts, process=program), stdout=None).delete(force=True)
    except OCIError:
        assert own_lab.remains() == []


@pytest.mark.parametrize("kind", ["file", "device", "link"])
def test_a_terminal_is_of_a_real_devpts(own_lab: Lab, canaries: Path, kind: str) -> None:
    """CVE-2025-52565: what stands at /dev/pts/ptmx may be anything."""
    fake = own_lab.directory / "pts"
    fake.mkdir()
    if kind == "file":
        (fake / "ptmx").touch()
    elif kind == "device":
        os.mknod(fake / "ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
    else:
        (fake / "ptmx").symlink_to(canaries / "ptmx")
    spec = without(document(), "/dev/pts")
    mounts = (*spec.mounts, Mount("/dev/pts", None, str(fake), ("bind",)))
    with pytest.raises(SetupError) as caught:
        own_lab.create(spec.evolve(mounts=mounts, process=process("true").evolve(terminal=True)), stdout=None)
    assert caught.value.origin == "process.terminal"
    assert own_lab.remains() == []


OWN_DEV = """
import os, stat, sys
from ocirt import Container, errors
id, bundle, root = sys.argv[1:]
for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
    os.mknod(f"/mnt/{name}", 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    os.chmod(f"/mnt/{name}", 0o666)
os.mknod("/mnt/tty", 0o666 | stat.S_IFCHR, os.makedev(5, 0))
before = os.stat("/mnt/null")
null = os.open("/mnt/null", os.O_RDWR)
try:
    with Container.create(id, bundle, root=root, stdin=null, stdout=null, stderr=null) as container:
        container.start()
        container.wait(60)
except errors.OCIError as error:
    print(error)
after = os.stat("/mnt/null")
print((before.st_uid, before.st_mode, before.st_rdev) == (after.st_uid, after.st_mode, after.st_rdev))
"""


def test_the_hosts_null_device_keeps_its_owner(own_lab: Lab, canaries: Path) -> None:
    """CVE-2026-88265: the image's /dev/null leads elsewhere, and the streams are the host's."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1), to give away a null device that is not the machine's")
    (own_lab.rootfs / "dev/null").symlink_to(canaries / "null")
    program = process("sh", "-c", "chmod 0 /proc/self/fd/0; chown 7 /proc/self/fd/0", user=User(uid=1234, gid=1234))
    spec = writable(without(document(), "/dev")).evolve(process=program)
    bundle = own_lab.bundle(spec)
    script = 'mount -t tmpfs private /mnt && exec "$0" -c "$1" "$2" "$3" "$4"'
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, OWN_DEV, own_lab.new_id(), bundle.path, own_lab.root],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "True", result.stderr


@pytest.mark.parametrize("kind", ["link", "FIFO", "file", "another device", "missing"])
def test_masks_do_not_rest_on_the_images_null_device(own_lab: Lab, kind: str) -> None:
    """CVE-2025-31133: what covers /proc/keys is the host's /dev/null."""
    fake = own_lab.directory / "dev"
    (fake / "pts").mkdir(parents=True)
    null = fake / "null"
    match kind:
        case "link":
            null.symlink_to("/proc/sys/kernel/core_pattern")
        case "FIFO":
            os.mkfifo(null)
        case "file":
            null.write_text("secret")
        case "another device":
            os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    spec = without(document("head", "-c", "100", "/proc/keys"), "/dev")
    spec = spec.evolve(mounts=(*spec.mounts, Mount("/dev", None, str(fake), ("rbind",))))
    with own_lab.create(spec, stdin=-1, stdout=-1, stderr=-2) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(b"", SECONDS) == (b"", None)


@pytest.mark.parametrize("kind", ["FIFO", "device", "socket", "directory", "loop", "huge", "no newline"])
def test_a_passwd_that_is_none_does_not_stop_the_start(own_lab: Lab, kind: str) -> None:
    """Nobody may be made to read for ever, or to wait for a writer."""
    passwd = own_lab.rootfs / "etc/passwd"
    match kind:
        case "FIFO":
            os.mkfifo(passwd)
        case "device":
            os.mknod(passwd, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        case "socket":
            parent = os.open(passwd.parent, os.O_PATH)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{parent}/passwd")
            os.close(parent)
        case "directory":
            passwd.mkdir()
        case "loop":
            passwd.symlink_to("passwd")
        case "huge":
            with passwd.open("wb") as file:
                file.truncate(1 << 41)
        case "no newline":
            passwd.write_text("x" * 5_000_000)
    began = time.monotonic()
    assert own_lab.output(writable(shell("echo $HOME"))) == "/\n"
    assert time.monotonic() - began < SECONDS


def test_mounts_below_a_link_stay_inside(own_lab: Lab, canaries: Path) -> None:
    """CVE-2021-30465, the part that holds still."""
    source = own_lab.directory / "source"
    source.mkdir()
    (source / "inside").touch()
    (own_lab.rootfs / "link").symlink_to(canaries)
    (own_lab.rootfs / "up").symlink_to("../../../../../../../../" + str(canaries).lstrip("/"))
    spec = writable(document("ls", "/link/new", "/up/new"))
    spec = spec.evolve(
        mounts=(
            *spec.mounts,
            Mount("/link/new", None, str(source), ("bind",)),
            Mount("/up/new", None, str(source), ("bind",)),
        )
    )
    assert "inside" in run(own_lab, spec)


@pytest.mark.covers("process.cwd")
def test_a_working_directory_is_not_made_outside(own_lab: Lab, canaries: Path) -> None:
    (own_lab.rootfs / "link").symlink_to(canaries)
    run(own_lab, writable(document().evolve(process=process("pwd", cwd="/link/new"))))


@pytest.mark.covers("linux.maskedPaths", "linux.readonlyPaths")
def test_masked_and_readonly_paths_stay_inside(own_lab: Lab, canaries: Path) -> None:
    (own_lab.rootfs / "link").symlink_to(canaries)
    spec = writable(document("true")).evolve(linux=linux(masked_paths=("/link/keep",), readonly_paths=("/link",)))
    run(own_lab, spec)


def test_a_program_that_is_a_link_to_the_runtime_gets_a_sealed_copy(own_lab: Lab) -> None:
    """CVE-2019-5736: /proc/self/exe at the moment of execve is our init, which nobody can write to."""
    (own_lab.rootfs / "bin/self").symlink_to("/proc/self/exe")
    before = Path(INIT).read_bytes()
    (own_lab.rootfs / "bin/write").write_text("#!/proc/self/exe\n")
    (own_lab.rootfs / "bin/write").chmod(0o755)
    for program in ("/bin/self", "/bin/write"):
        run(own_lab, document(program))
    assert Path(INIT).read_bytes() == before
