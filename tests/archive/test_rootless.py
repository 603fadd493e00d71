"""The same as an ordinary user, to whom all files belong, and who is kept out by his own files' modes."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.archive.extraction import extract
from ocirt.archive.ownership import ROOTLESS_XATTR, Ownership
from ocirt.errors import ArchiveError
from ocirt.spec import IDMapping
from tests.archive.building import character, directory, extended, fifo, file, hardlink, layer, symlink
from tests.rootless.user import GID, UID, User, make_user

pytestmark = [pytest.mark.root, pytest.mark.rootless]

EXTRACT = """
import json
from ocirt.archive.extraction import extract
from ocirt.archive.ownership import Ownership
from ocirt.archive.removal import remove_tree
def extracted(*numbers, **options):
    for number in numbers:
        with open(f"{HOME}/{number}.tar", "rb") as file:
            found = extract(file, HOME + "/tree", ownership=Ownership(rootless=True), **options)
    return found
"""


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def run(user: User, code: str, *layers: bytes) -> str:
    """With archives 0, 1, … and an empty directory to extract them to."""
    for number, content in enumerate(layers):
        (user.home / f"{number}.tar").write_bytes(content)
    (user.home / "tree").mkdir(exist_ok=True)
    os.chown(user.home / "tree", UID, GID)
    return user.python(EXTRACT + code)


def mode(user: User, path: str) -> int:
    return stat.S_IMODE(os.lstat(user.home / "tree" / path).st_mode)


def test_all_is_the_users_and_says_whose_it_would_be(user: User) -> None:
    content = layer(
        directory("d", uid=33, gid=44),
        file("f", b"1", uid=1000, mode=0o400),
        file("root", b"2"),
        file("su", b"3", mode=0o4755),
    )
    run(user, "extracted(0)", content)
    tree = user.home / "tree"
    for name in ("d", "f", "root", "su"):
        assert (os.stat(tree / name).st_uid, os.stat(tree / name).st_gid) == (UID, GID)
    assert os.getxattr(tree / "d", ROOTLESS_XATTR) == b"\x08\x21\x10\x2c"
    assert os.getxattr(tree / "f", ROOTLESS_XATTR) == b"\x08\xe8\x07"
    assert os.listxattr(tree / "root") == []
    assert (mode(user, "f"), mode(user, "su")) == (0o400, 0o4755)


def test_an_archives_own_word_of_the_owner_does_not_count(user: User) -> None:
    lie = extended({f"SCHILY.xattr.{ROOTLESS_XATTR}": b"\x08\x05"})
    run(user, "extracted(0)", layer(lie, file("a"), lie, file("b", uid=7)))
    assert os.listxattr(user.home / "tree/a") == []
    assert os.getxattr(user.home / "tree/b", ROOTLESS_XATTR) == b"\x08\x07"


def test_devices_become_empty_files_that_nobody_can_open(user: User) -> None:
    content = layer(
        character("dev/null", 1, 3, mode=0o666), fifo("dev/pipe"), file("dev/sda"), character("dev/sda", 8, 0)
    )
    found = json.loads(run(user, "print(json.dumps(extracted(0).notes))", content))
    assert found == ["2 devices became empty files: dev/null, dev/sda"]
    for name in ("dev/null", "dev/sda"):
        status = os.lstat(user.home / "tree" / name)
        assert (status.st_mode, status.st_size) == (stat.S_IFREG, 0)
    assert stat.S_ISFIFO(os.lstat(user.home / "tree/dev/pipe").st_mode)


def test_attributes_that_users_cannot_set_are_told(user: User) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    refused: dict[str, bytes | str] = {
        "SCHILY.xattr.trusted.a": "1",
        "SCHILY.xattr.security.capability": capability,
        "SCHILY.xattr.user.b": "2",
    }
    content = layer(extended(refused), file("f", mode=0o400), symlink("l", "f", uid=5))
    found = json.loads(run(user, "print(json.dumps(dict(extracted(0).skipped_xattrs)))", content))
    assert found == {"trusted.a": 1, "security.capability": 1, ROOTLESS_XATTR: 1}
    assert os.getxattr(user.home / "tree/f", "user.b") == b"2"


def test_closed_directories_are_filled_and_closed_again(user: User) -> None:
    first = layer(
        directory("a", 0, mtime=5), directory("a/b", 0o100, mtime=6), file("a/b/c", b"1"), directory("ro", 0o555)
    )
    second = layer(file("a/b/d", b"2"), file("ro/f", b"3"), directory("a/e", 0o755), hardlink("a/h", "a/b/c"))
    third = layer(file("a/b/.wh.c"), symlink("l", "a/new/.."), file("l/x", b"4"), file("ro/.wh..wh..opq"))
    run(user, "extracted(0, 1, 2)", first, second, third)
    assert (mode(user, "a"), mode(user, "a/b"), mode(user, "ro")) == (0, 0o100, 0o555)
    tree = user.home / "tree"
    assert sorted(os.listdir(tree / "a")) == ["b", "e", "h", "new", "x"]
    assert os.listdir(tree / "a/b") == ["d"]
    assert os.listdir(tree / "ro") == []
    assert [os.stat(tree / path).st_mtime for path in ("a", "a/b")] == [5, 6]


def test_a_closed_tree_is_replaced_and_removed(user: User) -> None:
    first = layer(directory("./", 0o500), directory("a", 0), directory("a/b", 0), file("a/b/c"), file("a/b/d"))
    second = layer(file("a", b"1"))
    code = """
