"""Uploads go where the registry says, and leave nothing behind that was not wanted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ocirt.errors import DigestMismatch, RegistryError
from ocirt.image import media
from ocirt.image.digest import Digest
from ocirt.image.documents import Descriptor
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Raw, open_destination, open_source
from tests.image.asking import (
    BASIC,
    BLOB,
    DESCRIPTOR,
    LOGGED_IN,
    MANIFEST,
    OPEN,
)
from tests.image.servers import Certificates, Exchange, serving

pytestmark = pytest.mark.usefixtures("home")


def accepting(location: str) -> Callable[[Exchange], None]:
    """A registry that takes uploads at ``location``, and believes everything."""

    def answered(exchange: Exchange) -> None:
        host = exchange.headers["Host"]
        match exchange.command:
            case "POST" | "PATCH":
                exchange.answer(202, Location=location.format(host=host, name=exchange.command))
            case "PUT":
                exchange.answer(201)
            case _:
                exchange.answer(404)

    return answered


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/up/{name}", "/up/{}?digest="),
        ("/up/{name}?_state=a%2Fb", "/up/{}?_state=a%2Fb&digest="),
        ("http://{host}/up/{name}?x", "/up/{}?x&digest="),
        ("there", "/v2/app/blobs/uploads/there?digest="),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_where_uploads_go_on(location: str, expected: str, told: bool) -> None:
    with (
        serving(accepting(location)) as server,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
    ):
        destination.put_blob(_Stream(BLOB), DESCRIPTOR if told else None)
        *_, last = server.requests
        name = "POST" if told else "PATCH"
        assert (last.method, last.path) == ("PUT", f"{expected.format(name)}{DESCRIPTOR.digest}")
        assert [r.body for r in server.requests if r.body] == [BLOB]
        assert [r.method for r in server.requests] == (["POST", "PUT"] if told else ["POST", "PATCH", "PUT"])


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1, /) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        return data


def test_an_upload_elsewhere_gets_no_password() -> None:
    with serving(accepting("/x")) as other:

        def answered(exchange: Exchange) -> None:
            if exchange.headers.get("Authorization") != BASIC:
                exchange.answer(401, WWW_Authenticate='Basic realm="x"')
                return
            exchange.answer(202, Location=f"{other.url}/x")

        with (
            serving(answered) as server,
            open_destination(Location("docker", f"{server.host}/app"), LOGGED_IN) as destination,
        ):
            destination.put_blob(_Stream(BLOB), DESCRIPTOR)
        assert [request.headers.get("Authorization") for request in other.requests] == [None]


def test_an_upload_without_tls_is_refused(certificates: Certificates) -> None:
    with (
        serving(accepting("http://{host}/up"), certificates) as server,
        open_destination(Location("docker", f"{server.host}/app"), Access(ca=certificates.ca)) as destination,
    ):
        with pytest.raises(RegistryError, match="without TLS; refused"):
            destination.put_blob(_Stream(BLOB), DESCRIPTOR)
        assert server.asked("PUT") == []


@pytest.mark.parametrize("told", [True, False])
def test_a_failed_upload_is_called_off(told: bool) -> None:
    def refusing(exchange: Exchange) -> None:
        if exchange.command in ("PUT", "PATCH"):
            exchange.answer(413, b"too much", Content_Type="text/plain")
            return
        accepting("/up")(exchange)

    with (
        serving(refusing) as server,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
    ):
        with pytest.raises(RegistryError, match="too much") as caught:
            destination.put_blob(_Stream(BLOB), DESCRIPTOR if told else None)
        assert caught.value.status == 413
        assert server.asked("DELETE") == ["/up"]


def test_a_small_blob_is_sent_again() -> None:
    small = Descriptor(media.CONFIG, Digest.of(b"{}"), 2)

    def flaky(exchange: Exchange) -> None:
        if exchange.command == "PUT" and len(server.asked("PUT")) == 1:
            exchange.answer(503)
            return
        accepting("/up")(exchange)

    with (
        serving(flaky) as server,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
    ):
        assert destination.put_blob(_Stream(b"{}"), small) == (small.digest, 2)
        assert [r.body for r in server.requests if r.method == "PUT"] == [b"{}", b"{}"]


def test_an_upload_whose_end_was_not_heard_of_is_found() -> None:
    small = Descriptor(media.CONFIG, Digest.of(b"{}"), 2)

    def forgetful(exchange: Exchange) -> None:
        match exchange.command:
            case "PUT" if len(server.asked("PUT")) == 1:
                exchange.cut()
            case "PUT":
                exchange.answer(404)
            case "HEAD":
                exchange.answer(200)
            case _:
                accepting("/up")(exchange)

    with (
        serving(forgetful) as server,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
    ):
        assert destination.put_blob(_Stream(b"{}"), small) == (small.digest, 2)


def test_a_manifest_that_arrives_as_another_is_told() -> None:
    raw = Raw(MANIFEST, media.MANIFEST)
    with (
        serving(lambda exchange: exchange.answer(201, Docker_Content_Digest=Digest.of(b"x"))) as server,
        open_destination(Location("docker", f"{server.host}/app:v1"), OPEN) as destination,
    ):
        destination.put_manifest(raw)
        with pytest.raises(DigestMismatch, match="as the registry has it"):
            destination.commit()
        (request,) = server.requests
        assert (request.method, request.path, request.body) == ("PUT", "/v2/app/manifests/v1", MANIFEST)
        assert request.headers["Content-Type"] == media.MANIFEST


def test_a_download_that_breaks_while_it_is_sent_on_is_told_as_such() -> None:
    def broken(exchange: Exchange) -> None:
        exchange.answer(200, BLOB[:2_000_000], Content_Length=len(BLOB))
        exchange.cut()

    with (
        serving(broken) as origin,
        serving(accepting("/up")) as server,
        open_source(Location("docker", f"{origin.host}/app"), Access(http=True, retries=0)) as source,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
        source.blob(DESCRIPTOR) as stream,
    ):
        with pytest.raises(RegistryError) as caught:
            destination.put_blob(stream, DESCRIPTOR)
        assert caught.value.subject.startswith(f"docker://{origin.host}/app")
        assert server.asked("DELETE") == ["/up"]
