"""Stopping every process of a container where it is, and letting them go on (the freezer of either version)."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import tree
from ocirt.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.files import Cgroup

ORIGIN: Final = "linux.cgroupsPath"
ATTEMPTS: Final = 2000
"""A millisecond each."""

THAW_EVERY: Final = 50
"""Version 1 may be stuck half-way while processes fork: a pause lets them finish."""


def freeze(cgroup: Cgroup) -> None:
    """:raises SetupError: they do not all stop, and so go on all of them."""
    file, on, off = _file(cgroup)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            if attempt % THAW_EVERY == 0 and cgroup.directory(1, "freezer") is not None:
                tree.write(file, off)
                time.sleep(0.01)
            tree.write(file, on)
            if cgroup.frozen():
                return
            time.sleep(0.001)
        tree.write(file, off)
    except OSError as error:
        raise SetupError(ORIGIN, "FreezeCgroup", "write", error.errno or 0, file) from error
    raise SetupError(ORIGIN, "FreezeCgroup", "", errno.EBUSY, file, "unable to freeze")


def thaw(cgroup: Cgroup) -> None:
    """:raises SetupError: they stand still all the same."""
    file, _, off = _file(cgroup)
    try:
        tree.write(file, off)
        for _ in range(ATTEMPTS):
            if not cgroup.frozen():
                return
            time.sleep(0.001)
    except OSError as error:
        raise SetupError(ORIGIN, "ThawCgroup", "write", error.errno or 0, file) from error
    raise SetupError(ORIGIN, "ThawCgroup", "", errno.EBUSY, file, "perhaps a cgroup above it is frozen")


def _file(cgroup: Cgroup) -> tuple[str, str, str]:
    file, on, off = cgroup.freezer()
    if file is None:
        raise UnsupportedError(ORIGIN, "the container has no cgroup with a freezer")
    return file, on, off
