"""Requests to registries, and to what they send us to: bounded, tried again where that may help, told without secrets.

By urllib3, whose own redirects and retries stay unused: neither knows which headers may go where, nor that a registry's
wish to be left alone for an hour is for a person to decide.
"""

from __future__ import annotations

import random
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol
from urllib.parse import urljoin

import urllib3
from attrs import evolve, field, frozen

from ocirt.errors import ImageError, RegistryError
from ocirt.image.closing import Closing
from ocirt.image.connections import Origin, origin, pool
from ocirt.image.documents import MAX_DOCUMENT
from ocirt.image.failures import NoAnswer, shown, told
from ocirt.image.transport import Access

USER_AGENT: Final = f"ocirt/{sys.modules['ocirt'].__version__}"
"""The package is above this floor, and has been loaded since we are part of it."""

MAX_REDIRECTS: Final = 10

SLOW: Final = 10
"""How much longer an answer may take to which a registry has to look at all that it was sent, or move it."""

FIRST_DELAY: Final = 0.25
MAX_DELAY: Final = 30.0
MAX_RETRY_AFTER: Final = 120.0
"""Seconds; that somebody wants us to wait longer is told to our caller."""

PASSING: Final = frozenset((408, 429, 500, 502, 503, 504))
"""Answers that may soon be others."""

REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))

SMALL: Final = 64 * 1024
"""Bytes that are better read to their end than to give up a connection for."""

_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class Stream(Protocol):
    """A body that is sent once, in pieces."""

    @property
    def length(self) -> int | None:
        """Bytes; ``None`` is any number of them."""

    @property
    def failure(self) -> BaseException | None:
        """What went wrong while it was read: no fault of the connection's."""

    def __iter__(self) -> Iterator[bytes]: ...


@frozen
class Request:
    """What is asked for."""

    method: str
    url: str = field(repr=shown)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    body: bytes | Stream | None = field(default=None, repr=False)
    is_slow: bool = False
    """Whether it takes the registry long (``SLOW``)."""

    @property
    def may_be_repeated(self) -> bool:
        """A stream is gone once it is sent; what else registries are asked does no harm when it is asked twice."""
        return self.body is None or isinstance(self.body, bytes)


