"""A layer as a tar archive (image-spec, layer.md): the same changes give the same bytes, on any machine.

POSIX.1-2001 (pax) where the older header has no room. Times are in whole seconds, as Docker and umoci have them: what
is below is an accident of the machine that nobody unpacks. Names of owners are left out; IDs are what counts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

from ocirt.archive.changes import Change
from ocirt.archive.tree import Entry, contents, parent
from ocirt.errors import ArchiveError

BLOCK: Final = 512
WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"

_TYPES: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_LINK: Final = b"1"
_PAX: Final = b"x"
_END: Final = bytes(2 * BLOCK)

# The greatest numbers of fields of eight and twelve octal digits, of which the last is NUL.
_SMALL: Final = 8**7 - 1
_LARGE: Final = 8**11 - 1
_NAME: Final = 100


class LayerWriter:
    """Writes changes of the tree below an open directory.

    ``newest`` is SOURCE_DATE_EPOCH: times after it become it (reproducible-builds.org/specs/source-date-epoch).
    """

    def __init__(self, root: int, *, newest: int | None = None) -> None:
        self._root = root
        self._newest = newest
        self._first_names: dict[tuple[int, int], bytes] = {}
        self.skipped: list[str] = []
        """Sockets: a layer cannot say them, and without the process that made them they are of no use."""
        self.members = 0
        """How many were written so far; whiteouts too."""

    def archive(self, changes: Iterable[Change]) -> Iterator[bytes]:
        """The archive, piece by piece, while the tree is read.

        :raises ArchiveError: the tree changed meanwhile, or has what no layer can say.
        """
        for change in changes:
            _check_name(change)
            if change.entry is None:
                self.members += 1
                yield _whiteout(change.path)
                continue
            if stat.S_ISSOCK(change.entry.mode):
                self.skipped.append(change.name)
                if change.kind == "modified":
                    yield _whiteout(change.path)  # something else was there, perhaps
                continue
            self.members += 1
            yield from self._member(change.entry)
            if change.opaque:
                yield _empty(change.path + b"/" + OPAQUE)
        yield _END

    def _member(self, entry: Entry) -> Iterator[bytes]:
        kind = stat.S_IFMT(entry.mode)
        mtime = entry.mtime_ns // 10**9
        if self._newest is not None:
            mtime = min(mtime, self._newest)
        if kind != stat.S_IFREG:
            name = (entry.path or b".") + b"/" if kind == stat.S_IFDIR else entry.path
            yield member(name, _TYPES[kind], entry, mtime, link=entry.link)
            return
        if entry.nlink > 1:
            first = self._first_names.setdefault((entry.dev, entry.ino), entry.path)
            if first != entry.path:
                yield member(entry.path, _LINK, entry._replace(size=0, xattrs=()), mtime, link=first)
                return
        yield from self._file(entry, member(entry.path, _TYPES[kind], entry, mtime))

    def _file(self, entry: Entry, header: bytes) -> Iterator[bytes]:
        yield header
        if not entry.size:
            return
        yield from contents(self._root, entry)
        yield bytes(-entry.size % BLOCK)


def member(name: bytes, kind: bytes, entry: Entry, mtime: int, *, link: bytes = b"") -> bytes:
    """The header of a member, with a pax header before it if it needs one."""
    pax: list[tuple[bytes, bytes]] = []
    binary = False
    texts = []
    for key, text in ((b"path", name), (b"linkpath", link)):
        if len(text) > _NAME or not text.isascii():
            pax.append((key, text))
            binary = binary or not _is_utf8(text)
        texts.append(_short(text))
    numbers = []
    for key, number, most in (
        (b"uid", entry.uid, _SMALL),
        (b"gid", entry.gid, _SMALL),
        (b"size", entry.size, _LARGE),
        (b"mtime", mtime, _LARGE),
    ):
        fits = 0 <= number <= most
        if not fits:
            pax.append((key, b"%d" % number))
        numbers.append(number if fits else 0)
    for xattr, value in entry.xattrs:
        if b"=" in xattr:
            raise ArchiveError(entry.name, f"has an attribute with an equals sign in its name: {os.fsdecode(xattr)}")
        pax.append((b"SCHILY.xattr." + xattr, value))
    uid, gid, size, seconds = numbers
    header = _header(texts[0], kind, stat.S_IMODE(entry.mode), uid, gid, size, seconds, texts[1], entry.rdev)
    if not pax:
        return header
    if binary:
        pax.insert(0, (b"hdrcharset", b"BINARY"))  # pax(1): the values are not UTF-8
    records = b"".join(_record(key, value) for key, value in pax)
    before = _header(_short(b"PaxHeaders/" + name), _PAX, 0o644, 0, 0, len(records), 0, b"", 0)
    return before + records + bytes(-len(records) % BLOCK) + header


def _header(
    name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, link: bytes, rdev: int
) -> bytes:
    """One block (POSIX ustar)."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    device = b"%07o\0%07o\0" % (os.major(rdev), os.minor(rdev))
    start = name.ljust(_NAME, b"\0") + numbers
    rest = kind + link.ljust(_NAME, b"\0") + b"ustar\x0000" + bytes(64) + device + bytes(167)
    checksum = sum(start) + sum(rest) + 8 * 0x20
    return start + b"%06o\0 " % checksum + rest


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record begins with its own length, in which the digits of the length count too."""
    body = b" %b=%b\n" % (key, value)
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d%b" % (length, body)


def _short(text: bytes) -> bytes:
    """What is left of a text in its old field, for those who do not read pax."""
    if len(text) <= _NAME and text.isascii():
        return text
    return bytes(byte if 0x20 < byte < 0x7F else 0x5F for byte in text[:_NAME])


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whiteout(path: bytes) -> bytes:
    above = parent(path)
    name = WHITEOUT + path.rpartition(b"/")[2]
    return _empty(above + b"/" + name if above else name)


def _empty(name: bytes) -> bytes:
    nothing = Entry(name, stat.S_IFREG, 0, 0, 0, 0, b"", 0, (), 1, 0, 0)
    return member(name, _TYPES[stat.S_IFREG], nothing, 0)


def _check_name(change: Change) -> None:
    if change.path.rpartition(b"/")[2].startswith(WHITEOUT):
        raise ArchiveError(change.name, f"no layer can have a file whose name begins with {WHITEOUT.decode()!r}")
