"""Layers as they are stored, and what they are uncompressed (image-spec, layer.md: tar, +gzip, +zstd).

Everything is a stream. However small what comes in, no read makes more than it was asked for: a bomb is as long as it
is, and whoever reads it decides how far. The libraries let go of the interpreter's lock, so a ``threaded`` reader
decompresses while the one who reads it works on what came before.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol, cast

from ocirt.errors import ImageError, UnsupportedError
from ocirt.image.digest import Digest, Readable, Verified
from ocirt.image.media import LAYERS, Compression
from ocirt.image.threads import PIECE, Ahead

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
OTHER_MAGIC: Final = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
"""What Docker once took, and no specification has."""

GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
"""Their libraries' own defaults."""

FED: Final = 16 * 1024
"""Bytes that a library is given first of a member. Behind a member's end it hands the rest back, and some files have
one member for each few bytes: the more it is given, the more is copied each time. A long member is given twice as much
each time, up to a piece: each call waits for the interpreter's lock, while somebody else makes files."""

_WITH_GZIP_HEADER: Final = 16 + zlib.MAX_WBITS
"""zlib.h, deflateInit2: the header it writes has neither a name nor a time, so equal data gives equal bytes."""


def of(media_type: str) -> Compression | None:
    """How a layer of this media type is compressed; ``None`` if that is no layer's type known here: look at it."""
    return LAYERS.get(media_type)


def detect(head: bytes, what: str) -> Compression:
    """What something that begins so is compressed by.

    :raises UnsupportedError: by what no image's layer is.
    """
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head.startswith(ZSTD_MAGIC):
        return "zstd"
    for magic, name in OTHER_MAGIC.items():
        if head.startswith(magic):
            raise UnsupportedError(what, f"is compressed by {name}; layers are by gzip, zstd or not at all (layer.md)")
    return "none"


@contextmanager
def reader(
    stream: Readable, compression: Compression | None, *, what: str = "layer", threaded: bool = False
) -> Iterator[Readable]:
    """What ``stream`` is uncompressed, by its magic number if ``compression`` is ``None``.

    Its end is that of ``stream``: whoever has read the one has read the other too, so that a digest of it is checked.

    :param threaded: do it in a thread of its own, which has ended when the ``with`` block has.
    """
    if compression is None:
        stream = Peekable(stream)
        compression = detect(stream.peek(8), what)
    made: Readable = stream if compression == "none" else _Decompressing(stream, compression, what)
    if not threaded:
        yield made
        return
    with Ahead(made) as ahead:
        yield ahead


@contextmanager
def uncompressed(
    stream: Readable,
    compression: Compression | None,
    diff_id: Digest | None = None,
    *,
    what: str = "layer",
    threaded: bool = False,
) -> Iterator[Readable]:
    """The same, believed at its end if it is what ``diff_id`` says (config.md, ``rootfs``)."""
    with reader(stream, compression, what=what) as plain:
        checked: Readable = plain if diff_id is None else Verified(plain, diff_id, None, f"{what}, uncompressed")
        if not threaded:
            yield checked
            return
        with Ahead(checked) as ahead:
            yield ahead


class Peekable:
    """A stream whose beginning can be looked at."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._seen = b""

    def peek(self, size: int) -> bytes:
        while len(self._seen) < size and (data := self._stream.read(size - len(self._seen))):
            self._seen += data
        return self._seen[:size]

    def read(self, size: int = -1, /) -> bytes:
        if not self._seen:
            return self._stream.read(size)
        if size < 0:
            data, self._seen = self._seen, b""
            return data + self._stream.read(size)
        data, self._seen = self._seen[:size], self._seen[size:]
        return data


class _Decoder(Protocol):
    """One member of a gzip file, or one frame of zstd."""

    def decompress(self, data: bytes, max_length: int) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Gzip:
    """zlib's, or zlib-ng's, with the interface that Python's other decompressors have."""

    def __init__(self, library: ModuleType) -> None:
        self._zlib: zlib._Decompress = library.decompressobj(_WITH_GZIP_HEADER)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data


