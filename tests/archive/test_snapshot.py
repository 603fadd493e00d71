"""A record of a tree: what it holds, and that a damaged one is told from a whole one."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from ocirt.archive import snapshot as snapshot_module
from ocirt.archive.ownership import Ownership
from ocirt.archive.snapshot import Snapshot, Writer
from ocirt.archive.tree import Entry, Walk, contents, order
from ocirt.errors import ArchiveError
from ocirt.spec import IDMapping
from tests.archive.pictures import opened, recorded


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0\n")
    (root / "etc.d").mkdir()
    (root / "etc.d/odd\udcff name\n").write_bytes(b"1")
    (root / "link").symlink_to("etc/passwd")
    os.link(root / "etc/passwd", root / "same")
    os.mkfifo(root / "fifo", 0o600)
    return root


def entries(root: Path, ownership: Ownership | None = None) -> dict[bytes, Entry]:
    with opened(root) as fd:
        return {entry.path: entry for entry in Walk(fd, ownership or Ownership())}


def test_a_walk_tells_what_stat_tells(tree: Path) -> None:
    found = entries(tree)
    status = (tree / "etc/passwd").stat()
    entry = found[b"etc/passwd"]
    assert (entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.nlink, entry.ino) == (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        2,
        status.st_ino,
    )
    assert found[b"link"].link == b"etc/passwd"
    assert found[b"same"].ino == entry.ino
    assert stat.S_ISFIFO(found[b"fifo"].mode)


def test_a_directory_comes_before_what_is_in_it_and_that_before_its_neighbours(tree: Path) -> None:
    assert list(entries(tree)) == [
        b"",
        b"etc",
        b"etc/passwd",
        b"etc.d",
        b"etc.d/odd\xff name\n",
        b"fifo",
        b"link",
        b"same",
    ]
    assert sorted(entries(tree), key=order) == list(entries(tree))


def test_attributes_of_the_host_are_left_out(tree: Path) -> None:
    os.setxattr(tree / "etc/passwd", "user.kept", b"\0\xff")
    os.setxattr(tree / "etc/passwd", "user.empty", b"")
    os.setxattr(tree / "etc/passwd", "user.rootlesscontainers", b"\x08\x05")
    os.setxattr(tree / "etc/passwd", "user.overlay.origin", b"x")
    assert entries(tree)[b"etc/passwd"].xattrs == ((b"user.empty", b""), (b"user.kept", b"\0\xff"))


def test_owners_are_the_containers(tree: Path) -> None:
    os.setxattr(tree / "etc/passwd", "user.rootlesscontainers", b"\x08\x05\x10\x06")
    found = entries(tree, Ownership(rootless=True))
    assert (found[b"etc/passwd"].uid, found[b"etc/passwd"].gid) == (5, 6)
    assert (found[b"etc"].uid, found[b"etc"].gid) == (0, 0)


@pytest.mark.root
def test_an_owner_without_an_id_in_the_container_is_an_error(tree: Path) -> None:
    mappings = (IDMapping(0, 100000, 65536),)
    for path in (tree, *tree.rglob("*")):
        os.lchown(path, 100000, 100000)
    os.chown(tree / "etc", 100007, 100008)
    found = entries(tree, Ownership(mappings, mappings))
    assert (found[b"etc"].uid, found[b"etc"].gid) == (7, 8)
    os.chown(tree / "etc", 5, 100008)
    with pytest.raises(ArchiveError, match="uid 5 is not mapped"):
        entries(tree, Ownership(mappings, mappings))


@pytest.mark.root
def test_capabilities_that_the_containers_root_gave_are_as_roots(tree: Path) -> None:
    mappings = (IDMapping(0, 100000, 65536),)
    for path in (tree, *tree.rglob("*")):
        os.lchown(path, 100000, 100000)
    sets = bytes(range(16))
    os.setxattr(tree / "etc/passwd", "security.capability", b"\1\0\0\3" + sets + (100000).to_bytes(4, "little"))
    os.setxattr(tree / "etc", "security.capability", b"\0\0\0\3" + sets + (7).to_bytes(4, "little"))
    found = entries(tree, Ownership(mappings, mappings))
    assert found[b"etc/passwd"].xattrs == ((b"security.capability", b"\1\0\0\2" + sets),)
    assert found[b"etc"].xattrs == ((b"security.capability", b"\0\0\0\3" + sets + b"\7\0\0\0"),)


def test_what_is_read_is_what_was_written(tree: Path) -> None:
    os.setxattr(tree / "etc/passwd", "user.kept", b"\0\xff")
    record = recorded(tree)
    assert list(Snapshot.load(record.path)) == [entry._replace(dev=0) for entry in entries(tree).values()]
    assert list(record) == list(record)


def test_a_record_keeps_what_its_maker_says(tree: Path, tmp_path: Path) -> None:
    with opened(tree) as fd:
        Snapshot.of(fd, tmp_path / "record", about={"image": "sha256:…"})
    assert Snapshot.load(tmp_path / "record").about == {"image": "sha256:…"}


def test_a_record_is_seen_whole_or_not_at_all(tree: Path, tmp_path: Path) -> None:
    def interrupted() -> None:
        with Writer(tmp_path / "record") as writer:
            for entry in entries(tree).values():
                writer.add(entry)
            raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"{}\n",
        lambda text: text.replace(b'"ocirt-snapshot":1', b'"ocirt-snapshot":2', 1),
        lambda text: text[:-1],
        lambda text: text[: text.rindex(b"\n", 0, -1) + 1],
        lambda text: text + b"\n",
        lambda text: text.replace(b'["etc",', b'["etc",true,', 1),
        lambda text: text.replace(b'["etc",', b'["zzz",', 1),
        lambda text: text.replace(b'["etc",', b'["..",', 1),
        lambda text: text.replace(b'["etc",', b'["etc.d",', 1),
        lambda text: text.replace(b'["etc",', b'["\\ud800",', 1),
        lambda text: text.replace(b'["etc",1', b'["etc",1.5', 1),
        lambda text: text.replace(b"{}", b'{"user.x":"?"}'),
        lambda text: b"[" * 100000 + b"\n",
    ],
)
def test_a_damaged_record_is_no_record(tree: Path, damage: object) -> None:
    record = Path(recorded(tree).path)
    assert callable(damage)
    text = damage(record.read_bytes())
    assert text != record.read_bytes()
    record.write_bytes(text)
    with pytest.raises(ArchiveError):
        list(Snapshot.load(record))


def test_lines_are_json(tree: Path) -> None:
    lines = Path(recorded(tree).path).read_text("ascii").splitlines()
    assert json.loads(lines[0]) == {"ocirt-snapshot": 1, "about": {}}
    assert json.loads(lines[-1]) == {"entries": len(lines) - 2}


def test_settling_waits_for_the_clock_that_files_have(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(20):
        path.write_text("before")
        recorded_time = path.stat().st_ctime_ns
        snapshot_module.settle()
        path.write_text("after!")
        assert path.stat().st_ctime_ns > recorded_time


def test_a_deep_tree_needs_few_descriptors(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    depth = 500
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    try:
        assert len(entries(root)) == depth + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nothing_but_regular_files_and_directories_is_opened(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as bound, opened(root) as fd:
        bound.bind(str(root / "socket"))
        found = {entry.path: entry for entry in Walk(fd, Ownership())}
        assert found.keys() == {b"", b"fifo", b"socket"}
        # Had the FIFO been a file when it was listed, it would not be opened now: that would wait for a writer.
        was_file = found[b"fifo"]._replace(mode=stat.S_IFREG | 0o644, size=5)
        with pytest.raises(ArchiveError, match="changed while it was read"):
            list(contents(fd, was_file))


def test_a_file_replaced_by_a_symlink_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "dir").mkdir()
    (root / "dir/file").write_text("public")
    with opened(root) as fd:
        entry = {entry.path: entry for entry in Walk(fd, Ownership())}[b"dir/file"]
        (root / "dir/file").unlink()
        (root / "dir/file").symlink_to(tmp_path / "secret")
        with pytest.raises(ArchiveError, match="changed"):
            list(contents(fd, entry))
        (root / "dir/file").unlink()
        (root / "dir").rmdir()
        (root / "dir").symlink_to(tmp_path)
        with pytest.raises(ArchiveError, match="changed"):
            list(contents(fd, entry))


def test_a_file_that_was_changed_since_it_was_listed_is_an_error_whatever_it_looks_like(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(b"old")
    with opened(root) as fd:
        entry = {entry.path: entry for entry in Walk(fd, Ownership())}[b"file"]
        (root / "file").write_bytes(b"new")
        os.utime(root / "file", ns=(entry.mtime_ns, entry.mtime_ns))
        with pytest.raises(ArchiveError, match="changed while it was read"):
            list(contents(fd, entry))


@pytest.mark.parametrize("now", ["short", "as long as before, and longer", "same size but new"])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, now: str) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(b"same size but old" + bytes(600_000))
    with opened(root) as fd:
        entry = {entry.path: entry for entry in Walk(fd, Ownership())}[b"file"]
        pieces = contents(fd, entry)
        next(pieces)
        with (root / "file").open("r+b") as file:
            file.write(now.encode())
            if now == "short":
                file.truncate()
        with pytest.raises(ArchiveError, match="changed while it was read"):
            list(pieces)