extracted(0)
fd = os.open(HOME, os.O_RDONLY)
print(oct(os.stat("tree", dir_fd=fd).st_mode))
extracted(1)
print(open(HOME + "/tree/a").read())
extracted(0)
remove_tree(fd, "tree")
print(os.path.exists(HOME + "/tree"))
"""
    assert run(user, code, first, second).split() == ["0o40500", "1", "False"]


def test_whiteouts_of_overlayfs_need_no_privilege(user: User) -> None:
    content = layer(file("e/.wh.x"), file("d/.wh..wh..opq"))
    run(user, "extracted(0, whiteouts='overlay', userxattr=True)", content)
    assert os.lstat(user.home / "tree/e/x").st_rdev == 0
    assert stat.S_ISCHR(os.lstat(user.home / "tree/e/x").st_mode)
    assert os.getxattr(user.home / "tree/d", "user.overlay.opaque") == b"y"


def test_who_cannot_give_files_away_is_told_the_remedy(user: User) -> None:
    code = """
from ocirt.errors import ArchiveError
try:
    extract(open(HOME + "/0.tar", "rb"), HOME + "/tree")
except ArchiveError as error:
    print(error)
"""
    said = run(user, code, layer(file("f", uid=5)))
    assert said.startswith("'f': cannot be made: Operation not permitted")
    assert "rootless=True" in said


def test_the_hosts_files_are_as_far_away_as_for_root(user: User) -> None:
    """A symlink to what the user could change, then writes through it, in each layer."""
    secret = user.home / "mine"
    secret.mkdir()
    (secret / "file").write_bytes(b"kept")
    for path in (secret, secret / "file"):
        os.chown(path, UID, GID)
    first = layer(symlink("l", str(secret)), symlink("m", "../mine"))
    second = layer(file("l/.wh.file"), file("m/.wh..wh..opq"), file("m/file", b"changed"), directory("m/..", 0o777))
    run(user, "extracted(0, 1)", first, second)
    assert (secret / "file").read_bytes() == b"kept"
    assert os.listdir(secret) == ["file"]


IN_NAMESPACE = """
import ctypes, os, sys
from ocirt.archive.extraction import extract
from ocirt.archive.ownership import Ownership
from ocirt.spec import IDMapping
archive, tree = sys.argv[1:]
born, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(born[1], b"x")
    os.read(mapped[0], 1)
    os.setgid(0)
    os.setuid(0)
    with open(archive, "rb") as file:
        print(*extract(file, tree).placeholders, flush=True)
    os._exit(0)
os.read(born[0], 1)
for kind in ("uid", "gid"):
    with open(f"/proc/{child}/{kind}_map", "w") as file:
        file.write("0 100000 1000")
os.write(mapped[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_in_a_user_namespace_owners_are_real_and_devices_placeholders() -> None:
    base = Path(tempfile.mkdtemp(prefix="ocirt-mapped-"))
    try:
        base.chmod(0o755)
        (base / "tree").mkdir()
        os.chown(base / "tree", 100_000, 100_000)
        content = layer(file("f", uid=1, gid=2), character("null", 1, 3, uid=1), directory("d", 0o700, uid=999))
        (base / "0.tar").write_bytes(content)
        command = [sys.executable, "-c", IN_NAMESPACE, str(base / "0.tar"), str(base / "tree")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr, done.returncode) == ("null\n", "", 0)
        owners = {
            name: (os.stat(base / "tree" / name).st_uid, os.stat(base / "tree" / name).st_gid)
            for name in ("f", "null", "d")
        }
        assert owners == {"f": (100_001, 100_002), "null": (100_001, 100_000), "d": (100_999, 100_000)}
        assert os.lstat(base / "tree/null").st_mode == stat.S_IFREG
    finally:
        shutil.rmtree(base)


def test_mapped_owners_are_the_hosts(tmp_path: Path) -> None:
    mappings = (IDMapping(0, 100_000, 10), IDMapping(10, 5, 1))
    ownership = Ownership(mappings, mappings)
    content = layer(file("a/f", uid=3, gid=10), symlink("l", "x", uid=10, gid=9))
    extract(io.BytesIO(content), tmp_path, ownership=ownership)
    owners = {name: (os.lstat(tmp_path / name).st_uid, os.lstat(tmp_path / name).st_gid) for name in ("a", "a/f", "l")}
    assert owners == {"a": (100_000, 100_000), "a/f": (100_003, 5), "l": (5, 100_009)}
    with pytest.raises(ArchiveError, match="'b': its uid 11 is not mapped by 0:100000:10, 10:5:1"):
        extract(io.BytesIO(layer(file("b", uid=11))), tmp_path, ownership=ownership)
