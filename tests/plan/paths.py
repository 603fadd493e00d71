"""Where in a configuration an operation's origin points to: what ``mounts[3].options[1]`` finds there."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator

import attrs

import ocirt.spec
from ocirt.errors import Problem
from ocirt.spec import JSON, Spec
from ocirt.spec.base import OCIObject

STEP = re.compile(r'\.?(?P<name>\w+)|\[(?P<index>\d+)\]|\["(?P<key>[^"]+)"\]')

ABSENT = object()


def steps(origin: str) -> list[str | int]:
    """The members and places that a path goes through; ValueError if it is no path."""
    found: list[str | int] = []
    at = 0
    while at < len(origin):
        step = STEP.match(origin, at)
        if step is None:
            raise ValueError(f"{origin!r} is no path from place {at} on")
        found.append(int(step["index"]) if step["index"] else step["name"] or step["key"])
        at = step.end()
    return found


def look_up(document: JSON, origin: str) -> object:
    """What stands at ``origin``, or ABSENT."""
    value = document
    for step in steps(origin):
        match value, step:
            case dict(), str() if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return ABSENT
    return value


def is_known(origin: str) -> bool:
    """Whether the classes have such a member at all: a default stands for an absent one."""
    cls: object = Spec
    for step in steps(origin):
        if not isinstance(step, str) or not (isinstance(cls, type) and issubclass(cls, OCIObject)):
            return False
        names = {_json_name(field.name): field.name for field in attrs.fields(cls)}
        if step not in names:
            return False
        cls = next(_classes(typing.get_type_hints(cls, None, _classes_by_name())[names[step]]), None)
    return True


def _classes_by_name() -> dict[str, object]:
    """All of them, also those that ``ocirt.spec`` loads when they are first used."""
    return {"Problem": Problem, **{name: getattr(ocirt.spec, name) for name in ocirt.spec.__all__}}


def _classes(hint: object) -> Iterator[type[OCIObject]]:
    if isinstance(hint, type) and issubclass(hint, OCIObject):
        yield hint
    for argument in typing.get_args(hint):
        yield from _classes(argument)


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
