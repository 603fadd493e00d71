"""Debian's kernel, unpacked beside the project and never installed: no boot loader has to know of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.vm.needs import VMError, program, run

METAPACKAGE: Final = "linux-image-amd64"
"""Depends on the one kernel that its release of Debian has now."""


@frozen
class Kernel:
    """A kernel and its modules, in a directory that is laid out as ``/`` is."""

    directory: Path

    @property
    def release(self) -> str:
        """As uname(2) tells it: ``6.1.0-56-amd64``."""
        (modules,) = (self.directory / "lib/modules").iterdir()
        return modules.name

    @property
    def image(self) -> Path:
        return self.directory / "boot" / f"vmlinuz-{self.release}"


def kernel(cache: Path) -> Kernel:
    """The one that was unpacked for an earlier machine, or a new one.

    :raises VMError: there is none to be had.
    """
    directory = cache / "kernel"
    if not directory.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            _unpack(_download(Path(work)), Path(work, "kernel"))
            os.rename(Path(work, "kernel"), directory)  # whole or not at all
    return Kernel(directory)


def _download(directory: Path) -> Path:
    """The package, by the names that apt knows; those may be of yesterday."""
    try:
        return _ask_apt(directory)
    except VMError:
        if os.geteuid() != 0:
            raise
    run([program("apt-get"), "--quiet=2", "update"], directory)
    return _ask_apt(directory)


def _ask_apt(directory: Path) -> Path:
    depends = run([program("apt-cache"), "depends", METAPACKAGE], directory)
    names = [line.split()[1] for line in depends.splitlines() if line.strip().startswith("Depends: linux-image-")]
    if len(names) != 1:
        raise VMError(f"apt knows no kernel by the name of {METAPACKAGE}")
    # The user that apt would become for this cannot write here.
    unsandboxed = ["-o", f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}"]
    run([program("apt-get"), "--quiet=2", *unsandboxed, "download", *names], directory)
    (package,) = directory.glob("*.deb")
    return package


def _unpack(package: Path, directory: Path) -> None:
    run([program("dpkg-deb"), "--extract", str(package), str(directory)], package.parent)
    shutil.rmtree(directory / "usr")
    (modules,) = (directory / "lib/modules").iterdir()
    run([program("depmod"), "--basedir", str(directory), modules.name], package.parent)
