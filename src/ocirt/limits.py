"""Limits in everyday words, for ``ocirt.run`` and whoever writes no config.json."""

from __future__ import annotations

import math
import re
from typing import Final

from attrs import field, frozen

from ocirt.spec import Resources
from ocirt.spec.limits import CPU, Memory, Pids

PERIOD: Final = 100_000
"""Microseconds, the kernel's own default."""

LEAST_QUOTA: Final = 1_000
"""The kernel's least, also in microseconds."""

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)


def byte_count(size: str | int) -> int:
    """``"512M"`` and the like, by powers of 1024; -1 for unlimited.

    :raises ValueError: it is no size.
    """
    text = str(size).strip()
    if text == "-1":
        return -1
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{size!r} is no size in bytes such as 1048576, '512M' or '1.5G', or -1 for unlimited")
    power = "bkmgtp".index((match[2] or "b").lower())
    return int(float(match[1]) * 1024**power) if "." in match[1] else int(match[1]) * 1024**power


def _bytes(size: str | int | None) -> int | None:
    return None if size is None else byte_count(size)


@frozen(kw_only=True)
class Limits:
    """What a container may use at most; ``None`` is no limit."""

    memory: int | None = field(default=None, converter=_bytes)
    """Bytes, also as ``"512M"``: who wants more is killed."""
    swap: int | None = field(default=None, converter=_bytes)
    """Beside it; what is said of memory alone leaves swap to the kernel."""
    cpus: float | None = None
    """So many CPUs' worth of time: 1.5 is three quarters of two."""
    cpu_shares: int | None = None
    """Against others, when there is not enough for all; 1024 is everybody's."""
    cpuset: str | None = None
    """Which CPUs, as in ``"0-2,5"``."""
    pids: int | None = None
    """Processes and threads."""

    def __attrs_post_init__(self) -> None:
        if self.swap is not None and self.swap != -1 and (self.memory is None or self.memory == -1):
            raise ValueError("a limit of swap needs one of memory")
        if self.cpus is not None and not (math.isfinite(self.cpus) and self.cpus * PERIOD >= LEAST_QUOTA):
            raise ValueError(f"cpus must be at least {LEAST_QUOTA / PERIOD}, not {self.cpus}")

    def resources(self) -> Resources:
        """The same in the words of config.json."""
        return Resources(memory=self._memory(), cpu=self._cpu(), pids=None if self.pids is None else Pids(self.pids))

    def _memory(self) -> Memory | None:
        if self.memory is None and self.swap is None:
            return None
        both = self.swap
        if both is not None and both != -1:
            both += self.memory or 0
        return Memory(limit=self.memory, swap=both)

    def _cpu(self) -> CPU | None:
        if self.cpus is None and self.cpu_shares is None and self.cpuset is None:
            return None
        quota = None if self.cpus is None else round(self.cpus * PERIOD)
        period = None if self.cpus is None else PERIOD
        return CPU(shares=self.cpu_shares, quota=quota, period=period, cpus=self.cpuset)
