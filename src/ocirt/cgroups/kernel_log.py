"""What the kernel's log says of OOM kills: for a container whose cgroup is gone before anybody could ask it.

systemd removes a scope as soon as it is empty. The lines of a kill are written before the victim has its SIGKILL, so
they are there once its end is known; but beyond ten kills within five seconds the kernel leaves out whose they were. As
a rule root alone may read them (dmesg_restrict in sysctl/kernel.rst; the format of /dev/kmsg: ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from typing import NamedTuple

RECORD_BYTES = 8192
"""The kernel's own bound: a shorter buffer gets EINVAL."""

KILLED = ("Memory cgroup out of memory: Killed process", "Out of memory: Killed process")
"""What is said of each, whatever was left out before."""

USAGE = re.compile(r"^(memory(?:\+swap)?): usage (\d+)kB, limit (\d+)kB")


class Kill(NamedTuple):
    """One process of a cgroup, or of one below it."""

    limited_by: str
    """The cgroup whose limit was reached, as its victim's is written; empty if the machine ran out of memory."""
    reached: tuple[str, int] | None
    """Which limit of that one it was, ``memory`` or ``memory+swap``, in bytes; ``None`` if nothing is said of them."""


def kills(path: str, began: float) -> tuple[Kill, ...] | None:
    """Those in a cgroup, given from its hierarchy's root on, since a time in seconds after boot.

    ``None`` where nobody can tell: who may not read the log, and where it shows none but does not reach back so far, or
    tells of kills without telling whose they were.
    """
    found: list[Kill] = []
    usage: dict[str, tuple[int, int]] = {}
    oldest: float | None = None
    told = untold = 0
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    for at, text in _records():
        oldest = at if oldest is None else oldest
        if at < began - suspended:  # the log's clock stands still meanwhile
            continue
        if (line := USAGE.match(text)) is not None:
            name, used, limit = line.groups()
            usage[name] = (int(limit) - int(used), int(limit) * 1024)
        elif text.startswith("oom-kill:"):
            found += [Kill(_member(text, "oom_memcg"), _reached(usage))] if _concerns(text, _escaped(path)) else []
            usage = {}
            told += 1
        elif text.startswith(KILLED):
            told, untold = (told - 1, untold) if told else (0, untold + 1)
    return tuple(found) if found or (oldest is not None and oldest <= began and not untold) else None


def _reached(usage: dict[str, tuple[int, int]]) -> tuple[str, int] | None:
    """The limit with the least left below it: something may have been given back before the kernel wrote this down."""
    if not usage:
        return None
    name = min(usage, key=lambda name: usage[name][0])
    return name, usage[name][1]


def _concerns(text: str, path: str) -> bool:
    """Somebody's cgroup may have a name that reads like the rest of such a line: what can be read twice is not."""
    return text.count(",task_memcg=") == 1 and any(f",task_memcg={path}{end}" in text for end in (",", "/"))


def _member(text: str, name: str) -> str:
    """A cgroup's name may hold a comma, so this goes on to the next name."""
    found = re.search(rf",{name}=(.*?),task_memcg=", text)
    return found.group(1) if found is not None else ""


def _escaped(path: str) -> str:
    return "".join(chr(c) if 32 <= c < 127 and c != 92 else f"\\x{c:02x}" for c in os.fsencode(path))


def _records() -> Iterator[tuple[float, str]]:
    """When, in seconds, and what."""
    with contextlib.suppress(PermissionError, FileNotFoundError):
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield from _read(fd)
        finally:
            os.close(fd)


def _read(fd: int) -> Iterator[tuple[float, str]]:
    while True:
        try:
            record = os.read(fd, RECORD_BYTES)
        except BrokenPipeError:  # it was overwritten before we came to it; the next one is there
            continue
        except BlockingIOError:
            return
        prefix, _, text = record.decode("ascii", "replace").partition(";")
        priority, _, microseconds, *_ = prefix.split(",")
        # Whoever may write there, a container perhaps, is never taken for the kernel: that alone has facility 0.
        yield int(microseconds) / 1e6, text.partition("\n")[0] if int(priority) < 8 else ""
