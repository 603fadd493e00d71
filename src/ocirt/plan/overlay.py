"""overlayfs's lower directories, which are many where an image has many layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ocirt.host import Host

LONGEST_VALUE: Final = 255
"""Bytes of a parameter's value that fsconfig(2) takes."""

ONE_BY_ONE: Final = (6, 8)
"""The Linux that takes lower directories one by one, by ``lowerdir+`` (overlayfs.rst)."""


def lower_directories(host: Host, lowers: tuple[str, ...]) -> tuple[str, ...]:
    """As operations take them: one by one, or joined where this kernel takes nothing else.

    What is then too long for fsconfig(2) goes by mount(2), which takes 4095 bytes.
    """
    if len(lowers) == 1 or host.kernel >= ONE_BY_ONE:
        return lowers
    return (":".join(lower.replace("\\", "\\\\").replace(":", "\\:") for lower in lowers),)
