"""What is written into a cgroup's files, as values: limits of config.json once the version is known.

``v1`` and ``v2`` make them, ``conversion`` chooses between the two for each controller, ``limits`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ocirt.errors import UnsupportedError

RESOURCES: Final = "linux.resources"
CORE: Final = "cgroup"
"""Stands for the controller of the files that every cgroup of version 2 has."""


class Setting(NamedTuple):
    """One file of a controller, and what is written to it."""

    controller: str
    """Or CORE."""
    file: str
    values: tuple[str, ...]
    """Each by a write(2) of its own."""
    origin: str
    """The member of config.json that asked for it."""
    optional: bool = False
    """Nothing is lost where there is no such file."""
    otherwise: Setting | None = None
    """What stands for it where this kernel has no such file."""
    above: str = ""
    """A file with a number that the value must be above, or it is not written (``memory.checkBeforeUpdate``)."""
    version: int = 1
    """Of the hierarchy that the controller is on."""


class Controllers(NamedTuple):
    """Which controllers there are, by the version of the hierarchy they are on; each is on one at a time."""

    v1: frozenset[str] = frozenset()
    v2: frozenset[str] = frozenset()
    unified: bool = False
    """There is a hierarchy of version 2, with or without controllers."""

    @property
    def only_v2(self) -> bool:
        return self.unified and not self.v1


def rdma(origin: str, device: str, handles: int | None, objects: int | None) -> Iterator[Setting]:
    """The same in both versions."""
    limits = (("hca_handle", handles), ("hca_object", objects))
    words = [f"{name}={number}" for name, number in limits if number is not None]
    if words:
        yield Setting("rdma", "rdma.max", (" ".join([device, *words]),), origin)


def page_size(text: str) -> str:
    """As the kernel's files name it (mem_fmt in mm/hugetlb_cgroup.c): by the largest unit there is one of."""
    power = "KMG".index(text[-2])
    number = int(text[:-2])
    while power < 2 and number % 1024 == 0:
        number, power = number // 1024, power + 1
    return f"{number}{'KMG'[power]}B"


def refuse_on_v2(origin: str, *, strict: bool) -> None:
    """Where version 2 has nothing like it: an error, or with tolerance nothing at all (runc's way)."""
    if strict:
        raise UnsupportedError(origin, "cgroup version 2 has no such setting; leave it out, or have it tolerated")
