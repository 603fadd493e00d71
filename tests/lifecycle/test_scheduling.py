"""How the process is scheduled and placed (config.md, process.scheduler, ioPriority, execCPUAffinity; config-linux.md,
personality, memoryPolicy), read back inside.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from ocirt import Container, Spec
from ocirt.errors import OCIError, SetupError, SpecError
from ocirt.spec import (
    ExecCPUAffinity,
    IDMapping,
    IOPriority,
    Linux,
    MemoryPolicy,
    Personality,
    Process,
    Root,
    Scheduler,
)
from tests.support import SECONDS, Lab, document, linux, namespaces, process, said

pytestmark = pytest.mark.root

ALL_CPUS = sorted(os.sched_getaffinity(0))
several_cpus = pytest.mark.skipif(len(ALL_CPUS) < 2, reason="needs two CPUs")


def asking(program: Process, **members: object) -> Spec:
    return document().evolve(process=program, root=Root("rootfs"), linux=linux(**members))


def scheduled(text: str) -> tuple[int, int, int]:
    """Nice value, real-time priority and policy: fields 19, 40 and 41 of proc_pid_stat(5)."""
    fields = text.rpartition(") ")[2].split()
    return int(fields[16]), int(fields[37]), int(fields[38])


def cpus(text: str) -> list[int]:
    """Of a list such as ``0-3,7``."""
    return [
        number
        for part in text.strip().split(",")
        for number in range(int(part.partition("-")[0]), int(part.rpartition("-")[2]) + 1)
    ]


def allowed(text: str) -> list[int]:
    (line,) = [line for line in text.splitlines() if line.startswith("Cpus_allowed_list:")]
    return cpus(line.partition(":")[2])


def ran(container: Container, program: Process) -> str:
    with container.exec(program, stdin=DEVNULL, stdout=PIPE) as made:
        output, _ = made.communicate(timeout=SECONDS)
    assert output is not None
    return output.decode()


@pytest.fixture
def container(lab: Lab) -> Iterator[Container]:
    with lab.start(document("sleep", "600")) as running:
        yield running


SCHEDULERS = [
    (Scheduler("SCHED_OTHER", nice=7), (7, 0, 0)),
    (Scheduler("SCHED_OTHER", nice=-3), (-3, 0, 0)),
    (Scheduler("SCHED_BATCH", nice=19), (19, 0, 3)),
    (Scheduler("SCHED_IDLE"), (0, 0, 5)),
    (Scheduler("SCHED_DEADLINE", runtime=10**6, deadline=10**8, period=2 * 10**8), (0, 0, 6)),
]
by_policy = pytest.mark.parametrize(("scheduler", "expected"), SCHEDULERS, ids=[str(s.policy) for s, _ in SCHEDULERS])


@pytest.mark.covers("process.scheduler.**")
@by_policy
def test_the_scheduler_is_the_configured_one(lab: Lab, scheduler: Scheduler, expected: tuple[int, int, int]) -> None:
    shown = lab.output(asking(process("cat", "/proc/self/stat", scheduler=scheduler)))
    assert scheduled(shown) == expected


@by_policy
def test_an_executed_process_has_its_own(
    container: Container, scheduler: Scheduler, expected: tuple[int, int, int]
) -> None:
    assert scheduled(ran(container, process("cat", "/proc/self/stat", scheduler=scheduler))) == expected


@pytest.mark.covers("process.scheduler.flags")
@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", 1), ("SCHED_RR", 2)])
@pytest.mark.parametrize(("flags", "after"), [((), (7, True)), (("SCHED_FLAG_RESET_ON_FORK",), (0, False))])
def test_a_real_time_policy_goes_to_children_unless_it_is_told_not_to(
    lab: Lab, policy: str, number: int, flags: tuple[str, ...], after: tuple[int, bool]
) -> None:
    """In our own cgroup, since a new one of version 1 may have no time for it (sched-rt-group.rst)."""
    program = process(
        "sh", "-c", "cat /proc/$$/stat; cat /proc/self/stat; :", scheduler=Scheduler(policy, priority=7, flags=flags)
    )
    bundle = lab.bundle(asking(program))
    with Container.create(
        lab.new_id(), bundle, root=lab.root, stdin=DEVNULL, stdout=PIPE, cgroup_manager="disabled"
    ) as container:
        container.start()
        lines = said(container).splitlines()
    assert [scheduled(line)[1:] for line in lines] == [(7, number), (after[0], number if after[1] else 0)]


def test_without_a_budget_a_real_time_policy_is_refused_with_the_remedy(lab: Lab, container: Container) -> None:
    budget = re.search(r":(?:cpu,|cpu:|cpuacct,cpu).*?(/.*)", Path(f"/proc/{container.pid}/cgroup").read_text())
    file = Path(f"/sys/fs/cgroup/cpu{budget[1]}/cpu.rt_runtime_us") if budget else Path("/nowhere")
    if not file.exists() or file.read_text() != "0\n":
        pytest.skip("needs cgroups that budget real time")
    with pytest.raises(SetupError, match=r"linux\.resources\.cpu\.realtimeRuntime") as caught:
        lab.create(asking(process("true", scheduler=Scheduler("SCHED_FIFO", priority=1))))
    assert (caught.value.origin, caught.value.call) == ("process.scheduler", "sched_setattr")


@pytest.mark.covers("process.scheduler")
def test_what_the_kernel_refuses_names_the_member(lab: Lab) -> None:
    """Linux knows the number of SCHED_ISO and never had the policy."""
    with pytest.raises(SetupError) as caught:
        lab.create(asking(process("true", scheduler=Scheduler("SCHED_ISO"))))
    assert (caught.value.origin, caught.value.call) == ("process.scheduler", "sched_setattr")


@pytest.mark.covers("process.ioPriority.**")
@pytest.mark.parametrize(
    ("priority", "words"),
    [
        (IOPriority("IOPRIO_CLASS_BE", 6), "best-effort: prio 6"),
        (IOPriority("IOPRIO_CLASS_RT", 0), "realtime: prio 0"),
        (IOPriority("IOPRIO_CLASS_IDLE"), "idle"),
    ],
)
def test_the_io_priority_is_the_configured_one(
    lab: Lab, container: Container, priority: IOPriority, words: str
) -> None:
    program = process("ionice", io_priority=priority)
    assert lab.output(asking(program)).strip() == words
    assert ran(container, program).strip() == words


@several_cpus
def test_the_callers_cpus_are_not_the_containers(lab: Lab) -> None:
    """A7.23 of our checklist: a pinned service would pin its containers."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {ALL_CPUS[0]})
    try:
        with lab.start(asking(process("sh", "-c", "cat /proc/self/status; sleep 600"))) as running:
            assert allowed(Path(f"/proc/{running.pid}/status").read_text()) == ALL_CPUS
            assert allowed(ran(running, process("cat", "/proc/self/status"))) == ALL_CPUS
        assert os.sched_getaffinity(0) == {ALL_CPUS[0]}
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.covers("process.execCPUAffinity.**")
@several_cpus
def test_an_executed_process_may_be_given_cpus(container: Container) -> None:
    last = ALL_CPUS[-1]
    for wanted, expected in (
        (ExecCPUAffinity(final=f"{last}"), [last]),
        (ExecCPUAffinity(initial="0", final=f"{last}"), [last]),
        (ExecCPUAffinity(initial="0"), ALL_CPUS),
    ):
        program = process("cat", "/proc/self/status", exec_cpu_affinity=wanted)
        assert allowed(ran(container, program)) == expected


