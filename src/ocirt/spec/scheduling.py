"""How the kernel schedules and places a process: CPU, I/O, memory nodes, caches, execution domain.

Few containers ask for any of it, so that this module is loaded when the first one does.
"""

from __future__ import annotations

from attrs import field, frozen

from ocirt.spec.base import Int32, OCIObject, UInt64, strings


@frozen(repr=False)
class Scheduler(OCIObject):
    """The scheduling policy and its parameters, see sched_setattr(2)."""

    policy: str
    nice: Int32 | None = None
    priority: Int32 | None = None
    flags: tuple[str, ...] = field(default=(), converter=strings)
    runtime: UInt64 | None = None
    deadline: UInt64 | None = None
    period: UInt64 | None = None


@frozen(repr=False)
class IOPriority(OCIObject):
    """The I/O priority of the container's process group, see ioprio_set(2)."""

    class_: str
    priority: Int32 | None = None


@frozen(repr=False)
class ExecCPUAffinity(OCIObject):
    """The CPUs of a process that is executed in the container: while it joins, and afterwards."""

    initial: str | None = None
    final: str | None = None


@frozen(repr=False, kw_only=True)
class IntelRdt(OCIObject):
    """Cache and memory bandwidth by resctrl (config-linux.md, IntelRdt)."""

    clos_id: str | None = None
    schemata: tuple[str, ...] = field(default=(), converter=strings)
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    enable_monitoring: bool = False


@frozen(repr=False)
class MemoryPolicy(OCIObject):
    """The NUMA memory policy, see set_mempolicy(2)."""

    mode: str
    nodes: str | None = None
    flags: tuple[str, ...] = field(default=(), converter=strings)


@frozen(repr=False)
class Personality(OCIObject):
    """The execution domain, see personality(2)."""

    domain: str
    flags: tuple[str, ...] = field(default=(), converter=strings)
