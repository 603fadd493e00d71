"""Who the process is and what it may do (config.md, Process)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocirt.errors import UnsupportedError
from ocirt.plan.context import KEEP_GROUPS, Context
from ocirt.plan.namespaces import is_mapped
from ocirt.plan.ops import (
    DropBounding,
    Op,
    Purpose,
    SetCapabilities,
    SetNoNewPrivileges,
    SetRlimits,
    SetUmask,
    SetUser,
    Sync,
    WriteProc,
)
from ocirt.spec import Process
from ocirt.spec.known import CAPABILITIES, RLIMITS

ALL = (1 << 64) - 1
CAPABILITY_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}
RLIMIT_NUMBERS = {name: number for number, name in enumerate(RLIMITS)}
DEFAULT_UMASK = 0o022
"""OCI leaves it to the runtime; every other one starts a container so."""


def check(context: Context) -> None:
    """IDs that the user namespace cannot hold, groups that may not be set."""
    process, linux = context.process, context.linux
    if process is None:
        return
    user = process.user
    if user.additional_gids and context.keeps_groups:
        raise UnsupportedError("process.user.additionalGids", f"{KEEP_GROUPS} keeps the caller's groups instead")
    if user.additional_gids and not context.may_set_groups:
        raise UnsupportedError(
            "process.user.additionalGids",
            "cannot set any additional groups in a rootless container: map more than your own group, with newgidmap",
        )
    if not context.namespaces.creates("user"):
        return
    wanted = (
        ("process.user.uid", user.uid, linux.uid_mappings, "setuid to unmapped uid"),
        ("process.user.gid", user.gid, linux.gid_mappings, "setgid to unmapped gid"),
        *(
            (f"process.user.additionalGids[{index}]", gid, linux.gid_mappings, "set unmapped group")
            for index, gid in enumerate(user.additional_gids)
        ),
    )
    for origin, number, mappings, what in wanted:
        if not is_mapped(mappings, number):
            raise UnsupportedError(origin, f"cannot {what} {number} in user namespace: no mapping covers it")


def oom_score(process: Process | None) -> Iterator[Op]:
    """Before init hides itself, which takes its own files in /proc away from it."""
    if process is not None and process.oom_score_adj is not None:
        yield WriteProc("self/oom_score_adj", str(process.oom_score_adj), origin="process.oomScoreAdj")


def rlimits(context: Context, process: Process) -> Iterator[Op]:
    """A user namespace takes the right to raise limits, so then the host sets them, if it may do more."""
    if not process.rlimits:
        return
    if context.host.privileged and context.namespaces.has("user"):
        yield Sync(Purpose.RLIMITS, origin="process.rlimits")
        return
    limits = tuple((RLIMIT_NUMBERS[limit.type], limit.soft, limit.hard) for limit in process.rlimits)
    origins = tuple(f"process.rlimits[{index}]" for index in range(len(limits)))
    yield SetRlimits(limits, origin="process.rlimits", origins=origins)


def no_new_privileges(process: Process) -> Iterator[Op]:
    if process.no_new_privileges:
        yield SetNoNewPrivileges(origin="process.noNewPrivileges")


def bounding(context: Context, process: Process) -> Iterator[Op]:
    """No ``capabilities`` means none: what was not asked for is not given (crun's rule, not runc's)."""
    names = process.capabilities.bounding if process.capabilities else ()
    yield DropBounding(_mask(context, names), origin="process.capabilities.bounding")


def user(context: Context, process: Process) -> Iterator[Op]:
    who = process.user
    yield SetUser(who.uid, who.gid, context.may_set_groups, who.additional_gids, origin="process.user")


def capabilities(context: Context, process: Process) -> Iterator[Op]:
    sets = process.capabilities
    masks = (
        (_mask(context, names) for names in (sets.effective, sets.permitted, sets.inheritable, sets.ambient))
        if sets
        else (0, 0, 0, 0)
    )
    yield SetCapabilities(*masks, origin="process.capabilities")


def _mask(context: Context, names: Sequence[str]) -> int:
    """Bits of those that this kernel knows and the caller can give; OCI asks for a warning at most about others."""
    mask = 0
    for name in names:
        if (number := CAPABILITY_NUMBERS.get(name)) is not None:
            mask |= 1 << number
    granted = ALL if context.namespaces.has("user") else context.host.capabilities
    return mask & granted & ((2 << context.host.last_capability) - 1)


def umask(process: Process) -> Iterator[Op]:
    mask = DEFAULT_UMASK if process.user.umask is None else process.user.umask
    yield SetUmask(mask, origin="process.user.umask")
