"""A blob on its way to a registry: read once, hashed, and sent in pieces of which the last waits for the digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from ocirt.image.digest import Digest, Readable, Verified

CHUNK: Final = 256 * 1024

SMALL: Final = 1024 * 1024
"""Bytes that are held in memory, so that they may be sent again."""


class Sent:
    """A stream as the body of a request.

    What is said of it beforehand, if anything, is checked. The last piece is held back until then, so that a registry
    never has the whole of something that is wrong.
    """

    def __init__(self, head: bytes, stream: Readable, length: int | None) -> None:
        self.length = length
        self.failure: BaseException | None = None
        self.size = 0
        self._pieces = self._read(head, stream)
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    @property
    def digest(self) -> Digest:
        """Of what was sent."""
        return Digest("sha256", self._hash.hexdigest())

    def _read(self, head: bytes, stream: Readable) -> Iterator[bytes]:
        try:
            held = head
            while data := stream.read(CHUNK):
                yield self._count(held)
                held = data
            yield self._count(held)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise

    def _count(self, piece: bytes) -> bytes:
        self.size += len(piece)
        if self.length is None:  # or who reads it knows its digest already
            self._hash.update(piece)
        return piece


def verified(stream: Readable, digest: Digest, size: int, what: str) -> Readable:
    """The stream, checked once."""
    return stream if isinstance(stream, Verified) else Verified(stream, digest, size, what)


def head(stream: Readable) -> tuple[bytes, bool]:
    """The beginning of a stream, and whether that is all of it."""
    parts = bytearray()
    while len(parts) < SMALL:
        data = stream.read(SMALL - len(parts))
        if not data:
            return bytes(parts), True
        parts += data
    return bytes(parts), False
