"""Images that were pulled, with their layers unpacked once for all of their bundles.

::

    ROOT/images/        a file for each name: which manifest it stands for
         blobs/         manifests and configurations, by their digests
         layers/        unpacked layers (see layers.py)
         bundles/       a file for each bundle that was made: which layers it needs

Compressed layers are not kept: nothing here reads them again, and they would take half as much room once more.

Any number of processes may use a store at once, and each may be killed at any time. Files are written under another
name and renamed, layers are made and removed by whoever holds their lock, and who uses a layer holds it, shared, until
a file here says so. ``prune`` removes what it can lock and what then no file speaks of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from secrets import token_hex
from typing import Final, Literal

from attrs import field, frozen

from ocirt.archive.extraction import ExtractLimits
from ocirt.archive.ownership import Ownership
from ocirt.bundle import Bundle
from ocirt.errors import BundleError, ImageError, ImageNotFound
from ocirt.image import files, overlay
from ocirt.image.conversion import Volumes, to_spec
from ocirt.image.digest import Digest
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, ImageConfig, ImageDocument, Manifest, Platform
from ocirt.image.image import UNFINISHED, Image
from ocirt.image.layered import furnish, over_layers
from ocirt.image.layers import Held, Layers, chain_ids
from ocirt.image.making import making
from ocirt.image.reference import Location, Reference
from ocirt.image.transport import Access, Raw, Report
from ocirt.spec import Spec

Pull = Literal["missing", "always", "never"]

SYSTEM: Final = "/var/lib/ocirt"
TRIES: Final = 5
"""So often an image's documents may be gone when they are read, and its name nonetheless be there."""


def default_root() -> str:
    """Where root's images are, or an ordinary user's (XDG Base Directory Specification)."""
    if os.geteuid() == 0:
        return SYSTEM
    data = os.environ.get("XDG_DATA_HOME", "")
    home = data if data.startswith("/") else os.path.expanduser("~/.local/share")
    return os.path.join(home, "ocirt")


@frozen(repr=False)
class _ImageRecord(ImageDocument):
    """A name, and what it stands for."""

    name: str
    manifest: Descriptor


@frozen(repr=False)
class _BundleRecord(ImageDocument):
    """A bundle, and the layers that it needs."""

    path: str
    layers: tuple[str, ...] = field(converter=tuple[str, ...])


@frozen
class StoredImage:
    """An image in a store."""

    name: str
    raw: Raw = field(repr=False)
    manifest: Manifest = field(repr=False)
    config: ImageConfig = field(repr=False)

    @property
    def digest(self) -> Digest:
        return self.raw.digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.raw.media_type, self.digest, len(self.raw.data))

    @property
    def chain(self) -> tuple[Digest, ...]:
        """Its layers' ChainIDs, from the bottom up."""
        return chain_ids(self.config.rootfs.diff_ids)

    def __str__(self) -> str:
        return f"{self.name} {self.digest.short} {self.config.platform}"


@frozen
class Pruned:
    """What was removed."""

    layers: tuple[str, ...]
    blobs: tuple[str, ...]
    bundles: tuple[str, ...]
    """Bundles that are gone, and were only remembered."""


