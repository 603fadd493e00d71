"""``docker://``: images in a registry (opencontainers/distribution-spec 1.1).

A name is asked for at the registry that it names, and nowhere else: mirrors, short names and what else
containers-registries.conf(5) may say are not looked at.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, RegistryError
from ocirt.image import media, upload
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest
from ocirt.image.download import Download
from ocirt.image.failures import printable, shown
from ocirt.image.http import Response, joined
from ocirt.image.reference import Location, Reference
from ocirt.image.session import Session
from ocirt.image.transport import Access, Raw
from ocirt.spec.base import JSON
from ocirt.spec.text import NotJSON, parse

if TYPE_CHECKING:
    from ocirt.image.digest import Readable
    from ocirt.image.documents import Descriptor

TYPES: Final = (media.INDEX, media.MANIFEST, media.DOCKER_LIST, media.DOCKER_MANIFEST)
"""The manifests that we read."""

OLD: Final = frozenset((media.DOCKER_SCHEMA1, media.DOCKER_SIGNED_SCHEMA1))

MAX_PAGES: Final = 10_000

MAX_OFFERS: Final = 50_000
"""Digests that a source remembers, about: enough for what anybody has, and some megabytes."""

_DIGESTS: Final = re.compile(rb"sha256:[0-9a-f]{64}")
_NEXT: Final = re.compile(r"<([^<>]*)>[^<>]*;\s*rel=\"?next\"?", re.ASCII)


def source(location: Location, access: Access) -> RegistrySource:
    """An image to be read. Nothing is asked yet.

    :raises ImageError: it has no such name, or what tells who we are is broken.
    """
    return RegistrySource(Session(Reference.parse(location.rest), access))


def destination(location: Location, access: Access) -> RegistryDestination:
    """An image to be written. Nothing is asked yet."""
    return RegistryDestination(Session(Reference.parse(location.rest), access))


def list_tags(name: str, access: Access | None = None) -> Iterator[str]:
    """The tags of a repository, as the registry orders them.

    :raises ImageNotFound: it has no such repository.
    """
    with closing(Session(Reference.parse(name), access or Access())) as session:
        target: str | None = "tags/list?n=1000"
        for _ in range(MAX_PAGES):
            if target is None:
                return
            with session.send("GET", target, session.scopes("pull"), {200}, "its tags") as response:
                found = _object(response.document(), session.name, "its tags").get("tags") or []
                link = _NEXT.search(response.header("Link") or "")
                target = joined(response.url, link[1]) if link else None
            if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
                raise ImageError(session.name, "its tags are no list of names")
            yield from map(str, found)
        raise ImageError(session.name, f"has more than {MAX_PAGES} pages of tags")


def delete(location: Location, access: Access | None = None) -> None:
    """Remove a manifest, and with it all tags of it; layers go when the registry collects them.

    :raises RegistryError: it does not offer that (405), or not to us.
    """
    reference = Reference.parse(location.rest)
    with closing(Session(reference, access or Access())) as session, RegistrySource(session) as image:
        scopes = frozenset((*session.scopes("pull"), *session.scopes("delete")))
        digest = reference.digest or image.manifest().digest
        session.send("DELETE", f"manifests/{digest}", scopes, {200, 202}, "deleting it").close()


class _Open(Closing):
    """What sources and destinations have in common."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        return self._session.name

    def close(self) -> None:
        self._session.close()


