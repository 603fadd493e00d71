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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("42", 42),
        ("-7", -7),
        ("+7", 7),
        ("0x1f", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("1_0", 10),
    ],
)
def test_numbers_are_those_of_go(text: str, number: int) -> None:
    assert parse(TABLE, ["--preserve-fds", text], stops=False).number("preserve-fds") == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "08", "0x", "1__0", "٣", " 1"])
def test_what_go_takes_for_no_number_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=f'invalid value "{text}" for flag -preserve-fds: parse error'):
        parse(TABLE, ["--preserve-fds", text], stops=False)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["--", "-x"], ("-x",)),
        (["id", "--", "-d"], ("id", "-d")),
        (["-", "-d"], ("-",)),
        (["id", "-d", "more"], ("id", "more")),
    ],
)
def test_two_dashes_end_the_flags_and_one_is_an_argument(words: list[str], arguments: tuple[str, ...]) -> None:
    assert parse(TABLE, words, stops=False).arguments == arguments


@pytest.mark.parametrize("words", [["---d"], ["--=x"], ["-=x"]])
def test_what_cannot_be_a_flag(words: list[str]) -> None:
    with pytest.raises(UsageError, match=f"bad flag syntax: {words[0]}"):
        parse(TABLE, words, stops=False)


def test_switches_are_not_grouped_and_values_not_joined_without_a_sign() -> None:
    for word in ("-db", "-bx"):
        with pytest.raises(UsageError, match=f"flag provided but not defined: {word}"):
            parse(TABLE, [word], stops=False)
