"""Whose a file is: how the IDs in an archive become the host's, and the host's an archive's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from attrs import field, frozen

from ocirt.errors import ArchiveError
from ocirt.spec import IDMapping

ROOTLESS_XATTR = "user.rootlesscontainers"
"""Where tools for ordinary users keep an owner that they cannot give to a file (rootlesscontainers.proto)."""

NOBODY = 0xFFFFFFFF
"""(uint32) -1: no user's ID, and in the attribute one that nothing is said of."""


@frozen
class Ownership:
    """The owners that files have in an archive, and those that they have here.

    ``uid_mappings`` and ``gid_mappings`` are as in config.json, from container to host; without any, an ID is the same
    on both sides. Where ``rootless``, all files belong to the caller, and an owner other than 0:0 is kept in the
    extended attribute ``user.rootlesscontainers``.
    """

    uid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    gid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    rootless: bool = False

    def __attrs_post_init__(self) -> None:
        if self.rootless and (self.uid_mappings or self.gid_mappings):
            raise ValueError("rootless files belong to the caller: no IDs can be mapped besides")

    def host_ids(self, uid: int, gid: int, member: str = "") -> tuple[int, int]:
        """Whose the file of this archive's owner is here.

        :raises ArchiveError: an ID is not mapped; ``member`` says whose.
        """
        if self.rootless:
            return os.geteuid(), os.getegid()
        return _to_host(self.uid_mappings, uid, "uid", member), _to_host(self.gid_mappings, gid, "gid", member)

    def kept(self, uid: int, gid: int) -> bytes | None:
        """The value of ``user.rootlesscontainers`` for a file of this archive's owner; ``None`` where it needs none."""
        if not self.rootless or (uid, gid) == (0, 0):
            return None
        return encode_owner(uid, gid)

    def container_ids(self, stat: os.stat_result, xattr: bytes | None = None, member: str = "") -> tuple[int, int]:
        """The owner that a file has in an archive. ``xattr`` is its ``user.rootlesscontainers``, where it has one.

        :raises ArchiveError: an ID is not mapped, or the attribute cannot be read.
        """
        if not self.rootless:
            uid = _to_container(self.uid_mappings, stat.st_uid, "uid", member)
            return uid, _to_container(self.gid_mappings, stat.st_gid, "gid", member)
        if xattr is None:
            return 0, 0
        try:
            uid, gid = decode_owner(xattr)
        except ValueError as error:
            raise ArchiveError(member, f"its {ROOTLESS_XATTR} cannot be read: {error}") from error
        return 0 if uid == NOBODY else uid, 0 if gid == NOBODY else gid


def encode_owner(uid: int, gid: int) -> bytes:
    """As protobuf has the message ``{uint32 uid = 1; uint32 gid = 2;}``: a zero is left out."""
    return b"".join(bytes([number << 3]) + _varint(value) for number, value in ((1, uid), (2, gid)) if value)


def decode_owner(data: bytes) -> tuple[int, int]:
    """The other way; fields that only later versions know are passed over, and of a repeated one the last counts.

    :raises ValueError: it is no such message.
    """
    ids = [0, 0]
    numbers = iter(data)
    for key in numbers:
        tag = _read_varint(numbers, key)
        match tag & 7:
            case 0:
                value = _read_varint(numbers)
                if tag >> 3 in (1, 2):
                    ids[(tag >> 3) - 1] = value & 0xFFFFFFFF
            case 1:
                _skip(numbers, 8)
            case 2:
                _skip(numbers, _read_varint(numbers))
            case 5:
                _skip(numbers, 4)
            case kind:
                raise ValueError(f"wire type {kind}")
    return ids[0], ids[1]


def _to_host(mappings: Sequence[IDMapping], number: int, kind: str, member: str) -> int:
    return _translated(number, ((e.container_id, e.host_id, e.size) for e in mappings), kind, member)


def _to_container(mappings: Sequence[IDMapping], number: int, kind: str, member: str) -> int:
    return _translated(number, ((e.host_id, e.container_id, e.size) for e in mappings), kind, member)


def _translated(number: int, ranges: Iterator[tuple[int, int, int]], kind: str, member: str) -> int:
    shown: list[tuple[int, int, int]] = []
    for entry in ranges:
        start, there, size = entry
        if start <= number < start + size:
            return there + number - start
        shown.append(entry)
    if shown or not 0 <= number < NOBODY:
        raise ArchiveError(member, f"its {kind} {number} is not mapped by {_words(shown)}")
    return number


def _words(ranges: Sequence[tuple[int, int, int]]) -> str:
    if not ranges:
        return "anything: no such ID can be"
    return ", ".join(f"{start}:{there}:{size}" for start, there, size in ranges)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(numbers: Iterator[int], first: int | None = None) -> int:
    value = shift = 0
    while shift < 70:
        byte = next(numbers, None) if first is None else first
        first = None
        if byte is None:
            raise ValueError("it ends too early")
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value
    raise ValueError("a number is too long")


def _skip(numbers: Iterator[int], count: int) -> None:
    if len(bytes(byte for _, byte in zip(range(min(count, 1 << 20)), numbers, strict=False))) < count:
        raise ValueError("it ends too early")