class RegistrySource(_Open):
    """An image, or an index of several, in a registry."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._scopes = session.scopes("pull")
        self._named: Raw | None = None
        self._lock = threading.Lock()
        self.offers: set[str] = set()
        """The digests that are in the manifests that were read: blobs of this repository."""
        with _sources_lock:
            _sources.add(self)

    @property
    def reference(self) -> Reference:
        return self._session.reference

    def manifest(self, descriptor: Descriptor | None = None) -> Raw:
        """A tag is asked for once: what it names may be another image a moment later."""
        if descriptor is not None:
            raw = self._manifest(str(descriptor.digest), descriptor.digest)
            if len(raw.data) != descriptor.size:
                raise DigestMismatch(str(descriptor), f"{descriptor.size} bytes", f"{len(raw.data)} bytes")
            return Raw(raw.data, descriptor.media_type)
        with self._lock:
            if self._named is None:
                self._named = self._manifest(self.reference.selector, self.reference.digest)
            return self._named

    def blob(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        open = partial(self._blob_from, str(descriptor.digest))
        return closing(Download(open, self._session.client, descriptor.size, f"{self.name}: {descriptor.digest.short}"))

    def close(self) -> None:
        with _sources_lock:
            _sources.discard(self)
        super().close()

    def _manifest(self, selector: str, digest: Digest | None) -> Raw:
        """By tag or digest, verified: by what we know, or else by what the registry says itself."""
        headers = {"Accept": ", ".join(TYPES)}
        with self._session.send(
            "GET", f"manifests/{selector}", self._scopes, {200}, "its manifest", headers
        ) as response:
            kind = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
            told = response.header("Docker-Content-Digest")
            data = response.document()
        if digest is None and told is not None:
            digest = _digest(told, self.name)
        if digest is not None and (found := Digest.of(data, digest.algorithm)) != digest:
            raise DigestMismatch(f"{self.name}: manifest", str(digest), str(found))
        raw = Raw(data, _media_type(kind, data, self.name))
        if len(self.offers) < MAX_OFFERS:
            self.offers.update(found.decode() for found in _DIGESTS.findall(data))
        return raw

    def _blob_from(self, digest: str, position: int) -> Response:
        headers = {"Range": f"bytes={position}-"} if position else {}
        return self._session.send("GET", f"blobs/{digest}", self._scopes, {200, 206}, f"blob {digest}", headers)


_sources_lock: Final = threading.Lock()
_sources: Final[weakref.WeakSet[RegistrySource]] = weakref.WeakSet()
"""Those that are open: what is read in one repository of a registry need not be sent to another one of it."""


class RegistryDestination(_Open):
    """An image on its way to a registry: its name is given last."""

    manifest_types: Final = (media.MANIFEST, media.INDEX, media.DOCKER_MANIFEST, media.DOCKER_LIST)
    compressions: Final[tuple[media.Compression, ...]] = ("gzip", "zstd", "none")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._scopes = session.scopes("pull", "push")
        self._top: Raw | None = None
        self._begun: dict[str, str] = {}  # uploads that wait for their blob, by its digest
        self._lock = threading.Lock()

    def has_blob(self, descriptor: Descriptor) -> bool:
        digest = str(descriptor.digest)
        return self._exists(digest) or any(self._mount(digest, name) for name in self._neighbours(digest))

    def put_blob(self, stream: Readable, descriptor: Descriptor | None = None) -> tuple[Digest, int]:
        """A stream that breaks off, or a connection, is an error: only who has the stream can begin again."""
        if descriptor is not None:
            stream = upload.verified(stream, descriptor.digest, descriptor.size, f"{self.name}: {descriptor}")
        head, is_all = upload.head(stream)
        digest = descriptor.digest if descriptor is not None else Digest.of(head) if is_all else None
        location = self._begin(digest)
        try:
            if digest is not None and is_all:
                self._put(location, digest, head)
                return digest, len(head)
            sent = upload.Sent(head, stream, descriptor.size if descriptor is not None else None)
            if digest is not None:
                self._put(location, digest, sent)
            else:
                location = self._patch(location, sent)
                digest = sent.digest
                self._put(location, digest, None)
        except BaseException:
            self._session.cancel(location, self._scopes)
            raise
        return digest, sent.size

    def put_manifest(self, raw: Raw, *, child: bool = False) -> None:
        """What is found by its digest alone is put at once: an index is refused before its parts are there."""
        if child:
            self._put_manifest(raw, str(raw.digest))
            return
        wanted = self._session.reference.digest
        if wanted is not None and (found := Digest.of(raw.data, wanted.algorithm)) != wanted:
            raise DigestMismatch(self.name, str(wanted), str(found))
        self._top = raw

    def commit(self) -> None:
        if self._top is None:
            raise ImageError(self.name, "has no manifest yet")
        self._put_manifest(self._top, self._session.reference.selector)

    def close(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, {}
        for location in begun.values():
            self._session.cancel(location, self._scopes)
        super().close()

    def _exists(self, digest: str) -> bool:
        with self._session.send("HEAD", f"blobs/{digest}", self._scopes, {200, 404}, f"blob {digest}") as response:
            return response.status == 200

    def _neighbours(self, digest: str) -> list[str]:
        """Repositories of the same registry that somebody reads from, and that have this blob."""
        own = self._session.reference
        with _sources_lock:
            known = [source for source in _sources if digest in source.offers]
        names = {source.reference.repository for source in known if source.reference.registry == own.registry}
        return sorted(names - {own.repository})

    def _mount(self, digest: str, name: str) -> bool:
        """Have a blob of another repository in this one (distribution-spec, Mounting a blob); if we may read it."""
        target = f"blobs/uploads/?{urlencode({'mount': digest, 'from': name}, safe=':/')}"
        scopes = self._scopes | {f"repository:{name}:pull"}
        try:
            with self._session.send("POST", target, scopes, {201, 202}, f"mounting blob {digest}") as response:
                if response.status == 201:
                    return True
                location = _location(response)
        except (RegistryError, ImageNotFound):
            return False
        with self._lock:
            other = self._begun.pop(digest, None)
            self._begun[digest] = location
        if other is not None:
            self._session.cancel(other, self._scopes)
        return False

    def _begin(self, digest: Digest | None) -> str:
        """Where to send a blob to; perhaps where a mount has come to nothing."""
        with self._lock:
            location = self._begun.pop(str(digest), None)
        if location is not None:
            return location
        with self._session.send("POST", "blobs/uploads/", self._scopes, {202}, "an upload") as response:
            return _location(response)

    def _patch(self, location: str, body: upload.Sent) -> str:
        """Send what nobody knows the digest of; where the upload goes on."""
        headers = {"Content-Type": "application/octet-stream"}
        with self._session.send("PATCH", location, self._scopes, {202, 204}, "an upload", headers, body) as response:
            return _location(response)

    def _put(self, location: str, digest: Digest, body: bytes | upload.Sent | None) -> None:
        """End an upload, with all of its bytes or none."""
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(str(digest), safe=':')}"
        headers = {"Content-Type": "application/octet-stream"}
        try:
            self._session.send(
                "PUT", url, self._scopes, {201, 204}, f"blob {digest}", headers, body, is_slow=True
            ).discard()
        except ImageNotFound:
            # The answer to a first attempt got lost: its upload has ended well, and is not known any more.
            if not self._exists(str(digest)):
                raise

    def _put_manifest(self, raw: Raw, selector: str) -> None:
        headers = {"Content-Type": raw.media_type}
        with self._session.send(
            "PUT", f"manifests/{selector}", self._scopes, {200, 201, 202}, "its manifest", headers, raw.data
        ) as response:
            told = response.header("Docker-Content-Digest")
        if told is not None:
            digest = _digest(told, self.name)
            if digest != Digest.of(raw.data, digest.algorithm):
                raise DigestMismatch(f"{self.name}: manifest as the registry has it", str(raw.digest), str(digest))


def _location(response: Response) -> str:
    """Where an upload goes on: absolute or not, perhaps at another host, perhaps with a query."""
    target = response.header("Location")
    if not target:
        raise RegistryError(shown(response.url), response.status, "", "does not say where to upload to (Location)")
    url = joined(response.url, target)
    if response.url.startswith("https:") and not url.startswith("https:"):
        raise RegistryError(
            shown(response.url), response.status, "", f"wants uploads at {shown(url)}, without TLS; refused"
        )
    return url


def _digest(text: str, subject: str) -> Digest:
    try:
        return Digest.from_text(text.strip())
    except ValueError as error:
        raise ImageError(subject, f"Docker-Content-Digest {printable(text)!r} {error}") from error


def _object(data: bytes, subject: str, what: str) -> dict[str, JSON]:
    try:
        value, _ = parse(data)
    except NotJSON as error:
        raise ImageError(subject, f"{what}: is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageError(subject, f"{what}: is no JSON object")
    return value


def _media_type(kind: str, data: bytes, subject: str) -> str:
    """What a manifest is, by its Content-Type and itself, which must not differ (CVE-2021-41190)."""
    document = _object(data, subject, "its manifest")
    own = document.get("mediaType")
    if kind in OLD or document.get("schemaVersion") == 1:
        raise ImageError(
            subject, "is an image of the old kind (Docker's schema 1), which has no configuration; push it anew"
        )
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ImageError(subject, "its manifest is also an index; it must not be both")
    if kind in TYPES:
        if own is not None and own != kind:
            raise ImageError(subject, f"its manifest is sent as {kind}, and says that it is {printable(str(own))}")
        return kind
    if isinstance(own, str):
        return own
    if "manifests" not in document and "layers" not in document:
        raise ImageError(subject, f"its manifest is none, but {printable(kind) or 'something'}")
    return media.INDEX if "manifests" in document else media.MANIFEST
