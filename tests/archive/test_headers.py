"""What stands in headers is read as the formats have it, or refused; nothing else can happen."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.archive.headers import Archive, Kind, Member
from ocirt.errors import ArchiveError
from tests.archive.building import (
    BLOCK,
    END,
    base256,
    directory,
    extended,
    file,
    hardlink,
    header,
    layer,
    longname,
    padded,
    sparse_header,
    symlink,
)


def members(data: bytes, *, needs_end: bool = True) -> list[Member]:
    return list(Archive(io.BytesIO(data), needs_end=needs_end))


def only(*parts: bytes) -> Member:
    (member,) = members(layer(*parts))
    return member


def contents(data: bytes) -> dict[str, bytes]:
    """Files as they would be, holes filled."""
    archive = Archive(io.BytesIO(data))
    found = {}
    for member in archive:
        content = bytearray(member.size)
        for offset, piece in archive.data():
            content[offset : offset + len(piece)] = piece
        found[member.name] = bytes(content)
    return found


class Trickle:
    """A stream that gives less than it is asked for, like a socket."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes
        self._turn = 0

    def read(self, size: int) -> bytes:
        self._turn += 1
        return self._data.read(min(size, self._sizes[self._turn % len(self._sizes)]))


def test_a_header_of_the_first_tar() -> None:
    found = only(header("a", b"\0", mode=b" 644 \0  ", uid=b"     7 \0", mtime=b"        17 \0", magic=b""))
    assert (found.kind, found.mode, found.uid, found.mtime) == (Kind.FILE, 0o644, 7, 15_000_000_000)
    assert only(header("d/", b"\0", magic=b"")).kind is Kind.DIRECTORY
    assert only(header("f/", b"0")).kind is Kind.FILE  # Go's archive/tar and Python's tarfile


def test_a_prefix_is_of_posix_alone() -> None:
    assert only(header("name", prefix=b"a/b")).name == "a/b/name"
    assert only(header("name", prefix=b"a/b", magic=b"ustar  \0")).name == "name"
    assert only(header("n" * 100, prefix=b"p" * 155)).name == "p" * 155 + "/" + "n" * 100


@given(st.integers(-(1 << 60), 1 << 60))
def test_binary_numbers(value: int) -> None:
    assert only(header("f", mtime=base256(value, 12))).mtime == value * 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1", 1_000_000_000),
        ("1.", 1_000_000_000),
        ("1.5", 1_500_000_000),
        ("1.000000001", 1_000_000_001),
        ("1.0000000019", 1_000_000_001),
        ("-1.5", -1_500_000_000),
        ("-0.5", -500_000_000),
        ("9223372036", 9_223_372_036_000_000_000),
    ],
)
def test_times_of_extended_headers(text: str, nanoseconds: int) -> None:
    found = only(extended({"mtime": text, "atime": "7"}), file("f"))
    assert (found.mtime, found.atime) == (nanoseconds, 7_000_000_000)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "0x1", "1.5.5", "1e3", "nan", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_what_is_no_time(text: str) -> None:
    if text == "":
        assert only(extended({"mtime": ""}), file("f", mtime=5)).mtime == 5_000_000_000
        return
    with pytest.raises(ArchiveError, match="no time"):
        members(layer(extended({"mtime": text}), file("f")))


def test_the_extended_header_counts() -> None:
    """Whoever believed the other size would find other members (CVE-2025-62518)."""
    records = {"path": "long", "linkpath": "x", "size": str(BLOCK + 1), "uid": "3000000", "gid": "4"}
    data = layer(extended(records), header("short", size=5), b"a" * BLOCK + padded(b"b"), file("next", b"1"))
    assert contents(data) == {"long": b"a" * BLOCK + b"b", "next": b"1"}
    first = members(data)[0]
    assert (first.uid, first.gid) == (3_000_000, 4)


def test_global_headers_hold_until_another_says_else() -> None:
    found = members(
        layer(
            extended({"uid": "5", "comment": "x"}, b"g"),
            file("a"),
            extended({"uid": "6"}),
            file("b"),
            extended({"uid": ""}),
            file("c", uid=9),
            extended({"uid": ""}, b"g"),
            file("d", uid=8),
        )
    )
    assert [member.uid for member in found] == [5, 6, 9, 8]


def test_attributes_of_star_and_libarchive() -> None:
    found = only(
        extended(
            {
                "SCHILY.xattr.user.a": b"\0\n=",
                "LIBARCHIVE.xattr.user.a": "bm90IHRoaXM",
                "LIBARCHIVE.xattr.user.with%20space": "eWVz",
                "SCHILY.xattr.user.b%3Dc%253D": "1",
                "SCHILY.xattr.user.empty": "",
            }
        ),
        file("f"),
    )
    wanted = {"user.a": b"\0\n=", "user.with space": b"yes", "user.b=c%3D": b"1", "user.empty": b""}
    assert dict(found.xattrs) == wanted