@pytest.mark.covers("process.execCPUAffinity")
@several_cpus
def test_the_containers_own_process_is_none_that_is_executed(lab: Lab) -> None:
    program = process("cat", "/proc/self/status", exec_cpu_affinity=ExecCPUAffinity(final="0"))
    assert allowed(lab.output(asking(program))) == ALL_CPUS


@pytest.mark.parametrize(
    ("member", "wanted"), [("initial", ExecCPUAffinity("4000")), ("final", ExecCPUAffinity(final="4000"))]
)
def test_cpus_that_are_not_there_are_an_error(container: Container, member: str, wanted: ExecCPUAffinity) -> None:
    with pytest.raises(SetupError) as caught:
        ran(container, process("true", exec_cpu_affinity=wanted))
    assert caught.value.origin == f"process.execCPUAffinity.{member}"
    assert caught.value.errno == errno.EINVAL
    assert container.processes() == (container.pid,)


def test_a_list_of_cpus_that_is_none_is_an_error_at_create(lab: Lab) -> None:
    with pytest.raises(SpecError, match=r"process\.execCPUAffinity\.final"):
        lab.create(asking(process("true", exec_cpu_affinity=ExecCPUAffinity(final="0-"))))


@pytest.mark.covers("linux.personality.**")
def test_a_personality_is_that_of_every_process(lab: Lab) -> None:
    with lab.start(asking(process("sleep", "600"), personality=Personality("LINUX32"))) as running:
        assert Path(f"/proc/{running.pid}/personality").read_text() == "00000008\n"
        assert ran(running, process("cat", "/proc/self/personality")) == "00000008\n"
        if os.uname().machine == "x86_64":
            assert ran(running, process("uname", "-m")) == "i686\n"


