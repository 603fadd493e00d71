"""Layers are read however they are compressed, in bounded memory, and believed only as far as they are whole."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import DigestMismatch, ImageError, UnsupportedError
from ocirt.image import compression
from ocirt.image.digest import Digest, Readable
from ocirt.image.media import Compression
from ocirt.image.threads import PIECE, Ahead, Cancelled, Team
from tests.image import support

PLAIN = bytes(range(256)) * 4096
both = pytest.mark.parametrize("kind", ["gzip", "zstd"])
every = pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
threaded = pytest.mark.parametrize("threaded", [False, True])


@pytest.fixture(scope="module", params=["zlib-ng", "zlib"], autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """What reads gzip, there or not: its name."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "zlib":
            patch.setitem(sys.modules, "zlib_ng", None)
        assert compression.inflating().__name__ == {"zlib-ng": "zlib_ng.zlib_ng", "zlib": "zlib"}[request.param]
        yield request.param


def read(data: bytes, kind: Compression | None, size: int = PIECE, *, threaded: bool = False) -> bytes:
    with compression.reader(io.BytesIO(data), kind, threaded=threaded) as stream:
        return pieces(stream, size)


def pieces(stream: Readable, size: int) -> bytes:
    return b"".join(iter(lambda: stream.read(size), b""))


@every
@threaded
@pytest.mark.parametrize("size", [777, PIECE, 2**30])
def test_what_was_compressed_comes_out(kind: Compression, threaded: bool, size: int) -> None:
    data = support.compressed(PLAIN, kind)
    assert read(data, kind, size, threaded=threaded) == PLAIN
    assert read(data, None, size, threaded=threaded) == PLAIN


@every
def test_what_is_compressed_here_others_read(kind: Compression) -> None:
    made = compression.Compressed(io.BytesIO(PLAIN), kind)
    data = b"".join(iter(lambda: made.read(1000), b""))
    assert read(data, kind) == PLAIN
    if kind == "gzip":
        assert gzip.decompress(data) == PLAIN
        assert data[3:8] == bytes(5)  # RFC 1952, 2.3.1: no name, no time
    if kind == "zstd":
        support.need("zstd")
        assert subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout == PLAIN


@both
def test_levels_differ_and_repeat(kind: Compression) -> None:
    def size(level: int) -> int:
        made = compression.Compressed(io.BytesIO("".join(str(n * n) for n in range(20000)).encode()), kind, level)
        return len(made.read())

    assert size(1) == size(1)
    assert size(1) != size(9)


@both
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=5), size=st.integers(1, 100))
def test_members_follow_each_other(kind: Compression, parts: list[bytes], size: int) -> None:
    data = b"".join(support.compressed(part, kind) for part in parts)
    assert read(data, kind, size) == b"".join(parts)


def test_a_great_many_members_are_one_file() -> None:
    """As eStargz makes: one for each small file. What lies behind each is not copied each time."""
    member = gzip.compress(b"ab")
    assert read(member * 50_000, "gzip") == b"ab" * 50_000


def test_zeros_behind_gzip_are_padding_and_all_else_is_not() -> None:
    data = gzip.compress(PLAIN)
    assert read(data + bytes(3 * PIECE), "gzip") == PLAIN
    assert read(data + bytes(1000) + data, "gzip") == PLAIN * 2
    for rest in (b"x", b"\0\0x", data[:-1]):
        with pytest.raises(ImageError):
            read(data + rest, "gzip")
    with pytest.raises(ImageError):
        read(support.compressed(PLAIN, "zstd") + b"\0\0\0\0", "zstd")


@both
def test_all_of_the_input_is_read(kind: Compression) -> None:
    """Whoever checks the digest of the compressed bytes needs its end."""
    stream = io.BytesIO(support.compressed(PLAIN, kind) + (bytes(PIECE * 2) if kind == "gzip" else b""))
    with compression.reader(stream, kind) as plain:
        assert b"".join(iter(lambda: plain.read(1000), b"")) == PLAIN
    assert stream.read() == b""


