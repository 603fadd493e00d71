"""A profile as the program that the kernel runs at every system call of the container.

libseccomp knows the numbers and writes the program; how a profile is to be read is runc's way (libcontainer/seccomp),
since profiles are written for it.
"""

from __future__ import annotations

import errno
import functools
from collections import Counter
from collections.abc import Iterator, Mapping

from ocirt.errors import UnsupportedError
from ocirt.seccomp import NOTIFY, bpf, verdict
from ocirt.seccomp.library import (
    ABSENT,
    OPERATORS,
    Condition,
    Rules,
    architecture,
    native,
    system_call,
    system_call_of,
)
from ocirt.spec import Seccomp, Syscall, SyscallArg

MANY = 32
"""From more rules on the program becomes a binary tree."""

BELOW = ("SCMP_CMP_LT", "SCMP_CMP_LE")
BOUNDS = (*BELOW, "SCMP_CMP_GE", "SCMP_CMP_GT")

UNDERSTANDING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
"""Defaults that let the kernel (or a tracer) answer for itself what it does not know."""


@functools.lru_cache(maxsize=16)
def compile_profile(profile: Seccomp) -> bytes:
    """An array of struct sock_filter; kept, for compiling takes longer than all else in creating a container.

    :raises UnsupportedError: no libseccomp, or one that does not know what the profile asks for.
    """
    default = verdict(profile.default_action, profile.default_errno_ret)
    _refuse_what_is_confused(profile, default)
    architectures = tuple(_architectures(profile))
    with Rules(default) as rules:
        for origin, token in architectures:
            _add_architecture(rules, token, origin)
        if sum(len(rule.names) for rule in profile.syscalls) > MANY:
            rules.arrange_as_tree()
        for index, rule in enumerate(profile.syscalls):
            _add(rules, rule, default, f"linux.seccomp.syscalls[{index}]")
        body = rules.program()
    program = _head(profile, default, [token for _, token in architectures]) + body
    count = len(program) // bpf.INSTRUCTION.size
    if count > bpf.MOST:
        raise UnsupportedError(
            "linux.seccomp",
            f"makes a program of {count} instructions, and the kernel takes {bpf.MOST}: use fewer rules",
        )
    return program


def _architectures(profile: Seccomp) -> Iterator[tuple[str, int]]:
    """Each once, with its origin; this machine's own need not be listed."""
    seen = {native()}
    yield "linux.seccomp.architectures", native()
    for index, name in enumerate(profile.architectures):
        origin = f"linux.seccomp.architectures[{index}]"
        token = architecture(name)
        if not token:
            raise UnsupportedError(origin, f"{name} is not known to this libseccomp: it needs a newer one")
        if token not in seen:
            seen.add(token)
            yield origin, token


def _refuse_what_is_confused(profile: Seccomp, default: int) -> None:
    """An upper bound beside another bound of the same argument, where the upper 32 bits of the two differ.

    libseccomp compares halves, and merges those of several rules: from ``< 5`` or ``< 2**32`` it makes a program that
    does not take 2**32 - 1 for either (2.5.4).
    """
    bounds: dict[tuple[str, int], list[SyscallArg]] = {}
    for index, rule in enumerate(profile.syscalls):
        if verdict(rule.action, rule.errno_ret) == default:
            continue
        for place, arg in enumerate(rule.args):
            for name in rule.names if arg.op in BOUNDS else ():
                others = bounds.setdefault((name, arg.index), [])
                if any(_are_confused(arg, other) for other in others):
                    raise UnsupportedError(
                        f"linux.seccomp.syscalls[{index}].args[{place}]",
                        f"{name} has another bound for this argument, whose upper 32 bits differ from {arg.value:#x}: "
                        "libseccomp would make a filter that says something else",
                    )
                others.append(arg)


def _are_confused(one: SyscallArg, other: SyscallArg) -> bool:
    return one.value >> 32 != other.value >> 32 and (one.op in BELOW or other.op in BELOW)


def _add_architecture(rules: Rules, token: int, origin: str) -> None:
    try:
        rules.add_architecture(token)
    except OSError as error:
        reason = "has another byte order than this machine" if error.errno == errno.EDOM else str(error.strerror)
        raise UnsupportedError(origin, f"{reason}, and could never run here; leave it out") from error


def _add(rules: Rules, rule: Syscall, default: int, origin: str) -> None:
    """A rule that says no more than the default is left out: libseccomp takes none of those."""
    action = verdict(rule.action, rule.errno_ret)
    if action == default:
        return
    alternatives = tuple(_alternatives(rule))
    for place, name in enumerate(rule.names):
        number = system_call(name)
        if number == ABSENT:  # of a later kernel, or of another one: OCI lets profiles list them all
            continue
        for conditions in alternatives:
            _add_call(rules, action, number, conditions, f"{origin}.names[{place}]")


def _add_call(rules: Rules, action: int, number: int, conditions: tuple[Condition, ...], origin: str) -> None:
    try:
        rules.add(action, number, conditions)
    except OSError as error:
        reason = {
            errno.EINVAL: "this libseccomp does not know the action: it needs a newer one",
            errno.EEXIST: "another rule gives the same system call another action",
        }
        words = reason.get(error.errno or 0, f"libseccomp refuses the rule: {error.strerror}")
        raise UnsupportedError(origin, words) from error


def _alternatives(rule: Syscall) -> Iterator[tuple[Condition, ...]]:
    """What has to hold, in one way or another.

    libseccomp takes one condition an argument. Where there are two, they become rules of their own, as in runc: that
    makes an "or" of them, and profiles in use are written for it.
    """
    conditions = tuple(Condition(arg.index, OPERATORS[arg.op], arg.value, arg.value_two or 0) for arg in rule.args)
    if any(count > 1 for count in Counter(condition.argument for condition in conditions).values()):
        yield from ((condition,) for condition in conditions)
    else:
        yield conditions


def _head(profile: Seccomp, default: int, tokens: list[int]) -> bytes:
    """ENOSYS for what is newer than anything that the profile lists; see ``bpf``."""
    if profile.default_action in UNDERSTANDING or default == bpf.UNKNOWN:
        return b""
    names = {name for rule in profile.syscalls for name in rule.names}
    highest = {token: max((system_call_of(token, name) for name in names), default=ABSENT) for token in tokens}
    return b"".join(bpf.refuse_above(token, number) for token, number in highest.items() if number >= 0)


def asked(profile: Seccomp) -> Mapping[tuple[int, int], str]:
    """The names of the calls that are left to others, by the kernel's name of the architecture and by number."""
    names = {name for rule in profile.syscalls if rule.action == NOTIFY for name in rule.names}
    tokens = [token for _, token in _architectures(profile)]
    return {(bpf.kernels_name(token), system_call_of(token, name)): name for token in tokens for name in names}
