"""How the process is scheduled and placed, in the numbers that the kernel takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from ocirt.plan import Plan, Site, plan_create, plan_exec
from ocirt.plan.process_ops import SetAffinity, mask
from ocirt.plan.scheduling import numbers
from ocirt.plan.scheduling_ops import SetIoPriority, SetMemoryPolicy, SetPersonality, SetScheduler
from ocirt.spec import (
    ExecCPUAffinity,
    IOPriority,
    Linux,
    MemoryPolicy,
    Namespace,
    Personality,
    Process,
    Root,
    Scheduler,
    Spec,
)
from tests.plan.examples import ROOT

SITE = Site("c", "/bundle", "/rootfs")
MOUNT = Linux(namespaces=(Namespace("mount"),))
PROGRAM = Process(cwd="/", args=("x",))


def created(program: Process = PROGRAM, **members: object) -> Plan:
    return plan_create(Spec(root=Root("rootfs"), process=program, linux=MOUNT.evolve(**members)), ROOT, SITE)


def executed(program: Process = PROGRAM, **members: object) -> Plan:
    return plan_exec(program, Spec(root=Root("rootfs"), linux=MOUNT.evolve(**members)), ROOT, SITE)


Planner: TypeAlias = Callable[..., Plan]


def operands(plan: Plan, kind: type) -> list[tuple[int, ...]]:
    return [op.operands()[0] for op in plan.ops if isinstance(op, kind)]


@pytest.mark.covers("process.scheduler.**")
@pytest.mark.parametrize("planned", [created, executed])
@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (Scheduler("SCHED_OTHER"), (0, 0, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_BATCH", nice=-5), (3, 0, -5, 0, 0, 0, 0)),
        (Scheduler("SCHED_FIFO", priority=9), (1, 0, 0, 9, 0, 0, 0)),
        (Scheduler("SCHED_RR", priority=1), (2, 0, 0, 1, 0, 0, 0)),
        (Scheduler("SCHED_ISO"), (4, 0, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_IDLE", flags=("SCHED_FLAG_RESET_ON_FORK",)), (5, 1, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_DEADLINE", runtime=2**63, deadline=2**63, period=2**64 - 1), (6, 0, 0, 0, 2**63, 2**63, -1)),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_RECLAIM", "SCHED_FLAG_RECLAIM")), (0, 2, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY")), (0, 12, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_KEEP_PARAMS",)), (0, 16, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_UTIL_CLAMP_MIN",)), (0, 32, 0, 0, 0, 0, 0)),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_UTIL_CLAMP_MAX",)), (0, 64, 0, 0, 0, 0, 0)),
    ],
)
def test_a_scheduler_is_in_the_numbers_of_the_kernel(
    planned: Planner, scheduler: Scheduler, expected: tuple[int, ...]
) -> None:
    (found,) = operands(planned(PROGRAM.evolve(scheduler=scheduler)), SetScheduler)
    assert [number % 2**64 for number in found] == [number % 2**64 for number in expected]


@pytest.mark.parametrize("planned", [created, executed])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (IOPriority("IOPRIO_CLASS_RT", 0), 1 << 13),
        (IOPriority("IOPRIO_CLASS_BE", 7), 2 << 13 | 7),
        (IOPriority("IOPRIO_CLASS_IDLE"), 3 << 13),
    ],
)
def test_an_io_priority_is_a_class_and_a_number_in_one(planned: Planner, wanted: IOPriority, expected: int) -> None:
    assert operands(planned(PROGRAM.evolve(io_priority=wanted)), SetIoPriority) == [(expected,)]


@pytest.mark.parametrize("planned", [created, executed])
def test_personality_and_memory_policy_are_those_of_every_process(planned: Planner) -> None:
    policy = MemoryPolicy("MPOL_WEIGHTED_INTERLEAVE", "0-1, 64", ("MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING"))
    plan = planned(personality=Personality("LINUX32"), memory_policy=policy)
    assert operands(plan, SetPersonality) == [(8,)]
    assert operands(plan, SetMemoryPolicy) == [(6 | 1 << 14 | 1 << 13, 3, 1)]


@pytest.mark.parametrize("mode", ["MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"])
def test_a_memory_policy_may_do_without_nodes(mode: str) -> None:
    numbers_of = {"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_LOCAL": 4}
    assert operands(created(memory_policy=MemoryPolicy(mode)), SetMemoryPolicy) == [(numbers_of[mode],)]


def test_what_is_not_asked_for_is_left_alone() -> None:
    plan = created()
    assert not [op for op in plan.ops if isinstance(op, SetScheduler | SetIoPriority | SetPersonality)]
    assert operands(plan, SetAffinity) == [()]


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        (ExecCPUAffinity(), ()),
        (ExecCPUAffinity(initial="0"), ()),
        (ExecCPUAffinity(final=""), ()),
        (ExecCPUAffinity(initial="0", final="1-2, 65"), (6, 2)),
    ],
)
def test_only_executed_processes_have_cpus_of_their_own(affinity: ExecCPUAffinity, expected: tuple[int, ...]) -> None:
    program = PROGRAM.evolve(exec_cpu_affinity=affinity)
    assert operands(executed(program), SetAffinity) == [expected]
    assert operands(created(program), SetAffinity) == [()]


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), (" 1 , 3 - 4", [1, 3, 4]), ("5-5,0", [5, 0])]
)
def test_a_list_is_numbers_and_ranges(text: str, expected: list[int]) -> None:
    assert list(numbers(text)) == expected


def test_a_mask_has_as_many_words_as_it_needs() -> None:
    assert mask((0, 63)) == (1 | 1 << 63,)
    assert mask((128,)) == (0, 0, 1)
    assert mask((1, 1)) == (2,)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (SetAffinity(), "all CPUs"),
        (SetAffinity((6, 2)), "1,2,65"),
        (SetScheduler(1, priority=5), "policy=1 priority=5"),
        (SetIoPriority(2, 7), "class=2 priority=7"),
        (SetPersonality(8), "0x8"),
        (SetMemoryPolicy(0x8002, (5,)), "mode=0x8002 nodes=0,2"),
    ],
)
def test_operands_are_told_in_words(op: SetAffinity, words: str) -> None:
    assert " ".join(op.details()) == words
