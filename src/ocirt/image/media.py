"""Media types of images: the OCI's, and Docker's, which say the same of the same bytes.

image-spec, media-types.md, has the table of what is compatible with what.
"""

from __future__ import annotations

from typing import Final, Literal

Compression = Literal["none", "gzip", "zstd"]

OCI: Final = "application/vnd.oci.image"
INDEX: Final = f"{OCI}.index.v1+json"
MANIFEST: Final = f"{OCI}.manifest.v1+json"
CONFIG: Final = f"{OCI}.config.v1+json"
LAYER: Final = f"{OCI}.layer.v1.tar"
EMPTY: Final = "application/vnd.oci.empty.v1+json"

DOCKER: Final = "application/vnd.docker"
DOCKER_LIST: Final = f"{DOCKER}.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = f"{DOCKER}.distribution.manifest.v2+json"
DOCKER_SCHEMA1: Final = f"{DOCKER}.distribution.manifest.v1+json"
DOCKER_SIGNED_SCHEMA1: Final = f"{DOCKER}.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG: Final = f"{DOCKER}.container.image.v1+json"
DOCKER_LAYER: Final = f"{DOCKER}.image.rootfs.diff.tar"

INDEXES: Final = frozenset((INDEX, DOCKER_LIST))
MANIFESTS: Final = frozenset((MANIFEST, DOCKER_MANIFEST))
CONFIGS: Final = frozenset((CONFIG, DOCKER_CONFIG))

# As they are, or not to be handed on ("nondistributable", "foreign": Windows' base layers; deprecated).
LAYERS: Final[dict[str, Compression]] = {
    LAYER: "none",
    f"{LAYER}+gzip": "gzip",
    f"{LAYER}+zstd": "zstd",
    f"{OCI}.layer.nondistributable.v1.tar": "none",
    f"{OCI}.layer.nondistributable.v1.tar+gzip": "gzip",
    f"{OCI}.layer.nondistributable.v1.tar+zstd": "zstd",
    DOCKER_LAYER: "none",
    f"{DOCKER_LAYER}.gzip": "gzip",
    f"{DOCKER_LAYER}.zstd": "zstd",
    f"{DOCKER}.image.rootfs.foreign.diff.tar": "none",
    f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
"""The media types of layers, and how their bytes are compressed."""


def layer(compression: Compression, *, docker: bool = False) -> str:
    """The media type of a layer that is compressed so."""
    if docker:
        return DOCKER_LAYER if compression == "none" else f"{DOCKER_LAYER}.{compression}"
    return LAYER if compression == "none" else f"{LAYER}+{compression}"
