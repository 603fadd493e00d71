"""JSON text, read as RFC 8259 and config.md have it: UTF-8, every number a number, no member given twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NoReturn

from ocirt.errors import Problem
from ocirt.spec.base import JSON, member


class NotJSON(ValueError):
    """The text is no JSON; the words say where."""


class _Doubled(dict[str, JSON]):
    """An object some of whose members were given twice; the last ones are in it."""

    names: tuple[str, ...] = ()


def parse(text: str | bytes) -> tuple[JSON, list[Problem]]:
    """The value of a text, and the members that are given twice in it."""
    found: list[_Doubled] = []

    def members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        found.append(_doubled(made, [name for name, _ in pairs]))
        return found[-1]

    try:
        value: JSON = json.loads(
            _decoded(text), object_pairs_hook=members, parse_constant=_no_number, parse_float=_finite
        )
        return value, list(_doubles(value, "")) if found else []
    except json.JSONDecodeError as error:
        raise NotJSON(f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise NotJSON("nested too deeply") from error
    except NotJSON:
        raise
    except ValueError as error:
        raise NotJSON(str(error).partition(":")[0]) from error


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - text.rfind(b"\n", 0, error.start)
        raise NotJSON(f"{error.reason} in UTF-8 (line {line}, column {column})") from error


def _no_number(name: str) -> NoReturn:
    raise NotJSON(f"{name} is not a number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise NotJSON(f"{digits} is more than a number can be")
    return number


def _doubled(members: dict[str, JSON], names: list[str]) -> _Doubled:
    doubled = _Doubled(members)
    doubled.names = tuple(name for name in members if names.count(name) > 1)
    return doubled


def _doubles(value: JSON, path: str) -> Iterator[Problem]:
    if isinstance(value, _Doubled):
        yield from (Problem(member(path, name), None, "is given twice") for name in value.names)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _doubles(inner, member(path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _doubles(inner, f"{path}[{index}]")
