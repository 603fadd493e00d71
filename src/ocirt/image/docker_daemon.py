"""``docker-daemon:REFERENCE`` or ``docker-daemon:IMAGE_ID``: images that a Docker daemon has, through its socket.

The Engine API hands out and takes what ``docker save`` and ``docker load`` do (``/images/{name}/get`` and
``/images/load``), so both ends are archives that nobody sees: one is kept until it is read, one until it is whole.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image.digest import Digest
from ocirt.image.docker_archive import ArchiveDestination, ArchiveSource, tag
from ocirt.image.files import whole
from ocirt.image.members import Members, spooled
from ocirt.image.new_archive import NewArchive
from ocirt.image.threads import PIECE
from ocirt.image.transport import Access
from ocirt.spec.text import NotJSON, parse

if TYPE_CHECKING:
    from ocirt.image.reference import Location

MAX_ANSWER: Final = 1 << 20


class DaemonDestination(ArchiveDestination):
    """An image that the daemon loads on ``commit``."""

    def __init__(self, location: Location, socket_path: str) -> None:
        name = str(location)
        super().__init__(NewArchive.spooled(name), name, (tag(location.rest),))
        self._socket_path = socket_path

    def commit(self) -> None:
        super().commit()
        stream = self.archive.read()
        headers = {"Content-Type": "application/x-tar", "Content-Length": str(self.archive.size)}
        with _talking(self.name, self._socket_path) as connection:
            with suppress(BrokenPipeError):  # it has heard enough, and says why
                connection.request("POST", "/images/load?quiet=1", iter(lambda: stream.read(PIECE), b""), headers)
            with closing(connection.getresponse()) as response:
                answer = whole(response, MAX_ANSWER, self.name)
        bad = [line for line in answer.splitlines() if b'"error"' in line]
        if response.status != 200 or bad or not answer:  # it says what it has loaded, at least
            raise ImageError(self.name, f"docker did not load it: {_message(bad[0] if bad else answer)}")


class _Connection(http.client.HTTPConnection):
    """HTTP to a socket's path. The daemon is waited for: it says nothing while it loads, however large that is."""

    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(self._path)
        except OSError as error:
            hint = "; is docker running, and may you use it?"
            raise ImageError(self._path, f"docker does not answer: {error.strerror or error}{hint}") from error


@contextmanager
def _talking(name: str, path: str) -> Iterator[_Connection]:
    """One request and its answer."""
    with closing(_Connection(path)) as connection:
        try:
            yield connection
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(name, f"docker broke off: {type(error).__name__}: {error}") from error


def source(location: Location, access: Access) -> ArchiveSource:
    """:raises ImageNotFound: docker has no such image."""
    name = str(location)
    path = f"/images/{quote(_identifier(location.rest), safe='/:@')}"
    with _talking(name, access.daemon) as connection:  # not all that is not there is a 404 to who wants to get it
        connection.request("GET", f"{path}/json")
        with closing(connection.getresponse()) as response:
            _check(response, name)
    with ExitStack() as kept:
        with _talking(name, access.daemon) as connection:
            connection.request("GET", f"{path}/get")
            with closing(connection.getresponse()) as response:
                _check(response, name)
                fd = kept.enter_context(spooled(response, name))
        return ArchiveSource(Members(fd, name), name, "", kept.pop_all())


def _check(response: http.client.HTTPResponse, name: str) -> None:
    if response.status == 200:
        return
    message = _message(whole(response, MAX_ANSWER, name))
    if response.status == 404:
        raise ImageNotFound(name, message)
    raise ImageError(name, f"docker answers {response.status}: {message}")


def destination(location: Location, access: Access) -> DaemonDestination:
    """:raises ImageError: it has no name that docker can load it by."""
    return DaemonDestination(location, access.daemon)


def _identifier(text: str) -> str:
    """An image's ID, or its name in full: ``debian`` alone would be all of its tags."""
    try:
        return str(Digest.from_text(text))
    except ValueError:
        return tag(text)


def _message(answer: bytes) -> str:
    try:
        value, _ = parse(answer)
    except NotJSON:
        value = None
    if isinstance(value, dict):
        for member in ("message", "error"):
            if isinstance(value.get(member), str):
                return str(value[member])
    return answer[:200].decode("utf-8", "replace").strip() or "it does not say why"
