"""A bundle of a root filesystem in an archive: complete, or not there."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocirt import Bundle, Spec
from ocirt.archive.limits import ExtractLimits
from ocirt.archive.ownership import Ownership
from ocirt.errors import ArchiveError, BundleError
from ocirt.spec import IDMapping
from tests.archive.building import directory, file, layer, symlink
from tests.rootless.user import User, make_user
from tests.support import SECONDS, Lab, eventually, process

CONTENT = layer(directory("./", 0o711, mtime=9), file("etc/name", b"value"), symlink("l", "etc"))


def zstd(data: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return bytes(importlib.import_module(name).compress(data))
        except ImportError:
            continue
    pytest.skip("needs Python 3.14 or backports.zstd")


COMPRESSORS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress, zstd]


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def left(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path))


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_it_may_be_compressed(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.tar").write_bytes(compress(CONTENT))
    bundle = Bundle.from_rootfs_tar(tmp_path / "new/bundle", tmp_path / "a.tar")
    assert (bundle.rootfs / "l/name").read_text() == "value"
    assert bundle.spec.root.path == "rootfs"
    assert Bundle.load(tmp_path / "new/bundle").spec == bundle.spec
    assert stat.S_IMODE(os.stat(bundle.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(bundle.rootfs).st_mode) == 0o711
    assert bundle.notes == ()
    assert left(tmp_path / "new") == ["bundle"]


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_what_is_cut_is_refused_and_leaves_nothing(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = compress(layer(file("random", os.urandom(5000)), file("etc/name", b"value")))
    for cut in (3, len(data) // 2, len(data) - 1100 if compress is bytes else len(data) - 9):
        with pytest.raises(ArchiveError):
            Bundle.from_rootfs_tar(tmp_path / "bundle", io.BytesIO(data[:cut]))
    assert left(tmp_path) == []


def test_a_pipe_will_do(tmp_path: Path) -> None:
    """As of docker export, which writes while we read."""
    read, write = os.pipe()

    def export() -> None:
        with open(write, "wb", buffering=0) as out:
            for at in range(0, len(CONTENT), 100):
                out.write(CONTENT[at : at + 100])

    thread = threading.Thread(target=export)
    thread.start()
    with open(read, "rb", buffering=0) as file_:
        bundle = Bundle.from_rootfs_tar(tmp_path / "bundle", file_)
    thread.join()
    assert (bundle.rootfs / "etc/name").read_text() == "value"


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("absent")
    for name in ("full", "file", "link"):
        with pytest.raises(BundleError, match="exists already"):
            Bundle.from_rootfs_tar(tmp_path / name, io.BytesIO(CONTENT))
    assert left(tmp_path) == ["file", "full", "link"]
    assert left(tmp_path / "full") == ["mine"]


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    Bundle.from_rootfs_tar(tmp_path / "bundle", io.BytesIO(CONTENT))
    assert left(tmp_path / "bundle") == ["config.json", "rootfs"]


def test_a_layer_of_an_image_is_no_root_filesystem(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no layer of an image"):
        Bundle.from_rootfs_tar(tmp_path / "bundle", io.BytesIO(layer(file("etc/.wh.name"))))
    assert left(tmp_path) == []


def test_a_bomb_ends_at_the_limit(tmp_path: Path) -> None:
    bomb = gzip.compress(layer(file("zeros", bytes(1 << 24))))
    assert len(bomb) < 1 << 15
    with pytest.raises(ArchiveError, match="more than 1000000 bytes"):
        Bundle.from_rootfs_tar(tmp_path / "b", io.BytesIO(bomb), limits=ExtractLimits(bytes=1_000_000))
    assert left(tmp_path) == []


@pytest.mark.root
def test_owners_may_be_mapped(tmp_path: Path) -> None:
    mappings = (IDMapping(0, 100_000, 1000),)
    bundle = Bundle.from_rootfs_tar(
        tmp_path / "b", io.BytesIO(layer(file("f", uid=5))), ownership=Ownership(mappings, mappings)
    )
    assert os.stat(bundle.rootfs).st_uid == 100_000
    assert os.stat(bundle.rootfs / "f").st_uid == 100_005
    assert os.stat(bundle.rootfs).st_mtime == 0
    with pytest.raises(ValueError, match="one of them"):
        Bundle.from_rootfs_tar(tmp_path / "c", io.BytesIO(CONTENT), rootless=True, ownership=Ownership())


KILLED = """
import os, signal, sys
from ocirt import Bundle
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
Bundle.from_rootfs_tar(sys.argv[1], os.fdopen(0, "rb", buffering=0))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_leaves_no_bundle(tmp_path: Path, number: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "bundle")], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdin is not None
    child.stdin.write(file("first", b"1") + file("second", b"2" * 5000)[:1024])
    child.stdin.flush()
    eventually(lambda: any(tmp_path.glob(".bundle.*/rootfs/second")), "the extraction is under way")
    child.send_signal(number)
    child.wait(SECONDS)
    child.stdin.close()
    assert not (tmp_path / "bundle").exists()
    if number == signal.SIGINT:
        assert left(tmp_path) == []


@pytest.mark.root
def test_a_container_runs_on_it(lab: Lab, tmp_path: Path) -> None:
    with subprocess.Popen(["tar", "-C", lab.rootfs, "-c", "."], stdout=subprocess.PIPE) as export:
        assert export.stdout is not None
        spec = Spec.default().evolve(process=process("sh", "-c", "echo $(id -u); ls -d /bin"))
        bundle = Bundle.from_rootfs_tar(tmp_path / "exported", export.stdout, spec=spec)
    container = lab.start(bundle.spec.evolve(root=bundle.spec.root.evolve(path=str(bundle.rootfs))))
    assert container.process is not None
    output, _ = container.process.communicate(timeout=60)
    assert output == b"0\n/bin\n"
    container.delete()


@pytest.mark.root
@pytest.mark.rootless
def test_an_ordinary_user_runs_a_container_on_it(user: User) -> None:
    os.mknod(user.rootfs / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (user.rootfs / "etc/said").write_text("x")
    command = ["tar", "-C", str(user.rootfs), "--owner=0", "--group=0", "-cf", str(user.home / "rootfs.tar"), "."]
    subprocess.run(command, check=True)
    code = """
bundle = Bundle.from_rootfs_tar(HOME + "/bundle", HOME + "/rootfs.tar", spec=document("cat", "/etc/said"))
print(bundle.notes)
ROOTFS = str(bundle.rootfs)
print(lived(bundle.spec))
"""
    lines = user.python(code).splitlines()
    assert lines == ["('1 device became empty files: ./dev/null',)", "(0, 'x', '')"]
