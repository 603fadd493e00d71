"""The JSON of ``docker inspect`` as it is taken apart: strictly, and so that nothing in it is overlooked.

Go writes ``null`` for what is absent, and a zero for what nobody has set: both say nothing. Every object remembers
which of its members somebody has looked at; what is left in the end, and says something, is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from ocirt.errors import Problem
from ocirt.spec.base import JSON, member
from ocirt.spec.imported import LEFT_OUT, Note

INT64: Final = range(-(2**63), 2**63)


@define
class Findings:
    """What comes to light beside the values."""

    problems: list[Problem] = field(factory=list)
    notes: list[Note] = field(factory=list)

    def wrong(self, path: str, value: object, rule: str) -> None:
        self.problems.append(Problem(path, value, rule))

    def distinct(self) -> tuple[Problem, ...]:
        """Each problem once, however often somebody has looked at what is wrong."""
        return tuple({(problem.path, problem.rule): problem for problem in self.problems}.values())

    def note(self, path: str, value: object, why: str, *, became: str = LEFT_OUT) -> None:
        self.notes.append(Note(path, value, became, why))


class Part:
    """One object of the document; members that are absent read as Go's zero values."""

    def __init__(self, value: JSON, path: str, found: Findings) -> None:
        self.path = path
        self.found = found
        self._parts: list[Part] = []
        self._read: set[str] = set()
        if value is not None and not isinstance(value, dict):
            found.wrong(path, value, "must be an object")
        self._members: dict[str, JSON] = value if isinstance(value, dict) else {}

    def at(self, name: str) -> str:
        """The path of a member."""
        return member(self.path, name)

    def __contains__(self, name: str) -> bool:
        """It is there and not null: for the few members where zero is a choice."""
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        value = self._of(name, str, "a string")
        text = value if isinstance(value, str) else ""
        if "\0" in text:
            self.found.wrong(self.at(name), text, "must not hold a NUL character")
        return text.replace("\0", "")

    def boolean(self, name: str) -> bool:
        return self._of(name, bool, "true or false") is True

    def integer(self, name: str) -> int:
        value = self._of(name, int, "an integer")
        if not isinstance(value, int):
            return 0
        if value not in INT64:
            self.found.wrong(self.at(name), value, "must be within 64 bits")
            return 0
        return value

    def positive(self, name: str) -> int | None:
        """A limit, for which Docker takes 0 and -1 as none."""
        value = self.integer(name)
        return value if value > 0 else None

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings."""
        return tuple(text for _, text in self.numbered(name))

    def numbered(self, name: str) -> Iterator[tuple[str, str]]:
        """The same with the path of each."""
        for index, item in enumerate(self._list(name)):
            place = f"{self.at(name)}[{index}]"
            if isinstance(item, str) and "\0" not in item:
                yield place, item
            else:
                self.found.wrong(place, item, "must be a string without NUL characters")

    def words(self, name: str) -> dict[str, str]:
        """An object of strings."""
        inner = self.part(name)
        return {word: inner.text(word) for word in inner.names()}

    def names(self) -> tuple[str, ...]:
        """Of all members of this object, whose names are a choice of somebody's."""
        self._read.update(self._members)
        for name in self._members:
            if "\0" in name:
                self.found.wrong(self.at(name), None, "must not hold a NUL character in its name")
        return tuple(self._members)

    def part(self, name: str) -> Part:
        self._read.add(name)
        part = Part(self._members.get(name), self.at(name), self.found)
        self._parts.append(part)
        return part

    def parts(self, name: str) -> tuple[Part, ...]:
        """An array of objects."""
        made = tuple(
            Part(item if item is not None else {}, f"{self.at(name)}[{index}]", self.found)
            for index, item in enumerate(self._list(name))
        )
        self._parts += made
        return made

    def raw(self, name: str) -> JSON:
        self._read.add(name)
        return self._members.get(name)

    def known(self, *names: str) -> None:
        """Members that say nothing of how a container is made."""
        self._read.update(names)

    def leave(self, name: str, why: str, *, became: str = LEFT_OUT) -> None:
        """A member that is told instead of carried over, if it says something: each item of an array by itself."""
        value = self.raw(name)
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.found.note(f"{self.at(name)}[{index}]", item, why, became=became)
        elif isinstance(value, dict):
            for inner, item in value.items():
                self.found.note(member(self.at(name), inner), item, why, became=became)
        elif value:
            self.found.note(self.at(name), value, why, became=became)

    def leave_rest(self) -> None:
        """Tell of everything here and below that nobody has looked at."""
        for name, value in self._members.items():
            if name not in self._read and says_something(value):
                self.found.note(self.at(name), value, "this version of ocirt does not know what it means")
        for part in self._parts:
            part.leave_rest()

    def _of(self, name: str, kind: type, what: str) -> JSON:
        value = self.raw(name)
        if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
            return value
        self.found.wrong(self.at(name), value, f"must be {what}")
        return None

    def _list(self, name: str) -> list[JSON]:
        value = self._of(name, list, "an array")
        return value if isinstance(value, list) else []


def says_something(value: JSON) -> bool:
    """Anything but Go's zero values and what consists of them."""
    if isinstance(value, dict):
        return any(map(says_something, value.values()))
    return bool(value)
