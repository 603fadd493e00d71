"""JSON text, stricter than the json module."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import Problem
from ocirt.spec.text import NotJSON, parse


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"Expecting value \(line 1, column 1\)"),
        ('{\n"a": 1,\n}', r"\(line 3, column 1\)|\(line 2, column 7\)"),  # Python 3.13 points at the comma
        ("[1, 2", r"Expecting ',' delimiter \(line 1, column 6\)"),
        ('{"a": 1} {}', r"Extra data \(line 1, column 10\)"),
        ("{'a': 1}", r"\(line 1, column 2\)"),
        ("NaN", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "1e999 is more than a number can be"),
        ("1" * 5000, "4300 digits"),
        ("[" * 200_000, "nested too deeply"),
        (b'{"a":\n "\xff"}', r"invalid start byte in UTF-8 \(line 2, column 3\)"),
        (b"\xff\xfe{\x00}\x00", r"in UTF-8 \(line 1, column 1\)"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_what_is_no_json_says_where(text: str | bytes, words: str) -> None:
    with pytest.raises(NotJSON, match=words):
        parse(text)


@given(st.binary())
def test_no_bytes_crash_it(text: bytes) -> None:
    try:
        value, doubles = parse(text)
    except NotJSON:
        return
    assert json.loads(text) == value or doubles


def test_a_member_given_twice_is_found_wherever_it_is() -> None:
    _, doubles = parse('{"a": [{"b": 1, "b": 2}], "a.b": {"c": 1, "c": 1}, "x": 1, "x": 1, "y": {"z": 1}}')
    assert doubles == [
        Problem("x", None, "is given twice"),
        Problem("a[0].b", None, "is given twice"),
        Problem("['a.b'].c", None, "is given twice"),
    ]


def test_text_is_utf8() -> None:
    assert parse('"ä"'.encode()) == ("ä", [])