def test_an_attribute_that_is_not_in_base64_is_refused() -> None:
    with pytest.raises(ArchiveError, match="Base64"):
        members(layer(extended({"LIBARCHIVE.xattr.user.a": "!!"}), file("f")))


def test_the_old_sum_of_signed_bytes() -> None:
    block = header(b"\xff\xfe", checksum=b" " * 8)
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    assert only(header(b"\xff\xfe", checksum=b"%06o\0 " % signed)).name == "\udcff\udcfe"


RICH = layer(
    directory("d"),
    extended({"path": "p" * 300, "mtime": "-1.5", "SCHILY.xattr.user.a": "b"}),
    file("f", b"x" * 1300),
    longname(b"n" * 300),
    longname(b"t" * 200, b"K"),
    symlink("short", "short"),
    hardlink("h", "f", size=99),
    sparse_header("s", [(10, 5), (1000, 5)], 2000, 10),
    padded(b"0123456789"),
    extended(
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "900"), ("GNU.sparse.name", "q")]
    ),
    file("GNUSparseFile/q", padded(b"1\n100\n7\n") + b"7654321"),
    file("last", b"1"),
)


def test_the_sparse_ones_are_complete() -> None:
    found = contents(RICH)
    assert found["s"] == bytes(10) + b"01234" + bytes(985) + b"56789" + bytes(995)
    assert found["q"] == bytes(100) + b"7654321" + bytes(793)


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=5))
def test_how_a_stream_is_cut_makes_no_difference(sizes: list[int]) -> None:
    archive = Archive(Trickle(RICH, sizes))
    found = {member.name: b"".join(bytes(piece) for _, piece in archive.data()) for member in archive}
    assert found["p" * 300] == b"x" * 1300
    assert list(found) == ["d", "p" * 300, "n" * 300, "h", "s", "q", "last"]


@settings(max_examples=500)
@given(st.data())
def test_any_bytes_are_members_or_refused(data: st.DataObject) -> None:
    """Changed anywhere, and with checksums that are right again, since those keep nobody from anything."""
    changed = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(RICH) - 1))
        changed[place] = data.draw(st.sampled_from(b"\0 017/=\n\x80\xff-xgLKS5"))
        block = place - place % BLOCK
        if data.draw(st.booleans()):
            plain = changed[block : block + 148] + b" " * 8 + changed[block + 156 : block + BLOCK]
            changed[block + 148 : block + 156] = b"%06o\0 " % sum(plain)
    archive = Archive(io.BytesIO(bytes(changed)))
    try:
        for member in archive:
            assert member.size >= 0
            end = 0
            for offset, piece in archive.data():
                assert offset >= end
                end = offset + len(piece)
            assert end <= member.size
    except ArchiveError as error:
        assert str(error)  # noqa: PT017  # it may be unpacked as well


def by_tarfile(format_: int) -> Callable[[list[tarfile.TarInfo]], bytes]:
    def write(infos: list[tarfile.TarInfo]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
            for info in infos:
                archive.addfile(info, io.BytesIO(b"z" * info.size))
        return out.getvalue()

    return write


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=150)


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2000), st.integers(0, 1 << 31), st.floats(0.01, 1e10)), max_size=5)
)
def test_what_python_writes_is_what_we_read(format_: int, rows: list[tuple[str, str, int, int, float]]) -> None:
    infos = []
    for number, (name, target, size, uid, mtime) in enumerate(rows):
        info = tarfile.TarInfo(f"{number}/{name}".rstrip("/"))
        info.uid, info.mtime = uid, mtime if format_ == tarfile.PAX_FORMAT else int(mtime)
        info.size, info.type, info.linkname = (
            (size, tarfile.REGTYPE, "") if number % 2 else (0, tarfile.SYMTYPE, target)
        )
        infos.append(info)
    found = members(by_tarfile(format_)(infos))
    assert [(m.name, m.size, m.uid, m.target) for m in found] == [(i.name, i.size, i.uid, i.linkname) for i in infos]
    for member, info in zip(found, infos, strict=True):
        assert abs(member.mtime - info.mtime * 1e9) < 5000


def test_an_archive_may_be_nothing_but_its_end() -> None:
    assert members(END) == []
    assert members(b"", needs_end=False) == []
    assert members(bytes(BLOCK), needs_end=False) == []
