"""Requests about one repository of a registry: where they go, as whom, and which answers are errors."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from ocirt.errors import OCIError
from ocirt.image import auth
from ocirt.image.connections import origin
from ocirt.image.failures import NoAnswer
from ocirt.image.http import Client, Request, Response, Stream, joined
from ocirt.image.reference import DEFAULT_REGISTRY, Reference
from ocirt.image.replies import absence, refusal
from ocirt.image.tokens import Authority, Scopes
from ocirt.image.transport import Access

DOCKER_HOST: Final = "registry-1.docker.io"
"""Who speaks for docker.io."""

MAX_LOGINS: Final = 3
"""Attempts of a request: unknown, with a token, and with one for more than we thought of."""

GOODBYE: Final = 5.0
"""Seconds for what is only tidy."""


class Session:
    """One repository and its registry's connections; any thread may use it."""

    def __init__(self, reference: Reference, access: Access) -> None:
        host = DOCKER_HOST if reference.registry == DEFAULT_REGISTRY else reference.registry
        self.reference = reference
        self.name = f"docker://{reference}"
        self.base = f"{'http' if access.http else 'https'}://{host}/v2/{reference.repository}/"
        self.client = Client(access, reference.registry)
        self._origin = origin(self.base)
        self._authority = Authority(self.client, auth.find(reference, access))

    def scopes(self, *actions: str) -> Scopes:
        """What a token for them is good for."""
        return frozenset((f"repository:{self.reference.repository}:{','.join(actions)}",))

    def send(
        self,
        method: str,
        target: str,
        scopes: Scopes,
        expected: Collection[int],
        wanted: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Stream | None = None,
        *,
        is_slow: bool = False,
    ) -> Response:
        """An answer whose status is expected; ``target`` is relative to the repository, or a URL.

        :raises ImageError: any other. ``wanted`` says what it was about.
        """
        url = joined(self.base, target)
        since = time.monotonic()
        for attempt in range(1, MAX_LOGINS + 1):
            sent = self._authority.header(scopes) if origin(url) == self._origin else None
            told = {"Authorization": sent} if sent is not None else {}
            request = Request(method, url, {**(headers or {}), **told}, body, is_slow)
            try:
                response = self.client.send(request)
            except NoAnswer as error:
                if body is not None and not isinstance(body, bytes) and body.failure is error:
                    raise  # of another connection, where the body comes from
                raise NoAnswer(self.name, f"{wanted}: {error}", error.passing) from error.__cause__
            if response.status in expected:
                return response
            with response:
                if response.status == 404:
                    raise absence(response, self.name, wanted)
                if attempt == MAX_LOGINS or not self._may_log_in(request, response, scopes, sent, since):
                    raise refusal(response, self.name, wanted)
                response.discard()
        raise AssertionError("the last attempt returns or raises")

    def cancel(self, location: str, scopes: Scopes) -> None:
        """Tell the registry that an upload comes to nothing; it would find out itself, some day."""
        with suppress(OCIError):
            sent = self._authority.header(scopes) if origin(location) == self._origin else None
            headers = {"Authorization": sent} if sent is not None else {}
            self.client.once(Request("DELETE", location, headers), GOODBYE).close()

    def close(self) -> None:
        self.client.close()

    def _may_log_in(self, request: Request, response: Response, scopes: Scopes, sent: str | None, since: float) -> bool:
        """Whether this refusal is the registry's own, and the same request with something else to show may do."""
        return (
            response.status in (401, 403)
            and request.may_be_repeated
            and origin(response.url) == self._origin
            and self._authority.is_worth_another(response, scopes, sent, since)
        )
