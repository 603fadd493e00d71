"""The few numbers that the end of a container is judged by: was it the OOM killer, and what had it used.

They go away with the cgroup, and most lives end without anybody asking. So this is quick, and needs neither attrs nor
the rest of ``accounts``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from ocirt.cgroups import tree
from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.place import Place, number

ABOVE: Final = "the host, or a cgroup above the container's, ran out of memory"
LOST: Final = "which memory limit was reached nobody can tell any more"
BELOW: Final = "a memory limit that was set inside of the container was reached"


LOGGED: Final = {
    1: {"memory": "memory.limit_in_bytes", "memory+swap": "memory.memsw.limit_in_bytes"},
    2: {"memory": "memory.max", "memory+swap": "memory.max"},
}
"""Which file has a limit that the kernel's log speaks of, by version of cgroups."""


class Facts(NamedTuple):
    """``None`` is what nobody can tell: there was no cgroup, no such controller, or the cgroup is gone."""

    oom_kills: int | None = None
    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    cause: str = ""
    """Of the OOM kills, if there were any."""
    own: bool = False
    """It is the container's alone already."""

    def since(self, before: Sequence[float]) -> Facts:
        """Without what others did in the cgroup (``used``); a peak is the container's only if it is a new one."""
        if self.own or not before:
            return self
        kills, peak, seconds = before
        own_kills = None if self.oom_kills is None else self.oom_kills - int(kills)
        own_peak = self.peak_bytes if self.peak_bytes is not None and self.peak_bytes > peak else None
        own_seconds = None if self.cpu_seconds is None else self.cpu_seconds - seconds
        return Facts(own_kills, own_peak, own_seconds, self.cause if own_kills else "")


def used(cgroup: Cgroup) -> tuple[float, ...]:
    """What others had used in a cgroup that was there before the container."""
    now = facts(cgroup)
    return (now.oom_kills or 0, now.peak_bytes or 0, now.cpu_seconds or 0.0)


def oom_killed(cgroup: Cgroup, before: Sequence[float] = (), began: int = 0) -> bool | None:
    """Whether the kernel's OOM killer has hit the container by now."""
    kills = facts(cgroup, began).since(before).oom_kills
    return None if kills is None else kills > 0


def facts(cgroup: Cgroup, began: int = 0) -> Facts:
    """What the cgroup tells now; and if it is gone, the kernel's log since then, in clock ticks after boot."""
    if not cgroup.directories:
        return Facts()
    memory, cpu = Place.of(cgroup, "memory"), Place.of(cgroup, "cpuacct")
    kills = oom_kills(memory)
    peak = memory.number("memory.max_usage_in_bytes" if memory.version == 1 else "memory.peak")
    found = Facts(kills, peak, _seconds(cpu), _cause(memory) if kills else "")
    # Its files may go while they are read: then they have told a part, which is no cause of anything.
    if kills != 0 and memory.version and memory.text("cgroup.procs") is None:
        logged = _logged(memory, began / os.sysconf("SC_CLK_TCK"))
        return found._replace(cause=LOST) if kills and not logged.oom_kills else logged
    return found


def oom_kills(place: Place) -> int | None:
    """How many processes of the cgroup, or of one below it, the kernel's OOM killer has ended."""
    if place.version != 1:
        return place.table("memory.events").get("oom_kill")  # of those below as well
    own = place.table("memory.oom_control").get("oom_kill")  # since Linux 4.13
    if own is None:
        return None
    return own + (_kills_below(place.path) if _has_children(place.path) else 0)


def _has_children(path: str) -> bool:
    """A directory of cgroups has a link for each below it."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_nlink > 2
    return False


def _kills_below(path: str) -> int:
    """Version 1 counts a kill in the victim's own cgroup alone."""
    found = 0
    with contextlib.suppress(FileNotFoundError):
        for parent, name in tree.below(path):
            with contextlib.suppress(FileNotFoundError):
                lines = tree.read(f"{name}/memory.oom_control", parent).splitlines()
                found += sum(number(line.partition(" ")[2]) or 0 for line in lines if line.startswith("oom_kill "))
    return found


def _seconds(place: Place) -> float | None:
    if place.version == 1:
        nanoseconds = place.number("cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9
    microseconds = place.table("cpu.stat").get("usage_usec")
    return None if microseconds is None else microseconds / 1e6


def _cause(place: Place) -> str:
    """Which limit it was; a limit that was never hit was not it."""
    if place.version == 1:
        for prefix in ("memory", "memory.memsw"):
            limit = place.limit(f"{prefix}.limit_in_bytes")
            if limit is not None and place.number(f"{prefix}.failcnt"):
                return f"{prefix}.limit_in_bytes {size(limit)} reached"
        return BELOW if _has_children(place.path) else ABOVE
    limit = place.limit("memory.max")
    if limit is not None and place.table("memory.events.local").get("oom"):
        return f"memory.max {size(limit)} reached"
    return BELOW if place.table("memory.events").get("oom") else ABOVE


def _logged(place: Place, began: float) -> Facts:
    from ocirt.cgroups import kernel_log, layout

    path = layout.path_of(place.path)
    found = kernel_log.kills(path, began)
    if found is None:
        return Facts()
    if not found:
        return Facts(0, own=True)
    last = found[-1]
    cause = BELOW if last.limited_by.startswith(f"{path}/") else ABOVE
    if last.limited_by == path and last.reached is not None:
        name, limit = last.reached
        cause = f"{LOGGED[place.version][name]} {size(limit)} reached"
    return Facts(len(found), cause=cause, own=True)


def size(count: int) -> str:
    """``64 MiB``"""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while power < len(units) - 1 and count >= 1024 ** (power + 1):
        power += 1
    amount = count / 1024**power
    return f"{amount:.0f} {units[power]}" if amount == int(amount) else f"{amount:.1f} {units[power]}"
