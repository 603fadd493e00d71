"""What a member has besides its data, and what becomes of it in the tree."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest

from ocirt.archive.extraction import extract
from tests.archive.building import directory, extended, fifo, file, hardlink, layer, symlink
from tests.archive.conftest import Place

pytestmark = pytest.mark.root


def acl(*entries: tuple[int, int, int]) -> bytes:
    """As the kernel keeps it (linux/posix_acl_xattr.h): tag, permissions, ID."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
DEFAULT = acl((1, 7, NOBODY), (2, 7, 1234), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY))


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_nothing_is_inherited_that_the_archive_does_not_say(place: Place) -> None:
    """A default ACL and a set-group-ID bit of the directory above."""
    first = layer(extended({"SCHILY.xattr.system.posix_acl_default": DEFAULT}), directory("d", 0o2777, gid=77))
    place.extract(first)
    place.extract(layer(file("d/f", mode=0o640), directory("d/e", 0o750), fifo("d/p", mode=0o600), file("d/x/y")))
    for name in ("f", "e", "p"):
        status = os.lstat(place.root / "d" / name)
        assert os.listxattr(place.root / "d" / name) == []
        assert status.st_gid == 0
    assert [mode(place.root / "d" / name) for name in ("f", "e", "p")] == [0o640, 0o750, 0o600]
    assert os.getxattr(place.root / "d", "system.posix_acl_default") == DEFAULT


