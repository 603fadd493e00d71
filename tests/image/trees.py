"""File trees as values, to be compared: all that a layer can say of a file, and which names are one file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from ocirt.archive.ownership import NOBODY, ROOTLESS_XATTR, decode_owner

OTHERS = ("trusted.overlay.", "user.overlay.", "security.selinux")
"""Attributes of the place where a file lies."""


@frozen
class File:
    """One name."""

    mode: str
    owner: tuple[int, int]
    content: str
    """A digest; or where a link leads, or which device it is."""
    mtime: int
    xattrs: tuple[tuple[str, object], ...]
    same_as: str
    """The first of the names of this file, in the order of names."""


def tree(root: Path | str) -> Mapping[str, File]:
    """Everything below a directory, itself as ``.``, by path."""
    top = os.fsencode(root)
    paths = [top]
    for directory, names, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in (*names, *files)]
    first: dict[tuple[int, int], str] = {}
    return {_name(path, top): _file(path, top, first) for path in sorted(paths)}


def _name(path: bytes, top: bytes) -> str:
    return os.fsdecode(os.path.relpath(path, top))


def _file(path: bytes, top: bytes, first: dict[tuple[int, int], str]) -> File:
    status = os.lstat(path)
    name = _name(path, top)
    directory = stat.S_ISDIR(status.st_mode)
    return File(
        stat.filemode(status.st_mode),
        (status.st_uid, status.st_gid),
        _content(path, status),
        int(status.st_mtime),
        tuple(
            (attribute, _value(attribute, os.getxattr(path, attribute, follow_symlinks=False)))
            for attribute in sorted(os.listxattr(path, follow_symlinks=False))
            if not attribute.startswith(OTHERS)
        ),
        name if directory else first.setdefault((status.st_dev, status.st_ino), name),
    )


def _value(attribute: str, data: bytes) -> object:
    """Of an owner that could not be had there are two spellings: root's zero is left out, or said to be nobody's."""
    if attribute != ROOTLESS_XATTR:
        return data
    return tuple(0 if number == NOBODY else number for number in decode_owner(data))


def _content(path: bytes, status: os.stat_result) -> str:
    if stat.S_ISREG(status.st_mode):
        if os.geteuid() != 0 and not status.st_mode & stat.S_IRUSR:
            return f"{status.st_size} bytes"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISLNK(status.st_mode):
        return os.fsdecode(os.readlink(path))
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return ""
