"""A blob whose connections break is read on, and one that is another is told."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ocirt.errors import DigestMismatch, ImageError, RegistryError
from ocirt.image.transport import Access
from tests.image.asking import (
    BLOB,
    blob,
    first,
)
from tests.image.servers import Exchange, serving

pytestmark = pytest.mark.usefixtures("home")


def pieces(cut_after: int, ranges: bool) -> Callable[[Exchange], None]:
    """A blob of which each answer has so many bytes and no more."""

    def answered(exchange: Exchange) -> None:
        wanted = re.fullmatch(r"bytes=([0-9]+)-", exchange.headers.get("Range") or "")
        start = int(wanted[1]) if wanted and ranges else 0
        exchange.send_response(206 if start else 200)
        exchange.send_header("Content-Length", str(len(BLOB) - start))
        if start:
            exchange.send_header("Content-Range", f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}")
        exchange.end_headers()
        # Without ranges each answer has to come farther than the one before.
        end = start + cut_after if ranges else cut_after * len(exchange.server.requests)
        exchange.wfile.write(BLOB[start:end])
        if end < len(BLOB):
            exchange.cut()

    return answered


@pytest.mark.parametrize("size", [1000, 1_000_000, -1])
def test_a_broken_download_goes_on_where_it_was(size: int) -> None:
    with serving(pieces(1_200_000, ranges=True)) as server:
        assert blob(server, size=size) == BLOB
        starts = [request.headers.get("Range") for request in server.requests]
        assert starts == [None, "bytes=1200000-", "bytes=2400000-"]


def test_it_starts_over_where_the_registry_knows_no_ranges() -> None:
    with serving(pieces(1_200_000, ranges=False)) as server:
        assert blob(server) == BLOB
        assert len(server.requests) == 3


def test_a_download_that_never_gets_anywhere_ends() -> None:
    with serving(pieces(1000, ranges=True)) as server:
        with pytest.raises(RegistryError, match=r"the connection was cut .read 3000 of 3000000 bytes"):
            blob(server, Access(http=True, retries=2))
        assert len(server.requests) == 3


def test_a_download_without_length_that_ends_early_goes_on() -> None:
    def unannounced(exchange: Exchange) -> None:
        exchange.answer(200, BLOB[:1000], Content_Length=None, Connection="close")
        exchange.close_connection = True

    with serving(first(1, unannounced, pieces(len(BLOB), ranges=True))) as server:
        assert blob(server) == BLOB
        assert len(server.requests) == 2


def test_another_part_than_was_asked_for_is_refused() -> None:
    def wrong(exchange: Exchange) -> None:
        exchange.answer(206, BLOB[5:], Content_Range=f"bytes 5-{len(BLOB) - 1}/{len(BLOB)}")

    with (
        serving(first(1, pieces(1000, ranges=True), wrong)) as server,
        pytest.raises(ImageError, match="asked for bytes from 1000 on, got 'bytes 5-"),
    ):
        blob(server)


@pytest.mark.parametrize("length", [len(BLOB) - 1, len(BLOB) + 1, 2**62])
def test_a_blob_of_another_length_is_not_even_read(length: int) -> None:
    with (
        serving(lambda exchange: exchange.answer(200, BLOB, Content_Length=length)) as server,
        pytest.raises(DigestMismatch, match="should be 3000000 bytes"),
    ):
        blob(server)


@pytest.mark.parametrize("data", [BLOB[:-1] + b"x", BLOB + b"x"], ids=["other", "longer"])
def test_another_blob_is_refused(data: bytes) -> None:
    def unannounced(exchange: Exchange) -> None:
        exchange.answer(200, data, Content_Length=None, Connection="close")
        exchange.close_connection = True

    with serving(unannounced) as server, pytest.raises(DigestMismatch):
        blob(server)