class Response(Closing):
    """An answer, of which no more than its head was read yet."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str, timeout: float) -> None:
        self._raw = raw
        self._timeout = timeout
        self.url = url
        """Where it came from, after redirects."""
        self.status = raw.status

    def header(self, name: str) -> str | None:
        value: str | None = self._raw.headers.get(name)
        return value

    @property
    def size(self) -> int | None:
        """What is left of the body, where its head has told."""
        return self._raw.length_remaining

    def read(self, size: int) -> bytes:
        """What there is of the body, at most ``size`` bytes; none at its end.

        :raises NoAnswer: it ended too early.
        """
        with told(self.url):
            return self._raw.read1(size)

    def document(self, limit: int = MAX_DOCUMENT) -> bytes:
        """The whole body, if it is not longer, nor in coming."""
        parts = bytearray()
        deadline = time.monotonic() + self._timeout
        while data := self.read(64 * 1024):
            parts += data
            if len(parts) > limit:
                raise ImageError(shown(self.url), f"sends more than the {limit} bytes that such a document may have")
            if time.monotonic() > deadline:
                raise NoAnswer(shown(self.url), f"did not send its document within {self._timeout:g} seconds", True)
        return bytes(parts)

    def discard(self) -> None:
        """Nobody wants the body; the connection is kept where that costs little."""
        if self.size is not None and self.size <= SMALL:
            self._raw.drain_conn()
        self.close()

    def close(self) -> None:
        """The connection is kept if all was read, and else not."""
        if self.size == 0:
            self._raw.release_conn()
        self._raw.close()


class Client:
    """The connections of one source or destination; any thread may use it."""

    def __init__(self, access: Access, registry: str) -> None:
        self.access = access
        self._registry = registry
        self._pools: dict[Origin, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def send(self, request: Request) -> Response:
        """The first answer that is neither a redirect nor one that may pass by itself.

        :raises RegistryError: there is none.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = self._patiently(request)
            target = response.header("Location")
            if response.status not in REDIRECTS or target is None:
                return response
            response.discard()
            request = _redirected(request, response.status, target)
        raise ImageError(shown(request.url), f"leads through more than {MAX_REDIRECTS} redirects")

    def once(self, request: Request, timeout: float) -> Response:
        """One attempt, for what is not worth a second one."""
        return self._attempt(request, timeout)

    def pause(self, attempt: int, asked: float = 0) -> None:
        """Before the next attempt: longer each time, and not the same for all who failed together."""
        delay = min(FIRST_DELAY * 2**attempt, MAX_DELAY) * random.uniform(0.5, 1)
        if self._closed.wait(max(delay, asked)):
            raise ImageError(self._registry, "was closed meanwhile")

    def close(self) -> None:
        """Whoever waits for another attempt waits no longer."""
        self._closed.set()
        with self._lock:
            for connections in self._pools.values():
                connections.clear()
            self._pools.clear()

    def _patiently(self, request: Request) -> Response:
        """The answer after as many attempts as it is worth."""
        attempts = self.access.retries if request.may_be_repeated else 0
        for attempt in range(attempts):
            try:
                response = self._attempt(request, self.access.timeout)
            except NoAnswer as error:
                if not error.passing:
                    raise
                self.pause(attempt)
                continue
            asked = retry_after(response)
            if response.status not in PASSING or asked > MAX_RETRY_AFTER:
                return response
            response.discard()
            self.pause(attempt, asked)
        return self._attempt(request, self.access.timeout)

    def _attempt(self, request: Request, timeout: float) -> Response:
        body = request.body
        connections = self._pool(request.url)
        headers = {"User-Agent": USER_AGENT, **request.headers}
        if body is not None and not isinstance(body, bytes) and body.length is not None:
            headers["Content-Length"] = str(body.length)
        try:
            with told(request.url):
                raw = connections.urlopen(
                    request.method,
                    request.url,
                    body=body,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(connect=timeout, read=timeout * SLOW if request.is_slow else timeout),
                )
        except NoAnswer:
            if body is not None and not isinstance(body, bytes) and body.failure is not None:
                raise body.failure from None
            raise
        return Response(raw, request.url, timeout)

    def _pool(self, url: str) -> urllib3.PoolManager:
        place = origin(url)
        with self._lock:
            if self._closed.is_set():
                raise ImageError(self._registry, "is closed")
            if place not in self._pools:
                self._pools[place] = pool(place, self.access, self._registry)
            return self._pools[place]


def retry_after(response: Response) -> float:
    """The seconds that an answer wants us to wait (RFC 9110, 10.2.3): a number, or until a date."""
    text = (response.header("Retry-After") or "").strip()
    if _DIGITS.fullmatch(text):
        return float(text)
    try:
        return max(parsedate_to_datetime(text).astimezone(UTC).timestamp() - time.time(), 0)
    except (ValueError, OverflowError):
        return 0


def joined(base: str, target: str) -> str:
    """Where a Location leads (RFC 3986, 5)."""
    try:
        return urljoin(base, target)
    except ValueError as error:
        raise ImageError(shown(base), "leads to something that is no URL") from error


def _redirected(request: Request, status: int, target: str) -> Request:
    """The same request elsewhere (RFC 9110, 15.4), without what only the first place should hear.

    :raises RegistryError: it may not go there.
    """
    url = joined(request.url, target)
    before, after = origin(request.url), origin(url)
    if before[0] == "https" and after[0] != "https":
        raise RegistryError(shown(request.url), status, "", f"redirects to {shown(url)}, without TLS; refused")
    if request.method not in ("GET", "HEAD") and (status not in (307, 308) or not request.may_be_repeated):
        raise RegistryError(shown(request.url), status, "", f"redirects a {request.method} to {shown(url)}")
    if before == after:
        return evolve(request, url=url)
    if request.body is not None:  # it may be a token, or an image that only the first place should have
        raise RegistryError(shown(request.url), status, "", f"redirects what we send to {shown(url)}; refused")
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    return evolve(request, url=url, headers=headers)
