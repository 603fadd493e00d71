"""``docker://`` with servers that break, lie and lead astray."""

from __future__ import annotations

import email.utils
import gc
import json
import re
import threading
import time
from collections.abc import Callable

import pytest

from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, OCIError, RegistryError
from ocirt.image import media
from ocirt.image.digest import Digest
from ocirt.image.reference import Location
from ocirt.image.registry import list_tags
from ocirt.image.transport import Access, open_source
from tests import support
from tests.image.asking import (
    BASIC,
    LOGGED_IN,
    MANIFEST,
    OPEN,
    deaf,
    fine,
    first,
    manifest,
)
from tests.image.servers import Certificates, Exchange, serving
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("home")


# What passes by itself is tried again.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with serving(first(2, lambda exchange: exchange.answer(status))) as server:
        assert manifest(server).data == MANIFEST
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_what_will_not_pass_is_not(status: int) -> None:
    with serving(lambda exchange: exchange.answer(status)) as server:
        with pytest.raises(ImageError):
            manifest(server)
        assert len(server.requests) == 1


def test_not_for_ever() -> None:
    with serving(lambda exchange: exchange.answer(503)) as server:
        with pytest.raises(RegistryError, match="HTTP 503") as caught:
            manifest(server, Access(http=True, retries=2))
        assert (caught.value.status, len(server.requests)) == (503, 3)


def test_a_connection_that_is_closed_is_made_again() -> None:
    with serving(first(2, Exchange.cut)) as server:
        assert manifest(server).data == MANIFEST
        assert len(server.requests) == 3


@pytest.mark.parametrize("after", [lambda: "1", lambda: email.utils.formatdate(time.time() + 2, usegmt=True)])
def test_who_says_when_is_not_asked_before(after: Callable[[], str]) -> None:
    with serving(first(1, lambda exchange: exchange.answer(429, Retry_After=after()))) as server:
        began = time.monotonic()
        assert manifest(server).data == MANIFEST
        assert time.monotonic() - began >= 0.9
        assert len(server.requests) == 2


def test_nobody_waits_for_an_hour() -> None:
    with serving(lambda exchange: exchange.answer(429, Retry_After=3600)) as server:
        with pytest.raises(RegistryError, match="try again in 3600 seconds, or log in") as caught:
            manifest(server)
        assert (caught.value.status, len(server.requests)) == (429, 1)


def test_nobody_listens() -> None:
    with (
        deaf() as port,
        open_source(Location("docker", f"127.0.0.1:{port}/app"), Access(http=True, retries=1)) as source,
        pytest.raises(RegistryError, match=f"127.0.0.1:{port}.*Connection refused") as caught,
    ):
        source.manifest()
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.status == 0


def test_a_close_ends_the_wait() -> None:
    arrived = threading.Event()

    def later(exchange: Exchange) -> None:
        exchange.answer(503, Retry_After=100)
        arrived.set()

    with serving(later) as server:
        source = open_source(Location("docker", f"{server.host}/app"), OPEN)

        def close() -> None:
            arrived.wait()
            source.close()

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(ImageError, match="closed"):
            source.manifest()
        thread.join()
        assert len(server.requests) == 1


# Redirects.


def leading_to(url: Callable[[], str], status: int = 307) -> Callable[[Exchange], None]:
    """A registry that wants a password, and then sends everybody elsewhere."""

    def answered(exchange: Exchange) -> None:
        if exchange.headers.get("Authorization") != BASIC:
            exchange.answer(401, WWW_Authenticate='Basic realm="x"')
            return
        exchange.answer(status, Location=url())

    return answered


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_password_stays_with_its_host(status: int) -> None:
    with serving(fine) as other, serving(leading_to(lambda: f"{other.url}/x?sig=1", status)) as server:
        assert manifest(server, LOGGED_IN).data == MANIFEST
        (request,) = other.requests
        assert request.path == "/x?sig=1"
        assert "Authorization" not in request.headers
        assert [r.headers.get("Authorization") for r in server.requests] == [None, BASIC]


def test_on_the_same_host_it_goes_along() -> None:
    def answered(exchange: Exchange) -> None:
        if exchange.path != "/moved" or exchange.headers.get("Authorization") != BASIC:
            leading_to(lambda: "/moved")(exchange)
            return
        fine(exchange)

    with serving(answered) as server:
        assert manifest(server, LOGGED_IN).data == MANIFEST


