"""The benchmark measures what it says, and shows what it measured. How long anything takes is no matter of tests."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex

import pytest

from benchmarks import commands
from benchmarks.__main__ import COMPARISONS
from benchmarks.contender import Comparison, Contender, Once, Outcome, Relation, Result, Summary, Unable
from benchmarks.measure import WARM_UPS, Coprocess, command, compare
from benchmarks.place import compile_floor
from benchmarks.report import Circumstances, document, table
from ocirt import Bundle, containers
from ocirt.cgroups import layout
from tests import support

CIRCUMSTANCES = Circumstances(3, 1, (0.5, 0.25, 0.125), "6.18.0", 2, "3.11.2", (("crun", "crun version 1.8.1"),))

RESULT = Result(
    "life",
    "what is done",
    Relation.RATIO,
    (
        Outcome("ours", times=(3.0, 2.0, 4.0)),
        Outcome("floor", at_most=1.5, times=(2.0, 1.0, 8.0)),
        Outcome("theirs", at_most=0.4, times=(6.0, 5.0, 7.0)),
        Outcome("absent", unable="it is not installed"),
    ),
)


@pytest.fixture(scope="module")
def floor_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """floor.c, compiled with every warning an error."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("floor") / "floor"
    compile_floor(program)
    return program


def contender(name: str, once: Once) -> Contender:
    return Contender(name, lambda _: once)


def turn(name: str, turns: list[str]) -> Once:
    """Takes its turn, in no time."""

    def once() -> float:
        turns.append(name)
        return 1.0

    return once


def failing(error: Exception) -> Callable[[ExitStack], Once]:
    def prepare(_: ExitStack) -> Once:
        raise error

    return prepare


def test_a_table_has_the_relations_of_the_first_line_to_the_others_and_says_which_targets_are_met() -> None:
    lines = [line.split() for line in table(RESULT).splitlines()]
    assert lines == [
        ["life:", "what", "is", "done"],
        ["median", "min", "p90", "ours", "/", "it", "by", "min", "target"],
        ["ours", "3.000", "2.000", "3.000"],
        ["floor", "2.000", "1.000", "2.000", "1.50", "2.00", "<=", "1.5", "met"],
        ["theirs", "6.000", "5.000", "6.000", "0.50", "0.40", "<=", "0.4", "missed"],
        ["absent:", "not", "here:", "it", "is", "not", "installed"],
    ]


def test_a_difference_is_in_milliseconds() -> None:
    result = Result("import", "", Relation.DIFFERENCE, (Outcome("a", times=(70.0,)), Outcome("b", 60, (20.0,))))
    assert table(result).splitlines()[-1].split() == ["b", *["20.000"] * 3, "50.00", "50.00", "<=", "60", "met"]


def test_where_the_subject_cannot_run_the_others_stand_alone() -> None:
    result = Result("life", "", Relation.RATIO, (Outcome("ours", unable="no root"), Outcome("floor", 1.5, (1.0,))))
    assert table(result).splitlines()[2].split() == ["floor", "1.000", "1.000", "1.000"]


def test_the_document_has_every_time_and_the_circumstances() -> None:
    written = json.loads(document([RESULT], CIRCUMSTANCES, (1.0, 0.5, 0.25)))
    assert written["circumstances"]["load"] == {"before": [0.5, 0.25, 0.125], "after": [1.0, 0.5, 0.25]}
    assert written["circumstances"]["versions"] == {"crun": "crun version 1.8.1"}
    ours, floor, _, absent = written["comparisons"][0]["contenders"]
    assert ours == {"name": "ours", "median": 3.0, "min": 2.0, "p90": 3.0, "times": [3.0, 2.0, 4.0]}
    assert floor["ours_to_it"] == {"by_median": 1.5, "by_min": 2.0, "at_most": 1.5}
    assert absent == {"name": "absent", "unable": "it is not installed"}


def test_a_summary_of_a_hundred_times() -> None:
    assert Summary.of(tuple(float(time) for time in range(100, 0, -1))) == Summary(50.5, 1.0, 90.0)


