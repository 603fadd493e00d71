"""Which devices a container may use, as writes to the ``devices`` controller of cgroup version 1.

The rules of config.json in their order, each overriding those before it, and after them the devices that every
container has (config-linux.md, "Default Devices"): runc allows the same ones, and engines' users rely on them.
The kernel's side is Documentation/admin-guide/cgroup-v1/devices.rst. Version 2 would need an eBPF program.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ocirt.errors import Problem, SpecError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.layout import Layout
    from ocirt.spec.linux import DeviceRule

ORIGIN = "linux.resources.devices"

DEFAULTS = (
    "c *:* m",  # making a node is harmless: using one is what the other rules are about
    "b *:* m",
    "c 1:3 rwm",  # null
    "c 1:5 rwm",  # zero
    "c 1:7 rwm",  # full
    "c 1:8 rwm",  # random
    "c 1:9 rwm",  # urandom
    "c 5:0 rwm",  # tty
    "c 5:2 rwm",  # ptmx
    "c 136:* rwm",  # pts
    "c 10:200 rwm",  # net/tun: runc left it out once and had to take it back (opencontainers/runc#3468)
)

ALLOW, DENY = "devices.allow", "devices.deny"


class DeviceWrite(NamedTuple):
    """Rules for one of the controller's two files."""

    file: str
    rules: tuple[str, ...]
    origin: str


class _Rule(NamedTuple):
    """A device rule by its values alone, which makes it a key."""

    allow: bool
    type: str
    major: int | None
    minor: int | None
    access: str | None

    @property
    def file(self) -> str:
        return ALLOW if self.allow else DENY

    @property
    def text(self) -> str:
        if self.type == "a":
            return "a"  # the kernel ignores the rest
        return f"{self.type} {_number(self.major)}:{_number(self.minor)} {self.access}"


def device_writes(rules: Sequence[DeviceRule]) -> tuple[DeviceWrite, ...]:
    """What makes a new cgroup's list the one asked for; without any rule, all but the defaults is denied."""
    return _writes(tuple(_Rule(rule.allow, rule.type or "a", rule.major, rule.minor, rule.access) for rule in rules))


@functools.lru_cache(maxsize=32)
def _writes(rules: tuple[_Rule, ...]) -> tuple[DeviceWrite, ...]:
    """A rule for all devices resets the list, so whatever precedes the last of them is left out."""
    _check(rules)
    resets = [index for index, rule in enumerate(rules) if rule.type == "a"]
    start = resets[-1] if resets else 0
    writes = [] if resets else [DeviceWrite(DENY, ("a",), ORIGIN)]
    for index, rule in enumerate(rules[start:], start):
        writes.append(DeviceWrite(rule.file, (rule.text,), f"{ORIGIN}[{index}]"))
    everything_allowed = bool(resets) and all(rule.allow for rule in rules[start:])
    if not everything_allowed:
        writes.append(DeviceWrite(ALLOW, DEFAULTS, ORIGIN))
    _refuse_holes(writes)
    return tuple(writes)


def check_supported(layout: Layout, rules: Sequence[DeviceRule], *, rootless: bool) -> None:
    """Refuse a device list that nothing here would enforce.

    An ordinary user's list is ignored, as runc does: the kernel lets no such user make or use a device node anyway.
    """
    if not rules or rootless or any("devices" in hierarchy.controllers for hierarchy in layout.hierarchies):
        return
    if layout.mode == "v2":
        raise UnsupportedError(ORIGIN, "cgroup version 2 needs an eBPF program for this, which ocirt cannot make yet")
    raise UnsupportedError(ORIGIN, "the devices controller of cgroup version 1 is not mounted here")


def _check(rules: Sequence[_Rule]) -> None:
    """What the kernel would refuse with a bare EINVAL, or misunderstand."""
    problems = [problem for index, rule in enumerate(rules) for problem in _problems(rule, f"{ORIGIN}[{index}]")]
    if problems:
        raise SpecError(problems)


def _problems(rule: _Rule, path: str) -> Iterator[Problem]:
    if rule.type not in ("a", "b", "c"):
        yield Problem(f"{path}.type", rule.type, "must be a, b or c in a device rule")
    if not rule.access:
        yield Problem(f"{path}.access", rule.access, "device access cannot be empty")
    elif not set(rule.access) <= set("rwm"):
        yield Problem(f"{path}.access", rule.access, "must consist of r, w and m")
    for name, number in (("major", rule.major), ("minor", rule.minor)):
        if number is not None and not -1 <= number < 2**32:
            yield Problem(f"{path}.{name}", number, "must be a device number, or -1 for every one")


def _number(number: int | None) -> str:
    return "*" if number is None or number == -1 else str(number)


def _refuse_holes(writes: Sequence[DeviceWrite]) -> None:
    """Raise where a rule would take a part out of a wildcard rule, which the kernel silently does not do.

    The kernel keeps a list of exceptions to "deny all" or to "allow all"; a rule of the opposite kind only removes
    exceptions for exactly its own numbers (dev_exception_rm in security/device_cgroup.c).
    """
    exceptions: dict[tuple[str, str, str], set[str]] = {}
    default = DENY
    for write in writes:
        for rule in write.rules:
            if rule == "a":
                default = write.file
                exceptions.clear()
                continue
            kind, numbers, access = rule.split()
            major, minor = numbers.split(":")
            if write.file != default:
                exceptions.setdefault((kind, major, minor), set()).update(access)
                continue
            for wildcard in {(kind, "*", minor), (kind, major, "*"), (kind, "*", "*")} - {(kind, major, minor)}:
                if exceptions.get(wildcard, set()) & set(access):
                    raise UnsupportedError(write.origin, _hole(rule, wildcard))
            exceptions.get((kind, major, minor), set()).difference_update(access)


def _hole(rule: str, wildcard: tuple[str, str, str]) -> str:
    kind, major, minor = wildcard
    return f"cgroup version 1 cannot take the part {rule!r} out of the rule for '{kind} {major}:{minor}'"
