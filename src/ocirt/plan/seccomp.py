"""When the filter of system calls is installed, and with which flags (config-linux.md, Seccomp; seccomp(2))."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.errors import UnsupportedError
from ocirt.plan.context import Context
from ocirt.plan.ops import FILTER_FLAGS, InstallSeccomp, Op
from ocirt.seccomp import notifies, profile_of
from ocirt.spec import Process, Seccomp

WAIT_KILLABLE = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
WAIT_KILLABLE_SINCE = (5, 19)
"""All other flags are older than any kernel that ocirt runs on."""

HARMLESS = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")

BY_DEFAULT = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
"""As runc: without it every filtered process is also slowed down by speculation being off."""


def with_privileges(context: Context, process: Process) -> Iterator[Op]:
    """Without no_new_privs only CAP_SYS_ADMIN may install one: while it is there, and as late as that allows, since
    from here on the profile must let ocirt-init do what is left."""
    if not process.no_new_privileges:
        yield from _install(context)


def without_privileges(context: Context, process: Process) -> Iterator[Op]:
    """With no_new_privs, nothing but execve(2) is left to be allowed."""
    if process.no_new_privileges:
        yield from _install(context)


def _install(context: Context) -> Iterator[Op]:
    profile = profile_of(context.linux)
    if profile is not None:
        flags = _flags(profile, context.host.kernel)
        yield InstallSeccomp(context.site.filter, flags, _lets_send(profile), origin="linux.seccomp")


def _lets_send(profile: Seccomp) -> bool:
    """sendmsg(2) is certainly allowed, whatever its arguments are."""
    rules = [rule for rule in profile.syscalls if "sendmsg" in rule.names]
    if not rules:
        return profile.default_action in HARMLESS
    return all(rule.action in HARMLESS and not rule.args for rule in rules)


def _flags(profile: Seccomp, kernel: tuple[int, int]) -> int:
    names = BY_DEFAULT if profile.flags is None else profile.flags
    listens = notifies(profile)
    if WAIT_KILLABLE in names and kernel < WAIT_KILLABLE_SINCE:
        place = names.index(WAIT_KILLABLE)
        raise UnsupportedError(f"linux.seccomp.flags[{place}]", f"{WAIT_KILLABLE} needs Linux 5.19 or later")
    flags = 0
    for name in names:
        if name != WAIT_KILLABLE or listens:  # the kernel has it for listeners alone
            flags |= FILTER_FLAGS[name.removeprefix("SECCOMP_FILTER_FLAG_")]
    if listens:
        flags |= FILTER_FLAGS["NEW_LISTENER"]
    if listens and flags & FILTER_FLAGS["TSYNC"]:
        flags |= FILTER_FLAGS["TSYNC_ESRCH"]
    return flags