def test_every_contender_has_one_turn_in_each_round_in_changing_order() -> None:
    turns: list[str] = []
    comparison = Comparison("", "", tuple(contender(name, turn(name, turns)) for name in "abc"))
    result = compare(comparison, 20, random.Random(1))
    measured = turns[3 * WARM_UPS :]
    rounds = ["".join(measured[start : start + 3]) for start in range(0, len(measured), 3)]
    assert [len(outcome.times) for outcome in result.outcomes] == [20, 20, 20]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 1


def test_who_cannot_take_part_is_listed_with_the_reason() -> None:
    turns: list[str] = []
    absent = Contender("b", failing(Unable("it is not installed")))
    result = compare(Comparison("", "", (contender("a", turn("a", turns)), absent)), 2, random.Random(1))
    assert result.outcomes == (Outcome("a", times=(1.0, 1.0)), Outcome("b", unable="it is not installed"))


def test_a_program_that_fails_says_why_in_its_last_words(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as log, pytest.raises(Unable, match=r"^no controllers$"):
        command(("sh", "-c", "echo cannot go on >&2; echo no controllers >&2; exit 1"), log)()


def test_a_program_that_fails_without_a_word_is_not_given_those_of_another(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as log:
        command(("sh", "-c", "echo only a warning >&2"), log)()
        with pytest.raises(Unable, match=r"^exit status 3$"):
            command(("sh", "-c", "exit 3"), log)()


def test_a_program_whose_output_is_read_says_why_it_failed_as_well(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as log, pytest.raises(Unable, match=r"^no controllers$"):
        command(("sh", "-c", "echo output; echo no controllers >&2; exit 1"), log, captured=True)()


def test_every_command_that_is_compared_has_its_turn() -> None:
    assert commands.RUNNING.keys() | commands.ALONE.keys() == set(commands.NAMES)
    assert {f"command-{name}" for name in commands.NAMES} <= COMPARISONS.keys()
    assert commands.TARGETS.keys() <= set(commands.NAMES)


@pytest.mark.root
@pytest.mark.parametrize("name", commands.NAMES)
def test_a_command_has_its_turn_as_often_as_it_is_asked(name: str, busybox_rootfs: Path, tmp_path: Path) -> None:
    """By ocirt as it is installed here."""
    bundles = {}
    for what, args in (("sleep", ("sleep", "100000")), ("true", ("true",))):
        bundles[what] = tmp_path / what
        Bundle.create(bundles[what], rootfs=busybox_rootfs, spec=support.document(*args))
    root = tmp_path / "state"
    with (tmp_path / "log").open("w+b") as log:
        ocirt = (sys.executable, "-m", "ocirt", "--root", str(root))
        runtime = commands.Runtime(ocirt, log, f"turn-{token_hex(4)}", str(bundles["sleep"]), str(bundles["true"]))
        try:
            if name in commands.RUNNING:
                runtime.time("run", "--detach", "--bundle", runtime.sleep, runtime.id)
            turn = commands.RUNNING.get(name) or commands.ALONE[name]
            assert turn(runtime) > 0
            assert turn(runtime) > 0
            assert [container.id for container in containers(root=root)] == [runtime.id] * (name in commands.RUNNING)
        finally:
            for container in containers(root=root):
                container.delete(force=True)


@pytest.mark.root
@pytest.mark.parametrize("cgroups", [False, True], ids=["without-cgroups", "with-cgroups"])
def test_the_floor_compiles_without_a_warning_and_lives(
    floor_program: Path, busybox_rootfs: Path, cgroups: bool
) -> None:
    parents = [(hierarchy.name, path) for hierarchy, path in layout.here().directories] if cgroups else []
    with Coprocess((str(floor_program), str(busybox_rootfs), *(f"{name}={path}" for name, path in parents))) as floor:
        made = f"floor-{floor.pid}"
        assert floor.once() > 0
        assert floor.once() > 0
    assert [path for _, path in parents if (Path(path) / made).exists()] == []


@pytest.mark.root
def test_a_life_that_fails_is_no_time(floor_program: Path, tmp_path: Path) -> None:
    """A rootfs without /bin/true."""
    for name in ("dev", "proc", "sys"):
        (tmp_path / "rootfs" / name).mkdir(parents=True)
    with (
        Coprocess((str(floor_program), str(tmp_path / "rootfs"))) as floor,
        pytest.raises(Unable, match="ended with 1"),
    ):
        floor.once()