def test_a_redirect_to_another_host_asks_for_no_password() -> None:
    """The other one's challenge is its own: nobody logs in there with what is the registry's."""
    with (
        serving(lambda exchange: exchange.answer(401, WWW_Authenticate='Basic realm="x"')) as other,
        serving(lambda exchange: exchange.answer(307, Location=f"{other.url}/x")) as server,
    ):
        with pytest.raises(RegistryError):
            manifest(server, LOGGED_IN)
        assert [request.headers.get("Authorization") for request in other.requests] == [None]


def test_tls_is_not_given_up(certificates: Certificates) -> None:
    with (
        serving(fine) as plain,
        serving(lambda exchange: exchange.answer(307, Location=f"{plain.url}/x"), certificates) as server,
    ):
        with pytest.raises(RegistryError, match="without TLS; refused"):
            manifest(server, Access(ca=certificates.ca))
        assert plain.requests == []


def test_redirects_end() -> None:
    with serving(lambda exchange: exchange.answer(302, Location=f"{exchange.path}x")) as server:
        with pytest.raises(ImageError, match="more than 10 redirects"):
            manifest(server)
        assert len(server.requests) == 11


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "http://[::1", "file:///etc/passwd", "https:///x"])
def test_redirects_lead_to_http(target: str) -> None:
    with (
        serving(lambda exchange: exchange.answer(302, Location=target)) as server,
        pytest.raises(ImageError, match=r"is no URL|that is no URL"),
    ):
        manifest(server)


# Documents.


def test_nobody_reads_an_endless_manifest() -> None:
    def endless(exchange: Exchange) -> None:
        exchange.answer(200, Content_Type=media.MANIFEST, Content_Length=None, Connection="close")
        while True:  # until the other side closes
            exchange.wfile.write(b" " * 65536)

    with serving(endless) as server, pytest.raises(ImageError, match="more than the 4194304 bytes"):
        manifest(server)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is no JSON object"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "schema 1"),
        (b'{"schemaVersion": 2, "manifests": [], "layers": []}', "must not be both"),
        (json.dumps({"schemaVersion": 2, "mediaType": media.INDEX}).encode(), f"is sent as {media.MANIFEST}"),
    ],
)
def test_manifests_that_are_none(data: bytes, reason: str) -> None:
    with (
        serving(lambda exchange: exchange.answer(200, data, Content_Type=media.MANIFEST)) as server,
        pytest.raises(ImageError, match=re.escape(reason)),
    ):
        manifest(server)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{media.MANIFEST}; charset=utf-8", media.MANIFEST),
        ("application/json", media.MANIFEST),
        (None, media.MANIFEST),
    ],
)
def test_the_type_of_a_manifest(header: str | None, expected: str) -> None:
    with serving(lambda exchange: exchange.answer(200, MANIFEST, Content_Type=header)) as server:
        assert manifest(server).media_type == expected


@pytest.mark.parametrize("told", [str(Digest.of(b"x")), "sha1:abc", "nonsense"])
def test_the_registry_says_another_digest(told: str) -> None:
    with (
        serving(lambda exchange: exchange.answer(200, MANIFEST, Docker_Content_Digest=told)) as server,
        pytest.raises(ImageError, match=r"should be|is not a digest|other than"),
    ):
        manifest(server)


def test_a_manifest_asked_for_by_digest_is_that() -> None:
    wanted = Digest.of(b"x")
    with (
        serving(lambda exchange: exchange.answer(200, MANIFEST, Docker_Content_Digest=str(wanted))) as server,
        open_source(Location("docker", f"{server.host}/app@{wanted}"), OPEN) as source,
        pytest.raises(DigestMismatch),
    ):
        source.manifest()


def test_a_tag_is_asked_for_once() -> None:
    with serving(fine) as server, open_source(Location("docker", f"{server.host}/app"), OPEN) as source:
        assert source.manifest() == source.manifest()
        assert server.asked() == ["/v2/app/manifests/latest"]
        accepted = server.requests[0].headers["Accept"].split(", ")
        assert {media.INDEX, media.MANIFEST, media.DOCKER_LIST, media.DOCKER_MANIFEST} == set(accepted)
        assert re.fullmatch(r"ocirt/[0-9.]+", server.requests[0].headers["User-Agent"])


