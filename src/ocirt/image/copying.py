"""Images from one place to another, as ``skopeo copy`` does it.

Every byte is believed only once its digest is what a manifest says, from the manifest's own on. What the destination
takes as it is stays as it is, so that digests remain; what it cannot hold is converted: media types from Docker's words
to OCI's or back, layers from one compression to another, which are then checked against the configuration too. The
destination names nothing before all is there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from attrs import evolve, frozen

from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, UnsupportedError
from ocirt.image import compression, manifests, media, platform
from ocirt.image.digest import Digest, Readable, Verified
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest, Platform
from ocirt.image.files import whole
from ocirt.image.media import Compression
from ocirt.image.packing import packed
from ocirt.image.reference import Location
from ocirt.image.threads import Team
from ocirt.image.transport import (
    Access,
    Destination,
    Progress,
    Raw,
    Report,
    Source,
    open_destination,
    open_source,
)

WORKERS: Final = 4
"""Blobs that are on their way at once."""

MAX_NESTING: Final = 8
"""Indexes in one another, where all of them are copied."""


def copy(
    src: str | Location,
    dst: str | Location,
    *,
    platform: str | Platform | None = None,
    all_platforms: bool = False,
    access: Access | None = None,
    dst_access: Access | None = None,
    report: Report | None = None,
    preserve_digests: bool = False,
    compression: Compression | None = None,
) -> Digest:
    """Copy an image; the digest that it has at the destination.

    :param platform: which image of an index, ``linux/arm64`` for example; this machine's by default.
    :param all_platforms: the whole index, with whatever is in it.
    :param report: is told how far each blob has come.
    :param preserve_digests: fail rather than change a byte of the manifest.
    :param compression: of the layers at the destination; as they are, by default (``Access.compression``).
    """
    there = dst_access or Access()
    wanted = compression or (None if there.compression == "keep" else there.compression)
    with ExitStack() as closing:
        source = closing.enter_context(open_source(_location(src), access or Access()))
        destination = closing.enter_context(open_destination(_location(dst), there))
        work = Copy(source, destination, wanted, preserve_digests, report)
        digest = work.run(_platform(platform), all_platforms=all_platforms)
        destination.commit()
    return digest


def _location(place: str | Location) -> Location:
    return Location.parse(place) if isinstance(place, str) else place


def _platform(wanted: str | Platform | None) -> Platform | None:
    return platform.parse(wanted) if isinstance(wanted, str) else wanted


@frozen
class Copy:
    """From one place to another, that both are open."""

    source: Source
    destination: Destination
    compression: Compression | None = None
    """Of the layers; as they are if it is ``None``."""
    preserve_digests: bool = False
    report: Report | None = None

    def __attrs_post_init__(self) -> None:
        if self.compression is not None and self.compression not in self.destination.compressions:
            raise UnsupportedError(self.destination.name, f"takes no layers with compression {self.compression}")

    def run(self, wanted: Platform | None, *, all_platforms: bool = False) -> Digest:
        """All but the ``commit``; the digest of what was put last."""
        raw = self.source.manifest()
        document = manifests.parse(raw, self.source.name)
        if isinstance(document, Index) and all_platforms:
            return self._index(raw, document, None, 0).digest
        if isinstance(document, Index):
            raw = platform.choose(self.source, raw, wanted).raw
            document = manifests.parse(raw, self.source.name)
            wanted = None
        assert isinstance(document, Manifest)
        return self._image(raw, document, None, wanted).digest

    def _index(self, raw: Raw, index: Index, entry: Descriptor | None, depth: int) -> Descriptor:
        """An index and all in it; what it is at the destination, where it was ``entry``."""
        if depth >= MAX_NESTING:
            raise ImageError(self.source.name, f"has more than {MAX_NESTING} indexes in one another")
        media_type = manifests.type_for(raw.media_type, self.destination.manifest_types, self.destination.name)
        entries = tuple(self._entry(child, depth) for child in index.manifests)
        made = evolve(index, manifests=entries)
        if media_type != raw.media_type:
            made = evolve(made, media_type=media_type)
        return self._put(raw, made if made != index else None, media_type, entry)

    def _entry(self, entry: Descriptor, depth: int) -> Descriptor:
        raw = self.source.manifest(entry)
        document = manifests.parse(raw, f"{self.source.name}, manifest {entry.digest.short}")
        if isinstance(document, Index):
            return self._index(raw, document, entry, depth + 1)
        return self._image(raw, document, entry, None)

    def _image(self, raw: Raw, manifest: Manifest, entry: Descriptor | None, wanted: Platform | None) -> Descriptor:
        media_type = manifests.type_for(raw.media_type, self.destination.manifest_types, self.destination.name)
        target = manifest
        if media_type != raw.media_type:
            target = manifests.manifest_as(manifest, media_type, self.source.name)
        config = self._config(manifest, wanted)
        layers = [
            Layer(old, new, diff_id, self._compression(old))
            for old, new, diff_id in zip(manifest.layers, target.layers, self._diff_ids(manifest, config), strict=True)
        ]
        target = evolve(target, layers=self._layers(layers, docker=manifests.is_docker(media_type)))
        if not self.destination.has_blob(target.config):
            self.destination.put_blob(io.BytesIO(config), target.config)
        return self._put(raw, target if target != manifest else None, media_type, entry)

    def _put(self, raw: Raw, changed: Manifest | Index | None, media_type: str, entry: Descriptor | None) -> Descriptor:
        """Put a manifest or index: the very bytes, unless it had to change."""
        if changed is not None and self.preserve_digests:
            raise ImageError(
                self.destination.name, f"cannot take {self.source.name} as it is, so that its digest would change"
            )
        made = raw if changed is None else Raw(changed.dumps(), media_type)
        self.destination.put_manifest(made, child=entry is not None)
        known = entry or Descriptor(media_type, made.digest, len(made.data))
        return evolve(known, media_type=media_type, digest=made.digest, size=len(made.data))

    def _config(self, manifest: Manifest, wanted: Platform | None) -> bytes:
        """The configuration, verified; of the platform that was asked for by name."""
        what = f"{self.source.name}, configuration"
        with self._blob(manifest.config) as stream:
            data = whole(stream, MAX_DOCUMENT, what)
        if wanted is not None and manifest.config.media_type in media.CONFIGS:
            offered = platform.normalized(ImageConfig.loads(data, what).platform)
            if not any(platform.matches(choice, offered) for choice in platform.preferred(wanted)):
                raise ImageNotFound(self.source.name, f"has no image for {wanted}; it is one for {offered}")
        return data

    def _diff_ids(self, manifest: Manifest, config: bytes) -> Sequence[Digest | None]:
        """What the layers are uncompressed; nobody says that of an artifact's."""
        if manifest.config.media_type not in media.CONFIGS:
            return [None] * len(manifest.layers)
        what = f"{self.source.name}, configuration"
        diff_ids = ImageConfig.loads(config, what).rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise ImageError(what, f"names {len(diff_ids)} layers, and the manifest {len(manifest.layers)}")
        return diff_ids

    def _compression(self, layer: Descriptor) -> Compression | None:
        """What a layer will be compressed by; ``None`` leaves it as it is, as what is no layer known here."""
        current = media.LAYERS.get(layer.media_type)
        if current is None or manifests.is_foreign(layer):
            return None
        if self.compression is not None:
            return self.compression if self.compression != current else None
        possible = self.destination.compressions
        if layer.media_type == media.DOCKER_LAYER and self._is_registry and not self.preserve_digests:
            return possible[0]  # nothing but docker's archives has these, and no digest of theirs was ever told
        return None if current in possible else possible[0]

    @property
    def _is_registry(self) -> bool:
        return self.destination.name.startswith("docker:")

    def _layers(self, layers: Sequence[Layer], *, docker: bool) -> tuple[Descriptor, ...]:
        """Copy them, each once, several at a time; what they are at the destination."""
        team = Team(WORKERS)
        done: dict[tuple[Digest, str], Descriptor] = {}
        jobs = {layer.key: layer for layer in layers}

        def copied(layer: Layer) -> None:
            done[layer.key] = self._layer(layer, team, docker=docker)

        team.run([partial(copied, layer) for layer in jobs.values()])
        return tuple(_as_copied(layer.new, done[layer.key]) for layer in layers)

    def _layer(self, layer: Layer, team: Team, *, docker: bool) -> Descriptor:
        if manifests.is_foreign(layer.old) and layer.old.urls:
            if "gzip" not in self.destination.compressions:
                raise UnsupportedError(self.destination.name, f"needs layer {layer.old.digest}, which is elsewhere")
            return layer.new
        if layer.compression is not None:
            return self._recompressed(layer, team, layer.compression, docker=docker)
        self._check_plain(layer)
        if not self.destination.has_blob(layer.new):
            with self._blob(layer.old) as stream:
                self.destination.put_blob(team.checked(stream), layer.new)
        return layer.new

    def _check_plain(self, layer: Layer) -> None:
        """What is not compressed has one digest, by each algorithm."""
        digest, diff_id = layer.old.digest, layer.diff_id
        if media.LAYERS.get(layer.old.media_type) != "none" or diff_id is None or digest == diff_id:
            return
        if digest.algorithm == diff_id.algorithm:
            raise DigestMismatch(f"{self.source.name}, layer", str(diff_id), str(digest))

    def _recompressed(self, layer: Layer, team: Team, wanted: Compression, *, docker: bool) -> Descriptor:
        what = f"{self.source.name}, layer {layer.old.digest.short}"
        current = media.LAYERS[layer.old.media_type]
        with (
            self._blob(layer.old) as stream,
            compression.uncompressed(
                team.checked(stream), current, layer.diff_id, what=what, threaded=wanted != "none"
            ) as plain,
            packed(plain, wanted) as new,
        ):
            digest, size = self.destination.put_blob(new)
        media_type = media.layer(wanted, docker=docker)
        return evolve(layer.new, media_type=media_type, digest=digest, size=size, data=None)

    @contextmanager
    def _blob(self, descriptor: Descriptor) -> Iterator[Readable]:
        """A blob, believed at its end; what the descriptor holds itself nobody is asked for (descriptor.md, data)."""
        what = f"{self.source.name}, blob {descriptor.digest.short}"
        with ExitStack() as closing:
            stream = _embedded(descriptor, what) or closing.enter_context(self.source.blob(descriptor))
            checked: Readable = Verified(stream, descriptor.digest, descriptor.size, what)
            if self.report is not None:
                checked = _Reported(checked, self.report, self._progress(descriptor))
            yield checked

    def _progress(self, descriptor: Descriptor) -> Progress:
        if self.source.name.startswith("docker:"):
            return Progress("download", descriptor.digest.short, 0, descriptor.size)
        if self._is_registry:
            return Progress("upload", descriptor.digest.short, 0, descriptor.size)
        return Progress("copy", descriptor.digest.short, 0, descriptor.size)


@frozen
class Layer:
    """One on its way."""

    old: Descriptor
    """At the source."""
    new: Descriptor
    """At the destination, if its bytes stay."""
    diff_id: Digest | None
    compression: Compression | None
    """What its bytes become, if they do not stay."""

    @property
    def key(self) -> tuple[Digest, str]:
        return self.old.digest, self.old.media_type


def _as_copied(new: Descriptor, copied: Descriptor) -> Descriptor:
    """The same layer twice may have annotations of its own."""
    if new.digest == copied.digest:
        return new
    return evolve(new, media_type=copied.media_type, digest=copied.digest, size=copied.size, data=None)


def _embedded(descriptor: Descriptor, what: str) -> Readable | None:
    if descriptor.data is None:
        return None
    try:
        return io.BytesIO(base64.b64decode(descriptor.data, validate=True))
    except ValueError as error:
        raise ImageError(what, f"is no base64 in its descriptor: {error}") from error


class _Reported:
    """A stream that tells how far it has come."""

    def __init__(self, stream: Readable, report: Report, start: Progress) -> None:
        self._stream = stream
        self._report = report
        self._now = start

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._now = evolve(self._now, done=self._now.done + len(data))
        self._report(self._now)
        return data
