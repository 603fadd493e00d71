"""Telling a registry who we are: Basic, or tokens of the server that it names (distribution, spec/auth).

What is sent is the least: to a registry nothing before it asks, a password only to whom it sends us by TLS, unless a
caller does without it, and tokens for one repository.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from attrs import field, frozen

from ocirt.errors import ImageError, RegistryError
from ocirt.image import challenges
from ocirt.image.auth import Credentials
from ocirt.image.challenges import Challenge
from ocirt.image.failures import printable, shown
from ocirt.image.http import Client, Request, Response
from ocirt.image.replies import refusal
from ocirt.spec.base import JSON
from ocirt.spec.text import NotJSON, parse

Scopes = frozenset[str]
"""``repository:NAME:pull``, …: what a token is good for."""

LEAST_LIFE: Final = 60
"""Seconds that a token lives if nothing is said, nor less than that is believed (distribution, spec/auth/token)."""

LEEWAY: Final = 10
"""Seconds before its end from which on a token is not used any more."""

MAX_TOKEN: Final = 1024 * 1024

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@frozen
class _Token:
    value: str = field(repr=False)
    made_at: float
    until: float

    def is_good(self) -> bool:
        return time.monotonic() < self.until - LEEWAY


class Authority:
    """Makes the Authorization of requests to one registry; any thread may use it."""

    def __init__(self, client: Client, credentials: Credentials | None) -> None:
        self._client = client
        self._credentials = credentials
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._added: dict[Scopes, Scopes] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Scopes) -> str | None:
        """What to send, of what the registry has asked for so far."""
        credentials = self._credentials
        if credentials is not None and credentials.kind == "bearer":
            return f"Bearer {credentials.secret}"
        with self._lock:
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                return credentials.basic() if credentials is not None and credentials.kind == "password" else None
            token = self._tokens.get(scopes)
            if token is None or not token.is_good():
                token = self._tokens[scopes] = self._fetch(scopes | self._added.get(scopes, frozenset()))
            return f"Bearer {token.value}"

    def is_worth_another(self, response: Response, scopes: Scopes, sent: str | None, since: float) -> bool:
        """Whether what a refusal asks for may get us in: it was not tried yet, ``since`` this request began."""
        challenge = self._chosen(response)
        if challenge is None or (self._credentials is not None and self._credentials.kind == "bearer"):
            return False
        with self._lock:
            self._challenge = challenge
            if challenge.scheme == "basic":
                is_told = self._credentials is not None and self._credentials.kind == "password"
                return is_told and sent is None
            added = self._added.get(scopes, frozenset())
            more = _missing(challenge.parameters.get("scope", "").split(), scopes | added)
            self._added[scopes] = added | more
            token = self._tokens.get(scopes)
            if token is None or sent != f"Bearer {token.value}":
                return True
            del self._tokens[scopes]
            return bool(more) or token.made_at < since

    def _chosen(self, response: Response) -> Challenge | None:
        """Tokens rather than passwords, wherever a registry leaves the choice."""
        text = response.header("WWW-Authenticate") or ""
        try:
            offered = challenges.parse(text)
        except ValueError as error:
            raise ImageError(shown(response.url), f"WWW-Authenticate {error}: {printable(text)}") from None
        for scheme in ("bearer", "basic"):
            for challenge in offered:
                if challenge.scheme == scheme:
                    return challenge
        return None

    def _fetch(self, scopes: Scopes) -> _Token:
        """A new token, by the way that our credentials have."""
        assert self._challenge is not None
        realm = self._realm(self._challenge)
        service = self._challenge.parameters.get("service")
        credentials = self._credentials
        if credentials is not None and credentials.kind == "identity":
            request = _exchange(realm, service, scopes, credentials)
        else:
            request = _plain(realm, service, scopes, credentials)
        asked_at = time.monotonic()
        with self._client.send(request) as response:
            if response.status != 200:
                raise refusal(response, shown(realm), "a token")
            return _token(response, asked_at)

    def _realm(self, challenge: Challenge) -> str:
        """Where tokens come from: whoever tells us that without TLS might be anybody."""
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("https", "http") or not parts.netloc or "@" in parts.netloc:
            raise ImageError(printable(realm) or "WWW-Authenticate", "its realm is no URL of a token server")
        if parts.scheme != "https" and not self._client.access.http:
            raise RegistryError(
                shown(realm),
                401,
                "",
                "the registry sends us for a token to where TLS is not spoken; refused (http=True)",
            )
        return realm


def _missing(asked: Iterable[str], known: Scopes) -> Scopes:
    """What is asked for beyond what we know of: registries list the same actions in any order."""
    covered = {(resource, action) for scope in known for resource, action in _actions(scope)}
    return frozenset(scope for scope in asked if not covered.issuperset(_actions(scope)))


def _actions(scope: str) -> list[tuple[str, str]]:
    """``repository:NAME:pull,push`` is two of a resource."""
    resource, _, actions = scope.rpartition(":")
    return [(resource, action) for action in actions.split(",")]


def _plain(realm: str, service: str | None, scopes: Scopes, credentials: Credentials | None) -> Request:
    """GET, with a password or anonymously (spec/auth/token)."""
    fields = [*_service(service), *(("scope", scope) for scope in sorted(scopes))]
    headers = {"Accept": "application/json"}
    if credentials is not None:
        fields.append(("account", credentials.username))
        headers["Authorization"] = credentials.basic()
    parts = urlsplit(realm)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *fields])
    return Request("GET", urlunsplit(parts._replace(query=query, fragment="")), headers)


def _exchange(realm: str, service: str | None, scopes: Scopes, credentials: Credentials) -> Request:
    """POST of an identity token (spec/auth/oauth)."""
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": credentials.secret,
        "client_id": "ocirt",
        **dict(_service(service)),
        "scope": " ".join(sorted(scopes)),
    }
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", realm, headers, urlencode(fields).encode())


def _service(service: str | None) -> Iterable[tuple[str, str]]:
    return [("service", service)] if service is not None else []


def _token(response: Response, asked_at: float) -> _Token:
    where = shown(response.url)
    value: JSON = None
    with suppress(NotJSON):  # told below, outside of an error that holds the text
        value, _ = parse(response.document(MAX_TOKEN))
    if not isinstance(value, dict):
        raise ImageError(where, "answers with a token that is no JSON object")
    token = value.get("token") or value.get("access_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise ImageError(where, "answers without a token")
    life = value.get("expires_in")
    seconds = life if isinstance(life, int) and life > LEAST_LIFE else LEAST_LIFE
    return _Token(token, asked_at, asked_at + seconds)
