"""What every place offers where images are kept: sources to read from, and destinations to write to.

Each transport is a module of its own with two functions, ``source(location, access)`` and ``destination(location,
access)``; ``open_source`` and ``open_destination`` choose. Blobs are read and written by several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal, Protocol

from attrs import field, frozen

from ocirt.errors import ImageError
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest

if TYPE_CHECKING:
    from os import PathLike

    from ocirt.image.digest import Readable
    from ocirt.image.documents import Descriptor
    from ocirt.image.media import Compression
    from ocirt.image.reference import Location


@frozen
class Raw:
    """A manifest or an index as the bytes that its digest is of, and what it was said to be."""

    data: bytes = field(repr=False)
    media_type: str

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)


@frozen
class Progress:
    """How far something has come; told often, so whoever shows it chooses when."""

    action: Literal["download", "upload", "copy", "unpack", "pack"]
    what: str
    """Which blob or file, for people."""
    done: int
    """Bytes, of those that are read."""
    total: int | None = None
    """``None`` while nobody knows."""


Report = Callable[[Progress], None]
"""Called from any thread; what it raises ends the work."""


@frozen
class Access:
    """How a place is reached."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_file: str | PathLike[str] | None = None
    """Where passwords are, instead of the usual places (containers-auth.json(5))."""
    ca: str | PathLike[str] | None = None
    """A file of certificate authorities, besides the system's."""
    verify: bool = True
    """Whether a registry's certificate is."""
    http: bool = False
    """Speak without TLS, to anybody who listens."""
    retries: int = 4
    """How often what may pass by itself is tried again."""
    timeout: float = 60
    """Seconds without a byte."""
    daemon: str = "/run/docker.sock"
    """Docker's socket."""
    compression: Literal["keep", "gzip", "zstd", "none"] = "keep"
    """Of the layers that are written, where the destination leaves a choice."""


class Source(Closing, Protocol):
    """An image, or an index of several, to be read."""

    @property
    def name(self) -> str:
        """For people: ``oci:layout:tag``."""

    def manifest(self, descriptor: Descriptor | None = None) -> Raw:
        """The manifest or index that the location names, or another by its descriptor, verified.

        :raises ImageNotFound: there is none.
        """

    def blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A configuration or layer as it is stored. Not verified: its reader wraps it in ``Verified``."""


class Destination(Closing, Protocol):
    """Where an image is written. Nothing of it can be found there before ``commit``, nor if that is never called."""

    @property
    def name(self) -> str: ...

    @property
    def manifest_types(self) -> tuple[str, ...]:
        """What it takes, the best first; indexes too, if it can hold several images."""

    @property
    def compressions(self) -> tuple[Compression, ...]:
        """What layers may be there, the best first."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether it is there already, or can be had without sending it."""

    def put_blob(self, stream: Readable, descriptor: Descriptor | None = None) -> tuple[Digest, int]:
        """Keep what a stream holds; it is ``descriptor``, or else whatever its digest and size turn out to be.

        Whoever gives a ``descriptor`` has a stream that fails where it is anything else (``Verified``).
        """

    def put_manifest(self, raw: Raw, *, child: bool = False) -> None:
        """Keep a manifest or index; a ``child`` is one of an index, and has no name of its own."""

    def commit(self) -> None:
        """All is there: let it be seen, at once and whole."""


_MODULES: Final = {
    "docker": "registry",
    "docker-archive": "docker_archive",
    "docker-daemon": "docker_daemon",
    "oci": "layout",
    "oci-archive": "layout_archive",
    "tarball": "tarball",
}


def open_source(location: Location, access: Access) -> Source:
    """:raises ImageError: nothing is there, or nothing that this transport reads."""
    return _module(location).source(location, access)


def open_destination(location: Location, access: Access) -> Destination:
    """:raises ImageError: nothing can be written there."""
    return _module(location).destination(location, access)


class _Transport(Protocol):
    """What such a module offers."""

    def source(self, location: Location, access: Access) -> Source: ...

    def destination(self, location: Location, access: Access) -> Destination: ...


def _module(location: Location) -> _Transport:
    if location.transport not in _MODULES:
        raise ImageError(str(location), f"no such transport; there are {', '.join(_MODULES)}")
    return import_module(f"ocirt.image.{_MODULES[location.transport]}")
