"""The rules for ``process``, which are those for the process.json of ``exec`` too (config.md, Process)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ocirt.errors import Problem
from ocirt.spec.base import join, relation
from ocirt.spec.known import (
    CAPABILITIES,
    IO_CLASSES,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
    did_you_mean,
)

if TYPE_CHECKING:
    from ocirt.spec.config import Capabilities, Process, Rlimit, User
    from ocirt.spec.scheduling import ExecCPUAffinity, IOPriority, Scheduler

NO_ID: Final = 2**32 - 1
"""(uid_t)-1, by which system calls say that an ID shall stay as it is."""

KEPT: Final = frozenset(("SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"))
"""With one of them parameters stay as they are, so that there need not be any."""

MOST_CPUS: Final = 1 << 16
"""As runc: numbers become bits of a mask, and a slip of the finger should not cost a gigabyte."""

_CAPABILITY: Final = re.compile(r"CAP_[A-Z0-9_]+", re.ASCII)
_CPU_LIST: Final = re.compile(r"\s*\d+\s*(-\s*\d+\s*)?(,\s*\d+\s*(-\s*\d+\s*)?)*", re.ASCII)


def process(value: Process, at: str) -> Iterator[Problem]:
    if not value.cwd:
        yield Problem(join(at, "cwd"), value.cwd, "is empty: Cwd property must not be empty")
    elif not value.cwd.startswith("/"):
        yield Problem(join(at, "cwd"), value.cwd, "is relative: Cwd must be an absolute path")
    if not value.args:
        yield Problem(join(at, "args"), None, "args must not be empty")
    elif not value.args[0]:
        yield Problem(join(at, "args[0]"), value.args[0], "must not be empty: it is the program to run")
    yield from environment(value.env, join(at, "env"))
    yield from _user(value.user, join(at, "user"))
    yield from _rlimits(value.rlimits, join(at, "rlimits"))
    if value.capabilities is not None:
        yield from _capabilities(value.capabilities, join(at, "capabilities"))
    yield from _console(value, at)
    if value.oom_score_adj is not None and not -1000 <= value.oom_score_adj <= 1000:
        yield Problem(join(at, "oomScoreAdj"), value.oom_score_adj, "must be within -1000 and 1000")
    if value.scheduler is not None:
        yield from _scheduler(value.scheduler, join(at, "scheduler"))
    if value.io_priority is not None:
        yield from _io_priority(value.io_priority, join(at, "ioPriority"))
    if value.exec_cpu_affinity is not None:
        yield from _affinity(value.exec_cpu_affinity, join(at, "execCPUAffinity"))


def environment(entries: Sequence[str], at: str) -> Iterator[Problem]:
    for index, entry in enumerate(entries):
        if entry.find("=") < 1:
            yield Problem(f"{at}[{index}]", entry, "must have the form NAME=value")


def _user(value: User, at: str) -> Iterator[Problem]:
    groups = [(f"additionalGids[{index}]", gid) for index, gid in enumerate(value.additional_gids)]
    for member, number in (("uid", value.uid), ("gid", value.gid), *groups):
        if number == NO_ID:
            yield Problem(f"{at}.{member}", number, "is no ID but what the kernel takes for none")
    if value.umask is not None and value.umask > 0o777:
        yield Problem(f"{at}.umask", value.umask, "has more bits than the permissions, 511 (0777)")


def _rlimits(values: Sequence[Rlimit], at: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for index, limit in enumerate(values):
        if limit.type not in RLIMITS:
            rule = f"is no resource: wrong rlimit value: {limit.type}{did_you_mean(limit.type, RLIMITS)}"
            yield Problem(f"{at}[{index}].type", limit.type, rule)
        elif limit.type in seen:
            yield Problem(relation(f"{at}[{index}].type", seen[limit.type]), limit.type, "is listed twice")
        if limit.soft > limit.hard:
            yield Problem(
                relation(f"{at}[{index}].soft", f"{at}[{index}].hard"),
                limit.soft,
                f"is above the hard limit, {limit.hard}",
            )
        seen.setdefault(limit.type, f"{at}[{index}].type")


def _capabilities(value: Capabilities, at: str) -> Iterator[Problem]:
    yield from _names(value.bounding, f"{at}.bounding")
    yield from _names(value.effective, f"{at}.effective")
    yield from _names(value.inheritable, f"{at}.inheritable")
    yield from _names(value.permitted, f"{at}.permitted")
    yield from _names(value.ambient, f"{at}.ambient")


def _names(names: Sequence[str], at: str) -> Iterator[Problem]:
    """A name that could be that of a capability to come is only left out by the planner, as config.md asks for."""
    for index, name in enumerate(names):
        if name in CAPABILITIES:
            continue
        question = did_you_mean(name, CAPABILITIES)
        if question or not _CAPABILITY.fullmatch(name):
            yield Problem(f"{at}[{index}]", name, f"is not a capability{question}")


def _console(value: Process, at: str) -> Iterator[Problem]:
    """The size is ignored where there is no terminal; where there is, TIOCSWINSZ takes 16 bits each."""
    if not value.terminal or value.console_size is None:
        return
    for member, number in (("height", value.console_size.height), ("width", value.console_size.width)):
        if number > 65535:
            where = relation(join(at, f"consoleSize.{member}"), join(at, "terminal"))
            yield Problem(where, number, "is more than a terminal can have, 65535")


def _scheduler(value: Scheduler, at: str) -> Iterator[Problem]:
    """Which parameter goes with which policy, see sched(7)."""
    policy = value.policy
    if not policy:
        yield Problem(f"{at}.policy", policy, "is empty: scheduler policy is required")
        return
    if policy not in SCHEDULER_POLICIES:
        question = did_you_mean(policy, SCHEDULER_POLICIES)
        yield Problem(f"{at}.policy", policy, f"is not a scheduling policy{question}")
        return
    yield from _parameters(value, at)
    for index, flag in enumerate(value.flags):
        if flag not in SCHEDULER_FLAGS:
            question = did_you_mean(flag, SCHEDULER_FLAGS)
            yield Problem(f"{at}.flags[{index}]", flag, f"is not a scheduler flag{question}")


def _parameters(value: Scheduler, at: str) -> Iterator[Problem]:
    """What sched_setattr(2) would refuse without saying why; the words in the middle are runc's."""
    policy = value.policy
    if value.nice and policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        rule = f"is for SCHED_OTHER and SCHED_BATCH: {_bad_nice(value.nice, policy)}"
        yield Problem(relation(f"{at}.nice", f"{at}.policy"), value.nice, rule)
    elif value.nice and not -20 <= value.nice <= 19:
        yield Problem(f"{at}.nice", value.nice, f"must be within -20 and 19: {_bad_nice(value.nice, policy)}")
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= (value.priority or 0) <= 99 and not KEPT & set(value.flags):
            rule = f"must be within 1 and 99 for {policy}"
            yield Problem(relation(f"{at}.priority", f"{at}.policy", f"{at}.flags"), value.priority, rule)
    elif value.priority:
        rule = "is refused: scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
        yield Problem(relation(f"{at}.priority", f"{at}.policy"), value.priority, rule)
    if policy == "SCHED_DEADLINE":
        yield from _deadline(value, at)
        return
    for member, number in (("runtime", value.runtime), ("deadline", value.deadline), ("period", value.period)):
        if number:
            rule = "is refused: scheduler runtime/deadline/period can only be specified for SchedDeadline policy"
            yield Problem(relation(f"{at}.{member}", f"{at}.policy"), number, rule)


