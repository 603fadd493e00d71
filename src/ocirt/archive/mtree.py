"""The record that umoci makes of a tree when it unpacks an image: mtree(5), with SHA-256 of every file.

umoci hashes what it unpacked; it keeps no inodes. So all that can be said of a file that looks the same is said by its
digest. Its IDs are those of the host.
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

from ocirt.archive.ownership import ROOTLESS_XATTR, Ownership
from ocirt.archive.tree import Entry, no_overlay_xattrs, order
from ocirt.errors import ArchiveError

_TYPES: Final = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS: Final = {
    b"s": b" ",
    b"t": b"\t",
    b"n": b"\n",
    b"r": b"\r",
    b"a": b"\a",
    b"b": b"\b",
    b"v": b"\v",
    b"f": b"\f",
}


class Mtree:
    """Such a file; iterating gives its entries in the order of a walk.

    :raises ArchiveError: it is damaged, or says what umoci does not.
    """

    def __init__(self, path: str | os.PathLike[str], ownership: Ownership) -> None:
        self.path = os.fspath(path)
        self._ownership = ownership

    def __iter__(self) -> Iterator[Entry]:
        yield from sorted(self._entries(), key=lambda entry: order(entry.path))

    def _entries(self) -> Iterator[Entry]:
        defaults: dict[bytes, bytes] = {}
        below: list[bytes] = []
        with open(self.path, "rb") as file:
            for line in file:
                words = line.split()
                if not words or words[0].startswith(b"#"):
                    continue
                if words[0] == b"..":
                    if not below:
                        raise self._damaged("'..' above the root")
                    below.pop()
                    continue
                if words[0] == b"/set":
                    defaults.update(map(_pair, words[1:]))
                    continue
                if words[0] == b"/unset":
                    for keyword in words[1:]:
                        defaults.pop(keyword, None)
                    continue
                name = _unescaped(words[0])
                if b"/" in name or (name == b".") != (not below) or name == b"..":
                    raise self._damaged(f"{name!r} is no name there")
                path = b"/".join((*below[1:], name)) if below else b""
                entry = self._entry(path, {**defaults, **dict(map(_pair, words[1:]))})
                if entry.is_directory:
                    below.append(name)
                yield entry
        if below:
            raise self._damaged("it ends too early")

    def _entry(self, path: bytes, said: dict[bytes, bytes]) -> Entry:
        try:
            kind = _TYPES[said[b"type"].decode()]
            seconds, _, rest = said[b"tar_time"].partition(b".")
            if rest.strip(b"0"):
                raise ValueError("a time has fractions")
            uid, gid, xattrs = self._owner(path, said)
            digest = bytes.fromhex(said[b"sha256digest"].decode()) if kind == stat.S_IFREG else None
            return Entry(
                path,
                kind | int(said[b"mode"], 8),
                uid,
                gid,
                int(said[b"size"]) if kind == stat.S_IFREG else 0,
                int(seconds) * 10**9,
                _unescaped(said[b"link"]) if kind == stat.S_IFLNK else b"",
                -1 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
                xattrs,
                int(said[b"nlink"]) if kind != stat.S_IFDIR else 1,
                0,
                0,
                digest,
            )
        except (KeyError, ValueError) as error:
            raise self._damaged(f"{path!r}: {error}") from error

    def _owner(self, path: bytes, said: dict[bytes, bytes]) -> tuple[int, int, tuple[tuple[bytes, bytes], ...]]:
        prefix = b"xattr."
        xattrs = {
            _unescaped(key.removeprefix(prefix)): b64decode(value, validate=True)
            for key, value in said.items()
            if key.startswith(prefix)
        }
        kept = xattrs.get(ROOTLESS_XATTR.encode())
        status = os.stat_result((0, 0, 0, 0, int(said[b"uid"]), int(said[b"gid"]), 0, 0, 0, 0))
        uid, gid = self._ownership.container_ids(status, kept, os.fsdecode(path))
        wanted = sorted((name, value) for name, value in xattrs.items() if no_overlay_xattrs(os.fsdecode(name)))
        return uid, gid, tuple(wanted)

    def _damaged(self, why: str) -> ArchiveError:
        return ArchiveError(self.path, f"is not as umoci writes it: {why}")


def _pair(word: bytes) -> tuple[bytes, bytes]:
    key, _, value = word.partition(b"=")
    return key, value


def _unescaped(name: bytes) -> bytes:
    """What vis(3) had escaped."""
    return _ESCAPE.sub(lambda match: _byte(match[1]), name)


def _byte(code: bytes) -> bytes:
    return bytes((int(code, 8) & 0xFF,)) if len(code) == 3 else _LETTERS.get(code, code)
