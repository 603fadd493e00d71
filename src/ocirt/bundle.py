"""A bundle: a directory with a config.json and, usually, the root filesystem (bundle.md)."""

from __future__ import annotations

import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING

from ocirt.errors import BundleError
from ocirt.spec import Spec

if TYPE_CHECKING:
    from pathlib import Path

    from ocirt.archive.extraction import ExtractLimits
    from ocirt.archive.ownership import Ownership
    from ocirt.archive.source import Stream
    from ocirt.preparation import Prepared


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


def _new_rootfs(bundle: str, ownership: Ownership) -> str:
    """An empty one: root's, and as old as can be unless an archive says better, so that results can be repeated."""
    rootfs = os.path.join(bundle, "rootfs")
    os.mkdir(rootfs, 0o755)
    os.chown(rootfs, *ownership.host_ids(0, 0))
    os.chmod(rootfs, 0o755)
    os.utime(rootfs, ns=(0, 0))
    return rootfs
