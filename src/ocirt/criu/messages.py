"""The part of protobuf's encoding that CRIU's rpc.proto needs: numbers, texts and messages in messages.

A message is a list of fields, each a number of rpc.proto and a value, so that an optional field is one that is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

Value = int | str | bytes | list["Field"]
"""``bool`` is an ``int``, as in the encoding."""
Field = tuple[int, Value]
Decoded = Mapping[int, int | bytes]

VARINT: Final = 0
DELIMITED: Final = 2


class Request(IntEnum):
    """criu_req_type"""

    DUMP = 1
    RESTORE = 2
    PRE_DUMP = 4
    NOTIFY = 6
    FEATURE_CHECK = 9
    VERSION = 10


class Option(IntEnum):
    """Fields of criu_opts."""

    IMAGES_DIR_FD = 1
    PID = 2
    LEAVE_RUNNING = 3
    EXT_UNIX_SK = 4
    TCP_ESTABLISHED = 5
    EVASIVE_DEVICES = 6
    SHELL_JOB = 7
    FILE_LOCKS = 8
    LOG_LEVEL = 9
    LOG_FILE = 10
    PS = 11
    NOTIFY_SCRIPTS = 12
    ROOT = 13
    PARENT_IMG = 14
    TRACK_MEM = 15
    AUTO_DEDUP = 16
    WORK_DIR_FD = 17
    LINK_REMAP = 18
    MANAGE_CGROUPS = 24
    CG_ROOT = 25
    RST_SIBLING = 26
    INHERIT_FD = 27
    MANAGE_CGROUPS_MODE = 34
    EXTERNAL = 37
    EMPTY_NS = 38
    JOIN_NS = 39
    FREEZE_CGROUP = 44
    TCP_SKIP_IN_FLIGHT = 46
    LAZY_PAGES = 48
    ORPHAN_PTS_MASTER = 50
    CONFIG_FILE = 51
    TCP_CLOSE = 52
    LSM_PROFILE = 53
    LSM_MOUNT_CONTEXT = 63
    NETWORK_LOCK = 64


def encode(message: Iterable[Field]) -> bytes:
    """In the wire format of protobuf."""
    return b"".join(_field(number, value) for number, value in message)


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
    return _varint(number << 3 | DELIMITED) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its 64 bits."""
    value &= 2**64 - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def decode(data: bytes) -> Decoded:
    """Numbers as they are, all else as bytes; of a field that is there twice, the last one.

    :raises ValueError: it is no such message.
    """
    found: dict[int, int | bytes] = {}
    position = 0
    while position < len(data):
        key, position = _read(data, position)
        size = 0
        match key & 7:
            case 0:
                found[key >> 3], position = _read(data, position)
                continue
            case 1:
                size = 8
            case 2:
                size, position = _read(data, position)
            case 5:
                size = 4
            case _:
                raise ValueError(f"protobuf: wire type {key & 7}")
        if position + size > len(data):
            raise ValueError("protobuf: cut short")
        found[key >> 3] = data[position : position + size]
        position += size
    return found


def _read(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position
    raise ValueError("protobuf: cut short")


def number(message: Decoded, field: int, default: int = 0) -> int:
    """A field that is a number; those above 2^63 are negative."""
    value = message.get(field, default)
    if not isinstance(value, int):
        raise ValueError(f"protobuf: field {field} is no number")  # noqa: TRY004  # the sender's mistake
    return value - 2**64 if value >= 2**63 else value


def nested(message: Decoded, field: int) -> Decoded:
    """A field that is a message; empty where it is absent."""
    value = message.get(field, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"protobuf: field {field} is no message")  # noqa: TRY004  # the sender's mistake
    return decode(value)


def text(message: Decoded, field: int) -> str:
    value = message.get(field, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