class Store:
    """A store, made where there is none."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = os.path.abspath(root if root is not None else default_root())
        if any(mark in self.root for mark in ":,\\"):
            raise ImageError(self.root, "its name has a character that overlayfs's options cannot have (: , \\)")
        for name in ("images", "blobs", "layers", "bundles"):
            os.makedirs(f"{self.root}/{name}", mode=0o700, exist_ok=True)
        self.layers = Layers(f"{self.root}/layers", Ownership(rootless=os.geteuid() != 0))

    def pull(
        self,
        name: str | Location,
        *,
        policy: Pull = "always",
        platform: Platform | None = None,
        access: Access | None = None,
        limits: ExtractLimits | None = None,
        report: Report | None = None,
    ) -> StoredImage:
        """Have the image here: what is missing of it is fetched and unpacked.

        :param policy: ``always`` look whether the name stands for another image by now, only if it is ``missing``
            here, or ``never``.
        :raises ImageNotFound: there is none, here or there.
        """
        stored, held = self.use(name, policy=policy, platform=platform, access=access, limits=limits, report=report)
        held.close()
        return stored

    def use(
        self,
        name: str | Location,
        *,
        policy: Pull = "missing",
        platform: Platform | None = None,
        access: Access | None = None,
        limits: ExtractLimits | None = None,
        report: Report | None = None,
    ) -> tuple[StoredImage, Held]:
        """The same, with its layers held: until that is closed, nobody removes them."""
        location = name if isinstance(name, Location) else Location.parse(name)
        if policy != "always":
            with suppress(ImageNotFound):
                stored = self.image(location)
                if _is_for(stored, platform) and (held := self.layers.hold(stored.chain)) is not None:
                    return stored, held
            if policy == "never":
                raise ImageNotFound(canonical(location), "is not in the store, and was not to be pulled")
        with Image.open(location, platform=platform, access=access) as image:
            return self.add(image, location, limits=limits, report=report)

    def add(
        self,
        image: Image,
        name: str | Location,
        *,
        limits: ExtractLimits | None = None,
        report: Report | None = None,
    ) -> tuple[StoredImage, Held]:
        """Have this image here, under this name, with its layers held.

        :raises ImageError: it has no layers, or they are not as they should be.
        """
        known = canonical(name)
        if not image.layers:
            raise ImageError(known, "has no layers, so there is nothing that a container could be made of")
        chain = chain_ids([layer.diff_id for layer in image.layers])
        wanted = [image.layers[number] for number in self.layers.missing(chain)]
        with image.supply(wanted, report) as supply:
            held = self.layers.provide(chain, image.layers, supply, limits or ExtractLimits())
        try:
            self._record(known, image)
        except BaseException:
            held.close()
            raise
        return StoredImage(known, image.raw, image.manifest, image.config), held

    def images(self) -> tuple[StoredImage, ...]:
        """All, by name.

        :raises ImageNotFound: one has lost its documents.
        """
        names = [name for name in os.listdir(f"{self.root}/images") if name.endswith(".json")]
        found = [stored for name in names if (stored := self._stored(name)) is not None]
        return tuple(sorted(found, key=lambda image: image.name))

    def image(self, name: str | Location) -> StoredImage:
        """:raises ImageNotFound: there is none of this name."""
        wanted = canonical(name)
        stored = self._stored(_file_name(wanted))
        if stored is None:
            raise ImageNotFound(wanted, f"is not in the store {self.root}")
        return stored

    def remove(self, name: str | Location) -> None:
        """Forget the name. What it stood for goes with the next ``prune``, unless others need it.

        :raises ImageNotFound: there is none of this name.
        """
        wanted = canonical(name)
        try:
            os.unlink(f"{self.root}/images/{_file_name(wanted)}")
        except FileNotFoundError as error:
            raise ImageNotFound(wanted, f"is not in the store {self.root}") from error

    def bundle(
        self,
        image: StoredImage | str | Location,
        path: str | os.PathLike[str],
        *,
        spec: Spec | None = None,
        volumes: Volumes = "tmpfs",
        terminal: bool | None = None,
    ) -> Bundle:
        """A bundle of an image that is here, at ``path``, where nothing is yet; its layers are shared.

        Its config.json has them mounted on its root when a container is made, in the container's own mount
        namespace: nothing is mounted on the host, so nothing has to be unmounted, and an ordinary user can do it too.
        What its containers write is in the bundle's ``upper`` directory. The bundle stays where it is made: that is
        how ``prune`` knows that it needs its layers.

        :raises BundleError: something is there.
        """
        stored = image if isinstance(image, StoredImage) else self.image(image)
        target = os.path.abspath(path)
        parent, name = os.path.split(target)
        if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
            raise BundleError("bundle", target, "exists already and is not an empty directory")
        if any(mark in target for mark in ":,\\"):
            raise BundleError("bundle", target, "has a character that overlayfs's options cannot have (: , \\)")
        held = self.layers.hold(stored.chain)
        if held is None:
            raise ImageNotFound(stored.name, "has lost layers: pull it again")
        os.makedirs(parent, exist_ok=True)
        with held, making(parent, f"{UNFINISHED}{name}", wait=False) as made:
            furnish(made, held.trees, stored.descriptor, self.layers.ownership)
            if spec is None:
                with overlay.merged(held.trees) as root:  # which knows who the image's user is
                    spec = to_spec(stored.config, root, volumes=volumes, terminal=terminal)
            document = over_layers(spec, held.trees, target)
            with open(f"{made.path}/config.json", "x", encoding="utf-8") as file:
                file.write(document.dumps())
            needs = _BundleRecord(target, tuple(map(_layer_name, held.trees)))
            with self._new_file("bundles") as reference:
                reference.write(needs.dumps())
                reference.publish(f"{token_hex(8)}.json")
                made.finish(name)  # while the reference is locked: until now it speaks of nothing
        return Bundle(target, document)

    def prune(self) -> Pruned:
        """Remove what no image and no bundle needs, and what killed processes left. May run beside anything else."""
        bundles = tuple(self._forget_bundles())
        layers = self.layers.prune(self._used_layers)
        for name in ("images", "bundles"):
            with files.Directory.open(f"{self.root}/{name}") as directory:
                files.sweep(directory)
        return Pruned(layers, tuple(self._prune_blobs()), bundles)

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def _record(self, name: str, image: Image) -> None:
        """An image is here from the moment that its name is; its documents are there before."""
        with ExitStack() as stack:
            directory = stack.enter_context(files.Directory.open(f"{self.root}/blobs"))
            stack.enter_context(directory.locked(fcntl.LOCK_SH))
            self._keep(directory, image.manifest.config.digest, image.config_data)
            self._keep(directory, image.digest, image.raw.data)
            with self._new_file("images") as file:
                file.write(_ImageRecord(name, image.descriptor).dumps())
                file.publish(_file_name(name))

    def _keep(self, directory: files.Directory, digest: Digest, data: bytes) -> None:
        if directory.size(_blob_name(digest)) == len(data):
            return
        with files.NewFile(directory) as file:
            file.write(data)
            file.publish(_blob_name(digest))

    @contextmanager
    def _new_file(self, directory: str) -> Iterator[files.NewFile]:
        with files.Directory.open(f"{self.root}/{directory}") as opened, files.NewFile(opened) as file:
            yield file

    def _read(self, path: str) -> bytes | None:
        try:
            with open(f"{self.root}/{path}", "rb") as file:
                return file.read(MAX_DOCUMENT + 1)
        except FileNotFoundError:
            return None

    def _stored(self, file: str) -> StoredImage | None:
        """``None`` if there is none of this name, or not any more: it may go, and come again, while we look."""
        for tries_left in range(TRIES - 1, -1, -1):
            data = self._read(f"images/{file}")
            if data is None:
                return None
            try:
                return self._loaded(_ImageRecord.loads(data, file))
            except ImageNotFound:
                if not tries_left:
                    raise
        return None

    def _loaded(self, known: _ImageRecord) -> StoredImage:
        raw = Raw(self._blob(known.manifest.digest, known.name), known.manifest.media_type)
        manifest = Manifest.loads(raw.data, known.name)
        config = ImageConfig.loads(self._blob(manifest.config.digest, known.name), known.name)
        return StoredImage(known.name, raw, manifest, config)

    def _blob(self, digest: Digest, what: str) -> bytes:
        data = self._read(f"blobs/{_blob_name(digest)}")
        if data is None:
            raise ImageNotFound(what, f"has lost {digest.short}: pull it again")
        return data

    def _used_layers(self) -> set[str]:
        used = {_layer_name(self.layers.tree(each)) for image in self.images() for each in image.chain}
        for _, known in self._bundle_records():
            used.update(known.layers)
        return used

    def _bundle_records(self) -> Iterator[tuple[str, _BundleRecord]]:
        for name in os.listdir(f"{self.root}/bundles"):
            if name.endswith(".json") and (data := self._read(f"bundles/{name}")) is not None:
                yield name, _BundleRecord.loads(data, name)

    def _forget_bundles(self) -> Iterator[str]:
        """Those that somebody removed, as people remove bundles: by removing the directory."""
        for name, known in self._bundle_records():
            if not os.path.lexists(f"{known.path}/config.json"):
                with suppress(FileNotFoundError, BlockingIOError), open(f"{self.root}/bundles/{name}", "rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not os.path.lexists(f"{known.path}/config.json"):
                        os.unlink(file.name)
                        yield known.path

    def _prune_blobs(self) -> Iterator[str]:
        with files.Directory.open(f"{self.root}/blobs") as directory, directory.locked():
            used: set[str] = set()
            for image in self.images():
                used |= {_blob_name(image.digest), _blob_name(image.manifest.config.digest)}
            for name in set(os.listdir(directory.fd)) - used:
                os.unlink(name, dir_fd=directory.fd)
                if not name.startswith(files.TEMPORARY):
                    yield name


def canonical(name: str | Location) -> str:
    """One name for each place: a registry's in full, a path absolute."""
    location = name if isinstance(name, Location) else Location.parse(name)
    if location.transport == "docker":
        return str(Reference.parse(location.rest))
    if location.transport == "docker-daemon":
        return str(location)
    rest = f":{location.name}" if ":" in location.rest else ""
    return f"{location.transport}:{os.path.abspath(location.path)}{rest}"


def _is_for(stored: StoredImage, platform: Platform | None) -> bool:
    if platform is None:
        return True
    found = stored.config.platform
    return all(getattr(platform, name) in ("", getattr(found, name)) for name in ("os", "architecture", "variant"))


def _file_name(name: str) -> str:
    return f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()}.json"


def _blob_name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"


def _layer_name(tree: str) -> str:
    return os.path.basename(os.path.dirname(tree))
