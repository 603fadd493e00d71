"""``oci:DIRECTORY[:NAME]``: an image layout (image-spec, image-layout.md).

An image is found by its name, which is an annotation in index.json; ``@N`` is the one at that place, counted from 0;
without a name there must be just one. Whatever the directory holds, reading it follows no link out of it.

Writers share a lock on ``blobs``, so that nobody collects what they have not yet named, and take the directory's own to
replace index.json: two who write at once lose nothing of each other. A name that moves on leaves its old image
without one, as with skopeo; ``pruning`` removes those.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from attrs import evolve, frozen

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image import media
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest, Hashed, Readable, Verified
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, ImageObject, Index
from ocirt.image.files import Directory, NewFile, Section, failing, sweep, whole
from ocirt.image.threads import PIECE
from ocirt.image.transport import Access, Raw

if TYPE_CHECKING:
    from ocirt.image.reference import Location

REF_NAME: Final = "org.opencontainers.image.ref.name"
INDEX_FILE: Final = "index.json"
MARK_FILE: Final = "oci-layout"
MARK: Final = b'{"imageLayoutVersion":"1.0.0"}'
BLOBS: Final = "blobs"

# annotations.md, the grammar of org.opencontainers.image.ref.name.
_WORD: Final = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_NAME: Final = re.compile(rf"{_WORD}(?:/{_WORD})*", re.ASCII)
_PLACE: Final = re.compile(r"@([0-9]{1,9})", re.ASCII)


class Files(Protocol):
    """What a layout is read from: a directory, or an archive of one."""

    path: str

    def read(self, name: str) -> AbstractContextManager[Section]: ...

    def size(self, name: str) -> int | None: ...


class LayoutSource(Closing):
    """One image of a layout, which takes over what is to be closed with it."""

    def __init__(self, files: Files, location: Location, closing: ExitStack) -> None:
        self._files = files
        self._location = location
        with files.read(MARK_FILE) as stream:
            _check_mark(whole(stream, 4096, f"{files.path}/{MARK_FILE}"), files.path)
        self._closing = closing.pop_all()

    @property
    def name(self) -> str:
        return str(self._location)

    def manifest(self, descriptor: Descriptor | None = None) -> Raw:
        if descriptor is None:
            descriptor = chosen(read_index(self._files), self._location.name, self.name)
        return Raw(read_document(self._files, descriptor), descriptor.media_type)

    @contextmanager
    def blob(self, descriptor: Descriptor) -> Iterator[Readable]:
        with self._files.read(blob_path(descriptor.digest)) as stream:
            yield stream

    def close(self) -> None:
        self._closing.close()


class LayoutDestination(Closing):
    """A directory that becomes a layout by the first ``commit``."""

    manifest_types = (media.MANIFEST, media.INDEX)
    compressions: tuple[media.Compression, ...] = ("gzip", "zstd", "none")

    def __init__(self, location: Location) -> None:
        self._location = location
        self._root: Descriptor | None = None
        check_name(location.name)
        with failing(location.path, "cannot be made"):
            os.makedirs(location.path, 0o755, exist_ok=True)
        with ExitStack() as closing:
            self._directory = closing.enter_context(Directory.open(location.path))
            _check_writable(self._directory)
            self._blobs = closing.enter_context(self._directory.below(BLOBS, make=True))
            closing.enter_context(self._blobs.locked(fcntl.LOCK_SH))
            sweep(self._directory)
            self._closing = closing.pop_all()

    @property
    def name(self) -> str:
        return str(self._location)

    def has_blob(self, descriptor: Descriptor) -> bool:
        return self._directory.size(blob_path(descriptor.digest)) == descriptor.size

    def put_blob(self, stream: Readable, descriptor: Descriptor | None = None) -> tuple[Digest, int]:
        if descriptor is not None:
            with NewFile(self._directory) as file:
                _fill(file, stream)
                self._publish(file, descriptor.digest)
            return descriptor.digest, descriptor.size
        hashed = Hashed(stream)
        with NewFile(self._directory) as file:
            _fill(file, hashed)
            self._publish(file, hashed.digest)
        return hashed.digest, hashed.count

    def put_manifest(self, raw: Raw, *, child: bool = False) -> None:
        if raw.media_type not in self.manifest_types:
            raise ImageError(self.name, f"holds no {raw.media_type}")
        with NewFile(self._directory) as file:
            file.write(raw.data)
            self._publish(file, raw.digest)
        if not child:
            self._root = Descriptor(raw.media_type, raw.digest, len(raw.data))

    def commit(self) -> None:
        if self._root is None:
            raise ImageError(self.name, "no manifest was put there")
        with self._directory.locked():
            if self._directory.size(MARK_FILE) is None:
                _replace(self._directory, MARK_FILE, MARK)
            index = _index_or_none(self._directory) or Index(2, (), media_type=media.INDEX)
            write_index(self._directory, with_name(index, self._root, self._location.name))

    def close(self) -> None:
        self._closing.close()

    def _publish(self, file: NewFile, digest: Digest) -> None:
        with self._blobs.below(digest.algorithm, make=True) as directory:
            file.publish(digest.hex, directory)


def source(location: Location, access: Access) -> LayoutSource:
    """:raises ImageError: there is no layout."""
    del access
    with ExitStack() as closing:
        directory = closing.enter_context(Directory.open(location.path))
        return LayoutSource(directory, location, closing)


def destination(location: Location, access: Access) -> LayoutDestination:
    """:raises ImageError: the directory cannot be made, or holds something else."""
    del access
    return LayoutDestination(location)


def images(path: str | os.PathLike[str]) -> tuple[tuple[str | None, Descriptor], ...]:
    """Every image of a layout with its name, those without one too, in index.json's order (``umoci ls``)."""
    with Directory.open(os.fspath(path)) as directory:
        index = read_index(directory)
    return tuple((ref_name(entry), entry) for entry in index.manifests)


