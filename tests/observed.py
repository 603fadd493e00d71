"""Containers to look at, on whatever layout of cgroups this machine has."""

from __future__ import annotations

import time

from ocirt import Container, Spec
from ocirt.cgroups import kernel_log, layout
from ocirt.cgroups.place import Place
from ocirt.spec import Linux, Resources
from ocirt.spec.limits import Memory
from tests.support import eventually

MIB = 1 << 20

LOG_SECONDS = 5.0
"""Of more than ten OOM kills in this time the kernel's log leaves out whose they were (mm/oom_kill.c, oom_rs)."""


def limited(document: Spec, limit: int) -> Spec:
    """The same with so much memory."""
    base = document.linux or Linux()
    return document.evolve(
        linux=base.evolve(resources=(base.resources or Resources()).evolve(memory=Memory(limit=limit)))
    )


def reached(limit: str) -> str:
    """The reason in words; what a limit is called depends on the layout."""
    version_1 = any("memory" in hierarchy.controllers for hierarchy in layout.probe().hierarchies)
    return f"{'memory.limit_in_bytes' if version_1 else 'memory.max'} {limit} reached"


def place(container: Container, controller: str) -> Place:
    """Where the kernel keeps account of a container."""
    assert container._record is not None
    return Place.of(container._record.cgroup, controller)


def await_the_log() -> None:
    """Until the kernel tells of the next kills, whoever's the last ones were: another Python's tests, perhaps."""

    def is_quiet() -> bool:
        since = time.monotonic() - LOG_SECONDS
        return sum(at > since and text.startswith(kernel_log.KILLED) for at, text in kernel_log._records()) < 4

    eventually(is_quiet, "few OOM kills")
