"""Values of D-Bus written as text, as GLib does it: ``true``, ``'text'``, ``uint64 5``, ``[1, 2]``, ``@as []``.

The format is GLib's (gvariant-text-format.rst), less what D-Bus has no types for. A value's type is found in two
steps: what is written gives a *pattern*, in which a bare number stays open, and patterns of one array are joined;
then what is still open gets the usual type. So ``[1, uint64 2]`` is an array of ``t``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ocirt.cgroups.gvariant_types import (
    DEPTH,
    INTEGERS,
    KEYWORDS,
    Pattern,
    Value,
    VariantError,
    checked,
    joined,
    read_signature,
    settled,
    written,
)

ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
"""Behind a backslash; any other character there is itself, and ``u`` and ``U`` begin a number."""

TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<string> b?'(?:[^'\\]|\\.)*' | b?"(?:[^"\\]|\\.)*" )
    | (?P<number> [-+]?(?: 0[xX][0-9a-fA-F]+ | (?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)? | inf\b | nan\b ) )
    | (?P<word> [a-z][a-z0-9]* )
    | (?P<signature> @[a-z({}][a-z({})]* )
    | (?P<mark> [\[\](){}<>,:] )
    )""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
OCTAL: Final = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)


class Node(NamedTuple):
    """One value as it was written: what its type may be, and what it is once that is known."""

    pattern: Pattern
    make: Callable[[Pattern], Value]


def parse(text: str) -> tuple[str, Value]:
    """The signature and the value, as a D-Bus variant has them.

    :raises VariantError: it is not one value in that format.
    """
    parser = _Parser(_tokens(text))
    node = parser.value(0)
    if parser.kind:
        raise VariantError(f"{parser.text!r} follows the end of the value")
    return _finished(node)


def _finished(node: Node) -> tuple[str, Value]:
    pattern = settled(node.pattern)
    return written(pattern), node.make(pattern)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place, end = 0, len(text.rstrip())
    while place < end:
        token = TOKEN.match(text, place)
        if token is None:
            raise VariantError(f"nothing begins with {text[place:].lstrip()[:20]!r}")
        assert token.lastgroup is not None  # every alternative has a name
        yield token.lastgroup, token[token.lastgroup]
        place = token.end()


class _Parser:
    """One token ahead; each method begins at the first token of what it reads."""

    def __init__(self, tokens: Iterator[tuple[str, str]]) -> None:
        self._tokens = tokens
        self.kind, self.text = next(tokens, ("", ""))

    def _next(self) -> str:
        """Go on to the next token, and give the one before."""
        before = self.text
        self.kind, self.text = next(self._tokens, ("", ""))
        return before

    def _expect(self, mark: str) -> None:
        if self.text != mark or self.kind != "mark":
            raise VariantError(f"{mark!r} is missing" + (f" before {self.text!r}" if self.kind else " at the end"))
        self._next()

    def _at(self, mark: str) -> bool:
        return self.kind == "mark" and self.text == mark

    def value(self, depth: int) -> Node:
        if depth > DEPTH:
            raise VariantError(f"it is nested deeper than {DEPTH} levels")
        match self.kind:
            case "string":
                return _string(self._next())
            case "number":
                return _number(self._next())
            case "word":
                return self._word(depth)
            case "signature":
                return _typed(read_signature(self._next()[1:]), self.value(depth + 1))
            case "mark":
                return self._container(depth)
        raise VariantError("a value is missing at the end")

    def _word(self, depth: int) -> Node:
        word = self._next()
        if word in ("true", "false"):
            return Node("b", lambda _: word == "true")
        if word in KEYWORDS:
            return _typed(KEYWORDS[word], self.value(depth + 1))
        raise VariantError(f"{word!r} is neither a value nor a type of D-Bus")

    def _container(self, depth: int) -> Node:
        match self._next():
            case "[":
                return _array(self._items("]", depth))
            case "(":
                return _tuple(self._items(")", depth, trailing=True))
            case "<":
                node = self.value(depth + 1)
                self._expect(">")
                inner = _finished(node)
                return Node("v", lambda _: inner)
            case "{":
                return self._dictionary(depth)
            case mark:
                raise VariantError(f"a value is missing before {mark!r}")

    def _items(self, end: str, depth: int, *, trailing: bool = False) -> list[Node]:
        """Up to and with the closing mark; a comma before that is what makes a tuple of one."""
        items: list[Node] = []
        while not self._at(end):
            items.append(self.value(depth + 1))
            if self._at(end) and not (trailing and len(items) == 1):
                break
            self._expect(",")
            if self._at(end) and not (trailing and len(items) == 1):
                raise VariantError(f"a value is missing before {end!r}")
        self._next()
        return items

    def _dictionary(self, depth: int) -> Node:
        pairs: list[tuple[Node, Node]] = []
        while not self._at("}"):
            key = self.value(depth + 1)
            self._expect(":")
            pairs.append((key, self.value(depth + 1)))
            if not self._at("}"):
                self._expect(",")
        self._next()
        return _pairs(pairs)


def _string(token: str) -> Node:
    if token.startswith("b"):
        data = OCTAL.sub(_byte, token[2:-1].encode()) + b"\0"
        return Node(("a", "y"), lambda _: data)
    value = ESCAPE.sub(_character, token[1:-1])
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise VariantError("a string of D-Bus holds neither NUL nor half of a surrogate pair")
    return Node("S", lambda pattern: checked(value, pattern))


def _character(escape: re.Match[str]) -> str:
    number = escape[1] or escape[2]
    if number is None:
        return ESCAPES.get(escape[3], "" if escape[3] == "\n" else escape[3])
    if int(number, 16) > 0x10FFFF:
        raise VariantError(f"there is no character {escape[0]}")
    return chr(int(number, 16))


def _byte(escape: re.Match[bytes]) -> bytes:
    if escape[1].isdigit() and escape[1] < b"8":
        return bytes((int(escape[1], 8) & 0xFF,))
    return ESCAPES.get(escape[1].decode("latin-1"), "").encode() or escape[1]


def _number(token: str) -> Node:
    """C's notation: a leading 0 is octal."""
    digits = token.lstrip("+-").lower()
    if digits.startswith("0x") or digits.isdigit():
        base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
        try:
            number = int(digits, base)
        except ValueError as error:
            raise VariantError(f"{token} is no octal number") from error
        signed = -number if token.startswith("-") else number
        return Node("N", lambda pattern: _integer(signed, str(pattern)))
    real = float(token)
    return Node("d", lambda _: real)


