"""How the kernel schedules and places the process: CPUs, time, I/O, memory nodes, execution domain.

The same for the container's first process as for those executed in it later. All of it after the cgroups are joined,
whose cpusets and real-time budgets decide what may be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ocirt.plan.process_ops import SetAffinity, mask
from ocirt.spec.known import IO_CLASSES, SCHEDULER_FLAGS, SCHEDULER_POLICIES

if TYPE_CHECKING:
    from ocirt.plan.context import Context
    from ocirt.plan.ops import Op
    from ocirt.spec import MemoryPolicy, Process, Scheduler

POLICIES: Final = {name: number for number, name in enumerate(SCHEDULER_POLICIES)}
"""linux/sched.h: known.py has them in the order of their numbers, from 0."""

FLAGS: Final = {name: 1 << bit for bit, name in enumerate(SCHEDULER_FLAGS)}

CLASSES: Final = {name: number for number, name in enumerate(IO_CLASSES, 1)}
"""linux/ioprio.h, where 0 stands for none."""

DOMAINS: Final = {"LINUX": 0, "LINUX32": 8}
"""PER_* of personality(2)."""

MODES: Final = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
"""linux/mempolicy.h"""

MODE_FLAGS: Final = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}


def needs_cgroups(context: Context) -> bool:
    """Something is asked for that depends on the cgroups that the process is in."""
    process = context.process
    return process is not None and bool(process.scheduler or context.linux.memory_policy)


def affinity(process: Process, *, executed: bool) -> Op:
    """The caller's own CPUs are nothing to the container: all, but where an executed process shall have some."""
    wanted = process.exec_cpu_affinity if executed else None
    if wanted is not None and wanted.final:
        return SetAffinity(mask(numbers(wanted.final)), origin="process.execCPUAffinity.final")
    return SetAffinity(origin="process")


def numbers(text: str) -> Iterator[int]:
    """Of a list as cpuset(7) writes it: ``0-3,7``."""
    for part in text.split(","):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def scheduling(context: Context, process: Process) -> Iterator[Op]:
    """In runc's order."""
    linux = context.linux
    if not (process.scheduler or process.io_priority or linux.personality or linux.memory_policy):
        return
    from ocirt.plan.scheduling_ops import SetIoPriority, SetPersonality

    if process.scheduler is not None:
        yield _scheduler(process.scheduler)
    if (io := process.io_priority) is not None:
        yield SetIoPriority(CLASSES[io.class_], io.priority or 0, origin="process.ioPriority")
    if linux.personality is not None:
        yield SetPersonality(DOMAINS[linux.personality.domain], origin="linux.personality")
    if linux.memory_policy is not None:
        yield _memory_policy(linux.memory_policy)


def _scheduler(wanted: Scheduler) -> Op:
    from ocirt.plan.scheduling_ops import SetScheduler

    return SetScheduler(
        POLICIES[wanted.policy],
        sum({FLAGS[name] for name in wanted.flags}),
        wanted.nice or 0,
        wanted.priority or 0,
        wanted.runtime or 0,
        wanted.deadline or 0,
        wanted.period or 0,
        origin="process.scheduler",
    )


def _memory_policy(wanted: MemoryPolicy) -> Op:
    from ocirt.plan.scheduling_ops import SetMemoryPolicy

    mode = MODES[wanted.mode] | sum({MODE_FLAGS[name] for name in wanted.flags})
    nodes = mask(numbers(wanted.nodes)) if wanted.nodes else ()
    return SetMemoryPolicy(mode, nodes, origin="linux.memoryPolicy")
