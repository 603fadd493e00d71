"""A tar archive's members, to be read in any order: archives of images are not unpacked.

Only what such archives consist of is known: regular files and links to them. A name leads to bytes of the archive and
nowhere else, whatever it is. What tar(5) leaves to the reader is an error: a name that is there twice, a link out of
the archive or without end, a size that is none. Names and counts are bounded, since all of them are kept.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from attrs import frozen

from ocirt.errors import ArchiveError, ImageError, ImageNotFound
from ocirt.image import compression
from ocirt.image.digest import Readable
from ocirt.image.files import Section, copy, failing, spool, spool_directory, whole
from ocirt.image.threads import PIECE

BLOCK: Final = 512
MAX_MEMBERS: Final = 1 << 16
MAX_EXTENSION: Final = 1 << 20
"""Bytes of a header that is told in data: a name of tar's is a path, one of pax a list of them."""

MAX_LINKS: Final = 40
"""As the kernel has it (path_resolution(7))."""

_SPARSE: Final = "sparse"
_REGULAR: Final = (b"0", b"\0", b"7")
_LINKS: Final = (b"1", b"2")


@frozen
class Member:
    """One entry: where its data is."""

    name: str
    kind: bytes
    offset: int
    size: int
    target: str
    """Of a link, as a name of the archive."""
    count: int = 1
    """How often its name is in the archive."""


class Members:
    """Those of one archive, which its creator keeps open."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path
        self._members: dict[str, Member] = {}
        for number, member in enumerate(_headers(fd)):
            if number >= MAX_MEMBERS:
                raise ArchiveError("", f"has more than {MAX_MEMBERS} members, which no archive of images has")
            known = self._members.get(member.name)
            self._members[member.name] = member if known is None else _again(known, member)

    def __contains__(self, name: str) -> bool:
        return cleaned(name) in self._members

    def __len__(self) -> int:
        return len(self._members)

    def find(self, name: str) -> Member | None:
        """The regular file of that name, or that a link of that name leads to.

        :raises ArchiveError: the name is one of anything else.
        """
        cleaned_name = cleaned(name)
        for _ in range(MAX_LINKS):
            member = self._members.get(cleaned_name)
            if member is None:
                return None
            if member.count > 1:
                raise ArchiveError(member.name, "is in the archive more than once")
            if member.kind in _REGULAR:
                return member
            if member.kind not in _LINKS:
                raise ArchiveError(member.name, "is no regular file")
            cleaned_name = member.target
            if cleaned_name.startswith(("../", "/")) or cleaned_name == "..":
                raise ArchiveError(member.name, f"is a link out of the archive, to {cleaned_name}")
        raise ArchiveError(name, "is a link that leads nowhere, however long it is followed")

    def get(self, name: str) -> Member:
        """The same; it has to be there."""
        member = self.find(name)
        if member is None:
            raise ImageNotFound(f"{self.path}: {name}", "is not in the archive")
        return member

    def open(self, member: Member) -> Section:
        return Section(self._fd, member.offset, member.size, f"{self.path}: {member.name}")

    @contextmanager
    def read(self, name: str) -> Iterator[Section]:
        """A regular file, by its name."""
        yield self.open(self.get(name))

    def size(self, name: str) -> int | None:
        member = self.find(name)
        return None if member is None else member.size


class Pipe:
    """What can be read once, from its beginning."""

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        with failing(self._what, "cannot be read"):
            return os.read(self._fd, PIECE if size < 0 else size)


@contextmanager
def archive(path: str) -> Iterator[Members]:
    """Those of the archive at a path, which may be compressed, or a pipe: then it is kept in a file meanwhile.

    :raises ImageNotFound: nothing is there.
    """
    with ExitStack() as closing:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError as error:
            raise ImageNotFound(path, "no such file") from error
        except OSError as error:
            raise ImageError(path, f"cannot be opened: {error.strerror}") from error
        closing.callback(os.close, fd)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            if compression.detect(os.pread(fd, 8, 0), path) != "none":
                fd = closing.enter_context(spooled(Section(fd, 0, status.st_size, path), path))
        elif stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
            fd = closing.enter_context(spooled(Pipe(fd, path), path))
        else:
            raise ImageError(path, "is no archive: neither a file nor a pipe")
        yield Members(fd, path)


@contextmanager
def spooled(stream: Readable, what: str) -> Iterator[int]:
    """A descriptor of a file without a name, with all that the stream is uncompressed."""
    with spool() as file, compression.reader(stream, None, what=what) as plain:
        copy(plain, file.fileno(), 0, spool_directory())
        yield file.fileno()


def cleaned(name: str) -> str:
    """As all who write these archives mean it: ``./a//b`` is ``a/b``."""
    return posixpath.normpath(name)