def remove(path: str | os.PathLike[str], name: str) -> None:
    """Forget a name; what it named stays until ``pruning.prune`` (``umoci rm``).

    :raises ImageNotFound: it names nothing.
    """
    with Directory.open(os.fspath(path)) as directory, directory.locked():
        index = read_index(directory)
        kept = tuple(entry for entry in index.manifests if ref_name(entry) != name)
        if len(kept) == len(index.manifests):
            raise ImageNotFound(f"oci:{directory.path}:{name}", _there(index))
        write_index(directory, evolve(index, manifests=kept))


def chosen(index: Index, name: str, what: str) -> Descriptor:
    """The entry of index.json that is meant (oci-image(5), and skopeo's ``@N``).

    :raises ImageNotFound: there is none.
    :raises ImageError: there are several.
    """
    place = _PLACE.fullmatch(name)
    if place is not None:
        if int(place[1]) >= len(index.manifests):
            raise ImageNotFound(what, f"has {len(index.manifests)} images, counted from @0")
        return index.manifests[int(place[1])]
    entries = [entry for entry in index.manifests if entry.media_type in media.MANIFESTS | media.INDEXES]
    if name:
        entries = [entry for entry in entries if ref_name(entry) == name]
    if not entries:
        raise ImageNotFound(what, _there(index))
    if len({entry.digest for entry in entries}) > 1:
        if name:
            raise ImageError(what, f"is the name of {len(entries)} different images; choose one by its place, @N")
        raise ImageError(what, f"which image is meant? {_there(index)}")
    return entries[0]


def with_name(index: Index, descriptor: Descriptor, name: str) -> Index:
    """``index`` with one image more, whose name no other has from then on (containers/image, ``addManifest``)."""
    entries = [_without_name(entry) if name and ref_name(entry) == name else entry for entry in index.manifests]
    made = evolve(descriptor, annotations={REF_NAME: name} if name else {})
    unnamed = [n for n, entry in enumerate(entries) if entry.digest == made.digest and ref_name(entry) is None]
    if unnamed:
        entries[unnamed[0]] = made
    elif name or all(entry.digest != made.digest for entry in entries):
        entries.append(made)
    return evolve(index, manifests=tuple(entries))


def check_name(name: str) -> None:
    """:raises ImageError: no image of a layout may have this name."""
    if name and _NAME.fullmatch(name) is None:
        raise ImageError(
            name, "is no name that an image layout has (annotations.md, org.opencontainers.image.ref.name)"
        )


def blob_path(digest: Digest) -> str:
    return f"{BLOBS}/{digest.algorithm}/{digest.hex}"


def read_index(files: Files) -> Index:
    what = f"{files.path}/{INDEX_FILE}"
    with files.read(INDEX_FILE) as stream:
        return Index.loads(whole(stream, MAX_DOCUMENT, what), what)


def read_document(files: Files, descriptor: Descriptor) -> bytes:
    """A manifest or index, verified."""
    name = blob_path(descriptor.digest)
    what = f"{files.path}/{name}"
    with files.read(name) as stream:
        return whole(Verified(stream, descriptor.digest, descriptor.size, what), MAX_DOCUMENT, what)


def ref_name(entry: Descriptor) -> str | None:
    return entry.annotations.get(REF_NAME) or None


def _without_name(entry: Descriptor) -> Descriptor:
    return evolve(entry, annotations={key: value for key, value in entry.annotations.items() if key != REF_NAME})


def _there(index: Index) -> str:
    """What could be meant, for people."""
    names = [ref_name(entry) or f"@{place}" for place, entry in enumerate(index.manifests)]
    if not names:
        return "no image is there"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"there is {', '.join(names[:20])}{more}"


@frozen(repr=False)
class _Mark(ImageObject):
    """The file oci-layout."""

    image_layout_version: str


def _check_mark(data: bytes, path: str) -> None:
    from ocirt.spec import convert
    from ocirt.spec.text import NotJSON, parse

    try:
        mark = convert.HOOKS[_Mark](parse(data)[0], None)
    except (NotJSON, convert.Broken) as error:
        raise ImageError(f"{path}/{MARK_FILE}", "is not what an image layout has there") from error
    assert isinstance(mark, _Mark)
    if not mark.image_layout_version.startswith("1."):
        raise ImageError(path, f"is a layout of version {mark.image_layout_version}, and 1.0.0 is what is known here")


def _check_writable(directory: Directory) -> None:
    """Nothing is written among what is no layout, as a slip of the keyboard might ask for."""
    if directory.size(MARK_FILE) is not None:
        with directory.read(MARK_FILE) as stream:
            _check_mark(whole(stream, 4096, directory.path), directory.path)
        return
    names = set(os.listdir(directory.fd)) - {BLOBS, INDEX_FILE}
    if any(not name.startswith(".ocirt-") for name in names):
        raise ImageError(directory.path, "is neither empty nor an image layout")


def _index_or_none(directory: Directory) -> Index | None:
    try:
        return read_index(directory)
    except ImageNotFound:
        return None


def write_index(directory: Directory, index: Index) -> None:
    data = index.dumps()
    if len(data) > MAX_DOCUMENT:
        raise ImageError(directory.path, f"has no room for another image: {INDEX_FILE} would have {len(data)} bytes")
    _replace(directory, INDEX_FILE, data)


def _replace(directory: Directory, name: str, data: bytes) -> None:
    with NewFile(directory) as file:
        file.write(data)
        file.publish(name)


def _fill(file: NewFile, stream: Readable) -> None:
    while data := stream.read(PIECE):
        file.write(data)
