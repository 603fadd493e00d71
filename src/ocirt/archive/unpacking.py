"""An archive that may be compressed, by whatever programs people give to tar: gzip, zstd, bzip2, xz."""

from __future__ import annotations

import contextlib
import importlib
import os
import zlib
from collections.abc import Iterator
from typing import IO, cast

from ocirt.archive.source import Stream
from ocirt.errors import ArchiveError, UnsupportedError

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


@contextlib.contextmanager
def opened(archive: str | os.PathLike[str] | Stream) -> Iterator[Stream]:
    """A tar archive's bytes, however it is compressed; of a path, or of an open file, which stays open.

    :raises UnsupportedError: nothing here can read it.
    """
    with contextlib.ExitStack() as stack:
        raw = archive
        if isinstance(raw, (str, os.PathLike)):
            raw = stack.enter_context(open(raw, "rb"))
        begun = _Begun(raw)
        kind = next((kind for magic, kind in _MAGIC.items() if begun.head.startswith(magic)), None)
        if kind is None:
            yield begun
        else:
            file, wrong = _unpacker(kind, begun)
            yield _Unpacked(stack.enter_context(file), begun, wrong)


class _Begun:
    """A stream of which the first bytes are known."""

    def __init__(self, stream: Stream) -> None:
        self.failure: OSError | None = None
        self.head = b""
        self._stream = stream
        while len(self.head) < 6 and (more := stream.read(6 - len(self.head))):
            self.head += more
        self._rest = self.head

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            try:
                return self._stream.read(size)
            except OSError as error:
                self.failure = error
                raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class _Unpacked:
    """What an unpacker finds wrong is the archive's fault; what it could not read is not."""

    def __init__(self, stream: Stream, packed: _Begun, wrong: type[Exception]) -> None:
        self._stream = stream
        self._packed = packed
        self._wrong = wrong

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except (self._wrong, EOFError, OSError) as error:
            if error is self._packed.failure:
                raise
            raise ArchiveError("", f"it is damaged or was truncated: {error}") from error


def _unpacker(kind: str, packed: _Begun) -> tuple[IO[bytes], type[Exception]]:
    """By what Python has; and what it raises besides OSError and EOFError."""
    file = cast("IO[bytes]", packed)
    if kind == "gzip":
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(fileobj=file)), zlib.error
    if kind == "bzip2":
        import bz2

        return cast("IO[bytes]", bz2.BZ2File(file)), ValueError
    if kind == "xz":
        import lzma

        return cast("IO[bytes]", lzma.LZMAFile(file)), lzma.LZMAError
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            zstd = importlib.import_module(name)
            return zstd.ZstdFile(file), zstd.ZstdError
    raise UnsupportedError("zstd", "needs Python 3.14, or backports.zstd: pip install 'ocirt[image]'")
