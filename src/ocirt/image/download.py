"""A blob while it is read, whose connections may break: the next goes on where the last one ended (RFC 9110, 14)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ocirt.errors import DigestMismatch, RegistryError
from ocirt.image.failures import NoAnswer, printable
from ocirt.image.http import Client, Response

CHUNK: Final = 256 * 1024

FORGIVEN: Final = 1024 * 1024
"""Bytes after which earlier failures do not count any more."""

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", re.ASCII)


class Download:
    """The bytes of a blob in their order; who reads them checks their digest.

    ``open`` makes a request for those from a position on, which the registry may answer with all of them.
    """

    def __init__(self, open: Callable[[int], Response], client: Client, size: int, what: str) -> None:
        self._open = open
        self._client = client
        self._size = size
        self._what = what
        self._position = 0  # of our reader in the blob
        self._at = 0  # of the response in the blob: before that, where the registry started over
        self._failures = 0
        self._since = 0  # where the last one was
        self._response: Response | None = None
        self._begin()

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        while size:
            try:
                return self._next(min(size, CHUNK))
            except NoAnswer as error:
                self._give_up_or_wait(error)
        return b""

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _next(self, size: int) -> bytes:
        """What comes next, on a new connection if there is none."""
        response = self._response or self._begin()
        while self._at < self._position:
            self._at += len(self._some(response, min(CHUNK, self._position - self._at)))
        if self._position == self._size:
            return response.read(size)  # nothing, or more than there should be
        data = self._some(response, size)
        self._position += len(data)
        self._at = self._position
        return data

    def _some(self, response: Response, size: int) -> bytes:
        data = response.read(size)
        if not data:
            raise NoAnswer(self._what, f"ended after {self._at} of {self._size} bytes", True)
        return data

    def _begin(self) -> Response:
        """Ask for the rest."""
        self._response = response = self._open(self._position)
        self._at = self._position if response.status == 206 else 0
        announced = response.size
        if response.status == 206:
            self._check_part(response.header("Content-Range") or "")
        if announced is not None and self._at + announced != self._size:
            self.close()
            raise DigestMismatch(self._what, f"{self._size} bytes", f"{self._at + announced} bytes")
        return response

    def _check_part(self, text: str) -> None:
        """Another part than we asked for would be told by its digest too, when all of it was read in vain."""
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None or int(match[1]) != self._position or match[2] not in ("*", str(self._size)):
            self.close()
            raise RegistryError(
                self._what, 206, "", f"asked for bytes from {self._position} on, got {printable(text)!r}"
            )

    def _give_up_or_wait(self, error: NoAnswer) -> None:
        self.close()
        if self._position - self._since >= FORGIVEN:
            self._failures = 0
        self._since = self._position
        if not error.passing or self._failures >= self._client.access.retries:
            raise NoAnswer(self._what, f"{error.reason} (read {self._position} of {self._size} bytes)", error.passing)
        self._client.pause(self._failures)
        self._failures += 1
