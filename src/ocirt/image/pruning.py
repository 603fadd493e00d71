"""Removing from an image layout what nothing leads to any more (``umoci gc``)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from attrs import evolve, frozen

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image import layout, media
from ocirt.image.digest import Digest
from ocirt.image.documents import Descriptor, Index, Manifest
from ocirt.image.files import Directory, failing, sweep


@frozen
class Pruned:
    """What is gone."""

    blobs: int
    size: int
    """Bytes."""


def prune(path: str | os.PathLike[str], *, unnamed: bool = False) -> Pruned:
    """Remove the blobs that nothing in index.json leads to (``umoci gc``).

    :param unnamed: remove the images that have no name, too.
    :raises ImageError: somebody is writing to the layout, or a manifest is broken: then nobody knows what it needs.
    """
    with ExitStack() as closing:
        directory = closing.enter_context(Directory.open(os.fspath(path)))
        blobs = closing.enter_context(directory.below(layout.BLOBS))
        try:
            closing.enter_context(blobs.locked(fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ImageError(directory.path, "is being written to; try again when that is done") from error
        closing.enter_context(directory.locked())
        index = layout.read_index(directory)
        if unnamed:
            named = tuple(entry for entry in index.manifests if layout.ref_name(entry) is not None)
            index = evolve(index, manifests=named)
        used = _reachable(directory, index)
        if unnamed:
            layout.write_index(directory, index)
        sweep(directory)
        return _remove_unused(blobs, used)


def _reachable(directory: Directory, index: Index) -> set[Digest]:
    """All that the manifests of an index lead to; what is not there leads no further."""
    found: set[tuple[Digest, str]] = set()
    waiting = [*index.manifests]
    while waiting:
        entry = waiting.pop()
        key = entry.digest, entry.media_type  # who is a manifest here may be a layer there
        if key in found:
            continue
        found.add(key)
        if entry.media_type in media.INDEXES | media.MANIFESTS:
            with suppress(ImageNotFound):
                waiting += _next(layout.read_document(directory, entry), entry)
    return {digest for digest, _ in found}


def _next(data: bytes, entry: Descriptor) -> Iterator[Descriptor]:
    what = str(entry.digest)
    if entry.media_type in media.INDEXES:
        index = Index.loads(data, what)
        yield from index.manifests
        subject = index.subject
    else:
        manifest = Manifest.loads(data, what)
        yield from (manifest.config, *manifest.layers)
        subject = manifest.subject
    if subject is not None:
        yield subject


def _remove_unused(blobs: Directory, used: set[Digest]) -> Pruned:
    count = size = 0
    for algorithm in os.listdir(blobs.fd):
        with suppress(ImageError), blobs.below(algorithm) as directory:
            for name in os.listdir(directory.fd):
                bytes_there = directory.size(name)
                if bytes_there is None or Digest(algorithm, name) in used:
                    continue
                with failing(f"{directory.path}/{name}", "cannot be removed"):
                    os.unlink(name, dir_fd=directory.fd)
                count, size = count + 1, size + bytes_there
    return Pruned(count, size)
