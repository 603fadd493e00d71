"""From a bundle back to an image: what changed in it becomes a layer on top of those it came from (umoci's ``repack``).

The base's layers go along untouched, its configuration gets a layer and a line of history more, and is otherwise as it
was. Equal changes at an equal time (SOURCE_DATE_EPOCH) make an equal image, bit for bit.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Final

from attrs import frozen

from ocirt.archive.changes import Change, changes, changes_of_upper, everything
from ocirt.archive.ownership import Ownership
from ocirt.archive.snapshot import Writer, settle
from ocirt.archive.tree import Walk
from ocirt.archive.writing import LayerWriter
from ocirt.errors import ImageError, UnsupportedError
from ocirt.image import media, record
from ocirt.image.digest import Digest, Verified
from ocirt.image.documents import (
    MAX_DOCUMENT,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    Platform,
    RootFS,
)
from ocirt.image.layer_digests import digests_of_layers
from ocirt.image.packing import Pieces, packed
from ocirt.image.platform import here
from ocirt.image.transport import Destination, Progress, Raw, Report, Source

CREATED_BY: Final = "ocirt image repack"
FROM_ROOTFS: Final = "ocirt Image.from_rootfs"


@frozen
class Packing:
    """How a layer is made."""

    compression: media.Compression | None = None
    """By default gzip, which everybody reads, or what the destination takes."""
    level: int | None = None
    source_date_epoch: int | None = None
    """Seconds: when the image is made, and no file in the layer is newer. By default the variable of that name."""
    report: Report | None = None

    @property
    def newest(self) -> int | None:
        """:raises ImageError: the variable is no number."""
        if self.source_date_epoch is not None:
            return self.source_date_epoch
        text = os.environ.get("SOURCE_DATE_EPOCH", "")
        if text and not (text.isascii() and text.isdigit()):
            raise ImageError("SOURCE_DATE_EPOCH", f"is no number of seconds: {text!r}")
        return int(text) if text else None

    @property
    def created(self) -> str:
        """Now, or what is to pass for it (RFC 3339)."""
        newest = self.newest
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() if newest is None else newest))


@frozen
class Packed:
    """An image that was made."""

    descriptor: Descriptor
    """Of its manifest."""
    manifest: Manifest
    config: ImageConfig
    layer: Descriptor | None
    """The new one; ``None`` if nothing had changed."""
    changes: int
    """How many members it has."""
    skipped: tuple[str, ...]
    """Sockets, which no layer can have."""


@frozen
class Base:
    """The image to build on, and where its layers are."""

    source: Source
    manifest: Manifest
    config: ImageConfig

    @classmethod
    def load(cls, source: Source, image: Descriptor) -> Base:
        """:raises ImageError: it is not there, or is no image."""
        raw = source.manifest(image)
        if raw.media_type not in media.MANIFESTS:
            raise ImageError(source.name, f"has no image under {image.digest}, but {raw.media_type}")
        manifest = Manifest.loads(raw.data, f"{source.name}: manifest {image.digest.short}")
        what = f"{source.name}: configuration {manifest.config.digest.short}"
        if not 0 <= manifest.config.size <= MAX_DOCUMENT:
            raise ImageError(what, f"has {manifest.config.size} bytes, and no document more than {MAX_DOCUMENT}")
        with source.blob(manifest.config) as stream:
            data = Verified(stream, manifest.config.digest, manifest.config.size, what).read()
        return cls(source, manifest, ImageConfig.loads(data, what))


def repack(
    bundle: str | os.PathLike[str],
    source: Source,
    destination: Destination,
    *,
    packing: Packing | None = None,
    history: History | None = None,
    mask_volumes: bool = True,
    masked: Collection[str] = (),
    refresh: bool = False,
) -> Packed:
    """Write the image that a bundle has become, and let it be seen.

    Nothing may use the bundle meanwhile: a file that changes while it is read is an error.

    :param source: where the image is that it was unpacked from.
    :param mask_volumes: leave out what is in the image's volumes (``Config.Volumes``).
    :param masked: leave out these paths too.
    :param refresh: record the bundle anew, so that the next repacking is on top of this one.
    :raises BundleError: it was not unpacked from an image.
    """
    packing = packing or Packing()
    origin = record.read(bundle)
    base = Base.load(source, origin.image)
    hidden = paths([*masked, *(base.config.config.volumes if mask_volumes else ())])
    if refresh and origin.upper is not None:
        raise UnsupportedError("refresh", "the layers below the bundle's upper directory stay what they are")
    with _opened(os.path.join(bundle, origin.upper or record.ROOTFS)) as root, ExitStack() as stack:
        found: Iterable[Change]
        writer = None
        if origin.upper is not None:
            was = next(iter(origin.before), None)
            found = changes_of_upper(root, ownership=origin.ownership, masked=hidden, root_was=was)
        else:
            writer = stack.enter_context(record.rewriting(bundle)) if refresh else None
            found = _changes(origin, base, root, hidden, writer)
        packed = add_layer(base, root, found, destination, packing=packing, history=history)
        destination.commit()
        if writer is not None:
            writer.finish(record.about(packed.descriptor, origin.ownership))
        return packed


def from_rootfs(
    rootfs: str | os.PathLike[str],
    destination: Destination,
    *,
    config: ContainerConfig | None = None,
    platform: Platform | None = None,
    author: str | None = None,
    history: History | None = None,
    ownership: Ownership | None = None,
    masked: Collection[str] = (),
    packing: Packing | None = None,
) -> Packed:
    """Write an image of one layer, which is all of a directory (of debootstrap, ``docker export``), and let it be seen.

    :param config: how containers of it are run.
    :param platform: what it is for, by default this machine.
    :param ownership: whose its files are, if IDs are others than the image's.
    :param masked: paths in it that are left out.
    """
    packing = packing or Packing()
    platform = platform or here()
    image = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        os_version=platform.os_version,
        os_features=platform.os_features,
        variant=platform.variant,
        rootfs=RootFS("layers", ()),
        author=author,
        config=config or ContainerConfig(),
    )
    history = history or History(created_by=FROM_ROOTFS)
    with _opened(rootfs) as root:
        found = everything(Walk(root, ownership or Ownership(), masked=paths(masked)))
        packed = add_layer(image, root, found, destination, packing=packing, history=history)
        destination.commit()
        return packed


def add_layer(
    base: Base | ImageConfig,
    root: int,
    found: Iterable[Change],
    destination: Destination,
    *,
    packing: Packing,
    history: History | None = None,
) -> Packed:
    """Write an image of ``base`` (or of nothing but a configuration) and one more layer: these changes below ``root``.

    Without any change the image gets a line of history alone. Nothing can be seen before ``destination.commit()``.
    """
    docker = media.MANIFEST not in destination.manifest_types
    config = base.config if isinstance(base, Base) else base
    below = _copied(base, destination, docker=docker) if isinstance(base, Base) else ()
    found = iter(found)
    first = next(found, None)
    layer = None
    writer = LayerWriter(root, newest=packing.newest)
    if first is not None:
        layer, diff_id = _put_layer(writer.archive(chain((first,), found)), destination, packing, docker=docker)
        config = config.evolve(rootfs=config.rootfs.evolve(diff_ids=(*config.rootfs.diff_ids, diff_id)))
    history = (history or History(created_by=CREATED_BY)).evolve(empty_layer=layer is None)
    if history.created is None:
        history = history.evolve(created=packing.created)
    config = config.evolve(history=(*_whole_history(config, len(below)), history), created=history.created)
    layers = below if layer is None else (*below, layer)
    manifest, descriptor = _put_documents(base, config, layers, destination, docker=docker)
    return Packed(descriptor, manifest, config, layer, writer.members, tuple(writer.skipped))


def _changes(
    origin: record.Record, base: Base, root: int, hidden: Collection[bytes], writer: Writer | None
) -> list[Change]:
    """What changed since the bundle was recorded; ``writer`` records it anew."""
    if writer is not None:
        settle()
    return changes(
        origin.before,
        Walk(root, origin.ownership, masked=hidden),
        root,
        masked=hidden,
        digests=lambda wanted: digests_of_layers(base.source, base.manifest, wanted),
        keep=writer.add if writer is not None else None,
    )


@contextmanager
def _opened(directory: str | os.PathLike[str]) -> Iterator[int]:
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


def paths(names: Iterable[str]) -> tuple[bytes, ...]:
    """Absolute paths of a container, as entries of a tree have them.

    :raises ImageError: one is the root, or leads out of it.
    """
    made = []
    for name in names:
        parts = [part for part in os.fsencode(name).split(b"/") if part not in (b"", b".")]
        if not parts or b".." in parts:
            raise ImageError(name, "is no path in the tree that could be left out")
        made.append(b"/".join(parts))
    return tuple(made)


def _whole_history(config: ImageConfig, layers: int) -> tuple[History, ...]:
    """A line for each layer: engines refuse an image that has some lines and not all (moby's image.go)."""
    told = sum(not line.empty_layer for line in config.history)
    return (*config.history, *(History() for _ in range(layers - told)))


def _put_layer(
    archive: Iterator[bytes], destination: Destination, packing: Packing, *, docker: bool
) -> tuple[Descriptor, Digest]:
    compression = packing.compression
    if compression is None:
        compression = "gzip" if "gzip" in destination.compressions else destination.compressions[0]
    if compression not in destination.compressions:
        raise ImageError(destination.name, f"takes no layers compressed by {compression}")
    plain = Pieces(_reported(archive, packing.report))
    with packed(plain, compression, packing.level) as stream:
        digest, size = destination.put_blob(stream)
    return Descriptor(media.layer(compression, docker=docker), digest, size), plain.diff_id


def _reported(archive: Iterator[bytes], report: Report | None) -> Iterator[bytes]:
    done = 0
    for piece in archive:
        yield piece
        done += len(piece)
        if report is not None and len(piece) > 512:
            report(Progress("pack", "layer", done))


def _copied(base: Base, destination: Destination, *, docker: bool) -> tuple[Descriptor, ...]:
    """The base's layers, in the destination and under its media types: the bytes are the same."""
    made = []
    for layer in base.manifest.layers:
        compression = media.LAYERS.get(layer.media_type)
        if compression is None:
            raise ImageError(base.source.name, f"has a layer of a type that is not known: {layer.media_type}")
        if compression not in destination.compressions:
            reason = f"takes no layers compressed by {compression}: repack into a layout, and copy that"
            raise ImageError(destination.name, reason)
        known_there = layer.media_type.startswith(media.DOCKER if docker else media.OCI)
        same = layer if known_there else layer.evolve(media_type=media.layer(compression, docker=docker))
        if not destination.has_blob(same):
            with base.source.blob(layer) as stream:
                what = f"{base.source.name}: layer {layer.digest.short}"
                destination.put_blob(Verified(stream, layer.digest, layer.size, what), same)
        made.append(same)
    return tuple(made)


def _put_documents(
    base: Base | ImageConfig,
    config: ImageConfig,
    layers: tuple[Descriptor, ...],
    destination: Destination,
    *,
    docker: bool,
) -> tuple[Manifest, Descriptor]:
    data = config.dumps()
    config_type = media.DOCKER_CONFIG if docker else media.CONFIG
    described = Descriptor(config_type, Digest.of(data), len(data))
    destination.put_blob(io.BytesIO(data), described)
    media_type = media.DOCKER_MANIFEST if docker else media.MANIFEST
    if isinstance(base, Base):
        # What it was about (subject) is the old image's matter; its annotations are its author's.
        manifest = base.manifest.evolve(media_type=media_type, config=described, layers=layers, subject=None)
    else:
        manifest = Manifest(2, described, layers, media_type=media_type)
    raw = Raw(manifest.dumps(), media_type)
    destination.put_manifest(raw)
    return manifest, Descriptor(media_type, raw.digest, len(raw.data))
