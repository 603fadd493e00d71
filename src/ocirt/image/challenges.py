"""``WWW-Authenticate``: how a registry wants to be told who we are (RFC 9110, 11.3 and 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t !-~\x80-\xff])*"'
_SEPARATOR: Final = re.compile(r"[ \t]*(?:,[ \t]*)*")
_PARAMETER: Final = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})(?=[ \t]*(?:,|$))")
_SCHEME: Final = re.compile(rf"({_TOKEN})(?: +([A-Za-z0-9._~+/-]+=*)(?=[ \t]*(?:,|$))| +|(?=,|$))")
_ESCAPED: Final = re.compile(r"\\(.)")

MAX_LENGTH: Final = 16 * 1024


@frozen
class Challenge:
    """One way, in lower case, and what there is to know about it."""

    scheme: str
    parameters: Mapping[str, str]


def parse(text: str) -> tuple[Challenge, ...]:
    """All that a field, or several that were joined by commas, offers.

    :raises ValueError: it is broken; a guess might send a password to somebody else.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError("is too long")
    return tuple(_challenges(text))


def _challenges(text: str) -> Iterator[Challenge]:
    """A name with ``=`` behind it is a parameter, and another begins the next challenge."""
    position = _skip(text, 0)
    while position < len(text):
        scheme = _SCHEME.match(text, position)
        if scheme is None:
            raise ValueError(f"is broken at character {position}")
        position = _skip(text, scheme.end())
        parameters: dict[str, str] = {}
        while scheme.group(2) is None and (parameter := _PARAMETER.match(text, position)):
            name, value = parameter.group(1).lower(), _unquoted(parameter.group(2))
            if name in parameters:
                raise ValueError(f"has {name!r} twice")
            parameters[name] = value
            position = _skip(text, parameter.end())
        yield Challenge(scheme.group(1).lower(), parameters)


def _skip(text: str, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match else position


def _unquoted(value: str) -> str:
    return _ESCAPED.sub(r"\1", value[1:-1]) if value.startswith('"') else value
