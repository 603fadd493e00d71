"""What a tree was at some time, in a file, so that later it can be said what has changed in it.

No content is read for it. A file with the inode and the time of change (ctime) that it had then holds what it held
then, since that time nobody chooses but who sets the clock: all that a container can do to a file shows. Hashing what
was just written instead, as umoci does, is much of the time of its unpacking and most of its repacking. In a copied
bundle every inode is another; then files that look the same are compared with the layers they came from (``changes``):
those have to be kept anyway, and are the better record.

The file is JSON, a line for each entry in the order of a walk: it is written and compared without ever being whole in
memory, and people can read it. Its last line says how many there are: what was cut off is not taken for a small tree.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator, Mapping
from typing import Final

from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import Entry, Walk, order
from ocirt.errors import ArchiveError

VERSION: Final = 1
_TYPES: Final = (str, int, int, int, int, int, str, int, dict, int, int, int)
_NAMES: Final = frozenset((b"", b".", b".."))
"""That no file has."""

_CLOCK_REALTIME_COARSE: Final = 5
"""clock_gettime(2): the tick's time, which files get."""

_LONGEST_LINE: Final = 1 << 20
"""Bytes: a path of 4096 and all the attributes that an inode can have (xattr(7)) are less."""


class Snapshot:
    """A record of a tree: ``about`` is what its maker wanted to keep with it. Iterating reads the entries."""

    def __init__(self, path: str | os.PathLike[str], about: Mapping[str, object]) -> None:
        self.path = os.fspath(path)
        self.about = about

    @classmethod
    def of(
        cls,
        root: int,
        path: str | os.PathLike[str],
        *,
        ownership: Ownership | None = None,
        about: Mapping[str, object] | None = None,
    ) -> Snapshot:
        """Record the tree below an open directory in a file outside of it, which is there whole or not at all."""
        settle()
        with Writer(path) as writer:
            for entry in Walk(root, ownership or Ownership()):
                writer.add(entry)
            return writer.finish(about or {})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read its head.

        :raises ArchiveError: it is none, or of a later version.
        """
        with open(path, "rb") as file:
            head = _parsed(path, file.readline(_LONGEST_LINE))
        if not isinstance(head, dict) or head.keys() != {"ocirt-snapshot", "about"}:
            raise ArchiveError(os.fspath(path), "is no snapshot of ocirt's")
        if head["ocirt-snapshot"] != VERSION or not isinstance(head["about"], dict):
            raise ArchiveError(os.fspath(path), f"is a snapshot of version {head['ocirt-snapshot']}, not {VERSION}")
        return cls(path, head["about"])

    def __iter__(self) -> Iterator[Entry]:
        """:raises ArchiveError: it is damaged."""
        count = 0
        last = b""
        with open(self.path, "rb") as file:
            file.readline(_LONGEST_LINE)
            while True:
                row = _parsed(self.path, file.readline(_LONGEST_LINE))
                if isinstance(row, dict):
                    break
                entry = _entry(self.path, row)
                key = order(entry.path)
                if (key <= last or not _NAMES.isdisjoint(key.split(b"\0"))) if count else key:
                    raise ArchiveError(self.path, f"has {entry.name!r} in the wrong place")
                last = key
                count += 1
                yield entry
            if row != {"entries": count} or file.read(1):
                raise ArchiveError(self.path, "has another number of entries than it says: it is damaged")

    def __repr__(self) -> str:
        return f"Snapshot({self.path!r})"


class Writer:
    """A record in the making. Leaving it before ``finish``, or dying, leaves nothing that looks like one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._rows = tempfile.TemporaryFile(dir=os.path.dirname(self._path) or ".")  # noqa: SIM115  # __exit__ closes
        self._count = 0

    def add(self, entry: Entry) -> None:
        """The next one, in the order of a walk."""
        row = (
            _text(entry.path),
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime_ns,
            _text(entry.link),
            entry.rdev,
            {_text(name): b64encode(value).decode() for name, value in entry.xattrs},
            entry.nlink,
            entry.ino,
            entry.ctime_ns,
        )
        self._rows.write(_line(row))
        self._count += 1

    def finish(self, about: Mapping[str, object]) -> Snapshot:
        """Put it in its place, at once and whole; ``about`` is what to keep with it."""
        temporary = f"{self._path}.{os.getpid()}.new"
        self._rows.seek(0)
        try:
            with open(temporary, "xb") as file:
                file.write(_line({"ocirt-snapshot": VERSION, "about": about}))
                shutil.copyfileobj(self._rows, file)
                file.write(_line({"entries": self._count}))
            os.replace(temporary, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return Snapshot(self._path, about)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()


def settle() -> None:
    """Wait, some milliseconds, until a change to a file shows in its ctime.

    Before Linux 6.13 those are as coarse as the kernel's tick: what is changed in the tick in which it is recorded
    would have the time that was recorded.
    """
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    for _ in range(100):  # and if the clock is set meanwhile, not for ever
        if time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) > now:
            return
        time.sleep(0.001)


_line_of = json.JSONEncoder(separators=(",", ":")).encode
"""ASCII alone, so that surrogates, for bytes that are no UTF-8, can stand in it."""


def _line(value: object) -> bytes:
    return _line_of(value).encode() + b"\n"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parsed(path: str | os.PathLike[str], line: bytes) -> object:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("a line has no end")
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(os.fspath(path), f"is damaged: {error}") from error


def _entry(record: str, row: object) -> Entry:
    if not isinstance(row, list) or tuple(map(type, row)) != _TYPES:
        raise ArchiveError(record, "is damaged: an entry has other members")
    path, mode, uid, gid, size, mtime, link, rdev, attributes, nlink, ino, ctime = row
    try:
        xattrs = tuple((_bytes(name), b64decode(value, validate=True)) for name, value in attributes.items())
        return Entry(_bytes(path), mode, uid, gid, size, mtime, _bytes(link), rdev, xattrs, nlink, ino, ctime)
    except (TypeError, UnicodeError, NotBase64) as error:
        raise ArchiveError(record, f"is damaged: {error}") from error
