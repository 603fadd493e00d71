"""Command lines are read as Go's flag package reads them."""

from __future__ import annotations

import pytest

from ocirt.cli.parse import Flag, Kind, UsageError, parse

TABLE = (
    Flag("bundle", "", "b", default="."),
    Flag("detach", "", "d", Kind.SWITCH),
    Flag("env", "", "e", repeats=True),
    Flag("preserve-fds", "", "", Kind.NUMBER, "0"),
)


@pytest.mark.parametrize(
    "words", [("--bundle", "x"), ("--bundle=x",), ("-bundle", "x"), ("-bundle=x",), ("-b", "x"), ("-b=x",)]
)
def test_a_value_may_follow_or_be_joined_with_one_dash_or_two(words: tuple[str, ...]) -> None:
    assert parse(TABLE, [*words, "id"], stops=False).text("bundle") == "x"


@pytest.mark.parametrize(
    ("words", "on"), [((), False), (("-d",), True), (("--detach=false",), False), (("--detach=true",), True)]
)
def test_a_switch_takes_a_truth_value(words: tuple[str, ...], on: bool) -> None:
    assert parse(TABLE, words, stops=False).on("detach") is on


def test_flags_end_at_the_first_argument_where_a_command_follows() -> None:
    parsed = parse(TABLE, ["-d", "id", "ls", "-d", "-x"], stops=True)
    assert parsed.arguments == ("id", "ls", "-d", "-x")


def test_a_repeated_flag_keeps_every_value_and_a_comma_separates_nothing() -> None:
    assert parse(TABLE, ["-e", "A=1,2", "--env", "B=3"], stops=False).values["env"] == ("A=1,2", "B=3")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--bundle",), "flag needs an argument: --bundle"),
        (("-b",), "flag needs an argument: -b"),
        (("--nope",), "flag provided but not defined: -nope"),
    ],
)
def test_the_words_that_engines_search_for(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse(TABLE, words, stops=False)
