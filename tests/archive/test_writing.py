"""Layers: what others read in them is what is in the tree, and the same tree gives the same bytes."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.archive.changes import Change, changes, everything
from ocirt.archive.extraction import extract
from ocirt.archive.headers import Archive
from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import Entry, Walk
from ocirt.archive.writing import LayerWriter, member
from ocirt.errors import ArchiveError
from tests.archive.pictures import changed_since, layer_of, opened, picture, recorded

LONG = "d" * 120
ODD = "odd\udcff\udc80 name\n\u00e9"


def layer(root: Path, found: list[Change] | None = None, *, newest: int | None = None) -> bytes:
    """Of all that is there, unless it is of some changes."""
    with opened(root) as fd:
        return layer_of(fd, everything(Walk(fd, Ownership())) if found is None else found, newest=newest)


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        return file.getnames()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / LONG / LONG).mkdir(parents=True)
    (root / LONG / LONG / "file").write_text("far below")
    (root / ODD).write_bytes(b"")
    (root / "setuid").write_bytes(b"x" * 513)
    (root / "setuid").chmod(0o6755)
    (root / "link").symlink_to(LONG + "/" + LONG)
    (root / "oddly").symlink_to("\u00e9")
    os.link(root / "setuid", root / LONG / "other name")
    os.mkfifo(root / "fifo", 0o600)
    os.setxattr(root / "setuid", "user.binary", b"\0\n=\xff")
    os.setxattr(root / LONG, "user.empty", b"")
    (root / "old").touch()
    os.utime(root / "old", (-5, -5))
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    return root


def test_extracted_it_is_the_tree_again(tree: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    extract(io.BytesIO(layer(tree)), twin)
    assert picture(twin) == picture(tree)


@pytest.mark.root
def test_gnu_tar_extracts_the_same(tree: Path, tmp_path: Path) -> None:
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    os.lchown(tree / "link", 5, 6)
    os.chown(tree / "old", 3_000_000, 4_294_967_294)
    os.removexattr(tree / LONG, "user.empty")  # which pax takes for "none"
    (tree / ODD).unlink()  # whose bytes it converts
    os.utime(tree / "old", (5, 5))  # about others it complains
    twin = tmp_path / "twin"
    twin.mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--same-permissions", "--numeric-owner"]
    command = ["tar", "--extract", "--file=-", f"--directory={twin}", *options]
    done = subprocess.run(command, input=layer(tree), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert picture(twin) == picture(tree)


def test_python_reads_every_name(tree: Path) -> None:
    archive = layer(tree)
    assert sorted(names(archive)) == sorted(["."] + [str(path.relative_to(tree)) for path in tree.rglob("*")])
    assert [os.path.normpath(found.name) for found in Archive(io.BytesIO(archive))] == names(archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        link = file.getmember("setuid")
        assert (link.type, link.linkname) == (tarfile.LNKTYPE, f"{LONG}/other name")
        assert list(link.pax_headers) == ["linkpath"]  # what is said of a file is said once


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    twin = tmp_path / "another place"
    subprocess.run(["cp", "-a", tree, twin], check=True)
    for path in twin.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns // 10**9 * 10**9 + 5))
    assert layer(twin) == layer(tree)


def test_what_is_newer_than_the_epoch_gets_its_time(tree: Path) -> None:
    os.utime(tree / "setuid", (2000, 2000))
    with tarfile.open(fileobj=io.BytesIO(layer(tree, newest=1000))) as file:
        times = {info.name: info.mtime for info in file}
    assert times["setuid"] == 1000
    assert times["old"] == -5
    assert max(times.values()) == 1000


def test_a_socket_is_skipped_and_told(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").touch()
    before = recorded(root)
    (root / "file").unlink()
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two, opened(root) as fd:
        one.bind(str(root / "file"))
        two.bind(str(root / "new"))
        writer = LayerWriter(fd)
        archive = b"".join(writer.archive(changes(before, Walk(fd, Ownership()), fd)))
    assert writer.skipped == ["file", "new"]
    assert names(archive) == [".", ".wh.file"]  # the file is gone nonetheless


@pytest.mark.parametrize("name", [".wh.file", ".wh.", ".wh..wh..opq"])
def test_a_name_that_would_hide_something_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / name).touch()
    with pytest.raises(ArchiveError, match="no layer can have"):
        layer(tmp_path / "tree")


def test_an_attribute_that_pax_has_no_name_for_is_refused(tree: Path) -> None:
    os.setxattr(tree / "setuid", "user.a=b", b"1")
    with pytest.raises(ArchiveError, match=r"user\.a=b"):
        layer(tree)


def test_removed_and_emptied(tree: Path) -> None:
    (tree / "emptied").mkdir()
    for number in range(3):
        (tree / "emptied" / str(number)).touch()
    before = recorded(tree)
    shutil.rmtree(tree / LONG / LONG)
    for number in range(3):
        (tree / "emptied" / str(number)).unlink()
    archive = layer(tree, changed_since(before, tree))
    assert names(archive) == [LONG, f"{LONG}/.wh.{LONG}", "emptied", "emptied/.wh..wh..opq"]


def test_numbers_that_have_no_room_are_in_pax() -> None:
    entry = Entry(b"large", stat.S_IFREG | 0o644, 2**21, 2**32 - 2, 2**33, 0, b"", 0, (), 1, 1, 1)
    header = member(b"large", b"0", entry, 2**33)
    info = next(iter(Archive(io.BytesIO(header))))
    assert (info.uid, info.gid, info.size, info.mtime) == (2**21, 2**32 - 2, 2**33, 2**33 * 10**9)


@pytest.mark.parametrize("length", [*range(1, 20), *range(80, 110), *range(980, 1010)])
def test_records_count_their_own_length(length: int) -> None:
    name = b"n" * (100 + length)
    entry = Entry(name, stat.S_IFREG, 0, 0, 0, 0, b"", 0, (), 1, 1, 1)
    assert names(member(name, b"0", entry, 0) + bytes(1024)) == [name.decode()]


NAMES = st.lists(st.sampled_from(["a", "b", "a.b", "\udcff"]), min_size=1, max_size=3).map("/".join)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, st.sampled_from(["", "text", "TEXT", "longer text"])),
    st.tuples(st.sampled_from(["mkdir", "remove", "secretly", "fifo", "touch", "copy over"]), NAMES, st.just("")),
    st.tuples(st.sampled_from(["link", "rename", "symlink"]), NAMES, NAMES),
    st.tuples(st.just("chmod"), NAMES, st.sampled_from(["644", "6755", "1777"])),
    st.tuples(st.just("xattr"), NAMES, st.sampled_from(["1", "2", ""])),
)


def act(root: Path, action: str, name: str, other: str) -> None:
    """Do something to a tree; what cannot be done is not."""
    path = root / name
    if action == "write":
        path.write_text(other)
    elif action == "mkdir":
        path.mkdir()
    elif action == "remove":
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    elif action == "secretly":
        status = path.stat()
        path.write_text(path.read_text().swapcase())
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif action == "fifo":
        os.mkfifo(path)
    elif action == "touch":
        os.utime(path, (1, 1), follow_symlinks=False)
    elif action == "copy over":
        copy = path.with_name("copy")
        shutil.copy2(path, copy)
        copy.rename(path)
    elif action == "link":
        os.link(path, root / other)
    elif action == "rename":
        path.rename(root / other)
    elif action == "symlink":
        path.symlink_to(other)
    elif action == "chmod":
        path.chmod(int(other, 8))
    elif action == "xattr":
        os.setxattr(path, "user.test", other.encode())


def act_all(root: Path, actions: list[tuple[str, str, str]]) -> None:
    for action in actions:
        if any((root / name).is_fifo() for name in action[1:]) and action[0] in ("write", "secretly", "copy over"):
            continue
        try:
            act(root, *action)
        except (OSError, shutil.Error):
            continue


@settings(max_examples=150)
@given(first=st.lists(ACTIONS, max_size=20), then=st.lists(ACTIONS, max_size=20))
def test_changes_applied_to_what_was_are_what_is(
    first: list[tuple[str, str, str]], then: list[tuple[str, str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        tree, twin = Path(directory, "tree"), Path(directory, "twin")
        tree.mkdir()
        twin.mkdir()
        act_all(tree, first)
        extract(io.BytesIO(layer(tree)), twin)
        assert picture(twin) == picture(tree)
        before = recorded(tree)
        act_all(tree, then)
        extract(io.BytesIO(layer(tree, changed_since(before, tree))), twin)
        assert picture(twin) == picture(tree)
        assert changed_since(recorded(tree), tree) == []
