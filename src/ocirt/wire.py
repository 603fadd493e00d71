"""A plan as bytes, and events from bytes. The other half is ``_native/wire.h``, whose numbers are used here by name."""

from __future__ import annotations

import array
import re
import struct
from functools import cached_property
from typing import Final

from attrs import frozen

from ocirt._native import lib
from ocirt.plan import ID_MARK, Plan
from ocirt.plan.ops import Op, Purpose
from ocirt.values import Value

HEADER: Final = struct.Struct("=8I")
OPERATION: Final = struct.Struct("=6I")
EVENT: Final = struct.Struct(f"=IIIIii{lib.WIRE_CALL_SIZE}s{lib.WIRE_DETAIL_SIZE}s")
COMMITTED: Final = lib.WIRE_COMMITTED
"""The SO_PRIORITY of a start socket, once its container is recorded."""

GO: Final = bytes((lib.WIRE_GO,))
"""What init hears once the host has done what it asked for."""

SHORT_EVENT: Final = struct.Struct("=IIIIii")
"""One that is no failure."""


def _code_name(class_: type[Op]) -> str:
    return "OP_" + re.sub(r"(?<!^)(?=[A-Z])", "_", class_.__name__).upper()


class _Codes(dict[type[Op], int]):
    """Looked up once for each class."""

    def __missing__(self, class_: type[Op]) -> int:
        self[class_] = code = int(getattr(lib, _code_name(class_)))
        return code


CODES: Final = _Codes()


@frozen(slots=False)
class Frame:
    """An encoded plan, in which the container's id may still have to be filled in: the rest is worth keeping."""

    operations: int
    descriptors: int
    tables: bytes
    numbers: int
    offsets: array.array[int]
    text: bytes
    gaps: tuple[tuple[int, str], ...]
    """Strings with the mark in them, and where their offsets belong."""

    def encoded(self, container_id: str = "") -> bytes:
        """What ocirt-init reads."""
        if not self.gaps:
            return self._whole
        offsets, text = self.offsets[:], bytearray(self.text)
        for place, string in self.gaps:
            offsets[place] = len(text)
            text += string.replace(ID_MARK, container_id).encode("utf-8", "surrogateescape") + b"\0"
        return self._joined(offsets, text)

    @cached_property
    def _whole(self) -> bytes:
        return self._joined(self.offsets, self.text)

    def _joined(self, offsets: array.array[int], text: bytes | bytearray) -> bytes:
        size = HEADER.size + len(self.tables) + 4 * len(offsets) + len(text)
        counts = (self.operations, self.numbers, len(offsets), len(text), self.descriptors)
        header = HEADER.pack(lib.WIRE_MAGIC, lib.WIRE_VERSION, size, *counts)
        return b"".join((header, self.tables, offsets.tobytes(), text))


def encode(plan: Plan, skip: int = 0) -> Frame:
    """The plan without its first ``skip`` operations.

    :raises ValueError: a string with a NUL in it, or one that is not Unicode; ``Spec.check`` reports both with a path.
    """
    operations, numbers, offsets, text = bytearray(), array.array("Q"), array.array("I"), bytearray()
    seen: dict[str, int] = {}
    gaps: list[tuple[int, str]] = []
    for op in plan.ops[skip:]:
        own_numbers, own_strings = op.operands()
        operations += OPERATION.pack(CODES[type(op)], len(own_numbers), len(own_strings), len(numbers), len(offsets), 0)
        numbers.extend([number & 0xFFFFFFFFFFFFFFFF for number in own_numbers])
        for string in own_strings:
            if ID_MARK in string and "\0" not in string:
                gaps.append((len(offsets), string))
                offsets.append(0)
                continue
            offset = seen.get(string)
            if offset is None:
                if "\0" in string:
                    raise ValueError(f"{op.origin}: {string!r} contains a NUL")
                offset = seen[string] = len(text)
                text += string.encode("utf-8", "surrogateescape") + b"\0"
            offsets.append(offset)
    if not text:
        text += b"\0"
    tables = bytes(operations) + numbers.tobytes()
    return Frame(len(plan.ops) - skip, len(plan.descriptors), tables, len(numbers), offsets, bytes(text), tuple(gaps))


class Said(Value, kw_only=True):
    """What init says, at operation number ``index`` of those that it was given."""

    index: int = 0


class Cloned(Said):
    """The next stage runs in its own process; ``pidfd`` is ours to close."""

    pid: int
    pidfd: int


class SyncRequested(Said):
    """Init waits for the host."""

    purpose: Purpose


class TerminalOpened(Said):
    """The master side of the container's terminal."""

    fd: int


class NetlinkOpened(Said):
    """A socket of the container's network namespace; init waits until it has served."""

    fd: int


class TreeOffered(Said):
    """A file system that is mounted nowhere, as an open directory."""

    fd: int


class Started(Said):
    """The start request was heard; next comes the program, or a failure."""


class ListenerOpened(Said):
    """A filter asks about system calls, by ``fd``; if that is -1, init waits for somebody to take its ``number``."""

    number: int
    fd: int


class Failed(Said):
    """The operation failed, with ``left`` more to come."""

    left: int
    errno: int
    value: int
    call: str
    detail: str


Event = Cloned | SyncRequested | TerminalOpened | NetlinkOpened | TreeOffered | Started | ListenerOpened | Failed


def decode(frame: bytes, fd: int) -> Event:
    """One frame, and the descriptor that came with it (or -1)."""
    kind, index, left, _, errno, value = SHORT_EVENT.unpack_from(frame)
    if kind == lib.EVENT_PID:
        return Cloned(value, fd, index=index)
    if kind == lib.EVENT_SYNC:
        return SyncRequested(Purpose(value), index=index)
    if kind == lib.EVENT_TERMINAL:
        return TerminalOpened(fd, index=index)
    if kind == lib.EVENT_NETLINK:
        return NetlinkOpened(fd, index=index)
    if kind == lib.EVENT_TREE:
        return TreeOffered(fd, index=index)
    if kind == lib.EVENT_STARTED:
        return Started(index=index)
    if kind == lib.EVENT_LISTENER:
        return ListenerOpened(value, fd, index=index)
    call, detail = EVENT.unpack(frame)[-2:]
    return Failed(left, errno, value, _text(call), _text(detail), index=index)


def _text(field: bytes) -> str:
    """What comes from a container may hold anything; a terminal that shows it must not obey it."""
    text = field.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
