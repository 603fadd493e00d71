"""Tar archives, read once from front to end: v7, ustar, pax and GNU tar's format.

Python's tarfile would do, were it not for three things. It skips what it cannot read in places where GNU tar or Go's
archive/tar see a member, so that something else than what was scanned is extracted; it takes header values as they come
(a negative size made it read in circles, CVE-2025-8194); and it is slow: 21 µs of processor time a member, and 60 with
an extended header, where this takes 5 and 17. Where formats disagree about a member, the whole archive is refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from urllib.parse import unquote_to_bytes

from ocirt.archive import fields, sparse
from ocirt.archive.source import BLOCK, Source, Stream
from ocirt.errors import ArchiveError

LONGEST_HEADER = 1 << 20
"""Bytes of an extended header or a long name, as Go's archive/tar has it: they are kept in memory."""

GLOBAL_HEADERS = 100
"""In one archive. They count as no member, and git-archive(1) writes one."""

ZEROS = bytes(BLOCK)

_KNOWN = frozenset({b"uid", b"gid", b"mtime", b"atime"})
_XATTRS = (b"SCHILY.xattr.", b"LIBARCHIVE.xattr.")

# name mode uid gid size mtime (checksum) type linkname magic (uname gname) major minor prefix
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")


class Kind(Enum):
    """What a member becomes."""

    FILE = "regular file"
    LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "FIFO"


