"""What a tree is, as a value: every entry with all that one can see of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen


@frozen
class Entry:
    """One file."""

    kind: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    content: bytes
    """Or target, or device number."""
    xattrs: tuple[tuple[str, bytes], ...]


def entries(root: Path) -> Iterator[str]:
    """The paths of all, the root's as ``.``, in order."""
    yield "."
    todo = [""]
    while todo:
        head = todo.pop()
        with os.scandir(root / head) as found:
            names = sorted(entry.name for entry in found)
        for name in names:
            path = os.path.join(head, name)
            yield path
            if stat.S_ISDIR(os.lstat(root / path).st_mode):
                todo.append(path)


def look(path: Path) -> Entry:
    """At one, without following it."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = b""
    if kind == stat.S_IFREG:
        content = path.read_bytes() if status.st_size < 1 << 24 else str(status.st_size).encode()
    elif kind == stat.S_IFLNK:
        content = os.fsencode(os.readlink(path))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}".encode()
    names = os.listxattr(path, follow_symlinks=False)
    return Entry(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        1 if kind == stat.S_IFDIR else status.st_nlink,  # of directories, file systems count as they like
        status.st_mtime_ns,
        content,
        tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)),
    )


def snapshot(root: Path) -> dict[str, Entry]:
    """All of a tree."""
    return {path: look(root / path) for path in entries(root)}


def untouched(root: Path) -> dict[str, tuple[Entry, int, int]]:
    """The same with inodes and the times of the last change, which no program can set: equal if nobody did anything."""
    found = {}
    for path, entry in snapshot(root).items():
        status = os.lstat(root / path)
        found[path] = (entry, status.st_ino, status.st_ctime_ns)
    return found
