"""overlayfs's lower directories, which are many where an image has many layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from ocirt.host import Host

LONGEST_VALUE: Final = 255
"""Bytes of a parameter's value that fsconfig(2) takes."""

ONE_BY_ONE: Final = (6, 8)
"""The Linux that takes lower directories one by one, by ``lowerdir+`` (overlayfs.rst)."""


def separate_lowers(host: Host, lowers: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """Several directories, the top one first, each to be given for itself.

    :raises UnsupportedError: this kernel takes a list alone, and not one that long.
    """
    if len(lowers) > 1 and host.kernel < ONE_BY_ONE:
        raise UnsupportedError(origin, "so many lower directories of overlayfs need Linux 6.8")
    return lowers


def lower_directories(host: Host, lowers: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """As operations take them: one by one, or joined where this kernel takes nothing else."""
    if len(lowers) == 1 or host.kernel >= ONE_BY_ONE:
        return lowers
    joined = ":".join(lower.replace("\\", "\\\\").replace(":", "\\:") for lower in lowers)
    if len(joined.encode("utf-8", "surrogateescape")) > LONGEST_VALUE:
        return separate_lowers(host, lowers, origin)
    return (joined,)
