"""Who we are is told to whom it concerns, when it is asked for, and in no error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt.errors import ImageError, OCIError, RegistryError
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_destination, open_source
from tests.image.asking import (
    BASIC,
    BLOB,
    DESCRIPTOR,
    LOGGED_IN,
    MANIFEST,
    OPEN,
    SECRET,
    all_words,
    fine,
    manifest,
)
from tests.image.servers import Certificates, Exchange, serving

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("kind", ["basic", "bearer", "identity"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda exchange: exchange.answer(500),
        lambda exchange: exchange.answer(401, WWW_Authenticate='Basic realm="x'),
        lambda exchange: exchange.answer(302, Location="http://127.0.0.1:1/x"),
        lambda exchange: exchange.answer(200, b"{"),
        lambda exchange: exchange.answer(200, b'{"token": "a\\nb"}'),
        Exchange.cut,
    ],
    ids=["500", "challenge", "redirect", "garbage", "token", "cut"],
)
def test_no_error_holds_a_secret(tmp_path: Path, kind: str, fault: Callable[[Exchange], None]) -> None:
    """Neither the registry's fault nor the token server's."""

    def answered(exchange: Exchange) -> None:
        if exchange.path.startswith("/token") or exchange.headers.get("Authorization"):
            fault(exchange)
            return
        scheme = "Basic" if kind == "basic" else "Bearer"
        exchange.answer(401, WWW_Authenticate=f'{scheme} realm="http://{exchange.headers["Host"]}/token",service="s"')

    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"127.0.0.1": {}}}))
    with serving(answered) as server:
        access = Access("me", SECRET, http=True, retries=1)
        if kind == "identity":
            entry = {server.host: {"identitytoken": SECRET}}
            (tmp_path / "auth.json").write_text(json.dumps({"auths": entry}))
            access = Access(auth_file=tmp_path / "auth.json", http=True, retries=1)
        with pytest.raises(OCIError) as caught:
            manifest(server, access)
        sent = "".join(f"{request.headers}{request.body!r}" for request in server.requests)
        assert SECRET in sent or BASIC in sent
    words = all_words(caught.value)
    assert SECRET not in words
    assert BASIC.removeprefix("Basic ") not in words


def test_a_password_is_sent_nowhere_before_it_is_asked_for() -> None:
    with serving(fine) as server:
        manifest(server, LOGGED_IN)
        assert [request.headers.get("Authorization") for request in server.requests] == [None]


def test_a_realm_without_tls_gets_nothing(certificates: Certificates) -> None:
    with serving(fine) as plain:
        challenge = f'Bearer realm="{plain.url}/token",service="s"'
        with (
            serving(lambda exchange: exchange.answer(401, WWW_Authenticate=challenge), certificates) as server,
            pytest.raises(RegistryError, match="where TLS is not spoken; refused"),
        ):
            manifest(server, Access("me", SECRET, ca=certificates.ca))
        assert plain.requests == []


@pytest.mark.parametrize("realm", ["", "x", "file:///etc/passwd", "https://me@127.0.0.1/", "https:///token"])
def test_a_realm_is_a_url(realm: str) -> None:
    with (
        serving(lambda exchange: exchange.answer(401, WWW_Authenticate=f'Bearer realm="{realm}"')) as server,
        pytest.raises(ImageError, match="its realm is no URL"),
    ):
        manifest(server, LOGGED_IN)


def test_a_token_for_too_little_is_replaced() -> None:
    """insufficient_scope, with what is missing (RFC 6750, 3.1)."""

    def answered(exchange: Exchange) -> None:
        realm = f'Bearer realm="http://{exchange.headers["Host"]}/token",service="s"'
        if exchange.path.startswith("/token"):
            token = f"t{exchange.path.count('scope=')}"
            exchange.answer(200, json.dumps({"token": token}).encode())
        elif exchange.headers.get("Authorization") == "Bearer t2":
            fine(exchange)
        elif exchange.headers.get("Authorization") == "Bearer t1":
            missing = 'error="insufficient_scope",scope="repository:base:pull"'
            exchange.answer(403, WWW_Authenticate=f"{realm},{missing}")
        else:
            exchange.answer(401, WWW_Authenticate=f'{realm},scope="repository:app:pull"')

    with serving(answered) as server:
        assert manifest(server).data == MANIFEST
        assert len(server.requests) == 5


def test_a_token_is_used_until_it_ends() -> None:
    def answered(exchange: Exchange) -> None:
        number = len(server.asked()) if exchange.path.startswith("/token") else 0
        if number:
            exchange.answer(200, json.dumps({"token": f"t{number}", "expires_in": 600}).encode())
        elif exchange.headers.get("Authorization") not in good:
            realm = f"http://{exchange.headers['Host']}/token"
            exchange.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s"')
        elif "/blobs/" in exchange.path:
            exchange.answer(200, BLOB)
        else:
            fine(exchange)

    good = {"Bearer t2"}
    with serving(answered) as server, open_source(Location("docker", f"{server.host}/app"), OPEN) as source:
        source.manifest()
        for _ in range(2):
            with source.blob(DESCRIPTOR):
                pass
        assert sum(path.startswith("/token") for path in server.asked()) == 1
        good.clear()  # the registry forgets it before its time
        good.add(f"Bearer t{len(server.asked()) + 2}")
        with source.blob(DESCRIPTOR):
            pass
        assert sum(path.startswith("/token") for path in server.asked()) == 2


def test_a_refused_token_is_fetched_no_third_time() -> None:
    def answered(exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            exchange.answer(200, b'{"token": "t"}')
            return
        exchange.answer(401, WWW_Authenticate=f'Bearer realm="http://{exchange.headers["Host"]}/token"')

    with serving(answered) as server:
        with pytest.raises(RegistryError, match="log in"):
            manifest(server)
        assert len(server.requests) == 3


def test_the_order_of_actions_says_nothing() -> None:
    """Debian's registry lists those of one scope in any order."""

    def answered(exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            exchange.answer(200, b'{"token": "t"}')
        elif exchange.headers.get("Authorization"):
            accept(exchange)
        else:
            realm = f'realm="http://{exchange.headers["Host"]}/token"'
            exchange.answer(401, WWW_Authenticate=f'Bearer {realm},scope="repository:app:push,pull"')

    def accept(exchange: Exchange) -> None:
        exchange.answer(200 if exchange.command == "HEAD" else 201)

    with (
        serving(answered) as server,
        open_destination(Location("docker", f"{server.host}/app"), OPEN) as destination,
    ):
        assert destination.has_blob(DESCRIPTOR)
        (path,) = [path for path in server.asked() if path.startswith("/token")]
        assert path == "/token?scope=repository%3Aapp%3Apull%2Cpush"


@pytest.mark.parametrize("status", [307, 308])
def test_an_identity_token_follows_no_redirect(tmp_path: Path, status: int) -> None:
    """Neither where it would go as a header, nor where it is a body."""
    with serving(fine) as other:

        def answered(exchange: Exchange) -> None:
            if exchange.path.startswith("/token"):
                exchange.answer(status, Location=f"{other.url}/token")
                return
            exchange.answer(401, WWW_Authenticate=f'Bearer realm="http://{exchange.headers["Host"]}/token"')

        with serving(answered) as server:
            entry = {server.host: {"identitytoken": SECRET}}
            (tmp_path / "auth.json").write_text(json.dumps({"auths": entry}))
            with pytest.raises(RegistryError, match="redirects what we send"):
                manifest(server, Access(auth_file=tmp_path / "auth.json", http=True))
        assert other.requests == []


def test_a_token_server_that_is_not_there_is_no_missing_image() -> None:
    def answered(exchange: Exchange) -> None:
        if exchange.path.startswith("/token"):
            exchange.answer(404)
            return
        exchange.answer(401, WWW_Authenticate=f'Bearer realm="http://{exchange.headers["Host"]}/token"')

    with serving(answered) as server, pytest.raises(RegistryError, match="a token: HTTP 404"):
        manifest(server)
