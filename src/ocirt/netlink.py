"""rtnetlink(7), as much of it as network devices need: requests as bytes, answers from bytes.

A socket belongs to the network namespace that it was opened in, whoever holds it: so two of them reach two namespaces
from one thread, and no thread has to enter another namespace.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400

SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NLMSGERR_ATTR_MSG: Final = 1

NLA_TYPE_MASK: Final = 0x3FFF

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
ATTRIBUTE: Final = struct.Struct("=HH")
ERROR: Final = struct.Struct("=i")

LARGEST: Final = 1 << 17
"""More than the kernel puts into one datagram (32 KiB), so that none is cut off."""

Attributes = Mapping[int, bytes]


class NetlinkError(OSError):
    """The kernel's refusal; ``words`` are its own, where it has any."""

    def __init__(self, number: int, words: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.words = words


class Message(NamedTuple):
    """One answer."""

    type: int
    flags: int
    payload: bytes


class Netlink:
    """A conversation with the kernel about one network namespace."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._sequence = 0
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            connection.setsockopt(SOL_NETLINK, option, 1)

    def ask(self, type_: int, body: bytes, attributes: Attributes, flags: int = 0) -> list[bytes]:
        """Send one request and gather what is answered, up to the acknowledgement or the end of a dump.

        :raises NetlinkError: the kernel refuses it.
        """
        while True:
            self._sequence += 1
            self.connection.send(encode(type_, flags | NLM_F_REQUEST | NLM_F_ACK, self._sequence, body, attributes))
            answers = list(self._answers())
            if not any(answer.flags & NLM_F_DUMP_INTR for answer in answers):
                return [answer.payload for answer in answers]

    def _answers(self) -> Iterator[Message]:
        while True:
            for message in self._receive():
                if message.type == NLMSG_ERROR:
                    _raise_if_refused(message)
                    return
                if message.type == NLMSG_DONE:
                    return
                yield message

    def _receive(self) -> list[Message]:
        """From the kernel alone, which has port 0: in a namespace of others, one with CAP_NET_ADMIN can write to us."""
        while True:
            data, (port, _) = self.connection.recvfrom(LARGEST)
            if port == 0:
                return list(decode(data, self._sequence))


def encode(type_: int, flags: int, sequence: int, body: bytes, attributes: Attributes) -> bytes:
    """A request; every part begins at a multiple of four."""
    parts = _padded(body) + b"".join(attribute(number, value) for number, value in attributes.items())
    return HEADER.pack(HEADER.size + len(parts), type_, flags, sequence, 0) + parts


def attribute(number: int, value: bytes) -> bytes:
    """:raises ValueError: its length has 16 bits, and what does not fit must not wrap (CVE-2021-43784)."""
    size = ATTRIBUTE.size + len(value)
    if size > 0xFFFF:
        raise ValueError(f"attribute {number} of {len(value)} bytes is too long")
    return _padded(ATTRIBUTE.pack(size, number) + value)


def decode(data: bytes, sequence: int) -> Iterator[Message]:
    """The messages of a datagram that answer request number ``sequence``."""
    at = 0
    while at + HEADER.size <= len(data):
        size, type_, flags, answered, _ = HEADER.unpack_from(data, at)
        if size < HEADER.size:
            return
        if answered == sequence:
            yield Message(type_, flags, data[at + HEADER.size : at + size])
        at += _aligned(size)


def attributes_of(payload: bytes, start: int) -> dict[int, bytes]:
    """The attributes that follow the fixed part of a message; of doubles the last one."""
    found = {}
    at = _aligned(start)
    while at + ATTRIBUTE.size <= len(payload):
        size, number = ATTRIBUTE.unpack_from(payload, at)
        if size < ATTRIBUTE.size:
            break
        found[number & NLA_TYPE_MASK] = payload[at + ATTRIBUTE.size : at + size]
        at += _aligned(size)
    return found


def _raise_if_refused(message: Message) -> None:
    (number,) = ERROR.unpack_from(message.payload)
    if number == 0:
        return
    words = b""
    if message.flags & NLM_F_ACK_TLVS and message.flags & NLM_F_CAPPED:
        words = attributes_of(message.payload, ERROR.size + HEADER.size).get(NLMSGERR_ATTR_MSG, b"")
    raise NetlinkError(-number, words.rstrip(b"\0").decode("utf-8", "replace"))


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))
