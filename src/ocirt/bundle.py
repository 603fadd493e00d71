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

    from ocirt.preparation import Prepared


class Bundle:
    """A configuration and where it lies. The configuration is read once: later changes have no effect (runtime.md)."""

    def __init__(self, path: str | os.PathLike[str], spec: Spec) -> None:
        self._directory = os.path.abspath(path)
        self.spec = spec
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