def _again(known: Member, member: Member) -> Member:
    """Directories are often there twice, and nobody reads them."""
    return Member(member.name, known.kind, member.offset, member.size, member.target, known.count + 1)


def _headers(fd: int) -> Iterator[Member]:
    """The entries, with what the headers before them say of each (pax(1), tar(5))."""
    end = os.fstat(fd).st_size
    offset = 0
    said: dict[str, str] = {}
    while block := _block(fd, offset):
        kind = block[156:157]
        size = _size(block, said if kind not in b"xgLK" else {})
        data = offset + BLOCK
        following = data if kind in b"123456" else data + -(-size // BLOCK) * BLOCK
        if data + size > end and kind not in b"123456":
            raise ArchiveError(_name(block, said), "goes beyond the end of the archive: it has been cut off")
        if kind in b"xgLK":
            content = whole(Section(fd, data, size, "tar header"), MAX_EXTENSION, "tar header")
            _extend(said, kind, content)
        else:
            yield _member(block, said, data, size)
            said = {}
        offset = following


def _block(fd: int, offset: int) -> bytes:
    """The header there; empty at the archive's end, which zeros mark."""
    block = os.pread(fd, BLOCK, offset)
    if not block.strip(b"\0") and len(block) in (0, BLOCK):
        return b""
    if len(block) < BLOCK:
        raise ArchiveError("", "ends in the middle of a header: it has been cut off")
    expected = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) != expected:
        raise ArchiveError("", f"has no tar header at offset {offset}: it is no tar archive, or damaged")
    return block


def _number(field: bytes) -> int:
    """Octal digits, or what does not fit in them in base 256 (tar(5), Numeric Extensions)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) - (0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:
            raise ArchiveError("", "has a negative number in a header")
        return value
    text = field.strip(b" \0")
    if text.strip(b"01234567"):
        raise ArchiveError("", f"has {field!r} for a number in a header")
    return int(text or b"0", 8)


def _size(block: bytes, said: dict[str, str]) -> int:
    """pax's word counts more (pax(1), pax Header Block): who reads another size reads other members."""
    if "size" not in said:
        return _number(block[124:136])
    text = said["size"]
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ArchiveError(_name(block, said), f"has a size of {text!r}")
    return int(text)


def _extend(said: dict[str, str], kind: bytes, data: bytes) -> None:
    """Of all that may be said, keep what is of use here."""
    if kind in b"LK":
        said["path" if kind == b"L" else "linkpath"] = _text(data.partition(b"\0")[0])
        return
    for key, value in _records(data):
        if kind == b"g" and key in ("path", "size", "linkpath"):
            raise ArchiveError("", f"says one {key} for all its members")
        if key in ("path", "size", "linkpath"):
            said[key] = value
        elif key.startswith("GNU.sparse."):
            said[_SPARSE] = value


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """``LENGTH KEY=VALUE\\n`` each (pax(1), pax Extended Header)."""
    data = data.rstrip(b"\0")
    offset = 0
    while offset < len(data):
        digits, space, _ = data[offset : offset + 20].partition(b" ")
        end = offset + int(digits) if digits.isdigit() and space else 0
        record = data[offset + len(digits) + 1 : end]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not (key and equals and record.endswith(b"\n") and end <= len(data)):
            raise ArchiveError("", "has a broken pax header")
        yield _text(key), _text(value)
        offset = end


def _member(block: bytes, said: dict[str, str], offset: int, size: int) -> Member:
    name = cleaned(_name(block, said))
    kind = block[156:157]
    if kind in _LINKS:
        target = said.get("linkpath") or _text(block[157:257].partition(b"\0")[0])
        base = posixpath.dirname(name) if kind == b"2" else ""
        return Member(name, kind, offset, 0, cleaned(posixpath.join(base, target)))
    if _SPARSE in said:
        kind = b"S"  # the older header for it; neither is read here
    return Member(name, kind, offset, size, "")


def _name(block: bytes, said: dict[str, str]) -> str:
    if "path" in said:
        return said["path"]
    name = _text(block[:100].partition(b"\0")[0])
    prefix = _text(block[345:500].partition(b"\0")[0]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
