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
    seen: set[str] = set()
    for index, limit in enumerate(values):
        if limit.type not in RLIMITS:
            rule = f"is no resource: wrong rlimit value: {limit.type}{did_you_mean(limit.type, RLIMITS)}"
            yield Problem(f"{at}[{index}].type", limit.type, rule)
        elif limit.type in seen:
            yield Problem(f"{at}[{index}].type", limit.type, "is listed twice")
        if limit.soft > limit.hard:
            yield Problem(
                relation(f"{at}[{index}].soft", f"{at}[{index}].hard"),
                limit.soft,
                f"is above the hard limit, {limit.hard}",
            )
        seen.add(limit.type)


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
            yield Problem(join(at, f"consoleSize.{member}"), number, "is more than a terminal can have, 65535")


def _scheduler(value: Scheduler, at: str) -> Iterator[Problem]:
    """Which parameter goes with which policy, see sched(7)."""
    policy = value.policy
    if policy not in SCHEDULER_POLICIES:
        question = did_you_mean(policy, SCHEDULER_POLICIES)
        yield Problem(f"{at}.policy", policy, f"is not a scheduling policy{question}")
        return
    if value.nice:
        if not -20 <= value.nice <= 19:
            yield Problem(f"{at}.nice", value.nice, "must be within -20 and 19")
        elif policy not in ("SCHED_OTHER", "SCHED_BATCH"):
            yield Problem(f"{at}.nice", value.nice, "can only be specified for SCHED_OTHER or SCHED_BATCH")
    if value.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        yield Problem(f"{at}.priority", value.priority, "can only be specified for SCHED_FIFO or SCHED_RR")
    elif value.priority and not 1 <= value.priority <= 99:
        yield Problem(f"{at}.priority", value.priority, "must be within 1 and 99")
    for member, number in (("runtime", value.runtime), ("deadline", value.deadline), ("period", value.period)):
        if number and policy != "SCHED_DEADLINE":
            yield Problem(f"{at}.{member}", number, "can only be specified for SCHED_DEADLINE")
    for index, flag in enumerate(value.flags):
        if flag not in SCHEDULER_FLAGS:
            question = did_you_mean(flag, SCHEDULER_FLAGS)
            yield Problem(f"{at}.flags[{index}]", flag, f"is not a scheduler flag{question}")


def _io_priority(value: IOPriority, at: str) -> Iterator[Problem]:
    if value.class_ not in IO_CLASSES:
        question = did_you_mean(value.class_, IO_CLASSES)
        yield Problem(f"{at}.class", value.class_, f"is not an I/O scheduling class{question}")
    if value.priority is not None and not 0 <= value.priority <= 7:
        yield Problem(f"{at}.priority", value.priority, "must be within 0 and 7")


def _affinity(value: ExecCPUAffinity, at: str) -> Iterator[Problem]:
    for member, cpus in (("initial", value.initial), ("final", value.final)):
        if cpus:
            yield from cpu_list(cpus, f"{at}.{member}")


def cpu_list(text: str, at: str) -> Iterator[Problem]:
    """Numbers and ranges of them, as cpuset(7) writes lists: ``0-3,7``."""
    if not _CPU_LIST.fullmatch(text):
        yield Problem(at, text, "is not a list of numbers and ranges such as 0-3,7")
        return
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if dash and int(low) > int(high):
            yield Problem(at, text, f"has a range that runs backwards, {part.strip()}")
