"""File trees as tests see them, by none of our own code: what is at each path, and which paths are one file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ocirt.archive.changes import Change, changes
from ocirt.archive.ownership import Ownership
from ocirt.archive.snapshot import Snapshot
from ocirt.archive.tree import Walk
from ocirt.archive.writing import LayerWriter

NO_MATTER = ("security.selinux", "system.nfs4_acl", "user.rootlesscontainers")


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of a tree that an archive can carry; times in whole seconds, as layers have them."""
    found: dict[str, tuple[object, ...]] = {}
    first_names: dict[tuple[int, int], str] = {}
    for path in sorted([root, *root.rglob("*")], key=os.fsencode):
        status = path.lstat()
        name = str(path.relative_to(root))
        kind = stat.S_IFMT(status.st_mode)
        found[name] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns // 10**9,
            os.readlink(path) if kind == stat.S_IFLNK else None,
            status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else None,
            hashlib.sha256(path.read_bytes()).hexdigest() if kind == stat.S_IFREG else None,
            first_names.setdefault((status.st_dev, status.st_ino), name) if kind == stat.S_IFREG else None,
            xattrs(path),
        )
    return found


def xattrs(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if name not in NO_MATTER}


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def recorded(root: Path, *, ownership: Ownership | None = None) -> Snapshot:
    """A record of the tree, beside it."""
    with opened(root) as fd:
        return Snapshot.of(fd, root.with_name(f"{root.name}.record"), ownership=ownership)


def layer_of(root: int, found: Iterable[Change], *, newest: int | None = None) -> bytes:
    """The archive of these changes."""
    return b"".join(LayerWriter(root, newest=newest).archive(found))


def changed_since(before: Snapshot, root: Path, *, masked: tuple[bytes, ...] = ()) -> list[Change]:
    with opened(root) as fd:
        return changes(before, Walk(fd, Ownership(), masked=masked), fd, masked=masked)


def words(found: list[Change]) -> dict[str, str]:
    """Each change as a word, without directories that are only on the way."""
    return {
        change.name: f"{change.kind} opaque" if change.opaque else change.kind
        for change in found
        if change.kind != "unchanged" or change.opaque
    }