_KINDS: Mapping[bytes, Kind] = {
    b"\0": Kind.FILE,
    b"0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous, which no file system cares about any more
    b"S": Kind.FILE,
    b"1": Kind.LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class Member:
    """One entry: names as they stand there, times in nanoseconds."""

    __slots__ = (
        "atime",
        "gid",
        "kind",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "size",
        "sparse",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, name: str, kind: Kind, mode: int, uid: int, gid: int, size: int, mtime: int) -> None:
        self.name = name
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        """Of the file; a sparse one has fewer bytes in the archive."""
        self.mtime = mtime
        self.atime = mtime
        self.target = ""
        self.major = 0
        self.minor = 0
        self.xattrs: Mapping[str, bytes] = _NONE
        self.sparse: sparse.Map | None = None

    def __repr__(self) -> str:
        return f"Member({self.name!r}, {self.kind.value})"


_NONE: Mapping[str, bytes] = {}


class Archive:
    """The members of an archive, in their order. ``data`` is the current one's; what is not read of it is passed over.

    Where ``needs_end``, an archive without the two blocks of zeros that end it is refused as truncated. Something else
    than zeros after them always is.

    :raises ArchiveError: while iterating.
    """

    def __init__(self, stream: Stream, *, needs_end: bool = True) -> None:
        self.source = Source(stream)
        self._needs_end = needs_end
        self._left = 0
        self._padding = 0
        self._current: Member | None = None
        self._global: dict[bytes, bytes] = {}
        self._globals = 0

    def __iter__(self) -> Iterator[Member]:
        while True:
            self._pass_over()
            member = self._next()
            if member is None:
                return
            self._current = member
            yield member

    def data(self) -> Iterator[tuple[int, memoryview]]:
        """What the current member holds: pieces, each with its place in the file."""
        member = self._current
        if member is None or not self._left:
            return
        offset = 0
        for start, length in member.sparse if member.sparse is not None else ((0, self._left),):
            offset = start
            for piece in self.source.pieces(length, member.name):
                self._left -= len(piece)
                yield offset, piece
                offset += len(piece)

    @property
    def stored(self) -> int:
        """How many bytes of the current member are still to be read."""
        return self._left

    def _pass_over(self) -> None:
        rest = self._left + self._padding
        if rest:
            self._left = self._padding = 0
            self.source.skip(rest, self._current.name if self._current else "")

    def _next(self) -> Member | None:
        extended: list[tuple[bytes, bytes]] | None = None
        long: dict[bytes, bytes] = {}
        while True:
            place = self.source.place
            block = self.source.header()
            if block is None or block == ZEROS:
                self._end(block, dangling=extended is not None or bool(long))
                return None
            try:
                found = _FIELDS.unpack(block)
                if not fields.checksum_holds(block, found[6]):
                    raise ValueError("its checksum is wrong: this is no tar archive, or it is damaged")
                flag = found[7]
                if flag in _KINDS:
                    return self._member(block, found, extended, long)
                if flag in (b"x", b"X"):
                    _only_one(extended, "extended header")
                    extended = fields.records(self._special(found))
                elif flag in (b"L", b"K"):
                    _only_one(long.get(flag), "long name")
                    long[flag] = self._special(found).rstrip(b"\0")
                elif flag == b"g":
                    self._keep_global(fields.records(self._special(found)))
                else:
                    raise ValueError(f"members of type {flag!r} are not known")
            except ValueError as error:
                raise ArchiveError("", f"the header at byte {place}: {error}") from error

    def _end(self, block: bytes | None, *, dangling: bool) -> None:
        """What follows the last member: two blocks of zeros, then zeros that fill up somebody's last record."""
        if dangling:
            raise ArchiveError("", "an extended header at its end belongs to no member")
        if block is None:
            if self._needs_end:
                raise ArchiveError("", "it has no end: it was truncated")
            return
        place = self.source.place
        second = self.source.header()
        if second is None:
            if self._needs_end:
                raise ArchiveError("", "half of its end is missing: it was truncated")
            return
        if second != ZEROS or not self.source.only_zeros():
            raise ArchiveError("", f"something follows its end, which is at byte {place - BLOCK}")

    def _special(self, found: Sequence[bytes]) -> bytes:
        """The data of a header that speaks of the next one."""
        size = fields.size(found[4])
        if size > LONGEST_HEADER:
            raise ValueError(f"an extended header of {size} bytes, where {LONGEST_HEADER} are the most")
        data = self.source.take(size)
        self.source.skip(-size % BLOCK)
        return data

    def _keep_global(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """What holds for all members from here on (pax, type g).

        Go's reader passes these headers over. That makes no difference while they are comments and the like; a size or
        a name for all members has no honest use, and would have them be others for others.
        """
        self._globals += 1
        if self._globals > GLOBAL_HEADERS:
            raise ValueError(f"more than {GLOBAL_HEADERS} global headers")
        for key, value in records:
            if key in (b"size", b"path", b"linkpath") or key.startswith(b"GNU.sparse."):
                raise ValueError(f"a global {key.decode()} cannot be")
            if key in _KNOWN or key.startswith(_XATTRS):
                self._global[key] = value
        if sum(map(len, (*self._global, *self._global.values()))) > LONGEST_HEADER:
            raise ValueError(f"global headers of more than {LONGEST_HEADER} bytes")

    def _member(
        self,
        block: bytes,
        found: Sequence[bytes],
        records: Sequence[tuple[bytes, bytes]] | None,
        long: Mapping[bytes, bytes],
    ) -> Member:
        raw, mode, uid, gid, size, mtime, _, flag, target, magic, major, minor, prefix = found
        kind = _KINDS[flag]
        name = raw.partition(b"\0")[0]
        if prefix[0] and magic == b"ustar\x0000":
            # star(1) keeps two times behind a shorter prefix, and says so at the very end of what pax leaves unused.
            name = prefix[: 131 if block[508:] == b"tar\0" else 155].partition(b"\0")[0] + b"/" + name
        values: Mapping[bytes, bytes] = _RAW_NONE
        if records is not None or self._global:
            values = {**self._global, **dict(records or ())}
        name, target = _names(name, target.partition(b"\0")[0], values, long)
        if flag == b"\0" and name.endswith(b"/"):
            kind = Kind.DIRECTORY  # of v7, which had no type for them
        member = Member(
            _text(name),
            kind,
            fields.number(mode) & 0o7777,
            fields.number(uid),
            fields.number(gid),
            0,
            fields.seconds(mtime),
        )
        try:
            self._measure(member, fields.decimal(values[b"size"]) if values.get(b"size") else fields.size(size))
            if kind is Kind.LINK or kind is Kind.SYMLINK:
                member.target = _text(target)
            elif kind is Kind.CHARACTER or kind is Kind.BLOCK:
                member.major, member.minor = fields.number(major), fields.number(minor)
            if values:
                _extend(member, values)
            if flag == b"S":
                self._set_map(member, *sparse.old(block, lambda: self.source.take(BLOCK, member.name)))
            elif records and any(key.startswith(b"GNU.sparse.") for key in values):
                self._set_map(member, *sparse.extended(records, self._of_data))
        except ValueError as error:
            raise ArchiveError(member.name, str(error)) from error
        return member

    def _measure(self, member: Member, size: int) -> None:
        """How much of the archive is the member's data.

        A hard link has none, whatever it says: pax(1) writes the size of what it links to. For others, readers differ.
        """
        if member.kind is Kind.FILE:
            member.size = self._left = size
            self._padding = -size % BLOCK
        elif size and member.kind is not Kind.LINK:
            raise ValueError(f"a {member.kind.value} with {size} bytes of data")

    def _of_data(self, size: int) -> bytes:
        """The beginning of the current member's data, where that is its map."""
        if size > self._left:
            raise ValueError("the map of a sparse file is longer than its data")
        taken = self.source.take(size)
        self._left -= size
        return taken

    def _set_map(self, member: Member, parts: sparse.Map, size: int) -> None:
        if member.kind is not Kind.FILE:
            raise ValueError(f"a {member.kind.value} cannot be sparse")
        if sum(length for _, length in parts) != self._left:
            raise ValueError("the parts of a sparse file are not as long as its data")
        member.size, member.sparse = size, parts


_RAW_NONE: Mapping[bytes, bytes] = {}


def _only_one(before: object, what: str) -> None:
    if before is not None:
        raise ValueError(f"a second {what} for one member")


def _names(
    name: bytes, target: bytes, values: Mapping[bytes, bytes], long: Mapping[bytes, bytes]
) -> tuple[bytes, bytes]:
    """The name, and what a link leads to: of the extended header, of GNU's long names, or of the header itself."""
    if not values and not long:
        return name, target
    path = values.get(b"GNU.sparse.name") or values.get(b"path")
    linkpath = values.get(b"linkpath")
    for value, key in ((path, b"L"), (linkpath, b"K")):
        if value and long.get(key, value) != value:
            raise ValueError("it has two different long names")
    return (
        fields.without_nul(path or long.get(b"L") or name, "name"),
        fields.without_nul(linkpath or long.get(b"K") or target, "link target"),
    )


def _extend(member: Member, values: Mapping[bytes, bytes]) -> None:
    """What an extended header says, where it says something: an empty value takes back what a global one said."""
    if value := values.get(b"uid"):
        member.uid = fields.decimal(value)
    if value := values.get(b"gid"):
        member.gid = fields.decimal(value)
    if value := values.get(b"mtime"):
        member.mtime = member.atime = fields.time(value)
    if value := values.get(b"atime"):
        member.atime = fields.time(value)
    xattrs = {}
    for key, value in values.items():
        if key.startswith(b"SCHILY.xattr."):
            # GNU tar's way to have an equals sign in a key
            xattrs[key[13:].replace(b"%3D", b"=").replace(b"%25", b"%")] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            xattrs.setdefault(unquote_to_bytes(key[17:]), _base64(value))
    if xattrs:
        member.xattrs = {_text(fields.without_nul(key, "attribute's name")): value for key, value in xattrs.items()}


def _base64(value: bytes) -> bytes:
    """libarchive leaves out what fills up the last group."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(f"an attribute's value is not in Base64: {error}") from error


def _text(name: bytes) -> str:
    return os.fsdecode(name)
