"""``oci-archive:FILE[:NAME]``: an image layout as a tar archive, which is not unpacked to be read."""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ocirt.errors import ImageError
from ocirt.image import layout, media
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest, Readable
from ocirt.image.documents import Descriptor, Index
from ocirt.image.members import archive
from ocirt.image.new_archive import NewArchive, spooled_blob
from ocirt.image.transport import Access, Raw

if TYPE_CHECKING:
    from ocirt.image.reference import Location


class ArchiveDestination(Closing):
    """A new archive with one image, instead of whatever the file held."""

    manifest_types = (media.MANIFEST, media.INDEX)
    compressions: tuple[media.Compression, ...] = ("gzip", "zstd", "none")

    def __init__(self, location: Location) -> None:
        layout.check_name(location.name)
        self._location = location
        self._root: Descriptor | None = None
        self._archive = NewArchive.at(location.path)
        for name in (layout.BLOBS, f"{layout.BLOBS}/sha256"):
            self._archive.directory(name)

    @property
    def name(self) -> str:
        return str(self._location)

    def has_blob(self, descriptor: Descriptor) -> bool:
        return self._archive.has(layout.blob_path(descriptor.digest))

    def put_blob(self, stream: Readable, descriptor: Descriptor | None = None) -> tuple[Digest, int]:
        if descriptor is None:
            with spooled_blob(stream) as (kept, digest, size):
                return self._put(kept, digest, size)
        return self._put(stream, descriptor.digest, descriptor.size)

    def put_manifest(self, raw: Raw, *, child: bool = False) -> None:
        if raw.media_type not in self.manifest_types:
            raise ImageError(self.name, f"holds no {raw.media_type}")
        descriptor = Descriptor(raw.media_type, raw.digest, len(raw.data))
        self._put(io.BytesIO(raw.data), descriptor.digest, descriptor.size)
        if not child:
            self._root = descriptor

    def commit(self) -> None:
        if self._root is None:
            raise ImageError(self.name, "no manifest was put there")
        index = layout.with_name(Index(2, (), media_type=media.INDEX), self._root, self._location.name)
        for name, data in ((layout.INDEX_FILE, index.dumps()), (layout.MARK_FILE, layout.MARK)):
            self._archive.put(name, io.BytesIO(data), len(data))
        self._archive.publish()

    def close(self) -> None:
        self._archive.close()

    def _put(self, stream: Readable, digest: Digest, size: int) -> tuple[Digest, int]:
        self._archive.put(layout.blob_path(digest), stream, size)
        return digest, size


def source(location: Location, access: Access) -> layout.LayoutSource:
    """:raises ImageError: there is no archive of a layout."""
    del access
    with ExitStack() as closing:
        members = closing.enter_context(archive(location.path))
        return layout.LayoutSource(members, location, closing)


def destination(location: Location, access: Access) -> ArchiveDestination:
    """:raises ImageError: it cannot be written."""
    del access
    return ArchiveDestination(location)
