"""A bundle: a directory with a config.json and, usually, the root filesystem (bundle.md)."""

from __future__ import annotations

import contextlib
import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING

from ocirt.errors import BundleError
from ocirt.spec import Spec, User

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocirt.archive.extraction import ExtractLimits
    from ocirt.archive.ownership import Ownership
    from ocirt.archive.source import Stream
    from ocirt.debootstrap import Program
    from ocirt.preparation import Prepared
    from ocirt.surroundings import Network


class Bundle:
    """A configuration and where it lies. The configuration is read once: later changes have no effect (runtime.md)."""

    def __init__(self, path: str | os.PathLike[str], spec: Spec) -> None:
        self._directory = os.path.abspath(path)
        self.spec = spec
        self.notes: tuple[str, ...] = ()
        """What of a root filesystem could not be had when this bundle was made, in words."""
        self._prepared: dict[object, Prepared] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read ``path/config.json``.

        :raises BundleError: there is none.
        :raises SpecError: it is wrong, with every problem.
        """
        return cls(path, Spec.load(os.path.join(path, "config.json")))

    @cached_property
    def path(self) -> Path:
        """The directory, absolute."""
        from pathlib import Path  # with what it imports, two milliseconds of a command that needs none of it

        return Path(self._directory)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, rootfs: str | os.PathLike[str], spec: Spec | None = None
    ) -> Bundle:
        """Make a bundle of a root filesystem: a directory that holds one, or is one.

        ``spec`` defaults to ``Spec.default()``; its ``root.path`` becomes ``rootfs``. ``path`` is created if missing.

        :raises BundleError: ``rootfs`` is not a directory, or there is a config.json already.
        """
        directory = os.path.abspath(path)
        config = os.path.join(directory, "config.json")
        if not os.path.isdir(rootfs):
            raise BundleError("root.path", os.fspath(rootfs), "is not a directory")
        document = spec if spec is not None else Spec.default(rootless=os.geteuid() != 0)
        absolute = os.path.abspath(rootfs)
        inside = os.path.relpath(absolute, directory)
        where = absolute if inside.startswith("..") else inside
        document = document.evolve(root=document.root.evolve(path=where))
        os.makedirs(directory, exist_ok=True)
        try:
            with open(config, "x", encoding="utf-8") as file:
                file.write(document.dumps())
        except FileExistsError:
            raise BundleError("config.json", config, "exists already") from None
        return cls(directory, document)

    @classmethod
    def from_debootstrap(
        cls,
        path: str | os.PathLike[str],
        suite: str,
        *,
        mirror: str | None = None,
        variant: str = "minbase",
        include: Sequence[str] = (),
        components: Sequence[str] = (),
        keyring: str | os.PathLike[str] | None = None,
        program: Program | None = None,
        spec: Spec | None = None,
    ) -> Bundle:
        """Make one of a distribution's packages, with mmdebstrap or debootstrap.

        ``path`` must not exist, or be empty; it is there once everything is in it. No host's name or name server is
        left in the root filesystem, nor package lists, and no service starts when its package is installed. As an
        ordinary user its files belong to subordinate IDs (subuid(5)), which the configuration maps.

        :param suite: ``bookworm``, for example.
        :param mirror: where packages come from; the program's own default otherwise.
        :param variant: ``minbase`` is what apt needs, ``-`` what Debian installs, ``buildd`` has a compiler too.
        :param include: more packages.
        :param components: ``("main", "contrib")``, for example.
        :param keyring: whose signatures count; the program's own choice otherwise.
        :param program: one of the two; by default mmdebstrap, if it is there.
        :param spec: by default ``Spec.default()`` with a root that can be written to and Docker's capabilities.
        :raises UnsupportedError: neither program is installed, or the user has no subordinate IDs.
        :raises BundleError: ``path`` is taken.
        :raises OCIError: the program failed, with the end of what it wrote.
        """
        from ocirt import debootstrap

        return debootstrap.make(
            path,
            suite,
            mirror=mirror,
            variant=variant,
            include=include,
            components=components,
            keyring=keyring,
            program=program,
            spec=spec,
        )

    @classmethod
    def from_host(
        cls, path: str | os.PathLike[str], *, args: Sequence[str] = ("sh",), network: Network = "none"
    ) -> Bundle:
        """Make one that shows this host's own software, as ``run`` does without a rootfs.

        ``/usr``, ``/etc``, ``/opt`` and the like are the host's, read-only, without the configuration that not
        everybody may read today: make a new one when that has changed. Everything else is the bundle's own.

        :raises BundleError: ``path`` is taken.
        """
        from ocirt import host_files
        from ocirt.surroundings import Surroundings

        document = Surroundings.here(network, whole=False).document(User(0, 0))
        host_files.make_bundle(os.path.abspath(path), document, args)
        return cls.load(path)

    @classmethod
    def from_rootfs_tar(
        cls,
        path: str | os.PathLike[str],
        tar: str | os.PathLike[str] | Stream,
        *,
        spec: Spec | None = None,
        rootless: bool | None = None,
        ownership: Ownership | None = None,
        limits: ExtractLimits | None = None,
    ) -> Bundle:
        """Make a bundle of a root filesystem in a tar archive, such as ``docker export`` writes.

        ``tar`` is a path or an open file, a pipe for one; it may be compressed by gzip, zstd, bzip2 or xz. ``spec``
        defaults to ``Spec.default()``; its ``root.path`` becomes ``rootfs``. ``rootless`` (by default, unless we are
        root) has all files belong to the caller; ``ownership`` says more exactly whose they become. Only the caller
        may enter the bundle, since there may be set-user-ID files in it. It is there as a whole, or not at all;
        ``notes`` tells what could not be had.

        :raises BundleError: something is at ``path`` already.
        :raises ArchiveError: the archive is wrong.
        """
        from ocirt.archive.atomic import made_beside
        from ocirt.archive.extraction import ExtractLimits, extract
        from ocirt.archive.ownership import Ownership
        from ocirt.archive.unpacking import opened

        if rootless is not None and ownership is not None:
            raise ValueError("rootless is part of ownership: one of them says it")
        if ownership is None:
            ownership = Ownership(rootless=os.geteuid() != 0 if rootless is None else rootless)
        document = spec if spec is not None else Spec.default(rootless=os.geteuid() != 0)
        document = document.evolve(root=document.root.evolve(path="rootfs"))
        directory = os.path.abspath(path)
        try:
            with made_beside(directory) as made, opened(tar) as stream:
                rootfs = _new_rootfs(made, ownership)
                found = extract(
                    stream, rootfs, ownership=ownership, whiteouts="refuse", limits=limits or ExtractLimits()
                )
                document.dump(os.path.join(made, "config.json"))
        except FileExistsError as error:
            raise BundleError("bundle", directory, "exists already") from error
        bundle = cls(directory, document)
        bundle.notes = found.notes
        return bundle

    @property
    def rootfs(self) -> Path:
        """Where ``root.path`` leads.

        :raises BundleError: nowhere, or not to a directory.
        """
        from pathlib import Path

        return Path(self._rootfs())

    def _rootfs(self) -> str:
        wanted = os.path.join(self._directory, self.spec.root.path)
        try:
            mode = os.stat(wanted).st_mode
        except OSError as error:
            raise BundleError("root.path", wanted, error.strerror or "cannot be resolved") from error
        if not stat.S_ISDIR(mode):
            raise BundleError("root.path", wanted, "is not a directory")
        return os.path.normpath(wanted)

    @cached_property
    def _config(self) -> bytes:
        """The configuration as every container made of this bundle keeps it."""
        return self.spec.dumps(indent=None).encode()

    def __repr__(self) -> str:
        return f"Bundle({self._directory!r})"


@contextlib.contextmanager
def appearing(path: str | os.PathLike[str]) -> Iterator[str]:
    """A directory to fill, which comes to be at ``path`` when all is in it, or is removed.

    :raises BundleError: there is something at ``path``, other than an empty directory.
    """
    from ocirt.archive.atomic import made_beside

    directory = os.path.abspath(path)
    try:
        with made_beside(directory) as made:
            yield made
    except FileExistsError as error:
        raise BundleError("bundle", directory, "exists already") from error


def _new_rootfs(bundle: str, ownership: Ownership) -> str:
    """An empty one: root's, and as old as can be unless an archive says better, so that results can be repeated."""
    rootfs = os.path.join(bundle, "rootfs")
    os.mkdir(rootfs, 0o755)
    os.chown(rootfs, *ownership.host_ids(0, 0))
    os.chmod(rootfs, 0o755)
    os.utime(rootfs, ns=(0, 0))
    return rootfs
