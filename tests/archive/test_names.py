"""Which paths are one file is part of what a tree is, also where every file holds what it held."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ocirt.archive.changes import changes
from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import Entry, Walk
from tests.archive.pictures import opened, words

SETUP = """
mkdir x
for name in a x/b c d; do echo same >$name; done
ln a x/a2; ln c c2
touch -d @1000 . x a x/b c d
"""

EDITS = {
    "nothing": ("true", set()),
    "one more name": ("ln d e", {"d", "e"}),
    "one more name of a file with two": ("ln a e", {"a", "e", "x/a2"}),
    "two files become one": ("ln -f d x/b", {"d", "x/b"}),
    # c2 could have been left alone; it is written as the file of its own that it is.
    "two files become one, and both had names": ("ln -f a c", {"a", "c", "c2", "x/a2"}),
    "a name becomes a file of its own": ("rm c2; cp -p c c2", {"c2"}),
    "both names become files of their own": ("cp -p a n; mv n a; cp -p x/a2 n; mv n x/a2", {"x/a2"}),
    "all files are copies": ("for name in a c d; do cp -p $name n; mv n $name; done", {"x/a2", "c2"}),
    "one of two names is gone": ("rm c2", {"c2"}),
    "both names are another file": ("cp -p c n; mv n c; ln -f c c2", set()),
    "names change files": ("ln a n; ln -f c a; ln -f n c; rm n", {"a", "c", "c2", "x/a2"}),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    subprocess.run(["sh", "-ec", SETUP], cwd=root, check=True)
    return root


def walked(root: Path) -> list[Entry]:
    with opened(root) as fd:
        return list(Walk(fd, Ownership()))


def as_recorded(entry: Entry) -> Entry:
    return entry._replace(dev=0)


def as_umoci_records(entry: Entry) -> Entry:
    digest = hashlib.sha256(b"same\n").digest() if entry.is_regular else None
    return entry._replace(dev=0, ino=0, ctime_ns=0, digest=digest, mtime_ns=entry.mtime_ns // 10**9 * 10**9)


def told(root: Path, before: Iterable[Entry]) -> dict[str, str]:
    with opened(root) as fd:
        found = changes(
            before,
            Walk(fd, Ownership()),
            fd,
            digests=lambda paths: dict.fromkeys(paths, hashlib.sha256(b"same\n").digest()),
        )
    return words(found)


@pytest.mark.parametrize("edit", EDITS)
def test_names_are_told_where_they_changed(tree: Path, edit: str) -> None:
    before = list(map(as_recorded, walked(tree)))
    script, expected = EDITS[edit]
    subprocess.run(["sh", "-ec", f"{script}; touch -d @1000 . x"], cwd=tree, check=True)
    assert set(told(tree, before)) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("true", set()),
        ("ln d e", {"d", "e"}),
        ("rm c2; cp -p c c2", {"c", "c2"}),
        ("rm c2", {"c", "c2"}),
    ],
)
def test_without_inodes_the_number_of_names_tells(tree: Path, script: str, expected: set[str]) -> None:
    before = list(map(as_umoci_records, walked(tree)))
    subprocess.run(["sh", "-ec", f"{script}; touch -d @1000 . x"], cwd=tree, check=True)
    assert set(told(tree, before)) == expected


@pytest.mark.parametrize("record", [as_recorded, as_umoci_records])
def test_if_one_name_is_written_all_are(tree: Path, record: Callable[[Entry], Entry]) -> None:
    """c and c2 hold something else than a and x/a2; then a and c are one file, and x/a2 and c2 are."""
    before = [
        record(entry)._replace(digest=b"other") if entry.path in (b"c", b"c2") else record(entry)
        for entry in walked(tree)
    ]
    subprocess.run(["sh", "-ec", "ln -f a c; ln -f x/a2 c2; touch -d @1000 . x"], cwd=tree, check=True)
    os.unlink(tree / "x/b")
    os.utime(tree / "x", (1000, 1000))
    assert set(told(tree, before)) == {"a", "c", "c2", "x/a2", "x/b"}