# Servers that are slow.


def dripping(before: bytes) -> Callable[[Exchange], None]:
    """A byte every now and then, for ever: never long enough for a limit between two bytes."""

    def answered(exchange: Exchange) -> None:
        exchange.wfile.write(before)
        while True:  # until the other side closes
            exchange.wfile.write(b" ")
            time.sleep(0.02)

    return answered


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n"], ids=["head", "document"]
)
def test_what_drips_is_not_waited_for(before: bytes) -> None:
    with serving(dripping(before)) as server, pytest.raises(RegistryError, match=r"in time|within 0.5 seconds"):
        manifest(server, Access(http=True, timeout=0.5, retries=0))


def test_who_says_nothing_is_not_waited_for() -> None:
    ended = threading.Event()

    def silent(_: Exchange) -> None:
        ended.wait()

    with serving(silent) as server:
        try:
            with pytest.raises(RegistryError, match="did not answer in time"):
                manifest(server, Access(http=True, timeout=0.3, retries=1))
        finally:
            ended.set()
        eventually(lambda: len(server.requests) == 2, "both attempts arrived")


# What registries say.


def test_a_refusal_has_the_registry_s_own_words() -> None:
    body = {"errors": [{"code": "DENIED", "message": "not\x1b[31m\nfor you", "detail": {}}]}
    with (
        serving(lambda exchange: exchange.answer(403, json.dumps(body).encode())) as server,
        pytest.raises(RegistryError) as caught,
    ):
        manifest(server)
    assert (caught.value.status, caught.value.code) == (403, "DENIED")
    assert str(caught.value) == (
        f"docker://{server.host}/app:latest: its manifest: HTTP 403: DENIED: not [31m for you; "
        "whoever is logged in may not do that"
    )


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"plain words", ": plain words"),
        (b"<html>no words", ""),
        (b'{"errors": "garbage"}', ""),
        (b'{"errors": [{"code": 7, "message": []}]}', ""),
        (b"x" * 1000, f": {'x' * 297}..."),
        (b"x" * 100_000, ""),
    ],
)
def test_a_refusal_in_other_words(body: bytes, shown: str) -> None:
    kind = "text/html" if body.startswith(b"<") else "text/plain"
    with (
        serving(lambda exchange: exchange.answer(404, body, Content_Type=kind)) as server,
        pytest.raises(ImageNotFound) as caught,
    ):
        manifest(server)
    assert str(caught.value) == f"docker://{server.host}/app:latest: its manifest: HTTP 404{shown}"


def test_https_where_http_was_asked_for_is_told(certificates: Certificates) -> None:
    with serving(fine, certificates) as server, pytest.raises(RegistryError, match=r"the connection was cut|HTTP"):
        manifest(server, Access(http=True, retries=0))


# Tags.


def test_tags_come_in_pages() -> None:
    pages = {"": ["a", "b"], "b": ["c"], "c": None}

    def answered(exchange: Exchange) -> None:
        last = re.search(r"last=(\w+)", exchange.path)
        names = pages[last[1] if last else ""]
        link = f'</v2/app/tags/list?last={names[-1]}&n=2>; rel="next"' if names else None
        exchange.answer(200, json.dumps({"name": "app", "tags": names}).encode(), Link=link)

    with serving(answered) as server:
        assert list(list_tags(f"{server.host}/app", OPEN)) == ["a", "b", "c"]


@pytest.mark.parametrize("body", [b"[]", b'{"tags": "ab"}', b'{"tags": [1]}', b"{"])
def test_tags_that_are_none(body: bytes) -> None:
    with serving(lambda exchange: exchange.answer(200, body)) as server, pytest.raises(ImageError, match="its tags"):
        list(list_tags(f"{server.host}/app", OPEN))


@pytest.mark.parametrize("status", [200, 404, 503])
def test_failures_leave_nothing_open(status: int) -> None:
    gc.collect()
    before = support.open_files()
    with serving(lambda exchange: exchange.answer(status, b"{")) as server, pytest.raises(OCIError):
        manifest(server, Access(http=True, retries=1))
    # Servers of earlier tests may still have been closing something.
    support.eventually(lambda: support.open_files().items() <= before.items(), "all is closed")
