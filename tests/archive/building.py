"""Archives made by hand, block by block: no library would make most of these."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

BLOCK = 512
END = bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    return f"{value:0{width - 1}o}\0".encode()


def base256(value: int, width: int) -> bytes:
    """GNU tar's numbers, for what is negative or too large."""
    if value < 0:
        return value.to_bytes(width, "big", signed=True)
    return bytes([0x80]) + value.to_bytes(width - 1, "big")


def header(
    name: bytes | str,
    type_: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_000_000,
    link: bytes | str = b"",
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One block. What is given as bytes is written as it is."""
    name, link = _bytes(name), _bytes(link)
    assert len(name) <= 100
    assert len(link) <= 100
    block = struct.pack(
        "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
        name,
        _field(mode, 8),
        _field(uid, 8),
        _field(gid, 8),
        _field(size, 12),
        _field(mtime, 12),
        b" " * 8,
        type_,
        link,
        magic,
        b"",
        b"",
        octal(device[0], 8),
        octal(device[1], 8),
        prefix,
    )
    return summed(block, checksum)


def summed(block: bytes, checksum: bytes | None = None) -> bytes:
    """With its checksum."""
    plain = block[:148] + b" " * 8 + block[156:]
    return block[:148] + (checksum if checksum is not None else b"%06o\0 " % sum(plain)) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes | str, data: bytes = b"", **fields: object) -> bytes:
    return header(name, b"0", **{"size": len(data), **fields}) + padded(data)  # type: ignore[arg-type]  # of header


def directory(name: bytes | str, mode: int = 0o755, **fields: object) -> bytes:
    return header(name, b"5", mode=mode, **fields)  # type: ignore[arg-type]  # of header


def symlink(name: bytes | str, target: bytes | str, **fields: object) -> bytes:
    return header(name, b"2", link=target, mode=0o777, **fields)  # type: ignore[arg-type]  # of header


def hardlink(name: bytes | str, target: bytes | str, **fields: object) -> bytes:
    return header(name, b"1", link=target, **fields)  # type: ignore[arg-type]  # of header


def fifo(name: bytes | str, **fields: object) -> bytes:
    return header(name, b"6", **fields)  # type: ignore[arg-type]  # of header


def character(name: bytes | str, major: int, minor: int, **fields: object) -> bytes:
    return header(name, b"3", device=(major, minor), **fields)  # type: ignore[arg-type]  # of header


def record(key: bytes | str, value: bytes | str) -> bytes:
    """One of an extended header, whose length counts itself."""
    body = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


Records: TypeAlias = Mapping[str, bytes | str] | Sequence[tuple[str, bytes | str]] | bytes


def extended(records: Records, type_: bytes = b"x") -> bytes:
    """An extended header for the next member (or for all: type g)."""
    if not isinstance(records, bytes):
        pairs = records.items() if isinstance(records, Mapping) else records
        records = b"".join(record(key, value) for key, value in pairs)
    return header("pax", type_, size=len(records)) + padded(records)


def longname(name: bytes, type_: bytes = b"L") -> bytes:
    """GNU tar's way to say a long name (L) or a long target (K)."""
    return header("././@LongLink", type_, size=len(name) + 1, magic=b"ustar  \0") + padded(name + b"\0")


def sparse_header(name: str, parts: Sequence[tuple[int, int]], real: int, stored: int, *, more: bool = False) -> bytes:
    """GNU tar's old sparse header (type S) with up to four parts."""
    block = bytearray(header(name, b"S", size=stored, magic=b"ustar  \0"))
    block[345:500] = bytes(155)
    for number, (offset, length) in enumerate(parts):
        block[386 + 24 * number : 410 + 24 * number] = _field(offset, 12) + _field(length, 12)
    block[482] = more
    block[483:495] = _field(real, 12)
    return summed(bytes(block))


def layer(*parts: bytes) -> bytes:
    """The members and the end."""
    return b"".join(parts) + END


def _bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def _field(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value
    if value < 0 or value >= 8 ** (width - 1):
        return base256(value, width)
    return octal(value, width)
