"""What a bundle keeps of the image it was unpacked from: which one it was, whose its files are, and what they were.

Repacking needs no more. It lies beside config.json, outside the rootfs, where no container reaches; what umoci leaves
there instead is read too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import field, frozen

from ocirt.archive.mtree import Mtree
from ocirt.archive.ownership import Ownership
from ocirt.archive.snapshot import Snapshot, Writer
from ocirt.archive.tree import Entry, Walk
from ocirt.errors import BundleError, ImageError, UnsupportedError
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, ImageDocument, ImageObject
from ocirt.spec import IDMapping

FILE: Final = "ocirt-image.jsonl"
UMOCI_FILE: Final = "umoci.json"
ROOTFS: Final = "rootfs"
"""Where a bundle's tree is, in both tools' bundles."""


@frozen
class Record:
    """Such a record: ``before`` are the files as they were unpacked."""

    image: Descriptor
    """Of its manifest."""
    ownership: Ownership
    before: Iterable[Entry] = field(repr=False)
    path: str
    """Of the record itself."""
    upper: str | None = None
    """The bundle's directory that is an overlay's upper one, which has all changes and nothing else."""


@frozen(repr=False)
class _Origin(ImageDocument):
    """Its head, as the file has it."""

    image: Descriptor
    uid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    gid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    rootless: bool = False
    upper: str | None = None


def write(bundle: str | os.PathLike[str], root: int, image: Descriptor, ownership: Ownership) -> None:
    """Record what is below the open directory ``root``, just unpacked from an image and not used yet."""
    Snapshot.of(root, os.path.join(bundle, FILE), ownership=ownership, about=about(image, ownership))


def write_upper(
    bundle: str | os.PathLike[str], root: int, image: Descriptor, ownership: Ownership, *, directory: str = "upper"
) -> None:
    """Record that ``directory`` in the bundle, open as ``root``, is the upper one of an overlay on an image's layers.

    Nothing is in it yet, and it looks as the layers below have their root.
    """
    with Writer(os.path.join(bundle, FILE)) as writer:
        writer.add(next(iter(Walk(root, ownership))))
        writer.finish(about(image, ownership, upper=directory))


def rewriting(bundle: str | os.PathLike[str]) -> Writer:
    """A record in the making, which is to take the place of the one that there is; ``about`` makes its head."""
    return Writer(os.path.join(bundle, FILE))


def read(bundle: str | os.PathLike[str]) -> Record:
    """The record of a bundle that ocirt or umoci unpacked.

    :raises BundleError: there is none.
    :raises ArchiveError: it is damaged.
    """
    path = os.path.join(bundle, FILE)
    try:
        snapshot = Snapshot.load(path)
    except FileNotFoundError:
        return _umoci(bundle)
    origin = _Origin.loads(json.dumps(snapshot.about).encode(), path)
    ownership = Ownership(origin.uid_mappings, origin.gid_mappings, rootless=origin.rootless)
    if origin.upper is not None and origin.upper != os.path.basename(origin.upper):
        raise ImageError(path, f"has an upper directory that is not in the bundle: {origin.upper!r}")
    return Record(origin.image, ownership, snapshot, path, origin.upper)


def about(image: Descriptor, ownership: Ownership, *, upper: str | None = None) -> Mapping[str, object]:
    """The head of a record."""
    mappings = ownership.uid_mappings, ownership.gid_mappings
    origin = _Origin(image, *mappings, rootless=ownership.rootless, upper=upper)
    head = json.loads(origin.dumps())
    assert isinstance(head, dict)
    return head


@frozen(repr=False)
class _Walk(ImageObject):
    descriptor_walk: tuple[Descriptor, ...] = field(
        converter=tuple[Descriptor, ...], metadata={"key": "descriptor_walk"}
    )


@frozen(repr=False)
class _MapOptions(ImageObject):
    uid_mappings: tuple[IDMapping, ...] = field(
        default=(), converter=tuple[IDMapping, ...], metadata={"key": "uid_mappings"}
    )
    gid_mappings: tuple[IDMapping, ...] = field(
        default=(), converter=tuple[IDMapping, ...], metadata={"key": "gid_mappings"}
    )
    rootless: bool = False


@frozen(repr=False)
class _Umoci(ImageDocument):
    """umoci.json (umoci's bundle.go)."""

    umoci_version: str = field(metadata={"key": "umoci_version"})
    from_descriptor_path: _Walk = field(metadata={"key": "from_descriptor_path"})
    map_options: _MapOptions = field(metadata={"key": "map_options"})
    whiteout_mode: int = field(default=0, metadata={"key": "whiteout_mode"})


def _umoci(bundle: str | os.PathLike[str]) -> Record:
    path = os.path.join(bundle, UMOCI_FILE)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
    except FileNotFoundError:
        reason = f"has neither {FILE} nor {UMOCI_FILE}: it was not unpacked from an image by ocirt or umoci"
        raise BundleError("bundle", os.fspath(bundle), reason) from None
    meta = _Umoci.loads(data, path)
    if meta.whiteout_mode != 0:
        raise UnsupportedError(path, "its files are one layer of an overlay, and umoci does not repack those either")
    if meta.umoci_version != "2" or not meta.from_descriptor_path.descriptor_walk:
        raise ImageError(path, f"is of a version of umoci's that is not known: {meta.umoci_version!r}")
    image = meta.from_descriptor_path.descriptor_walk[-1]
    options = meta.map_options
    # umoci sets the caller's own mappings besides, which with files that are all the caller's mean nothing
    mappings = ((), ()) if options.rootless else (options.uid_mappings, options.gid_mappings)
    ownership = Ownership(*mappings, rootless=options.rootless)
    record = os.path.join(bundle, f"{image.digest.algorithm}_{image.digest.hex}.mtree")
    if not os.path.exists(record):
        raise BundleError("bundle", record, "is missing: umoci records there what it unpacked")
    return Record(image, ownership, Mtree(record, ownership), record)
