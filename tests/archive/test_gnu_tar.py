"""What GNU tar writes, in each of its formats, becomes the tree that GNU tar makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt.archive.extraction import extract
from tests.archive.trees import Entry, snapshot

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar (Debian: apt-get install tar)"),
]

FORMATS = ("v7", "oldgnu", "gnu", "ustar", "pax")


def plain(tree: Path) -> None:
    """What all formats can say."""
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/file").write_bytes(b"x" * 1000)
    (tree / "d/block").write_bytes(b"y" * 1024)
    (tree / "d/empty").touch()
    (tree / "d/e/link").symlink_to("../file")
    (tree / "d/absolute").symlink_to("/etc/passwd")
    os.link(tree / "d/file", tree / "hard")
    (tree / "setuid").write_bytes(b"s")
    os.chown(tree / "setuid", 1000, 2000)
    (tree / "setuid").chmod(0o6711)
    (tree / "d").chmod(0o1777)
    (tree / "a\nnewline 'and' \"quotes\" \\").write_bytes(b"n")
    (tree / os.fsdecode(b"\xff\xc3\x28")).write_bytes(b"no text")


def nodes(tree: Path) -> None:
    """What v7 did not know."""
    plain(tree)
    os.mkfifo(tree / "fifo", 0o640)
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o60600, os.makedev(259, 70000))
    os.symlink("target", tree / "link")
    os.link(tree / "link", tree / "another-name-of-link", follow_symlinks=False)


def long(tree: Path) -> None:
    """Names and targets of all lengths around those where the formats change."""
    for length in (*range(97, 103), 154, 155, 156, 200, 255):
        (tree / ("n" * length)).write_bytes(str(length).encode())
        (tree / f"l{length}").symlink_to("t" * length)
        (tree / f"p{length}").mkdir()
        (tree / f"p{length}" / ("d" * length)).mkdir()
        (tree / f"p{length}" / ("d" * length) / "file").write_bytes(b"x")
        os.link(tree / ("n" * length), tree / ("h" * length))
    deep = tree / "/".join(["e" * 200] * 10)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")


def large(tree: Path) -> None:
    """Numbers that octal digits do not hold, and times before there was a clock."""
    (tree / "owner").touch()
    os.chown(tree / "owner", 3_000_000_000, 4_000_000_000)
    for number, time in enumerate((-1, -1_500_000_000, 1 << 33, 5_000_000_000, 0)):
        (tree / str(number)).touch()
        os.utime(tree / str(number), ns=(0, time * 1_000_000_000))


def fractions(tree: Path) -> None:
    """What only pax can say."""
    plain(tree)
    for number, time in enumerate((1, 999_999_999, 1_500_000_000, -1, -999_999_999, -1_500_000_001)):
        (tree / str(number)).touch()
        os.utime(tree / str(number), ns=(0, time))
    os.setxattr(tree / "hard", "user.text", b"value")
    os.setxattr(tree / "hard", "user.bytes", bytes(range(256)))
    os.setxattr(tree / "hard", "user.equals=sign", b"a=b\nc=d\n")
    os.setxattr(tree / "d", "trusted.directory", b"1")
    os.setxattr(tree / "d/e/link", "trusted.symlink", b"1", follow_symlinks=False)
    os.setxattr(tree / "setuid", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))


def sparse(tree: Path) -> None:
    """Holes at the beginning, in the middle and at the end; and more of them than a header has room for."""
    for name, size, offsets in (
        ("hole", 1 << 20, ()),
        ("start", 1 << 20, (0,)),
        ("end", (1 << 20) + 5, (1 << 20,)),
        ("middle", 1 << 30, (1 << 29,)),
        ("many", 1 << 24, tuple(range(0, 1 << 24, 1 << 16))),
        ("few", 1 << 20, tuple(range(4096, 1 << 19, 1 << 16))),
        ("large", 1 << 38, (1 << 37,)),
    ):
        with open(tree / name, "wb") as file:
            file.truncate(size)
            for offset in offsets:
                os.pwrite(file.fileno(), f"data at {offset}".encode()[: size - offset], offset)
    (tree / ("s" * 150)).write_bytes(b"")
    os.truncate(tree / ("s" * 150), 1 << 20)


def both(tmp_path: Path, make: Callable[[Path], None], *options: str) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """GNU tar's tree and ours, of one archive."""
    tree, archive = tmp_path / "tree", tmp_path / "archive.tar"
    tree.mkdir()
    make(tree)
    subprocess.run(["tar", "--create", f"--file={archive}", f"--directory={tree}", *options, "."], check=True)
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    command = ["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    subprocess.run([*command, f"--file={archive}", f"--directory={tmp_path / 'theirs'}"], check=True)
    with archive.open("rb") as file:
        extract(file, tmp_path / "ours")
    return snapshot(tmp_path / "theirs"), snapshot(tmp_path / "ours")


@pytest.mark.parametrize("format_", FORMATS)
def test_plain_trees(tmp_path: Path, format_: str) -> None:
    theirs, ours = both(tmp_path, plain, f"--format={format_}")
    assert len(theirs) == 12
    assert ours == theirs


@pytest.mark.parametrize("format_", FORMATS[1:])
def test_devices_and_fifos(tmp_path: Path, format_: str) -> None:
    theirs, ours = both(tmp_path, nodes, f"--format={format_}")
    assert theirs["./fifo".removeprefix("./")].mode == 0o640
    assert ours == theirs


@pytest.mark.parametrize("format_", ["oldgnu", "gnu", "pax"])
def test_long_names(tmp_path: Path, format_: str) -> None:
    theirs, ours = both(tmp_path, long, f"--format={format_}")
    assert ours == theirs


@pytest.mark.parametrize("format_", ["gnu", "pax"])
def test_large_numbers(tmp_path: Path, format_: str) -> None:
    theirs, ours = both(tmp_path, large, f"--format={format_}")
    assert theirs["owner"].uid == 3_000_000_000
    assert theirs["1"].mtime == -1_500_000_000 * 1_000_000_000
    assert ours == theirs


@pytest.mark.parametrize("more", [(), ("--pax-option=globexthdr.name=g,comment=all",), ("--pax-option=delete=atime",)])
def test_fractions_and_attributes(tmp_path: Path, more: tuple[str, ...]) -> None:
    theirs, ours = both(tmp_path, fractions, "--format=pax", "--xattrs", "--xattrs-include=*", *more)
    assert dict(theirs["hard"].xattrs)["user.bytes"] == bytes(range(256))
    assert ours == theirs


SPARSE = [
    ("--format=oldgnu",),
    ("--format=gnu",),
    *(("--format=pax", f"--sparse-version={n}") for n in ("0.0", "0.1", "1.0")),
]


@pytest.mark.parametrize("options", SPARSE, ids=" ".join)
def test_sparse_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    theirs, ours = both(tmp_path, sparse, "--sparse", *options)
    assert ours == theirs
    for name in theirs:
        if name != ".":
            here, there = os.stat(tmp_path / "ours" / name), os.stat(tmp_path / "theirs" / name)
            assert here.st_size == there.st_size
            assert here.st_blocks <= there.st_blocks + 16, "a hole was filled"
    with open(tmp_path / "ours/large", "rb") as file:
        assert os.pread(file.fileno(), 11, 1 << 37) == b"data at 137"
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 1 << 37


def test_updated_archives_have_the_last_version(tmp_path: Path) -> None:
    """tar --append writes the same name again."""
    (tmp_path / "tree").mkdir()
    for text in ("first", "second"):
        (tmp_path / "tree/f").write_text(text)
        command = ["tar", "--append", f"--file={tmp_path / 'a.tar'}", f"--directory={tmp_path / 'tree'}", "f"]
        subprocess.run(command, check=True)
    (tmp_path / "ours").mkdir()
    with (tmp_path / "a.tar").open("rb") as file:
        assert extract(file, tmp_path / "ours").entries == 2
    assert (tmp_path / "ours/f").read_text() == "second"
