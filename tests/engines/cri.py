"""What Kubernetes says to containerd: the Container Runtime Interface, by curl.

gRPC is HTTP/2 with messages in protobuf's wire format, which are few here. So neither crictl, which Debian does not
have, nor a compiler of protocol files is needed. A message is a mapping from field numbers to values, as the CRI's
api.proto numbers them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pytest
from attrs import frozen

from tests.engines.place import Place

Value: TypeAlias = "int | str | Message | Sequence[Value]"
Message: TypeAlias = Mapping[int, Value]

BYTES, VARINT = 2, 0
"""Kinds of values (protobuf.dev, encoding)."""


class CallError(Exception):
    """What the service refused, with its message."""


@frozen
class Fields:
    """A message that was received."""

    found: Sequence[tuple[int, int | bytes]]

    def text(self, number: int) -> str:
        """A string; absent is empty."""
        value = self._last(number, b"")
        assert isinstance(value, bytes)
        return value.decode()

    def number(self, number: int) -> int:
        """An integer or an enumeration; absent is 0."""
        value = self._last(number, 0)
        assert isinstance(value, int)
        return value

    def message(self, *numbers: int) -> Fields:
        """One inside, or inside of that."""
        inner = self
        for number in numbers:
            value = inner._last(number, b"")
            assert isinstance(value, bytes)
            inner = decode(value)
        return inner

    def _last(self, number: int, default: int | bytes) -> int | bytes:
        return next((value for key, value in reversed(self.found) if key == number), default)


@frozen
class Client:
    """Of the services at containerd's socket."""

    place: Place

    @classmethod
    def of(cls, place: Place) -> Client:
        if shutil.which("curl") is None:
            pytest.skip("needs curl, as the client of Kubernetes' interface (Debian: apt-get install curl)")
        return cls(place)

    def __call__(self, method: str, message: Message | None = None) -> Fields:
        """One call, as ``RunPodSandbox``.

        :raises CallError: it failed.
        """
        service = "ImageService" if "Image" in method else "RuntimeService"
        directory = self.place.directory
        (directory / "request").write_bytes(_framed(encode(message or {})))
        self.place.run(
            *("curl", "--silent", "--show-error", "--http2-prior-knowledge"),
            *("--unix-socket", f"{directory}/containerd.sock"),
            *("--header", "Content-Type: application/grpc", "--header", "TE: trailers"),
            *("--data-binary", "@request", "--dump-header", "headers", "--output", "answer"),
            f"http://localhost/runtime.v1.{service}/{method}",
        )
        said = dict(line.split(": ", 1) for line in (directory / "headers").read_text().splitlines() if ": " in line)
        if said["grpc-status"] != "0":
            raise CallError(said["grpc-message"])
        return decode((directory / "answer").read_bytes()[5:])


def encode(message: Message) -> bytes:
    return b"".join(_field(number, value) for number, value in message.items())


def decode(data: bytes) -> Fields:
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        value, at = _number(data, at)
        assert key & 7 in (BYTES, VARINT), f"a kind of value that nobody expects: {key & 7}"
        if key & 7 == BYTES:
            found.append((key >> 3, data[at : at + value]))
            at += value
        else:
            found.append((key >> 3, value))
    return Fields(found)


def _field(number: int, value: Value) -> bytes:
    match value:
        case int():
            return _varint(number << 3 | VARINT) + _varint(value)
        case str():
            data = value.encode()
        case Mapping():
            data = encode(value)
        case _:
            return b"".join(_field(number, each) for each in value)
    return _varint(number << 3 | BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where the next thing begins."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message
