"""urllib3's connections as we want them: trust and proxy by host, and an answer's head that comes in time."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProxySchemeUnknown
from urllib3.util import parse_url

from ocirt.errors import ImageError, UnsupportedError
from ocirt.image import tls
from ocirt.image.failures import shown
from ocirt.image.proxies import proxy
from ocirt.image.transport import Access

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KEPT: Final = 16
"""Connections to one host that are kept for the next request; more may be open at once."""

BUFFER: Final = 64 * 1024

DEFAULT_PORTS: Final = {"https": 443, "http": 80}

Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Scheme, host and port: what headers are meant for.

    :raises ImageError: it is no URL of HTTP.
    """
    try:
        parts = parse_url(url)
    except urllib3.exceptions.HTTPError as error:
        raise ImageError(shown(url), "is no URL") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.host:
        raise ImageError(shown(url), "is no URL of HTTP")
    return parts.scheme, parts.host.lower(), parts.port or DEFAULT_PORTS[parts.scheme]


def pool(place: Origin, access: Access, registry: str) -> urllib3.PoolManager:
    """The connections to one host, which ``registry`` is or has sent us to."""
    scheme, host, port = place
    name = host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"
    context = tls.context(access, name, registry) if scheme == "https" else None
    through = proxy(scheme, host, port)
    if through is None:
        made = urllib3.PoolManager(num_pools=1, maxsize=KEPT, ssl_context=context)
    else:
        url, headers = _without_password(through)
        try:
            made = urllib3.ProxyManager(
                url, num_pools=1, maxsize=KEPT, proxy_headers=headers, ssl_context=context, proxy_ssl_context=None
            )
        except ProxySchemeUnknown as error:
            raise UnsupportedError(shown(through), "a proxy of another kind than http and https") from error
    made.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    # Or clear() would leave the sockets to the collector, if a traceback still knows of them.
    made.pools.dispose_func = urllib3.HTTPConnectionPool.close
    return made


def _without_password(url: str) -> tuple[str, dict[str, str] | None]:
    """The password of a proxy is for itself, and belongs in no message."""
    parts = urlsplit(url)
    who, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    from urllib.parse import unquote

    return urlunsplit(parts._replace(netloc=host)), urllib3.make_headers(proxy_basic_auth=unquote(who))


class _Paced(io.RawIOBase):
    """What comes on a socket, until a time: the socket's own limit is between two bytes, and so may never come."""

    def __init__(self, source: io.RawIOBase, seconds: float | None) -> None:
        self._source = source
        self.deadline = None if seconds is None else time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError("the head of an answer did not come in time")
        return self._source.readinto(buffer)

    def fileno(self) -> int:
        return self._source.fileno()

    def close(self) -> None:
        self._source.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer whose head, with its interim ones (100), has as long to come as a single byte of its body."""

    def __init__(self, sock: socket.socket, *args: object, **named: object) -> None:
        super().__init__(sock, *args, **named)  # type: ignore[arg-type]  # whatever http.client hands on
        self._paced = _Paced(self.fp.detach(), sock.gettimeout())
        self.fp = io.BufferedReader(self._paced, BUFFER)

    def begin(self) -> None:
        super().begin()
        self._paced.deadline = None


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer

    def connect(self) -> None:
        """urllib3 warns of each connection that is not verified; here that was asked for (``Access.verify``)."""
        super().connect()
        self.is_verified = True
        if self.proxy_is_verified is not None:
            self.proxy_is_verified = True


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
