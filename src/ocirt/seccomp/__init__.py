"""From ``linux.seccomp`` to a program for the kernel (config-linux.md, Seccomp; seccomp(2)).

Here is what a profile says, decided without libseccomp; ``compile`` makes the program, by means of ``library``, which
is libseccomp, and of ``bpf``, which is what libseccomp does not do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ocirt.spec import Linux, Seccomp, Spec

NOTIFY: Final = "SCMP_ACT_NOTIFY"

ACTIONS: Final = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x30000,
    "SCMP_ACT_ERRNO": 0x50000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    NOTIFY: 0x7FC00000,
}
"""What a filter returns (SECCOMP_RET_* of linux/seccomp.h)."""

WITH_NUMBER: Final = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
"""Those that carry one in their lower half: the error, or the message for the tracer."""


def verdict(action: str, number: int | None) -> int:
    """What a filter returns for an action and its ``errnoRet``, which is EPERM where nothing is said."""
    if action not in WITH_NUMBER:
        return ACTIONS[action]
    return ACTIONS[action] | (errno.EPERM if number is None else number)


def profile_of(linux: Linux | None) -> Seccomp | None:
    """The profile, unless it asks for nothing: one without a default action, see ``spec.Seccomp``."""
    profile = linux.seccomp if linux is not None else None
    return profile if profile is not None and profile.default_action else None


def notifies(profile: Seccomp) -> bool:
    """Some system calls wait for somebody's answer."""
    return any(rule.action == NOTIFY for rule in profile.syscalls)


def program_of(document: Spec) -> bytes:
    """The compiled profile; empty where there is none.

    :raises UnsupportedError: no libseccomp, or one that does not know what the profile asks for.
    """
    profile = profile_of(document.linux)
    if profile is None:
        return b""
    from ocirt.seccomp.compile import compile_profile

    return compile_profile(profile)