def test_an_acl_is_as_in_the_archive(place: Place) -> None:
    access = acl((1, 6, NOBODY), (2, 4, 1234), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
    place.extract(layer(extended({"SCHILY.xattr.system.posix_acl_access": access}), file("f", mode=0o640)))
    assert os.getxattr(place.root / "f", "system.posix_acl_access") == access
    assert mode(place.root / "f") == 0o640


def test_a_directory_that_comes_again_has_its_new_metadata_alone(place: Place) -> None:
    place.extract(layer(extended({"SCHILY.xattr.user.old": "1"}), directory("d", 0o700, uid=1, mtime=5), file("d/f")))
    place.extract(layer(extended({"SCHILY.xattr.user.new": "1"}), directory("d", 0o755, uid=2, mtime=6)))
    status = os.stat(place.root / "d")
    assert (status.st_uid, status.st_mtime, mode(place.root / "d")) == (2, 6, 0o755)
    assert os.listxattr(place.root / "d") == ["user.new"]
    assert place.names() == {"d", "d/f"}


def test_capabilities_survive_owner_and_mode(place: Place) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    place.extract(layer(extended({"SCHILY.xattr.security.capability": value}), file("f", b"x", uid=5, mode=0o4755)))
    assert os.getxattr(place.root / "f", "security.capability") == value
    assert mode(place.root / "f") == 0o4755


def test_labels_of_the_machine_are_not_the_archives(place: Place) -> None:
    records = {"SCHILY.xattr.security.selinux": "evil_t", "SCHILY.xattr.system.nfs4_acl": "x"}
    (found,) = place.extract(layer(extended(records), file("f")))
    assert os.listxattr(place.root / "f") == []
    assert dict(found.skipped_xattrs) == {"security.selinux": 1, "system.nfs4_acl": 1}


def test_the_callers_umask_neither_matters_nor_changes(place: Place) -> None:
    before = os.umask(0o077)
    try:
        place.extract(layer(file("a/b/f", mode=0o666), directory("d", 0o777), fifo("p", mode=0o666)))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert [mode(place.root / name) for name in ("a", "a/b", "a/b/f", "d", "p")] == [0o755, 0o755, 0o666, 0o777, 0o666]


def test_implied_directories_are_told_and_old(place: Place) -> None:
    (found,) = place.extract(layer(directory("l-to", mtime=3), symlink("l", "l-to"), file("a/b/f"), file("l/c/f")))
    assert found.implied == ("a", "a/b", "l/c")
    assert [os.stat(place.root / path).st_mtime for path in ("a", "a/b", "l-to/c", "l-to")] == [0, 0, 0, 3]


def test_times_are_the_archives_to_the_nanosecond(place: Place) -> None:
    place.extract(
        layer(extended({"mtime": "1.000000005", "atime": "2.5"}), file("f"), directory("d", mtime=7), file("d/g"))
    )
    status = os.stat(place.root / "f")
    assert (status.st_mtime_ns, status.st_atime_ns) == (1_000_000_005, 2_500_000_000)
    assert os.stat(place.root / "d").st_mtime == 7


def test_many_directories_keep_their_times_though_few_stay_open(place: Place) -> None:
    """Each is left and entered again, by its path and by a symlink."""
    count = 150
    parts = [directory(f"d{i}", mtime=i + 1) for i in range(count)] + [symlink(f"l{i}", f"d{i}") for i in range(count)]
    parts += [file(f"{kind}{i}/{kind}") for kind in "dl" for i in range(count)]
    place.extract(layer(*parts))
    assert [os.stat(place.root / f"d{i}").st_mtime for i in range(count)] == list(range(1, count + 1))


def test_a_hard_link_says_nothing_of_its_file(place: Place) -> None:
    place.extract(layer(file("f", b"1", mode=0o600, uid=3, mtime=4), hardlink("h", "f", mode=0o777, uid=9, mtime=9)))
    status = os.stat(place.root / "h")
    assert (mode(place.root / "h"), status.st_uid, status.st_mtime, status.st_nlink) == (0o600, 3, 4, 2)


def test_a_symlink_that_may_stay_has_the_owner_and_times_of_the_directory(place: Place) -> None:
    place.extract(layer(directory("d", mtime=1), symlink("l", "d", mtime=2)))
    new = extended({"SCHILY.xattr.user.a": "1"}) + directory("l", 0o700, uid=5, mtime=3)
    place.extract(layer(new, file("l/f")), keep_dirlinks=True)
    status = os.lstat(place.root / "l")
    assert (stat.S_ISLNK(status.st_mode), status.st_uid, status.st_mtime) == (True, 5, 3)
    assert os.stat(place.root / "d").st_mtime == 1
    assert place.names() == {"d", "l", "d/f"}


def test_a_symlink_to_a_file_does_not_stay(place: Place) -> None:
    place.extract(layer(file("f"), symlink("l", "f")))
    place.extract(layer(directory("l")), keep_dirlinks=True)
    assert stat.S_ISDIR(os.lstat(place.root / "l").st_mode)


def test_a_descriptor_of_the_root_will_do(place: Place) -> None:
    fd = os.open(place.root, os.O_PATH)
    try:
        extract(BytesIO(layer(file("f"))), fd)
        assert os.listdir(place.root) == ["f"]
        os.fstat(fd)
    finally:
        os.close(fd)


def test_threads_extract_side_by_side(place: Place) -> None:
    def work(number: int) -> None:
        (place.root / str(number)).mkdir()
        extract(BytesIO(layer(*(file(f"d/{i}", b"x" * i) for i in range(200)))), place.root / str(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((place.root / f"{number}/d/199").stat().st_size == 199 for number in range(4))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_what_is_mounted_in_the_tree_is_not_the_trees(place: Place) -> None:
    """Not entered by a path, and not removed."""
    (place.root / "m").mkdir()
    archives = {"enter": layer(file("m/secret", b"1")), "replace": layer(file("m", b"1"))}
    code = """
import sys
from ocirt.archive.extraction import extract
from ocirt.errors import ArchiveError
for path in sys.argv[2:]:
    try:
        with open(path, "rb") as file:
            extract(file, sys.argv[1])
    except ArchiveError as error:
        print(error)
"""
    base = place.base.parent
    for name, content in archives.items():
        (base / name).write_bytes(content)
    script = f'mount --bind {place.outside} {place.root}/m && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code, str(place.root)]
    done = subprocess.run(
        [*command, *(str(base / name) for name in archives)], capture_output=True, text=True, check=True
    )
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == ["'m/secret'", "'m'"]
    assert "cross-device" in done.stdout
