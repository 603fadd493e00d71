"""An image to be read: which one it is, what it says of itself, and how it becomes a bundle (umoci's ``unpack``)."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ocirt.archive.extraction import ExtractLimits, extract
from ocirt.archive.ownership import Ownership
from ocirt.bundle import Bundle
from ocirt.errors import BundleError, ImageError
from ocirt.image import manifests, media, record
from ocirt.image import platform as platforms
from ocirt.image.closing import Closing
from ocirt.image.conversion import Volumes, to_spec
from ocirt.image.digest import Verified
from ocirt.image.documents import (
    MAX_DOCUMENT,
    ContainerConfig,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    Platform,
)
from ocirt.image.making import Making, making
from ocirt.image.reference import Location
from ocirt.image.supply import Layer, Supply, refuse_unknown
from ocirt.image.transport import Access, Raw, Report, Source, open_destination, open_source
from ocirt.spec import Linux, Namespace

if TYPE_CHECKING:
    from ocirt.image.digest import Digest
    from ocirt.image.media import Compression
    from ocirt.image.repack import Packed
    from ocirt.spec import IDMapping, Spec

UNFINISHED: Final = ".ocirt-unpack-"
"""What the names of bundles in the making begin with; they lie beside what they are going to be."""

REMOTE: Final = frozenset(("docker",))
"""Transports whose blobs take a while to come."""


class Image(Closing):
    """One image, for one platform, with its place open to read its layers from; a context manager."""

    def __init__(self, source: Source, raw: Raw, *, remote: bool = False) -> None:
        """Read manifest and configuration.

        :raises ImageError: they are not there, or not an image's.
        """
        manifest = manifests.parse(raw, f"{source.name}: manifest {raw.digest.short}")
        if not isinstance(manifest, Manifest):
            raise ImageError(source.name, "is an index of images, not an image")
        self.raw = raw
        self.manifest = manifest
        self.config_data = _config_data(source, self.manifest)
        self.config = ImageConfig.loads(self.config_data, f"{source.name}: config {self.manifest.config.digest.short}")
        self._source = source
        self._remote = remote

    @classmethod
    def open(
        cls,
        name: str | Location,
        *,
        platform: Platform | None = None,
        access: Access | None = None,
    ) -> Image:
        """The image of this name; of an index the one for ``platform``, by default this machine's.

        :raises ImageNotFound: there is none.
        :raises ImageError: it is not as it should be.
        """
        location = _location(name)
        source = open_source(location, access or Access())
        try:
            return cls(source, resolved(source, platform), remote=location.transport in REMOTE)
        except BaseException:
            source.close()
            raise

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return self._source.name

    @property
    def digest(self) -> Digest:
        """Of its manifest: the one name that means the same everywhere."""
        return self.raw.digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.raw.media_type, self.digest, len(self.raw.data))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """From the bottom up.

        :raises ImageError: manifest and configuration do not agree on them.
        """
        stored, diff_ids = self.manifest.layers, self.config.rootfs.diff_ids
        if len(stored) != len(diff_ids):
            raise ImageError(
                self.name, f"has {len(stored)} layers by its manifest, and {len(diff_ids)} by its configuration"
            )
        layers = tuple(
            Layer(descriptor, diff_id, f"{self.name}: layer {descriptor.digest.short}")
            for descriptor, diff_id in zip(stored, diff_ids, strict=True)
        )
        refuse_unknown(layers, self.name)
        return layers

    def supply(self, wanted: Sequence[Layer], report: Report | None = None) -> Supply:
        """These layers' contents, to be opened in this order."""
        return Supply(self._source, wanted, remote=self._remote, report=report)

    def unpack(
        self,
        path: str | os.PathLike[str],
        *,
        rootless: bool | None = None,
        uid_map: Sequence[IDMapping] = (),
        gid_map: Sequence[IDMapping] = (),
        keep_dirlinks: bool = False,
        spec: Spec | None = None,
        volumes: Volumes = "tmpfs",
        terminal: bool | None = None,
        limits: ExtractLimits | None = None,
        report: Report | None = None,
    ) -> Bundle:
        """Make a bundle of it at ``path``, where nothing is yet: there at the end, whole, or not at all.

        :param rootless: all files belong to the caller, and who should own them is noted; the default for ordinary
            users. Else they belong to the IDs that ``uid_map`` and ``gid_map`` say.
        :param keep_dirlinks: a symlink to a directory stays where an upper layer has a directory.
        :param spec: the configuration, instead of what the image says.
        :param volumes: what the image's volumes become, and ``terminal`` whether its program has one (``to_spec``).
        :param limits: on what the layers may hold, each.
        :raises BundleError: something is there.
        :raises DigestMismatch: what came is not what the image says.
        :raises ArchiveError: a layer is no archive, or wants what none may.
        """
        wanted = (os.geteuid() != 0 and not uid_map and not gid_map) if rootless is None else rootless
        ownership = Ownership(tuple(uid_map), tuple(gid_map), rootless=wanted)
        target = os.path.abspath(path)
        parent, name = os.path.split(target)
        _refuse_existing(target)
        os.makedirs(parent, exist_ok=True)
        with making(parent, f"{UNFINISHED}{name}", wait=False) as made:
            os.mkdir(record.ROOTFS, 0o755, dir_fd=made.fd)
            root = os.open(record.ROOTFS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made.fd)
            try:
                self._fill(root, ownership, keep_dirlinks, limits or ExtractLimits(), report)
                document = spec or _converted(self.config, root, ownership, volumes, terminal)
                record.write(made.path, root, self.descriptor, ownership)
            finally:
                os.close(root)
            document = document.evolve(root=document.root.evolve(path=record.ROOTFS))
            _put(made, document, name)
        return Bundle(target, document)

    @staticmethod
    def repack(
        bundle: str | os.PathLike[str],
        destination: str | Location,
        *,
        source: str | Location | None = None,
        access: Access | None = None,
        dst_access: Access | None = None,
        compression: Compression = "gzip",
        author: str | None = None,
        created_by: str | None = None,
        comment: str | None = None,
        masked: Collection[str] = (),
        mask_volumes: bool = True,
        refresh: bool = False,
        report: Report | None = None,
    ) -> Packed:
        """Write, as ``destination``, the image that a bundle has become since it was unpacked (``umoci repack``).

        Its changes are one more layer. SOURCE_DATE_EPOCH of the environment says how new all in it may be.

        :param source: where the image is that the bundle was unpacked from; by default the place of ``destination``.
        :param masked: leave out these paths, and with ``mask_volumes`` what is in the image's volumes.
        :param refresh: the next repacking is on top of this one.
        :raises BundleError: it was not unpacked from an image.
        """
        from ocirt.image import repack

        to = _location(destination)
        origin = _location(source) if source is not None else _whole(to)
        history = History(created_by=created_by or repack.CREATED_BY, author=author, comment=comment)
        with (
            open_source(origin, access or Access()) as opened,
            open_destination(to, dst_access or Access()) as written,
        ):
            return repack.repack(
                bundle,
                opened,
                written,
                packing=repack.Packing(compression, report=report),
                history=history,
                masked=masked,
                mask_volumes=mask_volumes,
                refresh=refresh,
            )

    @classmethod
    def from_rootfs(
        cls,
        rootfs: str | os.PathLike[str],
        destination: str | Location,
        *,
        config: ContainerConfig | None = None,
        platform: Platform | None = None,
        access: Access | None = None,
        compression: Compression = "gzip",
        author: str | None = None,
        masked: Collection[str] = (),
        report: Report | None = None,
    ) -> Packed:
        """Write, as ``destination``, an image of one layer, which is all of a directory.

        :param config: how containers of it are run, ``ContainerConfig(cmd=("sh",))`` for example.
        :param platform: what it is for, by default this machine.
        :param masked: paths in it that are left out.
        """
        from ocirt.image import repack

        with open_destination(_location(destination), access or Access()) as written:
            return repack.from_rootfs(
                rootfs,
                written,
                config=config,
                platform=platform,
                author=author,
                masked=masked,
                packing=repack.Packing(compression, report=report),
            )

    def _fill(
        self, root: int, ownership: Ownership, keep_dirlinks: bool, limits: ExtractLimits, report: Report | None
    ) -> None:
        prepare_root(root, ownership)
        with self.supply(self.layers, report) as supply:
            for layer in self.layers:
                with supply.open(layer) as stream:
                    extract(
                        stream, root, ownership=ownership, keep_dirlinks=keep_dirlinks, needs_end=False, limits=limits
                    )

    def close(self) -> None:
        self._source.close()

    def __repr__(self) -> str:
        size = sum(layer.size for layer in self.manifest.layers)
        count = len(self.manifest.layers)
        layers = f"{count} layer{'s' * (count != 1)}, {size / 1e6:.1f} MB"
        return f"<Image {self.name} {self.digest.algorithm}:{self.digest.short} {self.config.platform} ({layers})>"


