"""Manifests and indexes: told apart by what they were said to be, and turned from Docker's words into OCI's and back.

The type is the descriptor's or the registry's, never guessed: bytes that one reader takes for a manifest and another
for an index would be two images of one digest (CVE-2021-41190). So a document that says otherwise of itself, or has
the members of both, is refused.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ocirt.errors import ImageError, UnsupportedError
from ocirt.image import media
from ocirt.image.documents import Descriptor, Index, Manifest
from ocirt.image.transport import Raw

SCHEMA1: Final = frozenset((media.DOCKER_SCHEMA1, media.DOCKER_SIGNED_SCHEMA1))

_COUNTERPARTS: Final = {
    media.DOCKER_MANIFEST: media.MANIFEST,
    media.DOCKER_LIST: media.INDEX,
    media.MANIFEST: media.DOCKER_MANIFEST,
    media.INDEX: media.DOCKER_LIST,
}


def parse(raw: Raw, what: str) -> Manifest | Index:
    """:raises UnsupportedError: it is of Docker's first version, which nothing has written since 2016."""
    if raw.media_type in SCHEMA1:
        raise UnsupportedError(
            what, "is an image of Docker's manifest version 1, which is unsupported; pull and push it with docker once"
        )
    cls: type[Manifest | Index]
    foreign: tuple[str, ...]
    if raw.media_type in media.INDEXES:
        cls, foreign = Index, ("config", "layers")
    elif raw.media_type in media.MANIFESTS:
        cls, foreign = Manifest, ("manifests",)
    else:
        raise ImageError(what, f"is of type {raw.media_type or 'none'}: neither a manifest nor an index")
    document = cls.loads(raw.data, what)
    if document.media_type not in (None, raw.media_type):
        raise ImageError(what, f"should be of type {raw.media_type}, and says that it is {document.media_type}")
    if document.schema_version != 2:
        raise ImageError(what, f"has schemaVersion {document.schema_version}, and there is only 2")
    if any(name in document.unknown for name in foreign):
        raise ImageError(what, "is a manifest and an index at once")
    return document


def type_for(media_type: str, taken: tuple[str, ...], what: str) -> str:
    """What a document becomes where ``taken`` are the types that can be kept.

    :raises ImageError: it can be kept as nothing there.
    """
    if media_type in taken:
        return media_type
    counterpart = _COUNTERPARTS.get(media_type, "")
    if counterpart not in taken:
        raise ImageError(what, f"takes no {media_type}; it takes {', '.join(taken)}")
    return counterpart


def is_docker(media_type: str) -> bool:
    return media_type in (media.DOCKER_MANIFEST, media.DOCKER_LIST)


def manifest_as(manifest: Manifest, media_type: str, what: str) -> Manifest:
    """With the media types of the other standard. Docker's has no annotations, subject or artifacts."""
    docker = is_docker(media_type)
    if manifest.config.media_type not in media.CONFIGS:
        raise ImageError(what, f"is no image but an artifact, of {manifest.config.media_type}; it is OCI's only")
    config = evolve(manifest.config, media_type=media.DOCKER_CONFIG if docker else media.CONFIG)
    layers = tuple(_layer_as(layer, docker, what) for layer in manifest.layers)
    made = evolve(manifest, media_type=media_type, config=config, layers=layers)
    return evolve(made, annotations={}, subject=None, artifact_type=None) if docker else made


def _layer_as(layer: Descriptor, docker: bool, what: str) -> Descriptor:
    compression = media.LAYERS.get(layer.media_type)
    if compression is None:
        raise ImageError(what, f"has a layer of type {layer.media_type}, which is none")
    if is_foreign(layer):
        raise UnsupportedError(what, "has layers that are not to be distributed, and would have to be converted")
    return evolve(layer, media_type=media.layer(compression, docker=docker))


def is_foreign(layer: Descriptor) -> bool:
    """Not to be handed on: it is at its ``urls`` (layer.md, Non-Distributable Layers; deprecated)."""
    return ".nondistributable." in layer.media_type or ".foreign." in layer.media_type
