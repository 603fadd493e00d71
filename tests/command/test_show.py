"""``state`` and ``list`` without Python say to the byte what they say with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

import pytest

from ocirt import Container
from ocirt.errors import NotFoundError
from tests.command.programs import Program, is_left, run
from tests.support import SECONDS, Lab, document

pytestmark = pytest.mark.root

ANNOTATIONS: Mapping[str, str] = {
    "org.example.html": "<a href='x'>&amp;</a>",
    "org.example.json": '{"a": ["b\\c", "\t\n\r\f\b"]}',
    "org.example/empty": "",
}

QUESTIONS = (
    ("list",),
    ("list", "-q"),
    ("list", "--quiet=true", "-f", "json"),
    ("list", "--format=json"),
    ("list", "-format", "table", "-q=false"),
)


def created(lab: Lab) -> Container:
    return lab.create(document("sleep", "1000", annotations=ANNOTATIONS))


def running(lab: Lab) -> Container:
    container = created(lab)
    container.start()
    return container


def paused(lab: Lab) -> Container:
    container = running(lab)
    container.pause()
    return container


def stopped(lab: Lab) -> Container:
    container = running(lab)
    container.kill(9)
    container.wait(SECONDS)
    return container


def unreaped(lab: Lab) -> Container:
    """A zombie, whose parent does not look."""
    container = running(lab)
    container.kill(9)
    assert container.process is not None
    os.waitid(os.P_PIDFD, container.process.fileno(), os.WEXITED | os.WNOWAIT)
    return container


STATUSES: Mapping[Callable[[Lab], Container], str] = {
    created: "created",
    running: "running",
    paused: "paused",
    stopped: "stopped",
    unreaped: "stopped",
}


@pytest.mark.parametrize("made", STATUSES, ids=lambda made: made.__name__)
def test_every_status_is_shown(lab: Lab, program: Program, made: Callable[[Lab], Container]) -> None:
    with made(lab) as container:
        state = json.loads(program.agrees("state", container.id))
        assert (state["status"], state["id"]) == (STATUSES[made], container.id)
        assert (state["pid"] == 0) is (STATUSES[made] == "stopped")
        assert state["annotations"] == ANNOTATIONS
        for words in QUESTIONS:
            assert container.id in program.agrees(*words).decode()


def test_many_are_in_order(lab: Lab, program: Program) -> None:
    (lab.root).mkdir(0o700)
    assert program.agrees("list") == b"ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert program.agrees("list", "-f", "json") == b"null\n"
    for _ in range(3):
        running(lab)
    stopped(lab)
    for words in QUESTIONS:
        program.agrees(*words)


def test_hundreds_of_names_are_sorted_and_thousands_left(lab: Lab, program: Program) -> None:
    lab.root.mkdir(0o700)
    for number in range(500):
        (lab.root / f"c{number * 7919 % 500}").mkdir()
    (lab.root / ".hidden").mkdir()
    assert len(program.agrees("list", "-q").split()) == 500
    for number in range(500, 600):
        (lab.root / f"c{number}").mkdir()
    assert program.leaves("list", "-q")
    shutil.rmtree(lab.root)


def test_a_container_of_somebody_elses_is_left(lab: Lab, program: Program) -> None:
    """The owner has a name that the machine must be asked for."""
    with running(lab) as container:
        os.chown(lab.root / container.id, 4711, 0)
        assert program.leaves("list")
        assert b"#4711" in program.by_python("list")
        os.chown(lab.root / container.id, 0, 0)
        program.agrees("list")


def test_one_on_its_way_is_left(lab: Lab, program: Program) -> None:
    with lab.create(document("sleep", "1000")) as container:
        (lab.root / container.id / "state.json").rename(lab.root / container.id / ".state.json")
        assert program.leaves("state", container.id)
        assert program.leaves("list")
        (lab.root / container.id / ".state.json").rename(lab.root / container.id / "state.json")


def test_letters_beyond_ascii_are_left(lab: Lab, program: Program) -> None:
    with lab.create(document("sleep", "1000", annotations={"org.example": "ü"})) as container:
        assert program.leaves("state", container.id)
        assert "ü".encode() in program.by_python("state", container.id)


def test_a_table_with_a_tab_in_a_path_is_left(lab: Lab, program: Program) -> None:
    """JSON has it in the same form as the record."""
    odd = lab.directory / "a\tb"
    odd.mkdir()
    spec = document("sleep", "1000")
    spec.evolve(root=spec.root.evolve(path=str(lab.rootfs))).dump(odd / "config.json")
    with Container.create(
        lab.new_id(), odd, root=lab.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as made:
        program.agrees("state", made.id)
        program.agrees("list", "-f", "json")
        assert program.leaves("list")


def test_a_deleted_one_is_left(lab: Lab, program: Program) -> None:
    container = created(lab)
    container.delete(force=True)
    assert program.leaves("state", container.id)
    with pytest.raises(NotFoundError):
        container.state()


@pytest.mark.parametrize("words", [("state",), ("list",)])
def test_where_nobody_reads_it_is_left(lab: Lab, program: Program, words: tuple[str, ...]) -> None:
    """SIGPIPE would end it, and Python ends otherwise."""
    with running(lab) as container:
        reader, writer = os.pipe()
        os.close(reader)
        arguments = (*words, container.id) if words == ("state",) else words
        assert is_left(program.tried(*arguments, stdout=writer))
        os.close(writer)


def test_without_a_standard_stream_it_is_left(lab: Lab, program: Program) -> None:
    with running(lab) as container:
        line = f"{program.path} --root {program.root} state {container.id}"
        for closed in ("<&-", ">&-"):
            assert is_left(run(["/bin/sh", "-c", f"{line} {closed}"])), closed
        assert run(["/bin/sh", "-c", line]).returncode == 0
