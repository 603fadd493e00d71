"""Which devices a container may use: what the rules of config.json say, and how cgroup version 1 hears it.

The rules in their order, each overriding those before it, and after them the devices that every container has
(config-linux.md, "Default Devices"): runc allows the same ones, and engines' users rely on them. A rule for all devices
starts anew. Version 1 takes rules as text (Documentation/admin-guide/cgroup-v1/devices.rst in the kernel's source);
for version 2, ``bpf`` makes a program of the same list.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from ocirt.errors import Problem, SpecError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.layout import Layout
    from ocirt.spec.linux import DeviceRule

ORIGIN = "linux.resources.devices"

ALLOW, DENY = "devices.allow", "devices.deny"


class Rule(NamedTuple):
    """One rule, with the member of config.json that it stands for."""

    allow: bool
    type: str
    major: int | None
    """``None`` is every number."""
    minor: int | None
    access: str
    origin: str = ORIGIN
    """A default's is the list as a whole."""

    @property
    def text(self) -> str:
        """As version 1 writes it."""
        major, minor = ("*" if number is None else number for number in (self.major, self.minor))
        return f"{self.type} {major}:{minor} {self.access}"

    @property
    def file(self) -> str:
        return ALLOW if self.allow else DENY

    def covers(self, other: Rule) -> bool:
        """Whether it is about every device that ``other`` is about."""
        return self.type == other.type and self.major in (None, other.major) and self.minor in (None, other.minor)

    def meets(self, other: Rule) -> bool:
        """Whether there is a device that both are about."""
        return (
            self.type == other.type
            and (self.major == other.major or None in (self.major, other.major))
            and (self.minor == other.minor or None in (self.minor, other.minor))
        )


DEFAULTS = (
    Rule(True, "c", None, None, "m"),  # making a node is harmless: using one is what the other rules are about
    Rule(True, "b", None, None, "m"),
    Rule(True, "c", 1, 3, "rwm"),  # null
    Rule(True, "c", 1, 5, "rwm"),  # zero
    Rule(True, "c", 1, 7, "rwm"),  # full
    Rule(True, "c", 1, 8, "rwm"),  # random
    Rule(True, "c", 1, 9, "rwm"),  # urandom
    Rule(True, "c", 5, 0, "rwm"),  # tty
    Rule(True, "c", 5, 2, "rwm"),  # ptmx
    Rule(True, "c", 136, None, "rwm"),  # pts
    Rule(True, "c", 10, 200, "rwm"),  # net/tun: runc left it out and had to take it back (opencontainers/runc#3468)
)


class DeviceList(NamedTuple):
    """What holds for devices that no rule is about, and the rules; each overrides those before it."""

    allow: bool
    origin: str
    """Of the last rule for all devices; the list's own if there is none."""
    rules: tuple[Rule, ...]

    @property
    def everything(self) -> bool:
        return self.allow and not self.rules


def device_list(rules: Sequence[DeviceRule]) -> DeviceList:
    """What the rules of config.json come to; without any, all but the defaults is denied.

    :raises SpecError: the kernel would refuse one of them with a bare EINVAL, or misunderstand it.
    """
    return _device_list(tuple((rule.allow, rule.type, rule.major, rule.minor, rule.access) for rule in rules))


_Values = tuple[bool, str | None, int | None, int | None, str | None]
"""A rule by its values alone, which makes it a key."""


@functools.lru_cache(maxsize=32)
def _device_list(values: tuple[_Values, ...]) -> DeviceList:
    if problems := [problem for index, rule in enumerate(values) for problem in _problems(rule, f"{ORIGIN}[{index}]")]:
        raise SpecError(problems)
    allow, origin = False, ORIGIN
    rules: list[Rule] = []
    for index, (allows, type_, major, minor, access) in enumerate(values):
        at = f"{ORIGIN}[{index}]"
        if type_ in (None, "a"):  # numbers and access of such a rule say nothing to the kernel
            allow, origin, rules = allows, at, []
        else:
            rules.append(Rule(allows, type_ or "", _number(major), _number(minor), access or "", at))
    effective = _effective((*rules, *DEFAULTS))
    if allow and all(rule.allow for rule in effective):
        return DeviceList(allow, origin, ())
    return DeviceList(allow, origin, effective)


