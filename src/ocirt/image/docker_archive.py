"""``docker-archive:FILE[:REFERENCE]``: what ``docker save`` writes and ``docker load`` reads.

manifest.json lists the images of the archive, each with the names of its members: a configuration, and layers from the
bottom up, which may be links to others. There is no manifest in it, so one of Docker's is made: an uncompressed layer
is called by its DiffID, which the configuration tells, and one that is compressed by the digest of its bytes. ``@N``
is the image at that place, counted from 0.

Before 2016 there was no manifest.json; ``docker_v1`` makes the same of those archives.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ocirt.errors import ArchiveError, ImageError, ImageNotFound, Problem, SpecError
from ocirt.image import compression, docker_v1, manifests, media
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest, Hashed, Readable
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, ImageConfig, ImageObject, Manifest
from ocirt.image.files import whole
from ocirt.image.members import Member, Members, archive
from ocirt.image.new_archive import NewArchive, spooled_blob
from ocirt.image.reference import Reference
from ocirt.image.threads import PIECE
from ocirt.image.transport import Access, Raw
from ocirt.spec.base import strings

if TYPE_CHECKING:
    from ocirt.image.reference import Location

MANIFEST_FILE: Final = "manifest.json"


def _named(key: str) -> dict[str, str]:
    return {"key": key}


@frozen(repr=False)
class Saved(ImageObject):
    """An entry of manifest.json."""

    config: str = field(metadata=_named("Config"))
    layers: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("Layers"))
    repo_tags: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("RepoTags"))


@frozen
class Image:
    """One image of an archive: its configuration, and where its layers are."""

    config: bytes = field(repr=False)
    layers: tuple[Member, ...]


class ArchiveSource(Closing):
    """One image of an archive."""

    def __init__(self, members: Members, name: str, wanted: str, closing: ExitStack) -> None:
        self._members = members
        self._name = name
        self._wanted = wanted
        self._closing = closing
        self._lock = threading.Lock()
        self._manifest: Raw | None = None
        self._config: tuple[Digest, bytes] | None = None
        self._layers: dict[Digest, Member] = {}

    @property
    def name(self) -> str:
        return self._name

    def manifest(self, descriptor: Descriptor | None = None) -> Raw:
        with self._lock:
            if self._manifest is None:
                self._manifest = self._made(self._image())
        if descriptor is not None and descriptor.digest != self._manifest.digest:
            raise ImageNotFound(self.name, f"has no manifest {descriptor.digest}")
        return self._manifest

    @contextmanager
    def blob(self, descriptor: Descriptor) -> Iterator[Readable]:
        self.manifest()
        if self._config is not None and self._config[0] == descriptor.digest:
            yield io.BytesIO(self._config[1])
            return
        if descriptor.digest not in self._layers:
            raise ImageNotFound(self.name, f"has no blob {descriptor.digest}")
        yield self._members.open(self._layers[descriptor.digest])

    def close(self) -> None:
        self._closing.close()

    def _image(self) -> Image:
        if MANIFEST_FILE in self._members:
            saved = chosen(saved_images(self._members), self._wanted, self.name)
            layers = tuple(self._members.get(layer) for layer in saved.layers)
            return Image(read(self._members, saved.config), layers)
        if docker_v1.REPOSITORIES in self._members:
            return Image(*docker_v1.image(self._members, self._wanted, self.name))
        hint = "; this is an oci-archive" if "index.json" in self._members else ""
        raise ImageError(self.name, f"has no {MANIFEST_FILE}, so docker did not save it{hint}")

    def _made(self, image: Image) -> Raw:
        """A manifest; who asks for blobs later is told where they are."""
        what = f"{self.name}, configuration"
        diff_ids = ImageConfig.loads(image.config, what).rootfs.diff_ids
        if len(diff_ids) != len(image.layers):
            raise ImageError(what, f"names {len(diff_ids)} layers, and {MANIFEST_FILE} {len(image.layers)}")
        known: dict[tuple[str, Digest], Descriptor] = {}
        layers = tuple(
            self._layer(member, diff_id, known) for member, diff_id in zip(image.layers, diff_ids, strict=True)
        )
        digest = Digest.of(image.config)
        self._config = digest, image.config
        config = Descriptor(media.DOCKER_CONFIG, digest, len(image.config))
        manifest = Manifest(2, config, layers, media_type=media.DOCKER_MANIFEST)
        return Raw(manifest.dumps(), media.DOCKER_MANIFEST)

    def _layer(self, member: Member, diff_id: Digest, known: dict[tuple[str, Digest], Descriptor]) -> Descriptor:
        """What is uncompressed is verified by whoever reads it; what is compressed is here, for its digest is ours."""
        what = f"{self.name}: {member.name}"
        found = compression.detect(self._members.open(member).read(8), what)
        if found == "none":
            made = Descriptor(media.DOCKER_LAYER, diff_id, member.size)
        elif (member.name, diff_id) in known:
            made = known[member.name, diff_id]
        else:
            hashed = Hashed(self._members.open(member))
            with compression.uncompressed(hashed, found, diff_id, what=what) as plain:
                while plain.read(PIECE):
                    pass
            made = Descriptor(media.layer(found, docker=True), hashed.digest, member.size)
        known[member.name, diff_id] = made
        self._layers.setdefault(made.digest, member)
        return made


class ArchiveDestination(Closing):
    """A new archive with one image, instead of whatever the file held."""

    manifest_types = (media.DOCKER_MANIFEST,)
    compressions: tuple[media.Compression, ...] = ("none",)

    def __init__(self, archive: NewArchive, name: str, tags: tuple[str, ...]) -> None:
        self.archive = archive
        self._name = name
        self._tags = tags
        self._saved: Saved | None = None

    @property
    def name(self) -> str:
        return self._name

    def has_blob(self, descriptor: Descriptor) -> bool:
        return self.archive.has(_member_name(descriptor))

    def put_blob(self, stream: Readable, descriptor: Descriptor | None = None) -> tuple[Digest, int]:
        if descriptor is None:
            with spooled_blob(stream) as (kept, digest, size):
                return self._put(kept, digest, size, _layer_name(digest))
        return self._put(stream, descriptor.digest, descriptor.size, _member_name(descriptor))

    def put_manifest(self, raw: Raw, *, child: bool = False) -> None:
        manifest = manifests.parse(raw, self.name)
        if child or not isinstance(manifest, Manifest) or raw.media_type not in self.manifest_types:
            raise ImageError(self.name, f"holds no {raw.media_type}, but images of Docker's alone")
        for layer in manifest.layers:
            if layer.media_type != media.DOCKER_LAYER:
                raise ImageError(self.name, f"takes no layer of type {layer.media_type}")
        layers = tuple(_layer_name(layer.digest) for layer in manifest.layers)
        self._saved = Saved(_config_name(manifest.config.digest), layers, self._tags)

    def commit(self) -> None:
        if self._saved is None:
            raise ImageError(self.name, "no manifest was put there")
        from ocirt.spec import convert

        data = b"[" + convert.compact(self._saved) + b"]"
        self.archive.put(MANIFEST_FILE, io.BytesIO(data), len(data))
        self.archive.publish()

    def close(self) -> None:
        self.archive.close()

    def _put(self, stream: Readable, digest: Digest, size: int, name: str) -> tuple[Digest, int]:
        self.archive.put(name, stream, size)
        return digest, size


def source(location: Location, access: Access) -> ArchiveSource:
    """:raises ImageError: there is no archive."""
    del access
    with ExitStack() as closing:
        members = closing.enter_context(archive(location.path))
        return ArchiveSource(members, str(location), location.name, closing.pop_all())


def destination(location: Location, access: Access) -> ArchiveDestination:
    """:raises ImageError: it cannot be written, or the image's name is none."""
    del access
    tags = (tag(location.name),) if location.name else ()
    return ArchiveDestination(NewArchive.at(location.path), str(location), tags)