def _integer(number: int, type_: str) -> int | float:
    if type_ == "d":
        return float(number)
    lowest, highest = INTEGERS[type_]
    if not lowest <= number <= highest:
        raise VariantError(f"{number} is no {type_} ({lowest} to {highest})")
    return number


def _typed(type_: Pattern, node: Node) -> Node:
    return Node(joined(type_, node.pattern), node.make)


def _array(items: list[Node]) -> Node:
    element: Pattern = "*"
    for item in items:
        element = joined(element, item.pattern)
    return Node(("a", element), lambda pattern: _elements(items, pattern[1]))


def _elements(items: list[Node], element: Pattern) -> Value:
    values = [item.make(element) for item in items]
    return bytes(value for value in values if isinstance(value, int)) if element == "y" else values


def _tuple(items: list[Node]) -> Node:
    if not items:
        raise VariantError("D-Bus has no empty structure")
    members = tuple(item.pattern for item in items)
    return Node(("(", *members), lambda pattern: tuple(map(_made, items, pattern[1:])))


def _made(item: Node, pattern: Pattern) -> Value:
    return item.make(pattern)


def _pairs(pairs: list[tuple[Node, Node]]) -> Node:
    key: Pattern = "*"
    value: Pattern = "*"
    for left, right in pairs:
        key, value = joined(key, left.pattern), joined(value, right.pattern)

    def make(pattern: Pattern) -> Value:
        entry = pattern[1]
        return {name.make(entry[1]): item.make(entry[2]) for name, item in pairs}

    return Node(("a", ("{", key, value)), make)