@both
@threaded
@pytest.mark.parametrize("size", [1, 100, PIECE])
def test_what_is_cut_off_is_an_error(kind: Compression, threaded: bool, size: int) -> None:
    whole = support.compressed(b"some text " * 3, kind)
    for length in range(len(whole)):
        with pytest.raises(ImageError, match="ends in the middle"):
            read(whole[:length], kind, size, threaded=threaded)


@both
@threaded
def test_what_is_damaged_is_an_error(kind: Compression, threaded: bool) -> None:
    with pytest.raises(ImageError):
        read(b"nothing of the kind", kind, threaded=threaded)
    whole = bytearray(support.compressed(PLAIN, kind))
    whole[len(whole) // 2] ^= 0xFF
    with contextlib.suppress(ImageError):  # zstd has no checksum by default
        assert read(bytes(whole), kind, threaded=threaded) != PLAIN


@both
def test_a_bomb_costs_no_memory(kind: Compression, library: str) -> None:
    """A GiB of zeros in a few KiB, two of it at once, read by pieces under a limit of 100 MiB above what there was."""
    script = """
import io, resource, sys, zlib
if sys.argv[2] == "zlib":
    sys.modules["zlib_ng"] = None
from ocirt.image import compression
kind, size = sys.argv[1], 1 << 30
maker = compression.compressor(kind)
bomb = b"".join([maker.compress(bytes(1 << 20)) for _ in range(size >> 20)]) + maker.flush()
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with (
    compression.reader(io.BytesIO(bomb), kind, threaded=True) as one,
    compression.reader(io.BytesIO(bomb), None) as two,
):
    for stream in (one, two):
        count = 0
        while data := stream.read(1 << 20):
            count += len(data)
        assert count == size, count
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", script, kind, library], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) < 100


def test_other_compressions_are_named() -> None:
    with pytest.raises(UnsupportedError, match="xz"):
        read(b"\xfd7zXZ\0\0\0\0\0", None)
    assert read(b"BZ", None) == b"BZ"
    assert read(b"", None) == b""


@both
@threaded
def test_a_layer_is_believed_at_its_end(kind: Compression, threaded: bool) -> None:
    data = support.compressed(PLAIN, kind)
    for digest, good in ((Digest.of(PLAIN), True), (Digest.of(b""), False), (None, True)):
        with ExitStack() as stack:
            stream = stack.enter_context(
                compression.uncompressed(io.BytesIO(data), kind, digest, what="it", threaded=threaded)
            )
            if not good:
                stack.enter_context(pytest.raises(DigestMismatch))
            assert pieces(stream, 5000) == PLAIN


def test_who_reads_ahead_ends_with_its_reader() -> None:
    class Endless:
        def read(self, size: int = -1, /) -> bytes:
            return bytes(size)

    before = set(threading.enumerate())
    with Ahead(Endless()) as stream:
        assert stream.read(5) == bytes(5)
    assert set(threading.enumerate()) == before
    stream.read(PIECE)  # what is left of the piece that was begun
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


def test_without_zstd_the_remedy_is_named(tmp_path: Path) -> None:
    """In a Python that has neither."""
    for package in ("compression", "backports"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from ocirt.image import compression
from ocirt.errors import UnsupportedError
try:
    compression.zstd()
except UnsupportedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert "pip install 'ocirt[image]'" in done.stdout


def test_the_first_error_ends_the_team() -> None:
    """Even work that would never end."""
    before = set(threading.enumerate())
    team = Team(2)
    seen: list[type[BaseException]] = []

    def endless() -> None:
        try:
            while True:
                team.check()
        except Cancelled:
            seen.append(Cancelled)
            raise

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        team.run([endless, fail, endless, endless])
    assert seen == [Cancelled]
    assert set(threading.enumerate()) == before


def test_zlib_may_owe_more_than_it_was_fed() -> None:
    """Its last input is taken, and what it makes of that is longer than what it was asked for."""
    data = gzip.compress(bytes(100_000))
    assert len(data) < 200
    assert read(data, "gzip", 1000) == bytes(100_000)
    assert zlib.crc32(read(data, "gzip", 1)) == zlib.crc32(bytes(100_000))
