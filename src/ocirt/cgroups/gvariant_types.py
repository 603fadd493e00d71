"""Types of D-Bus as patterns: a signature taken apart, in which some parts may still be open."""

from __future__ import annotations

import re
from typing import Final

DEPTH: Final = 32
"""How deep arrays and structures may be nested (D-Bus specification, Valid Signatures)."""

INTEGERS: Final = {
    "y": (0, 2**8 - 1),
    "n": (-(2**15), 2**15 - 1),
    "q": (0, 2**16 - 1),
    "i": (-(2**31), 2**31 - 1),
    "u": (0, 2**32 - 1),
    "x": (-(2**63), 2**63 - 1),
    "t": (0, 2**64 - 1),
}
"""The whole numbers and their ranges."""

KEYWORDS: Final = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
"""How the text format names them; ``handle`` is a descriptor, which text cannot carry."""

BASIC: Final = frozenset("bynqiuxtdsogv")

OPEN: Final = {"N": frozenset((*INTEGERS, "d")), "S": frozenset("sog")}
"""A number and a string, and what each may turn out to be; ``*`` is anything."""

USUAL: Final = {"N": "i", "S": "s"}

OBJECT_PATH: Final = re.compile(r"/|(?:/[A-Za-z0-9_]+)+")

Pattern = str | tuple["Pattern", ...]
"""One letter of a signature, or ``("a", element)``, ``("(", member, …)``, ``("{", key, value)``."""

Value = bool | int | float | str | bytes | list["Value"] | tuple["Value", ...] | dict["Value", "Value"]
"""What jeepney takes for a type: a structure is a tuple, a variant the pair of its signature and its value."""


class VariantError(ValueError):
    """A text that is no value of D-Bus."""


def read_signature(text: str) -> Pattern:
    """A pattern without open parts.

    :raises VariantError: it is not one complete type.
    """
    pattern, rest = _type(text, 0)
    if rest:
        raise VariantError(f"{text!r} is more than one type")
    return pattern


def _type(text: str, depth: int) -> tuple[Pattern, str]:
    if depth > DEPTH:
        raise VariantError(f"a type is nested deeper than {DEPTH} levels")
    if text[:1] in BASIC:
        return text[0], text[1:]
    if text.startswith("a{"):
        key, rest = _type(text[2:], depth + 1)
        value, rest = _type(rest, depth + 1)
        if isinstance(key, str) and key != "v" and rest.startswith("}"):
            return ("a", ("{", key, value)), rest[1:]
    elif text.startswith("a"):
        element, rest = _type(text[1:], depth + 1)
        return ("a", element), rest
    elif text.startswith("("):
        members: list[Pattern] = []
        rest = text[1:]
        while rest and not rest.startswith(")"):
            member, rest = _type(rest, depth + 1)
            members.append(member)
        if members and rest:
            return ("(", *members), rest[1:]
    raise VariantError(f"{text!r} does not begin with a type of D-Bus")


def written(pattern: Pattern) -> str:
    """The signature of a settled pattern."""
    if isinstance(pattern, str):
        return pattern
    kind, *parts = pattern
    inner = "".join(map(written, parts))
    return f"({inner})" if kind == "(" else f"{{{inner}}}" if kind == "{" else f"a{inner}"


def joined(one: Pattern, other: Pattern) -> Pattern:
    """The pattern of what is both.

    :raises VariantError: nothing is.
    """
    if one == other or other == "*":
        return one
    if one == "*":
        return other
    for known, opened in ((one, other), (other, one)):
        if isinstance(opened, str) and isinstance(known, str) and known in OPEN.get(opened, ()):
            return known
    if isinstance(one, tuple) and isinstance(other, tuple) and one[0] == other[0] and len(one) == len(other):
        return (one[0], *map(joined, one[1:], other[1:]))
    raise VariantError("a value is not of the type that it should have, or an array's elements differ in type")


def settled(pattern: Pattern) -> Pattern:
    """Give what is open its usual type.

    :raises VariantError: nothing says what it is.
    """
    if isinstance(pattern, tuple):
        if pattern[0] == "{" and not (isinstance(pattern[1], str) and pattern[1] != "v"):
            raise VariantError("a key of a dictionary is of a basic type")
        return (pattern[0], *map(settled, pattern[1:]))
    if pattern == "*":
        raise VariantError("an empty array has no type of its own: write it as in @as []")
    return USUAL.get(pattern, pattern)


def checked(text: str, type_: Pattern) -> str:
    """A string that is what its type says; a bus hangs up on those who send another.

    :raises VariantError: it is not.
    """
    if type_ == "o" and not OBJECT_PATH.fullmatch(text):
        raise VariantError(f"{text!r} is no object path")
    rest = text if type_ == "g" else ""
    while rest:
        _, rest = _type(rest, 0)
    return text