def _effective(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Without those that later ones override entirely."""
    said: dict[tuple[str, int | None, int | None], set[str]] = {}
    kept = []
    for rule in reversed(rules):
        wider = [(rule.type, major, minor) for major in (rule.major, None) for minor in (rule.minor, None)]
        if set(rule.access) - {letter for key in wider for letter in said.get(key, ())}:
            kept.append(rule)
            said.setdefault(wider[0], set()).update(rule.access)
    return tuple(reversed(kept))


Means = Literal["files", "program", "nothing"]
"""How a device list is enforced: by files of version 1, by a program in version 2, or not at all."""


def means(layout: Layout, *, rootless: bool) -> Means:
    """The controller of version 1 where it is mounted; version 2 has none, and takes programs on any machine.

    An ordinary user's list is ignored, as runc does: the kernel lets no such user make or use a device node anyway.
    """
    if rootless:
        return "nothing"
    if any("devices" in hierarchy.controllers for hierarchy in layout.hierarchies):
        return "files"
    return "program" if any(hierarchy.version == 2 for hierarchy in layout.hierarchies) else "nothing"


def check_supported(layout: Layout, rules: Sequence[DeviceRule], *, rootless: bool) -> None:
    """Refuse a device list that nothing here would enforce."""
    if rules and not rootless and means(layout, rootless=False) == "nothing":
        raise UnsupportedError(
            ORIGIN, "neither cgroup version 2 nor the devices controller of version 1 is mounted here"
        )


def _problems(values: _Values, path: str) -> Iterator[Problem]:
    _, type_, major, minor, access = values
    if type_ not in (None, "a", "b", "c"):
        yield Problem(f"{path}.type", type_, "must be a, b or c in a device rule")
    if not access:
        yield Problem(f"{path}.access", access, "device access cannot be empty")
    elif not set(access) <= set("rwm"):
        yield Problem(f"{path}.access", access, "must consist of r, w and m")
    for name, number in (("major", major), ("minor", minor)):
        if number is not None and not -1 <= number < 2**32 - 1:  # which would mean every one to version 1
            yield Problem(f"{path}.{name}", number, "must be a device number, or -1 for every one")


def _number(number: int | None) -> int | None:
    return None if number == -1 else number


class DeviceWrite(NamedTuple):
    """Rules for one of the controller's two files."""

    file: str
    rules: tuple[str, ...]
    origin: str


@functools.lru_cache(maxsize=32)
def device_writes(devices: DeviceList) -> tuple[DeviceWrite, ...]:
    """What makes a new cgroup's list the one asked for.

    The kernel keeps exceptions to "deny all" or to "allow all", and one exception must grant all of an access. A rule
    of the default's own kind removes exceptions for exactly its numbers and no others (security/device_cgroup.c).

    :raises UnsupportedError: a rule would take a part out of a wildcard, which the kernel silently does not do.
    """
    writes = [DeviceWrite(ALLOW if devices.allow else DENY, ("a",), devices.origin)]
    exceptions: list[Rule] = []
    for rule in devices.rules:
        texts = [rule.text]
        if rule.allow != devices.allow:
            exceptions.append(rule)
        else:
            texts += [hit.text for hit in _removed(rule, exceptions)]
            exceptions = list(_left(rule, exceptions))
        _append(writes, rule, texts)
    if not devices.allow and (joint := _joint(exceptions)):
        writes.append(DeviceWrite(ALLOW, joint, ORIGIN))
    return tuple(writes)


def _append(writes: list[DeviceWrite], rule: Rule, texts: Sequence[str]) -> None:
    """The defaults, which come last and are of one origin, are one write."""
    last = writes[-1]
    if (last.origin, last.file) == (rule.origin, rule.file) == (ORIGIN, ALLOW):
        writes[-1] = last._replace(rules=(*last.rules, *texts))
    else:
        writes.append(DeviceWrite(rule.file, tuple(texts), rule.origin))


def _removed(rule: Rule, exceptions: Sequence[Rule]) -> Iterator[Rule]:
    """What the rule takes from narrower exceptions, each of which has to be named."""
    for exception in exceptions:
        access = "".join(letter for letter in exception.access if letter in rule.access)
        if not (access and rule.meets(exception)):
            continue
        if not rule.covers(exception):
            raise UnsupportedError(
                rule.origin, f"cgroup version 1 cannot take the part {rule.text!r} out of the rule {exception.text!r}"
            )
        if not exception.covers(rule):
            yield exception._replace(access=access)


def _left(rule: Rule, exceptions: Sequence[Rule]) -> Iterator[Rule]:
    for exception in exceptions:
        access = exception.access
        if rule.covers(exception):
            access = "".join(letter for letter in access if letter not in rule.access)
        if access:
            yield exception._replace(access=access)


def _joint(exceptions: Sequence[Rule]) -> tuple[str, ...]:
    """Exceptions for devices that one exception lets be read and another be written: opening for both takes one."""
    readable = [rule for rule in exceptions if "r" in rule.access and "w" not in rule.access]
    writable = [rule for rule in exceptions if "w" in rule.access and "r" not in rule.access]
    found = {}
    for one in readable:
        for other in writable:
            if one.meets(other) and not (one.covers(other) and other.covers(one)):
                major = one.major if other.major is None else other.major
                minor = one.minor if other.minor is None else other.minor
                found[Rule(True, one.type, major, minor, "rw").text] = True
    return tuple(found)
