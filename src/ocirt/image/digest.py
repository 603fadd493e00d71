"""Digests, and streams that are not believed until their digest is (image-spec, descriptor.md, Digests)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, Protocol

from attrs import frozen

from ocirt.errors import DigestMismatch

if TYPE_CHECKING:
    from hashlib import _Hash

LENGTHS: Final = {"sha256": 64, "sha512": 128}
"""The registered algorithms, with how many hexadecimal digits they have; others nobody could verify."""

_GRAMMAR: Final = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([A-Za-z0-9=_-]+)", re.ASCII)


class Readable(Protocol):
    """A stream of bytes, of which nothing is asked but to be read in order."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all if it is negative; none at the end."""


@frozen(order=True)
class Digest:
    """What a blob is called by: ``sha256:…``."""

    algorithm: str
    hex: str

    @classmethod
    def from_text(cls, text: str) -> Digest:
        """:raises ValueError: it is no digest, or of an algorithm that is not registered."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise ValueError("is not a digest (algorithm:hexadecimal digits)")
        algorithm, digits = match.groups()
        if algorithm not in LENGTHS:
            raise ValueError(f"is of an algorithm other than {', '.join(LENGTHS)}")
        if not re.fullmatch(f"[a-f0-9]{{{LENGTHS[algorithm]}}}", digits):
            raise ValueError(f"needs {LENGTHS[algorithm]} lowercase hexadecimal digits")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> _Hash:
        """A new hash object of its algorithm."""
        return hashlib.new(self.algorithm)

    @property
    def short(self) -> str:
        """As people write it: the first twelve digits."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verified:
    """A stream whose size and digest are checked while it is read.

    Whoever has read its end has read what was asked for: a stream that is too long fails as soon as it is, and any
    other difference at its end, by ``DigestMismatch``.
    """

    def __init__(self, stream: Readable, digest: Digest, size: int | None, what: str) -> None:
        self._stream = stream
        self._hash = digest.hasher()
        self._expected = digest
        self._size = size
        self._what = what
        self.count = 0
        """Bytes read so far."""

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        if self._size is not None and self.count > self._size:
            raise DigestMismatch(self._what, f"{self._size} bytes", "more")
        self._hash.update(data)
        if (not data and size != 0) or size < 0:
            self._finish()
        return data

    def _finish(self) -> None:
        if self._size is not None and self.count != self._size:
            raise DigestMismatch(self._what, f"{self._size} bytes", f"{self.count} bytes")
        found = self._hash.hexdigest()
        if found != self._expected.hex:
            raise DigestMismatch(self._what, str(self._expected), f"{self._expected.algorithm}:{found}")
