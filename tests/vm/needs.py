"""What a virtual machine needs of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
"""The project."""

PACKAGES: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "apparmor_parser": "apparmor",
    "depmod": "kmod",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "criu": "criu",
}
"""Programs, and the packages of Debian that they are in."""


class VMError(Exception):
    """There is no machine, or it has not told what came out."""


def program(name: str) -> str:
    """Where a program is; those of administrators too, which ordinary users do not have on their path.

    :raises VMError: nowhere.
    """
    own = Path(sys.executable).parent  # virtme-run
    found = shutil.which(name, path=f"{own}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise VMError(f"no {name} here")
    return found


def check() -> None:
    """:raises VMError: it names every package that is missing."""
    if os.uname().machine != "x86_64":
        raise VMError("needs an x86-64 machine")
    missing = [package for name, package in PACKAGES.items() if not _has(name)]
    if missing:
        raise VMError(f"missing here; as root: apt-get install {' '.join(missing)}")
    if not _has("virtme-run"):
        raise VMError("missing here: pip install --group vm")


def _has(name: str) -> bool:
    try:
        program(name)
    except VMError:
        return False
    return True


def run(command: list[str], directory: Path) -> str:
    """What a program prints.

    :raises VMError: it failed.
    """
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VMError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
