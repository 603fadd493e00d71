"""Asking a server of the test's own for one manifest and one blob, whatever it does then."""

from __future__ import annotations

import base64
import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ocirt.image import media
from ocirt.image.digest import Digest, Readable, Verified
from ocirt.image.documents import Descriptor
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Raw, open_source
from tests.image.servers import Exchange, Server

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": {}, "layers": []}).encode()
BLOB = random.Random(0).randbytes(3_000_000)
DESCRIPTOR = Descriptor(media.LAYER, Digest.of(BLOB), len(BLOB))
OPEN = Access(http=True)
SECRET = "s3cret"
LOGGED_IN = Access("me", SECRET, http=True)
BASIC = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"


def manifest(server: Server, access: Access = OPEN) -> Raw:
    with open_source(Location("docker", f"{server.host}/app"), access) as source:
        return source.manifest()


def blob(server: Server, access: Access = OPEN, size: int = 100_000) -> bytes:
    with (
        open_source(Location("docker", f"{server.host}/app"), access) as source,
        source.blob(DESCRIPTOR) as stream,
    ):
        verified: Readable = Verified(stream, DESCRIPTOR.digest, DESCRIPTOR.size, "blob")
        return b"".join(iter(lambda: verified.read(size), b"")) if size > 0 else verified.read()


def fine(exchange: Exchange) -> None:
    exchange.answer(200, MANIFEST, Content_Type=media.MANIFEST)


def first(
    count: int, answer: Callable[[Exchange], None], then: Callable[[Exchange], None] = fine
) -> Callable[[Exchange], None]:
    """The first requests are answered so, the others well."""

    def answered(exchange: Exchange) -> None:
        (answer if len(exchange.server.requests) <= count else then)(exchange)

    return answered


def all_words(error: BaseException) -> str:
    """Whatever of an exception might be written somewhere."""
    words = ""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            words += f"{one!r} {one} {one.args!r} {getattr(one, '__dict__', '')!r}"
            ahead += [one.__cause__, one.__context__]
    return words


@contextmanager
def deaf() -> Iterator[int]:
    """A port of this machine's that nobody listens on, nor will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
