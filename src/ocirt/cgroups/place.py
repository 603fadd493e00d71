"""Where a controller keeps its files on a container, and reading them.

What a kernel lacks, has switched off or has removed meanwhile is absent; what is not the number it should be is too.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

from ocirt.cgroups import tree
from ocirt.cgroups.files import Cgroup

ABSENT: Final = frozenset((errno.ENOENT, errno.EOPNOTSUPP))
"""No such file here; or (pressure) it was switched off at boot."""

UNLIMITED: Final = 2**62
"""Version 1 has no word for it, but the largest number that is a multiple of the size of a page, whatever that is."""


class Place(NamedTuple):
    """One directory; of version 0 there is none."""

    path: str
    version: int

    @classmethod
    def of(cls, cgroup: Cgroup, controller: str) -> Place:
        """In version 1 if the controller is there, else in version 2, which may have it or not."""
        for directory in cgroup.directories:
            if controller in directory.controllers:
                return cls(directory.path, 1)
        return cls.of_v2(cgroup)

    @classmethod
    def of_v2(cls, cgroup: Cgroup) -> Place:
        return next((cls(directory.path, 2) for directory in cgroup.directories if directory.version == 2), NOWHERE)

    def text(self, name: str) -> str | None:
        if not self.version:
            return None
        try:
            return tree.read(f"{self.path}/{name}")
        except OSError as error:
            if error.errno not in ABSENT:
                raise
            return None

    def lines(self, name: str) -> list[str]:
        return (self.text(name) or "").splitlines()

    def number(self, name: str) -> int | None:
        return number(self.text(name) or "")

    def limit(self, name: str) -> int | None:
        """``None`` where it is ``max`` as well."""
        found = self.number(name)
        return None if found is None or found >= UNLIMITED else found

    def table(self, name: str) -> dict[str, int]:
        """Of lines ``key value``."""
        lines = (line.split() for line in self.lines(name))
        return {line[0]: value for line in lines if len(line) == 2 and (value := number(line[1])) is not None}


NOWHERE: Final = Place("", 0)


def number(text: str) -> int | None:
    """As the kernel writes a 64-bit one."""
    digits = text.strip()
    if len(digits) > 20 or not digits.isascii():
        return None
    return int(digits) if digits.removeprefix("-").isdigit() else None
