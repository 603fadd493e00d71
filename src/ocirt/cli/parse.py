"""Command lines in the syntax of Go's ``flag`` package, in which engines write runc's arguments.

argparse would be the obvious choice, but knows neither ``-bundle`` beside ``--bundle=x``, nor switches that take
``=false``, nor a command whose flags end at its first argument; and engines search its messages for Go's words.

Values stay text here: what they mean is for the commands to say. Without attrs, since every command passes by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple

from ocirt.errors import OCIError

TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")
"""strconv.ParseBool"""

UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
DURATION: Final = re.compile(rf"([-+]?)(0|(?:{PART.pattern})+)")
"""time.ParseDuration: ``1h15m30.918s``; the letter for micro is in Unicode twice."""

INTEGER: Final = re.compile(r"[-+]?(0[xX](_?[0-9a-fA-F])+|0[bB](_?[01])+|0[oO]?(_?[0-7])+|0|[1-9](_?[0-9])*)")
"""strconv.ParseInt with base 0: ``42``, ``0x2a``, ``0o52``, ``052``."""


class Kind(Enum):
    """What may follow a flag."""

    SWITCH = "nothing, or a truth value behind ="
    TEXT = "any text"
    NUMBER = "an integer"
    DURATION = "numbers with units"


class Flag(NamedTuple):
    """One row of a table of flags."""

    name: str
    help: str
    short: str = ""
    kind: Kind = Kind.TEXT
    default: str = ""
    repeats: bool = False
    """Every value counts; of other flags the last one."""
    hidden: bool = False
    """Taken for the sake of old callers; no help tells of it."""
    values: str = ""
    """What a shell offers for it: words with blanks between them, or ``FILE``, ``DIRECTORY``, ``CONTAINER``."""


class UsageError(OCIError):
    """The command line is wrong: ``problem`` says where, in Go's words."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Parsed(NamedTuple):
    """What a command line said, and the table that it was read by."""

    flags: Mapping[str, Flag]
    values: Mapping[str, tuple[str, ...]]
    arguments: tuple[str, ...]

    def given(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        """The last value given, or the default."""
        return self.values[name][-1] if name in self.values else self.flags[name].default

    def on(self, name: str) -> bool:
        return self.text(name) in TRUE

    def number(self, name: str) -> int:
        return integer(self.text(name) or "0")

    def seconds(self, name: str) -> float:
        found = DURATION.fullmatch(self.text(name))
        if found is None:
            return 0.0
        total = sum(float(amount) * UNITS[unit] for amount, unit in PART.findall(found[2]))
        return -total if found[1] == "-" else total

    def all(self, name: str) -> tuple[str, ...]:
        return self.values.get(name, ())


def integer(text: str) -> int:
    """:raises ValueError: Go would not take it for a number."""
    if INTEGER.fullmatch(text) is None:
        raise ValueError(f'"{text}" is not a whole number')
    return int(re.sub("^([-+]?)0([0-7_])", r"\g<1>0o\2", text), 0)


def parse(table: Iterable[Flag], words: Sequence[str], *, stops: bool) -> Parsed:
    """Read a command line; with ``stops``, what follows the first argument is an argument too.

    :raises UsageError: at the first thing that is wrong.
    """
    flags = {name: flag for flag in table for name in (flag.name, flag.short) if name}
    values: dict[str, tuple[str, ...]] = {}
    arguments: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            if stops:
                break
            continue
        flag, value = _one(flags, word, rest)
        values[flag.name] = (*values.get(flag.name, ()), value)
    return Parsed(flags, values, (*arguments, *rest))


def _one(flags: Mapping[str, Flag], word: str, rest: Iterator[str]) -> tuple[Flag, str]:
    dashes = 2 if word.startswith("--") else 1
    name, equals, value = word[dashes:].partition("=")
    if not name or name.startswith("-"):
        raise UsageError(f"bad flag syntax: {word}")
    flag = flags.get(name)
    if flag is None:
        raise UsageError(f"flag provided but not defined: -{name}")
    if not equals and flag.kind is Kind.SWITCH:
        return flag, "true"
    if not equals:
        following = next(rest, None)
        if following is None:
            raise UsageError(f"flag needs an argument: {word}")
        value = following
    _check(flag, name, value)
    return flag, value


def _check(flag: Flag, name: str, value: str) -> None:
    if flag.kind is Kind.SWITCH and value not in (*TRUE, *FALSE):
        raise UsageError(f'invalid boolean value "{value}" for -{name}: parse error')
    if flag.kind is Kind.NUMBER and INTEGER.fullmatch(value) is None:
        raise UsageError(f'invalid value "{value}" for flag -{name}: parse error')
    if flag.kind is Kind.DURATION and DURATION.fullmatch(value) is None:
        raise UsageError(f'invalid value "{value}" for flag -{name}: parse error')
