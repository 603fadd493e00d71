"""What every object of config.json has in common.

A class of this package is one object of the OCI documents: its members in their order, under their names in
snake_case, and nothing else. Absent scalars and objects are ``None`` (or the default that the OCI text gives),
absent lists and maps are empty. Integer types carry the width that the JSON Schema gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, NamedTuple, TypeAlias

import attrs
from attrs import field, frozen

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self

    from ocirt.errors import Problem

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"
"""Whatever a JSON text may hold."""


class Bounds(NamedTuple):
    """The least and the greatest value of an integer type, and its name in the JSON Schema."""

    name: str
    low: int
    high: int


UInt16 = Annotated[int, Bounds("uint16", 0, 2**16 - 1)]
UInt32 = Annotated[int, Bounds("uint32", 0, 2**32 - 1)]
UInt64 = Annotated[int, Bounds("uint64", 0, 2**64 - 1)]
Int32 = Annotated[int, Bounds("int32", -(2**31), 2**31 - 1)]
Int64 = Annotated[int, Bounds("int64", -(2**63), 2**63 - 1)]

FreeText = Annotated[str, "any text"]
"""What is handed on and never becomes a string of C, so that it may hold NUL."""

REQUIRED: Final = {"required": True}
"""Metadata of a member that every JSON text must have although Python code may leave it out."""


class Relation(str):
    """The path of a problem that lies between several members: ``others`` are those that are not wrong themselves."""

    __slots__ = ("others",)

    others: tuple[str, ...]


def relation(path: str, *others: str) -> str:
    """``path``, where what is told of it depends on what is at the ``others``."""
    place = Relation(path)
    place.others = others
    return place


NOT_JSON: Final = frozenset(("unknown", "_found"))
"""Fields that are no members of the JSON object."""


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """A tuple of any iterable; a lone string is refused, for ``args="sh"`` would run ``s`` with the argument ``h``."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"expected several strings, not the one string {values!r}")
    return tuple(values)


def join(outer: str, inner: str) -> str:
    """The path of what is at ``inner`` below ``outer``: ``mounts[3]`` and ``options[1]``."""
    if not outer or not inner:
        return outer or inner
    return f"{outer}{inner}" if inner.startswith("[") else f"{outer}.{inner}"


def key(name: str) -> str:
    """How a path names a member; names that are no words are quoted, for they may hold dots."""
    return name if name.isidentifier() else f"[{name!r}]"


def member(outer: str, name: str) -> str:
    """The path of the member ``name`` of the object at ``outer``."""
    return join(outer, key(name))


@frozen(repr=False)
class OCIObject:
    """An object of config.json, and the members of it that this version of ocirt has no field for."""

    NULL_IS_ABSENT: ClassVar[bool] = False
    """Whether a member that is null is as good as none; in config.json it is wrong."""

    unknown: Mapping[str, JSON] = field(factory=dict, kw_only=True, hash=False)
    """Members to be written back as they were read: those of other platforms and later versions of the
    specification, and known ones whose value says no more than their absence (an empty list, a default)."""

    def evolve(self, **changes: object) -> Self:
        """A copy with some fields changed."""
        # Any field of any subclass: attrs itself refuses a wrong name.
        return attrs.evolve(self, **changes)  # type: ignore[arg-type]  # of members, by their names

    def __repr__(self) -> str:
        """Only what is set: a configuration has some two hundred members, and uses twenty."""
        fields = {a.name: getattr(self, a.name) for a in attrs.fields(type(self)) if a.name not in NOT_JSON}
        if self.unknown:
            fields["unknown"] = self.unknown
        body = ", ".join(f"{name}={value!r}" for name, value in fields.items() if not _is_unset(value))
        return f"{type(self).__name__}({body})"


def _is_unset(value: object) -> bool:
    return value is None or value is False or value in ((), {})


@frozen(repr=False)
class Document(OCIObject):
    """An object that is a file of its own: config.json, or the process.json of ``exec``."""

    _found: tuple[Problem, ...] | None = field(default=None, init=False, eq=False)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read the file at ``path``: SpecError tells all that is wrong in it, BundleError that it is not there."""
        from ocirt.spec import convert

        return convert.load(path, cls)

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        """The same from JSON text."""
        from ocirt.spec import convert

        return convert.loads(text, cls)

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """The same from what ``json.loads`` made of it."""
        from ocirt.spec import convert

        return convert.from_json(value, cls)

    def to_json(self) -> dict[str, JSON]:
        """What ``json.dumps`` takes."""
        from ocirt.spec import convert

        return convert.to_json(self)

    def dumps(self, indent: str | int | None = "\t") -> str:
        """JSON text, by default indented as runc writes it."""
        from ocirt.spec import convert

        return convert.dumps(self, indent)

    def dump(self, path: str | PathLike[str]) -> None:
        """Write the file at ``path``."""
        text = self.dumps()
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def check(self) -> tuple[Problem, ...]:
        """Everything that is wrong with this object: nothing, if it was loaded."""
        from ocirt.spec import convert

        if self._found is None:
            self.remember(convert.problems(self))
        return self._found or ()

    def remember(self, found: tuple[Problem, ...]) -> None:
        """Keep what a check found: the object is frozen, so that it remains true, and every create asks again."""
        object.__setattr__(self, "_found", found)
