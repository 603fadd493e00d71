"""A directory to extract into, among others that nothing may touch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import field, frozen

from ocirt.archive.extraction import extract
from ocirt.archive.removal import remove_tree
from ocirt.archive.results import Extracted
from tests.archive.trees import Entry, snapshot, untouched


@frozen
class Place:
    """``root`` is for archives; ``outside`` is a canary."""

    base: Path
    before: dict[str, object] = field(factory=dict)

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def outside(self) -> Path:
        return self.base / "outside"

    def extract(self, *layers: bytes, **options: object) -> list[Extracted]:
        """One archive after the other."""
        return [extract(io.BytesIO(layer), self.root, **options) for layer in layers]  # type: ignore[arg-type]  # of extract

    def tree(self) -> dict[str, Entry]:
        return snapshot(self.root)

    def names(self) -> set[str]:
        """All paths but the root's."""
        return set(self.tree()) - {"."}

    def around(self) -> dict[str, object]:
        """Everything but what is in the root."""
        found: dict[str, object] = dict(untouched(self.outside))
        found["names"] = sorted(os.listdir(self.base))
        status = os.stat(self.base)
        found["base"] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        return found


def make_outside(path: Path) -> None:
    """Something of each kind, with all that can be changed of it."""
    path.mkdir()
    (path / "secret").write_bytes(b"the host's own")
    (path / "directory").mkdir(mode=0o700)
    (path / "directory/file").write_bytes(b"deep")
    (path / "link").symlink_to("secret")
    os.mkfifo(path / "fifo")
    if os.geteuid() == 0:
        (path / "setuid").write_bytes(b"#!/bin/sh\n")
        (path / "setuid").chmod(0o4755)
        os.chown(path / "directory/file", 12, 34)
    for name in ("directory/file", "secret", "directory", "."):
        os.utime(path / name, ns=(1, 123_456_789))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Afterwards all around is as it was: byte for byte, with modes, owners, times and inodes."""
    base = tmp_path / "place"
    base.mkdir()
    (base / "root").mkdir()
    make_outside(base / "outside")
    found = Place(base)
    before = found.around()
    yield found
    assert found.around() == before
    fd = os.open(base, os.O_RDONLY)
    try:
        remove_tree(fd, "root")
        assert sorted(os.listdir(base)) == ["outside"]
        assert untouched(base / "outside") == {
            key: value for key, value in before.items() if key not in ("names", "base")
        }
    finally:
        os.close(fd)
