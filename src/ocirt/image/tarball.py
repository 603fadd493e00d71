"""``tarball:FILE``: a root filesystem in a tar archive, as ``docker export`` writes it, read as an image of one layer.

The archive is the layer, as it is, compressed by gzip, zstd or not at all; what an image says besides is made here
(skopeo's transport of this name). It is a source alone: an image is more than one archive.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from ocirt.archive.headers import Archive
from ocirt.errors import ArchiveError, ImageError, ImageNotFound, UnsupportedError
from ocirt.image import compression, media
from ocirt.image.closing import Closing
from ocirt.image.digest import Hashed, Readable
from ocirt.image.documents import Descriptor, History, ImageConfig, Manifest, RootFS
from ocirt.image.files import Section
from ocirt.image.platform import here
from ocirt.image.threads import PIECE
from ocirt.image.transport import Access, Raw

if TYPE_CHECKING:
    from ocirt.image.digest import Digest
    from ocirt.image.reference import Location

CREATED_BY: Final = "a tar archive of its root filesystem"


class TarballSource(Closing):
    """The image that such an archive is."""

    def __init__(self, path: str) -> None:
        self.name = f"tarball:{path}"
        self._fd, self._size = _opened(path)
        try:
            layer, diff_id = self._layer()
        except BaseException:
            os.close(self._fd)
            raise
        self._stored = layer.digest
        platform = here()
        config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            rootfs=RootFS("layers", (diff_id,)),
            history=(History(created_by=CREATED_BY),),
        )
        self._config = config.dumps()
        described = Descriptor(media.CONFIG, _digest(self._config), len(self._config))
        self._manifest = Manifest(2, described, (layer,), media_type=media.MANIFEST).dumps()

    def manifest(self, descriptor: Descriptor | None = None) -> Raw:
        raw = Raw(self._manifest, media.MANIFEST)
        if descriptor is not None and descriptor.digest != raw.digest:
            raise ImageNotFound(self.name, f"has no manifest {descriptor.digest}")
        return raw

    @contextmanager
    def blob(self, descriptor: Descriptor) -> Iterator[Readable]:
        if descriptor.digest == self._stored:
            yield self._file()
            return
        if descriptor.digest != _digest(self._config):
            raise ImageNotFound(self.name, f"has no blob {descriptor.digest}")
        yield io.BytesIO(self._config)

    def close(self) -> None:
        os.close(self._fd)

    def _file(self) -> Section:
        return Section(self._fd, 0, self._size, self.name)

    def _layer(self) -> tuple[Descriptor, Digest]:
        """Reads all of it: it has no name but its digests, and what is no archive should not become an image."""
        kind = compression.detect(os.pread(self._fd, 8, 0), self.name)
        stored = Hashed(self._file())
        with compression.reader(stored, kind, what=self.name) as stream:
            plain = Hashed(stream)
            try:
                for _ in Archive(plain):
                    pass
            except ArchiveError as error:
                raise ImageError(self.name, f"cannot be a layer: {error}") from error
            while plain.read(PIECE):
                pass
        return Descriptor(media.layer(kind), stored.digest, stored.count), plain.digest


def _opened(path: str) -> tuple[int, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ImageNotFound(path, "no such file") from error
    except OSError as error:
        raise ImageError(path, f"cannot be opened: {error.strerror}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ImageError(path, "is no regular file, which it has to be to be read more than once")
    return fd, status.st_size


def _digest(data: bytes) -> Digest:
    return Raw(data, "").digest


def source(location: Location, access: Access) -> TarballSource:
    """:raises ImageError: nothing is there, or no tar archive."""
    del access
    return TarballSource(location.rest)


def destination(location: Location, access: Access) -> NoReturn:
    """:raises UnsupportedError: always."""
    del access
    raise UnsupportedError(str(location), "is a source alone; unpack an image, and tar(1) its rootfs")
