"""What device rules mean, said directly; the kernel's own list of exceptions; lists and accesses to compare them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from attrs import define, field
from hypothesis import strategies as st

from ocirt.cgroups.devices import ALLOW, DeviceWrite
from ocirt.spec.linux import DeviceRule

Access = tuple[str, str, int, int]
"""The type, what is asked for, and the numbers."""

EVERY_CONTAINERS = (
    *(DeviceRule(allow=True, type=type_, access="m") for type_ in "bc"),
    *(DeviceRule(allow=True, type="c", major=1, minor=minor, access="rwm") for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule(allow=True, type="c", major=5, minor=minor, access="rwm") for minor in (0, 2)),
    DeviceRule(allow=True, type="c", major=136, access="rwm"),
    DeviceRule(allow=True, type="c", major=10, minor=200, access="rwm"),
)

# Few numbers, so that rules meet each other and default devices; among them the greatest that there is.
MAJORS = (1, 10, 2**32 - 2)
MINORS = (3, 229)

ACCESSES: tuple[Access, ...] = tuple(
    itertools.product("bc", ("r", "w", "m", "rw", "rm", "wm", "rwm"), MAJORS, (*MINORS, 200))
)
"""Every one that rules about these numbers could tell from another."""


def is_allowed(rules: Sequence[DeviceRule], access: Access) -> bool:
    """All that is asked for must be allowed, each part by the last rule that is about it."""
    type_, asked, major, minor = access

    def part(letter: str) -> bool:
        verdict = False
        for rule in (*rules, *EVERY_CONTAINERS):
            is_about = (
                rule.type == type_
                and rule.major in (None, -1, major)
                and rule.minor in (None, -1, minor)
                and letter in (rule.access or "")
            )
            if is_about or rule.type in (None, "a"):
                verdict = rule.allow
        return verdict

    return all(map(part, asked))


def allowed(rules: Sequence[DeviceRule], accesses: Iterable[Access]) -> list[Access]:
    return [access for access in accesses if is_allowed(rules, access)]


@define
class Kernel:
    """A new cgroup's list in the devices controller of version 1 (security/device_cgroup.c)."""

    allows: bool = True
    exceptions: dict[tuple[str, str, str], set[str]] = field(factory=dict)

    def take(self, writes: Iterable[DeviceWrite]) -> Kernel:
        for write in writes:
            for rule in write.rules:
                self._take(rule, write.file == ALLOW)
        return self

    def _take(self, rule: str, allow: bool) -> None:
        if rule == "a":
            self.allows = allow
            self.exceptions.clear()
            return
        type_, numbers, access = rule.split(" ")
        major, minor = numbers.split(":")
        exception = self.exceptions.setdefault((type_, major, minor), set())
        if allow == self.allows:
            exception.difference_update(access)
            if not exception:
                del self.exceptions[type_, major, minor]
        else:
            exception.update(access)

    def permits(self, access: Access) -> bool:
        type_, asked, major, minor = access
        hits = [
            letters
            for (kind, one, other), letters in self.exceptions.items()
            if kind == type_ and one in ("*", str(major)) and other in ("*", str(minor))
        ]
        if self.allows:
            return not any(letters & set(asked) for letters in hits)
        return any(letters >= set(asked) for letters in hits)


def lists() -> st.SearchStrategy[list[DeviceRule]]:
    """Most begin as configurations do, with a rule for all devices; a later one would hide all before it."""
    majors, minors = st.sampled_from((None, -1, *MAJORS)), st.sampled_from((None, -1, *MINORS))
    letters = st.sampled_from(("r", "w", "m", "rw", "wr", "rm", "rwm"))
    some = st.builds(DeviceRule, st.booleans(), st.sampled_from("bcc"), majors, minors, letters)
    everything = st.builds(DeviceRule, st.booleans(), st.sampled_from((None, "a")), majors, minors, letters)
    rules = st.lists(some, max_size=6)
    return st.one_of(
        rules,
        st.tuples(everything, rules).map(lambda parts: [parts[0], *parts[1]]),
        st.tuples(rules, everything, rules).map(lambda parts: [*parts[0], parts[1], *parts[2]]),
    )