def prepare_root(root: int, ownership: Ownership) -> None:
    """What a layer may say nothing of: its owner is root, and as umoci has it, its time the same each time."""
    os.fchmod(root, 0o755)
    if not ownership.rootless:
        os.fchown(root, *ownership.host_ids(0, 0))
    os.utime(root, (0, 0))


def _converted(config: ImageConfig, root: int, ownership: Ownership, volumes: Volumes, terminal: bool | None) -> Spec:
    """With the user namespace that the files' owners are for, where they are mapped."""
    if not ownership.uid_mappings and not ownership.gid_mappings:
        return to_spec(config, root, volumes=volumes, terminal=terminal, rootless=ownership.rootless or None)
    base = to_spec(config, root, volumes="ignore", terminal=terminal, rootless=False)
    linux = base.linux or Linux()
    linux = linux.evolve(
        namespaces=(*linux.namespaces, Namespace("user")),
        uid_mappings=ownership.uid_mappings,
        gid_mappings=ownership.gid_mappings,
    )
    return to_spec(config, root, volumes=volumes, terminal=terminal, base=base.evolve(linux=linux))


def resolved(source: Source, platform: Platform | None) -> Raw:
    """The manifest that a place means, through its indexes.

    :raises ImageNotFound: none is for the platform.
    """
    raw = source.manifest()
    return platforms.choose(source, raw, platform).raw if raw.media_type in media.INDEXES else raw


def _config_data(source: Source, manifest: Manifest) -> bytes:
    """:raises DigestMismatch: what is there is another."""
    descriptor = manifest.config
    what = f"{source.name}: config {descriptor.digest.short}"
    if descriptor.size > MAX_DOCUMENT:
        raise ImageError(what, f"has {descriptor.size} bytes, and no document of an image more than {MAX_DOCUMENT}")
    with source.blob(descriptor) as blob:
        return Verified(blob, descriptor.digest, descriptor.size, what).read()


def _refuse_existing(target: str) -> None:
    try:
        found = os.listdir(target)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise BundleError("bundle", target, "is no directory") from error
    if found:
        raise BundleError("bundle", target, "exists already and is not empty")


def _put(made: Making, document: Spec, name: str) -> None:
    """config.json comes last: whatever else is in the directory, without it there is no bundle."""
    with open(os.path.join(made.path, "config.json"), "x", encoding="utf-8") as file:
        file.write(document.dumps())
    made.finish(name)


def _whole(location: Location) -> Location:
    """The place of an image, for whoever knows its digest: of a layout, all that is in it."""
    return Location("oci", location.path) if location.transport == "oci" else location


def _location(name: str | Location) -> Location:
    return name if isinstance(name, Location) else Location.parse(name)