class _Decompressing:
    """All members of a gzip file, or all frames of zstd, one after the other (RFC 1952, 2.2; RFC 8878, 3).

    Behind gzip's last there may be zeros, which tapes and GNU tar leave there; nothing else may.
    """

    def __init__(self, stream: Readable, compression: Compression, what: str) -> None:
        self._stream = stream
        self._compression = compression
        self._what = what
        self._library = zstd() if compression == "zstd" else inflating()
        self._error: type[Exception] = self._library.ZstdError if compression == "zstd" else self._library.error
        self._decoder: _Decoder | None = self._new()
        self._input = b""
        self._offset = 0
        self._fed = FED

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        while size and self._decoder is not None:
            if self._decoder.eof:
                self._decoder = self._new() if self._more_follows(self._decoder) else None
            elif data := self._decoded(self._decoder, size):
                return data
        return b""

    def _decoded(self, decoder: _Decoder, size: int) -> bytes:
        data = b""
        if hungry := decoder.needs_input:
            data = self._some()
            self._offset += len(data)
        try:
            made = decoder.decompress(data, size)
        except self._error as error:
            raise ImageError(self._what, f"is no {self._compression} data: {error}") from error
        if hungry and not data and not made and not decoder.eof:
            raise ImageError(self._what, f"ends in the middle of its {self._compression} data")
        self._fed = FED if decoder.eof else min(2 * self._fed, PIECE)
        return made

    def _more_follows(self, decoder: _Decoder) -> bool:
        """Behind the end of a member, which has left what it did not use."""
        self._offset -= len(decoder.unused_data)
        while data := self._some():
            rest = data.lstrip(b"\0") if self._compression == "gzip" else data
            self._offset += len(data) - len(rest)
            if rest:
                return True
        return False

    def _some(self) -> bytes:
        """What comes next, none of it used up yet."""
        if self._offset == len(self._input):
            self._input, self._offset = self._stream.read(PIECE), 0
        return self._input[self._offset : self._offset + self._fed]

    def _new(self) -> _Decoder:
        if self._compression == "gzip":
            return _Gzip(self._library)
        return cast(_Decoder, self._library.ZstdDecompressor())


class Compressor(Protocol):
    """What makes compressed bytes of plain ones; whatever it returns comes before what it returns later."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(compression: Compression, level: int | None = None) -> Compressor:
    """A new one; equal data, level and library make equal bytes.

    :param level: 0 to 9 for gzip, -131072 to 22 for zstd; its library's own by default.
    """
    if compression == "gzip":
        return zlib.compressobj(GZIP_LEVEL if level is None else level, zlib.DEFLATED, _WITH_GZIP_HEADER)
    if compression == "zstd":
        return cast(Compressor, zstd().ZstdCompressor(level=ZSTD_LEVEL if level is None else level))
    return _Plain()


class Compressed:
    """A stream that is compressed while it is read."""

    def __init__(self, stream: Readable, compression: Compression, level: int | None = None) -> None:
        self._stream = stream
        self._compressor: Compressor | None = compressor(compression, level)
        self._ready = b""

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        while size and not self._ready and self._compressor is not None:
            data = self._stream.read(PIECE)
            if data:
                self._ready = self._compressor.compress(data)
            else:
                self._ready = self._compressor.flush()
                self._compressor = None
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


def inflating() -> ModuleType:
    """What reads gzip: zlib-ng where it is installed, in half of zlib's time, and the same bytes come out.

    Not for writing: what equal data becomes should not depend on what is installed.
    """
    try:
        from zlib_ng import zlib_ng
    except ModuleNotFoundError:
        return zlib
    return zlib_ng


def zstd() -> ModuleType:
    """Python's own from 3.14 on, or its twin for those before.

    :raises UnsupportedError: that is not installed.
    """
    from importlib import import_module

    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise UnsupportedError("zstd", "needs Python 3.14, or backports.zstd: pip install 'ocirt[image]'")
