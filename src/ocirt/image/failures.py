"""Connections that fail, in words: what happened, and whether it may pass; nothing of what was sent.

urllib3's own words have addresses of objects and query strings in them; those of signed URLs are as good as passwords.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from ocirt.errors import OCIError, RegistryError, UnsupportedError

try:  # whatever needs it stands above this module
    from urllib3 import exceptions
except ImportError as error:
    raise UnsupportedError("docker://", "needs urllib3: pip install 'ocirt[image]'") from error

NO_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"))
"""What OpenSSL calls the beginning of an answer in plain text, in its versions."""

REMEDY: Final = "give its authority (ca=, certs.d), or do not verify it (verify=False)"


class NoAnswer(RegistryError):
    """A connection that could not be made, or broke. ``passing`` tells whether another may fare better."""

    def __init__(self, subject: str, reason: str, passing: bool) -> None:
        super().__init__(subject, 0, "", reason)
        self.args = (subject, reason, passing)
        self.passing = passing


@contextmanager
def told(url: str) -> Iterator[None]:
    """Failures of the connection to ``url`` are ``NoAnswer``."""
    try:
        yield
    except (exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        chain = _chain(error)
        reason, passing = _words(chain)
        if any(isinstance(link, exceptions.ProxyError) for link in chain):
            reason = f"by its proxy (HTTPS_PROXY, HTTP_PROXY, NO_PROXY): {reason}"
        cause = next((link for link in chain if isinstance(link, OSError)), None)
        raise NoAnswer(shown(url), reason, passing) from cause


def shown(url: str) -> str:
    """A URL for people: without its query, which may be a signature, and without anybody's name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no URL)"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def printable(text: str, limit: int = 300) -> str:
    """Foreign words on one line of a terminal, none of which it obeys."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and those inside of it, which urllib3 keeps in arguments, too; the system's own first.

    What ocirt has raised before is another story, which was told.
    """
    found: list[BaseException] = []
    ahead: list[object] = [error]
    while ahead:
        link = ahead.pop(0)
        if isinstance(link, BaseException) and link not in found and not isinstance(link, OCIError):
            found.append(link)
            ahead += [*link.args, link.__cause__, link.__context__]
    return sorted(found, key=lambda link: not isinstance(link, OSError))


def _words(chain: list[BaseException]) -> tuple[str, bool]:
    """What happened, and whether it may pass: a host that does not even answer has been waited for long enough."""
    if any(type(link) is exceptions.ConnectTimeoutError for link in chain):  # refused ones are derived from it
        return "cannot be reached: did not answer in time", False
    for link in chain:
        match link:
            case ssl.SSLCertVerificationError():
                return f"its certificate is not trusted: {link.verify_message}; {REMEDY}", False
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return "the connection was cut", True
            case ssl.SSLError():
                return _tls(link), False
            case socket.gaierror():
                return f"no such host: {link.strerror}", link.errno == socket.EAI_AGAIN
            case TimeoutError() | exceptions.TimeoutError():
                return "did not answer in time", True
            case exceptions.IncompleteRead() | http.client.IncompleteRead() | http.client.RemoteDisconnected():
                return "the connection was cut", True
            case OSError() if link.strerror:
                return link.strerror, True
            case http.client.HTTPException() | exceptions.LocationValueError() | exceptions.InvalidHeader():
                return f"does not speak HTTP ({type(link).__name__})", True
    return type(chain[-1]).__name__, False


def _tls(error: ssl.SSLError) -> str:
    reason = (error.reason or "").upper().replace(" ", "_")
    if reason in NO_TLS:
        return "does not speak TLS; if plain HTTP is good enough, say http=True (on the command line: --http)"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return f"TLS: {reason}; perhaps it wants a certificate of ours (certs.d)"
    return f"TLS: {reason or 'failed'}"