@pytest.mark.covers("linux.personality")
def test_no_personality_leaves_it_as_it_is(lab: Lab) -> None:
    own = Path("/proc/self/personality").read_text()
    assert lab.output(asking(process("cat", "/proc/self/personality"))) == own


POLICIES = [
    (MemoryPolicy("MPOL_BIND", "0"), "bind:0"),
    (MemoryPolicy("MPOL_INTERLEAVE", "0", ("MPOL_F_STATIC_NODES",)), "interleave=static:0"),
    (MemoryPolicy("MPOL_PREFERRED_MANY", "0"), "prefer (many):0"),
    (MemoryPolicy("MPOL_LOCAL"), "local"),
    (MemoryPolicy("MPOL_DEFAULT"), "default"),
]


@pytest.mark.covers("linux.memoryPolicy.**")
@pytest.mark.parametrize(("policy", "words"), POLICIES, ids=[policy.mode for policy, _ in POLICIES])
def test_the_memory_policy_is_that_of_every_process(lab: Lab, policy: MemoryPolicy, words: str) -> None:
    """numa(7) on what numa_maps says."""
    if not os.path.exists("/proc/self/numa_maps"):
        pytest.skip("needs a kernel with NUMA")
    with lab.start(asking(process("sleep", "600"), memory_policy=policy)) as running:
        for text in (
            Path(f"/proc/{running.pid}/numa_maps").read_text(),
            ran(running, process("cat", "/proc/self/numa_maps")),
        ):
            assert {line.split(" ", 1)[1].startswith(words) for line in text.splitlines()} == {True}


@pytest.mark.covers("linux.memoryPolicy.nodes")
def test_nodes_that_are_not_there_are_an_error(lab: Lab) -> None:
    with pytest.raises(OCIError) as caught:
        lab.create(asking(process("true"), memory_policy=MemoryPolicy("MPOL_BIND", "1000")))
    assert isinstance(caught.value, SetupError)
    assert (caught.value.origin, caught.value.call) == ("linux.memoryPolicy", "set_mempolicy")


def test_root_of_a_user_namespace_has_no_right_to_a_real_time_policy(lab: Lab) -> None:
    """CAP_SYS_NICE of the first user namespace is what the kernel asks for (sched(7)); niceness it may give away."""
    mapping = (IDMapping(0, 200000, 65536),)
    types = ("user", "pid", "network", "ipc", "uts", "mount", "cgroup")
    inside: Linux = linux(namespaces=namespaces(*types), uid_mappings=mapping, gid_mappings=mapping)
    spec = document().evolve(linux=inside)
    nicer = process("cat", "/proc/self/stat", scheduler=Scheduler("SCHED_OTHER", nice=5))
    assert scheduled(lab.output(spec.evolve(process=nicer))) == (5, 0, 0)
    with pytest.raises(SetupError) as caught:
        lab.create(spec.evolve(process=process("true", scheduler=Scheduler("SCHED_FIFO", priority=1))))
    assert (caught.value.origin, caught.value.errno) == ("process.scheduler", errno.EPERM)
