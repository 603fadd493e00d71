"""Compression by several threads: anybody's gunzip undoes it, and their number shows nowhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import subprocess
import threading
from collections.abc import Iterator

import pytest

from ocirt.image.packing import BLOCK, Gzip, Pieces


def words(size: int) -> bytes:
    """What can be compressed, and is the same each time."""
    return random.Random(size).randbytes(size // 2 + 1).hex().encode()[:size]


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK, BLOCK + 1, 5 * BLOCK + 12345])
@pytest.mark.parametrize("level", [None, 0, 1, 9])
def test_what_is_compressed_comes_back(size: int, level: int | None) -> None:
    data = words(size)
    with Gzip(io.BytesIO(data), level) as stream:
        packed = stream.read()
    assert gzip.decompress(packed) == data
    if level is None:
        assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == data
        assert len(packed) < max(1100, len(data) * 2 // 3)


def test_the_number_of_processors_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    data = words(4 * BLOCK)
    made = set()
    for processors in (1, 2, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        with Gzip(io.BytesIO(data)) as stream:
            made.add(stream.read())
    assert len(made) == 1


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_it_is_read_in_any_pieces(size: int) -> None:
    data = words(300_000)
    with Gzip(Pieces(data[start : start + 1000] for start in range(0, len(data), 1000))) as stream:
        packed = b"".join(iter(lambda: stream.read(size), b""))
        assert stream.read(size) == b""
    assert gzip.decompress(packed) == data


def test_pieces_are_hashed_on_their_way() -> None:
    data = words(100_000)
    pieces = Pieces(data[start : start + 777] for start in range(0, len(data), 777))
    assert pieces.read(10) == data[:10]
    assert pieces.read(0) == b""
    assert pieces.read() == data[10:]
    assert pieces.read(10) == b""
    assert str(pieces.diff_id) == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_an_error_in_what_is_read_ends_the_threads() -> None:
    def broken() -> Iterator[bytes]:
        yield words(3 * BLOCK)
        raise OSError("broken")

    before = threading.active_count()
    with pytest.raises(OSError, match="broken"), Gzip(Pieces(broken())) as stream:
        stream.read()
    assert threading.active_count() == before