def tag(name: str) -> str:
    """As docker writes it in full: ``docker.io/library/debian:latest``.

    :raises ImageError: it is no name with a tag.
    """
    reference = Reference.parse(name)
    if reference.digest is not None:
        raise ImageError(name, "has a digest; what is loaded is named by a tag")
    return str(reference)


def saved_images(members: Members) -> tuple[Saved, ...]:
    """What manifest.json lists."""
    from ocirt.spec import convert
    from ocirt.spec.text import NotJSON, parse

    what = f"{members.path}: {MANIFEST_FILE}"
    try:
        value, doubles = parse(read(members, MANIFEST_FILE))
        found = convert.HOOKS[tuple[Saved, ...]](value, None)
    except NotJSON as error:
        raise SpecError([Problem("", None, f"is not JSON: {error}")], what) from error
    except convert.Broken as broken:
        raise SpecError(broken.problems, what) from None
    if doubles:
        raise SpecError(doubles, what)
    assert isinstance(found, tuple)
    return found


def chosen(images: tuple[Saved, ...], wanted: str, what: str) -> Saved:
    """:raises ImageNotFound: there is none of that name, or there are several and no name was given."""
    if wanted.startswith("@"):
        if not wanted[1:].isdecimal() or int(wanted[1:5]) >= len(images) or len(wanted) > 5:
            raise ImageNotFound(what, f"has {len(images)} images, counted from @0")
        return images[int(wanted[1:])]
    names = [name for image in images for name in image.repo_tags]
    there = f"there is {', '.join(names[:20]) or 'none with a name'}{' and more' if len(names) > 20 else ''}"
    if wanted:
        full = tag(wanted)
        for image in images:
            if any(_is_same(name, full) for name in image.repo_tags):
                return image
        raise ImageNotFound(what, f"is not in the archive; {there}")
    if len(images) != 1:
        raise ImageNotFound(what, f"holds {len(images)} images, and which one is not said; {there}")
    return images[0]


def read(members: Members, name: str) -> bytes:
    """A document of an archive."""
    member = members.get(name)
    if member.size > MAX_DOCUMENT:
        raise ArchiveError(name, f"has {member.size} bytes, which no document of an image has")
    return whole(members.open(member), MAX_DOCUMENT, name)


def _is_same(name: str, full: str) -> bool:
    try:
        return tag(name) == full
    except ImageError:
        return False


def _member_name(descriptor: Descriptor) -> str:
    is_config = descriptor.media_type in media.CONFIGS
    return _config_name(descriptor.digest) if is_config else _layer_name(descriptor.digest)


def _config_name(digest: Digest) -> str:
    return f"{digest.hex}.json"


def _layer_name(digest: Digest) -> str:
    return f"{digest.hex}.tar"