def _bad_nice(nice: int, policy: str) -> str:
    return f"invalid scheduler.nice: {nice} when scheduler.policy is {policy}"


def _deadline(value: Scheduler, at: str) -> Iterator[Problem]:
    """sched(7): at least 1024 ns of runtime, before a deadline that comes no later than the next period."""
    if KEPT & set(value.flags):
        return
    runtime, deadline = value.runtime or 0, value.deadline or 0
    if runtime < 1024:
        where = relation(f"{at}.runtime", f"{at}.policy", f"{at}.flags")
        yield Problem(where, value.runtime, "must be at least 1024 nanoseconds for SCHED_DEADLINE")
    if deadline < runtime or not deadline:
        where = relation(f"{at}.deadline", f"{at}.runtime", f"{at}.policy", f"{at}.flags")
        yield Problem(where, value.deadline, "must not be below runtime")
    if value.period and value.period < deadline:
        yield Problem(
            relation(f"{at}.period", f"{at}.deadline", f"{at}.flags"), value.period, "must not be below deadline"
        )


def _io_priority(value: IOPriority, at: str) -> Iterator[Problem]:
    if value.class_ not in IO_CLASSES:
        question = did_you_mean(value.class_, IO_CLASSES)
        rule = f'is none: invalid ioPriority.Class: "{value.class_}"{question}'
        yield Problem(f"{at}.class", value.class_, rule)
    if value.priority is not None and not 0 <= value.priority <= 7:
        rule = f"must be within 0 and 7: invalid ioPriority.Priority: {value.priority}"
        yield Problem(f"{at}.priority", value.priority, rule)


def _affinity(value: ExecCPUAffinity, at: str) -> Iterator[Problem]:
    for member, cpus in (("initial", value.initial), ("final", value.final)):
        if cpus:
            yield from cpu_list(cpus, f"{at}.{member}")


def _is_beyond(number: str) -> bool:
    """int() itself refuses what is too long."""
    digits = number.strip().lstrip("0")
    return len(digits) > 5 or int(digits or "0") >= MOST_CPUS


def cpu_list(text: str, at: str) -> Iterator[Problem]:
    """Numbers and ranges of them, as cpuset(7) writes lists: ``0-3,7``."""
    if not _CPU_LIST.fullmatch(text):
        yield Problem(at, text, "is not a list of numbers and ranges such as 0-3,7")
        return
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if any(_is_beyond(number) for number in (low, high) if number):
            yield Problem(at, text, f"goes beyond {MOST_CPUS - 1}, which no machine has: {part.strip()}")
            return
        if dash and int(low) > int(high):
            yield Problem(at, text, f"has a range that runs backwards, {part.strip()}")
