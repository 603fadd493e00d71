"""What files held when they were unpacked, as digests, from the layers that they came from.

This is for bundles that were copied, and files that were touched: nothing else tells whether they still hold the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from ocirt.archive import paths
from ocirt.archive.headers import Archive, Kind
from ocirt.image import media
from ocirt.image.compression import reader
from ocirt.image.digest import Readable, Verified
from ocirt.image.documents import Manifest
from ocirt.image.transport import Source

_HOLE: Final = bytes(256 * 1024)


def digests_of_layers(source: Source, manifest: Manifest, wanted: Collection[bytes]) -> Mapping[bytes, bytes]:
    """SHA-256 of the files at these paths, which all are in the image; of those that are found under their own names.

    The uppermost layer that has a path is right: whatever whites it out above would have had it missing.
    """
    known: dict[bytes, bytes] = {}
    sought = {path: [path] for path in wanted}
    """Under which name each is looked for: in the layers below a hard link, that is what it links to."""
    for layer in reversed(manifest.layers):
        if not sought:
            break
        what = f"{source.name}: layer {layer.digest.short}"
        with source.blob(layer) as blob:
            verified = Verified(blob, layer.digest, layer.size, what)
            with reader(verified, media.LAYERS.get(layer.media_type), what=what, threaded=True) as stream:
                holds = _contents(stream)
        below: dict[bytes, list[bytes]] = {}
        for name, asked in sought.items():
            match holds.get(name, name):
                case None:
                    continue  # no file: it came by a way that is not followed here
                case str(found):
                    known.update(dict.fromkeys(asked, bytes.fromhex(found)))
                case bytes(target):
                    below.setdefault(target, []).extend(asked)
        sought = below
    return known


def _contents(stream: Readable) -> dict[bytes, str | bytes | None]:
    """What a layer has at each path: a file of this digest, what is at another path in the layers below, or no file."""
    holds: dict[bytes, str | bytes | None] = {}
    archive = Archive(stream, needs_end=False)
    for member in archive:
        name = os.fsencode(paths.clean(member.name))
        if member.kind is Kind.FILE:
            holds[name] = _digest(archive, member.size)
        elif member.kind is Kind.LINK:
            target = os.fsencode(paths.clean(member.target))
            holds[name] = holds.get(target, target)
        else:
            holds[name] = None
    return holds


def _digest(archive: Archive, size: int) -> str:
    """Of a file with its holes."""
    found = hashlib.sha256()
    at = 0
    for offset, piece in archive.data():
        for zeros in _zeros(offset - at):
            found.update(zeros)
        found.update(piece)
        at = offset + len(piece)
    for zeros in _zeros(size - at):
        found.update(zeros)
    return found.hexdigest()


def _zeros(count: int) -> Iterator[memoryview]:
    while count > 0:
        yield memoryview(_HOLE)[:count]
        count -= len(_HOLE)
