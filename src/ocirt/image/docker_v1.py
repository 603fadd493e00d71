"""Archives that ``docker save`` wrote before its version 1.10: a directory for each layer, and no digest anywhere.

``repositories`` names images by their top layer, and each layer's ``json`` tells which is below it (Docker Image
Specification v1.0). A configuration as they are today is made of that; the top layer's part of it is the image's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ocirt.errors import ArchiveError, ImageError, ImageNotFound, Problem, SpecError
from ocirt.image import compression
from ocirt.image.digest import Hashed
from ocirt.image.documents import MAX_DOCUMENT
from ocirt.image.files import whole
from ocirt.image.members import Member, Members
from ocirt.image.reference import Reference
from ocirt.image.threads import PIECE
from ocirt.spec.text import NotJSON, parse

if TYPE_CHECKING:
    from ocirt.spec.base import JSON

REPOSITORIES: Final = "repositories"
MAX_LAYERS: Final = 128
"""Docker never had more (aufs: 127)."""

_KEPT: Final = ("architecture", "os", "created", "author", "config", "docker_version", "container_config")


def image(members: Members, wanted: str, what: str) -> tuple[bytes, tuple[Member, ...]]:
    """The configuration of one image, and its layers from the bottom up."""
    chain = _chain(members, _top(members, wanted, what))
    layers = tuple(members.get(f"{layer}/layer.tar") for layer, _ in chain)
    top = chain[-1][1]
    document: dict[str, JSON] = {name: top[name] for name in _KEPT if top.get(name) is not None}
    document.setdefault("architecture", "amd64")  # Docker ran nowhere else, and did not say so
    document.setdefault("os", "linux")
    document["history"] = [_history(said) for _, said in chain]
    document["rootfs"] = {"type": "layers", "diff_ids": [_diff_id(members, layer, what) for layer in layers]}
    return json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogateescape"), layers


def _top(members: Members, wanted: str, what: str) -> str:
    """The top layer's name, of the image that is meant."""
    named: dict[str, str] = {}
    for repository, tags in _object(members, REPOSITORIES).items():
        for tag, layer in (tags if isinstance(tags, dict) else {}).items():
            if isinstance(layer, str):
                named[str(Reference.parse(f"{repository}:{tag}"))] = layer
    there = f"there is {', '.join([*named][:20]) or 'none'}"
    if wanted:
        full = str(Reference.parse(wanted))
        if full not in named:
            raise ImageNotFound(what, f"is not in the archive; {there}")
        return named[full]
    if len(set(named.values())) != 1:
        raise ImageNotFound(what, f"which image is meant? {there}")
    return next(iter(named.values()))


def _chain(members: Members, top: str) -> list[tuple[str, Mapping[str, JSON]]]:
    """The layers from the bottom to ``top``, with what each says of itself."""
    chain: list[tuple[str, Mapping[str, JSON]]] = []
    layer: JSON = top
    while layer:
        if not isinstance(layer, str) or len(chain) == MAX_LAYERS:
            raise ArchiveError(str(layer)[:80], "is below more layers than any image has, or is no layer")
        said = _object(members, f"{layer}/json")
        chain.append((layer, said))
        layer = said.get("parent")
    return chain[::-1]


def _history(said: Mapping[str, JSON]) -> JSON:
    """How the layer came about (config.md, ``history``)."""
    made: dict[str, JSON] = {name: said[name] for name in ("created", "author", "comment") if said.get(name)}
    container = said.get("container_config")
    command = container.get("Cmd") if isinstance(container, dict) else None
    if isinstance(command, list):
        made["created_by"] = " ".join(map(str, command))
    return made


def _diff_id(members: Members, layer: Member, what: str) -> str:
    with compression.reader(members.open(layer), None, what=f"{what}: {layer.name}") as plain:
        hashed = Hashed(plain)
        while hashed.read(PIECE):
            pass
    return str(hashed.digest)


def _object(members: Members, name: str) -> Mapping[str, JSON]:
    what = f"{members.path}: {name}"
    try:
        value, _ = parse(whole(members.open(members.get(name)), MAX_DOCUMENT, what))
    except NotJSON as error:
        raise SpecError([Problem("", None, f"is not JSON: {error}")], what) from error
    if not isinstance(value, dict):
        raise ImageError(what, "is no object of JSON")
    return value
