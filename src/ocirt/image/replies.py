"""What registries say when they refuse, in their words and ours (distribution-spec, Error Codes)."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ocirt.errors import ImageNotFound, OCIError, RegistryError
from ocirt.image.failures import printable
from ocirt.image.http import Response, retry_after
from ocirt.spec.base import JSON
from ocirt.spec.text import NotJSON, parse

MAX_ERROR: Final = 64 * 1024
"""Bytes of a refusal that are read."""

_REMEDIES: Final = {
    401: "log in (podman login, docker login), name an auth file, or give a username and password; "
    "what does not exist may look the same",
    403: "whoever is logged in may not do that",
    405: "it does not offer that",
    407: "the proxy wants a password",
    413: "something before the registry does not let as much pass",
    429: "too many requests; logged in, more may be allowed",
}


def refusal(response: Response, subject: str, wanted: str) -> RegistryError:
    """The error for an answer that is none that was hoped for: ``wanted`` is what it was about."""
    status = response.status
    code, words = _words(response, wanted)
    remedy = _REMEDIES.get(status, "")
    if status == 429 and (seconds := retry_after(response)):
        remedy = f"too many requests; try again in {seconds:.0f} seconds, or log in, which may allow more"
    return RegistryError(subject, status, code, f"{words}; {remedy}" if remedy else words)


def absence(response: Response, subject: str, wanted: str) -> ImageNotFound:
    """The error for 404, about something of an image's."""
    return ImageNotFound(subject, _words(response, wanted)[1])


def _words(response: Response, wanted: str) -> tuple[str, str]:
    """The registry's code, and a sentence with all that it says."""
    code, message = _told(response)
    return code, ": ".join(filter(None, (f"{wanted}: HTTP {response.status}", code, message)))


def _told(response: Response) -> tuple[str, str]:
    """The first error's code and message; else a text, as from what stands before a registry."""
    try:
        data = response.document(MAX_ERROR)
    except OCIError:
        return "", ""
    value: JSON = None
    with suppress(NotJSON):
        value, _ = parse(data)
    errors = value.get("errors") if isinstance(value, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if isinstance(first, dict):
        return printable(_text(first.get("code")), 60), printable(
            _text(first.get("message")) or _text(first.get("detail"))
        )
    if isinstance(value, dict):  # token servers
        return "", printable(
            _text(value.get("details")) or _text(value.get("error_description")) or _text(value.get("message"))
        )
    is_text = (response.header("Content-Type") or "text/plain").startswith("text/plain")
    return "", printable(data.decode("utf-8", "replace")) if is_text else ""


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""
