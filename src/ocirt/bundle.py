"""A bundle: a directory with a config.json and, usually, the root filesystem (bundle.md)."""

from __future__ import annotations

import os
from pathlib import Path

from ocirt.errors import BundleError
from ocirt.spec import Spec


class Bundle:
    """A configuration and where it lies. The configuration is read once: later changes have no effect (runtime.md)."""

    def __init__(self, path: str | os.PathLike[str], spec: Spec) -> None:
        self.path = Path(os.path.abspath(path))
        self.spec = spec

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read ``path/config.json``.

        :raises BundleError: there is none.
        :raises SpecError: it is wrong, with every problem.
        """
        return cls(path, Spec.load(Path(path) / "config.json"))

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, rootfs: str | os.PathLike[str], spec: Spec | None = None) -> Bundle:
        """Make a bundle of a root filesystem: a directory that holds one, or is one.

        ``spec`` defaults to ``Spec.default()``; its ``root.path`` becomes ``rootfs``. ``path`` is created if missing.

        :raises BundleError: ``rootfs`` is not a directory, or there is a config.json already.
        """
        directory = Path(os.path.abspath(path))
        config = directory / "config.json"
        if not os.path.isdir(rootfs):
            raise BundleError("root.path", os.fspath(rootfs), "is not a directory")
        document = spec if spec is not None else Spec.default(rootless=os.geteuid() != 0)
        absolute = os.path.abspath(rootfs)
        inside = os.path.relpath(absolute, directory)
        where = absolute if inside.startswith("..") else inside
        document = document.evolve(root=document.root.evolve(path=where))
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with open(config, "x", encoding="utf-8") as file:
                file.write(document.dumps())
        except FileExistsError:
            raise BundleError("config.json", str(config), "exists already") from None
        return cls(directory, document)

    @property
    def rootfs(self) -> Path:
        """Where ``root.path`` leads, with symlinks followed once and for all.

        :raises BundleError: nowhere, or not to a directory.
        """
        wanted = self.path / self.spec.root.path
        try:
            resolved = wanted.resolve(strict=True)
        except OSError as error:
            raise BundleError("root.path", str(wanted), error.strerror or "cannot be resolved") from error
        if not resolved.is_dir():
            raise BundleError("root.path", str(wanted), "is not a directory")
        return resolved

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"
