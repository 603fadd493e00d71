"""Bytes from whatever has ``read``, in pieces that are not copied, and blocks of 512."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ocirt.errors import ArchiveError

BLOCK = 512
PIECE = 1 << 20
"""Read at a time: all that is kept of an archive in memory."""

_ZEROS = bytes(PIECE)


class Stream(Protocol):
    """An open file, an unpacker, a socket's: what returns up to ``size`` bytes, and none at the end."""

    def read(self, size: int, /) -> bytes: ...


class Source:
    """A stream with a place in it."""

    def __init__(self, stream: Stream) -> None:
        self.failure: BaseException | None = None
        """What the stream raised: that is no fault of the archive."""
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._before = 0

    @property
    def place(self) -> int:
        """How many bytes were taken."""
        return self._before + self._at

    def take(self, size: int, member: str = "") -> bytes:
        """The next ``size`` bytes.

        :raises ArchiveError: there are fewer; ``member`` is whose they would have been.
        """
        end = self._at + size
        if end > len(self._buffer):
            return b"".join(self.pieces(size, member))
        taken = self._buffer[self._at : end]
        self._at = end
        return taken

    def header(self) -> bytes | None:
        """The next block; ``None`` at the end of the stream."""
        if self._at == len(self._buffer) and not self._fill():
            return None
        return self.take(BLOCK)

    def pieces(self, size: int, member: str = "") -> Iterator[memoryview]:
        """The next ``size`` bytes, as they come."""
        while size:
            end = min(self._at + size, len(self._buffer))
            if end == self._at:
                if not self._fill():
                    raise ArchiveError(member, f"the archive ends too early: at least {size} bytes are missing")
                continue
            piece = memoryview(self._buffer)[self._at : end]
            size -= end - self._at
            self._at = end
            yield piece

    def skip(self, size: int, member: str = "") -> None:
        """Go past the next ``size`` bytes."""
        if self._at + size <= len(self._buffer):
            self._at += size
            return
        for _ in self.pieces(size, member):
            pass

    def only_zeros(self) -> bool:
        """Whether nothing but zeros is left, which are read to the stream's end."""
        zeros = True
        while self._at < len(self._buffer) or self._fill():
            rest = memoryview(self._buffer)[self._at :]
            zeros = zeros and rest == memoryview(_ZEROS)[: len(rest)]
            self._at = len(self._buffer)
            if not zeros:
                return False
        return True

    def _fill(self) -> bool:
        self._before += len(self._buffer)
        self._at = 0
        self._buffer = b""
        try:
            self._buffer = self._stream.read(PIECE)
        except BaseException as error:
            self.failure = error
            raise
        return bool(self._buffer)
