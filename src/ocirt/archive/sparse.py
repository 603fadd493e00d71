"""Which parts of a sparse file an archive holds: GNU tar's four ways to say it (its manual, "Storing Sparse Files").

A map is the data's places: pairs of offset and length, in ascending order, apart from each other, within the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ocirt.archive import fields

Map: TypeAlias = tuple[tuple[int, int], ...]

MOST = 100_000
"""Parts of one file. A map that is larger has no purpose but to fill memory."""

BLOCK = 512


def old(block: bytes, next_block: Callable[[], bytes]) -> tuple[Map, int]:
    """The map in a header of type S and in the blocks that follow it, and the file's size."""
    found = _pairs(block[386:482])
    more = block[482]
    while more:
        extension = next_block()
        found += _pairs(extension[:504])
        more = extension[504]
        if len(found) > MOST:
            raise ValueError(f"a sparse file of more than {MOST} parts")
    size = fields.size(block[483:495])
    return _checked(found, size), size


def extended(records: Sequence[tuple[bytes, bytes]], read: Callable[[int], bytes]) -> tuple[Map, int]:
    """The map in the records of an extended header, or, since version 1.0, at the beginning of the member's data."""
    values = dict(records)
    version = values.get(b"GNU.sparse.major", b"0"), values.get(b"GNU.sparse.minor")
    size = values.get(b"GNU.sparse.realsize", values.get(b"GNU.sparse.size"))
    if size is None:
        raise ValueError("a sparse file without a size")
    whole = fields.decimal(size)
    if version == (b"1", b"0"):
        return _checked(_leading(read), whole), whole
    if version not in ((b"0", None), (b"0", b"0"), (b"0", b"1")):
        raise ValueError(f"sparse files of version {version} are not known")
    text = values.get(b"GNU.sparse.map")
    if text is not None:
        numbers = [fields.decimal(part) for part in text.split(b",")] if text else []
    else:
        numbers = [fields.decimal(value) for key, value in records if key in _LISTED]
        if [key for key, _ in records if key in _LISTED] != list(_LISTED) * (len(numbers) // 2):
            raise ValueError("the parts of a sparse file are not in pairs")
    count = values.get(b"GNU.sparse.numblocks")
    if len(numbers) % 2 or (count is not None and fields.decimal(count) * 2 != len(numbers)):
        raise ValueError("the parts of a sparse file are not as many as it says")
    return _checked(list(zip(numbers[::2], numbers[1::2], strict=True)), whole), whole


_LISTED = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")


def _pairs(entries: bytes) -> list[tuple[int, int]]:
    """Of 12 bytes each; the first that is empty is the last."""
    found = []
    for at in range(0, len(entries) - 23, 24):
        if not entries[at + 12]:
            break
        found.append((fields.size(entries[at : at + 12]), fields.size(entries[at + 12 : at + 24])))
    return found


def _leading(read: Callable[[int], bytes]) -> list[tuple[int, int]]:
    """Decimal numbers, a line each, padded to whole blocks: how many pairs there are, then the pairs."""
    lines: list[bytes] = []
    wanted, rest = 1, b""
    while len(lines) < wanted:
        *whole, rest = (rest + read(BLOCK)).split(b"\n")
        if not lines and whole:
            wanted = 1 + 2 * fields.decimal(whole[0], MOST)
        lines += whole
        if len(lines) < wanted and len(rest) > 20:
            raise ValueError("the map of a sparse file is malformed")
    numbers = [fields.decimal(line) for line in lines[1:wanted]]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _checked(parts: Sequence[tuple[int, int]], size: int) -> Map:
    end = 0
    for offset, length in parts:
        if offset < end or offset + length > size:
            raise ValueError("the parts of a sparse file overlap, or reach beyond its end")
        end = offset + length
    return tuple((offset, length) for offset, length in parts if length)
