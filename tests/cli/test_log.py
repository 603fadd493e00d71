"""Where messages go, and in which form: engines read errors from there."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.support import SECONDS

pytestmark = pytest.mark.root

LINE = re.compile(r'time="(?P<time>[^"]+)" level=(?P<level>\w+) msg="(?P<msg>.*)"')
MISSING = "container does not exist"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_failure_is_one_json_object_and_people_are_told_too(commands: Commands, log: Path) -> None:
    """podman parses the whole file at once; containerd needs the time, in RFC 3339."""
    done = commands.tried("--log", str(log), "--log-format", "json", "state", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{MISSING}\n")
    assert log.read_text().count("\n") == 1
    entry = json.loads(log.read_text())
    assert list(entry) == ["level", "msg", "time"]
    assert (entry["level"], entry["msg"]) == ("error", MISSING)
    assert datetime.fromisoformat(entry["time"]).tzinfo is not None


def test_text_is_a_line_too(commands: Commands, log: Path) -> None:
    commands.run("--log", str(log), "state", "nobody", status=1)
    found = LINE.fullmatch(log.read_text().rstrip("\n"))
    assert found is not None
    assert (found["level"], found["msg"]) == ("error", MISSING)
    assert datetime.fromisoformat(found["time"]).tzinfo is not None


def test_without_a_file_the_line_goes_to_standard_error_alone(commands: Commands) -> None:
    assert LINE.fullmatch(commands.tried("state", "nobody").stderr.rstrip("\n"))
    entry = json.loads(commands.tried("--log-format=json", "state", "nobody").stderr)
    assert entry["msg"] == MISSING


def test_a_log_is_made_for_everybody_to_read_and_added_to(commands: Commands, log: Path) -> None:
    before = os.umask(0o022)
    try:
        commands.root.mkdir()
        commands.run("--log", str(log), "list")
        assert (log.read_text(), stat.S_IMODE(log.stat().st_mode)) == ("", 0o644)
        for _ in range(2):
            commands.run("--log", str(log), "state", "nobody", status=1)
    finally:
        os.umask(before)
    assert log.read_text().count(MISSING) == 2


def test_success_leaves_standard_error_and_the_log_empty(commands: Commands, log: Path) -> None:
    """Engines take whatever is there for the text of an error."""
    commands.configure(["true"])
    flags = ("--log", str(log), "--log-format", "json")
    steps = (("create", commands.id), ("start", commands.id), ("state", commands.id), ("delete", "-f", commands.id))
    said = log.with_name("said")
    for words in (*steps, ("run", commands.id), ("list",), ("features",)):
        with said.open("w") as stderr:  # a file, since what is created keeps it open
            line = commands.line(*flags, *words)
            status = subprocess.run(
                line, stdout=subprocess.DEVNULL, stderr=stderr, timeout=SECONDS, check=False, cwd=commands.bundle
            ).returncode
        assert (status, said.read_text()) == (0, ""), words
    assert log.read_text() == ""


def test_a_relative_log_is_that_of_the_callers_directory(commands: Commands, log: Path) -> None:
    commands.configure(["nosuch"])
    commands.run("--log", "log", "run", "--bundle", str(commands.bundle), commands.id, status=1)
    assert "executable file not found" in log.read_text()


@pytest.mark.parametrize(("path", "why"), [("/nowhere/log", "no such file or directory"), ("/", "is a directory")])
def test_without_its_log_nothing_is_done(commands: Commands, path: str, why: str) -> None:
    commands.configure(["sleep", "1000"])
    done = commands.tried("--log", path, "create", commands.id)
    assert (done.returncode, f"open {path}: {why}" in done.stderr) == (1, True)
    assert not commands.root.exists()


def test_a_pipe_for_a_log_is_opened_when_there_is_something_to_say(commands: Commands, log: Path) -> None:
    os.mkfifo(log)
    with subprocess.Popen(["cat", str(log)], stdout=subprocess.PIPE, text=True) as reader:
        try:
            commands.run("--log", str(log), "state", "nobody", status=1)
            assert MISSING in reader.communicate(timeout=SECONDS)[0]
        finally:
            reader.kill()


@pytest.mark.parametrize("flag", ["--debug", "--log-level=debug"])
def test_every_line_of_debugging_is_an_object_of_its_own(commands: Commands, log: Path, flag: str) -> None:
    commands.configure(["nosuch"])
    commands.run(flag, "--log", str(log), "--log-format", "json", "run", commands.id, status=1)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["level"] for entry in entries].count("error") == 1
    assert any("Traceback" in entry["msg"] for entry in entries if entry["level"] == "debug")


@pytest.mark.parametrize("words", [("--log-format", "xml"), ("--log-level", "loud")])
def test_a_form_that_is_none_is_an_error_and_no_help(commands: Commands, words: tuple[str, str]) -> None:
    done = commands.tried(*words, "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"invalid {words[0].removeprefix('--')}: {words[1]}" in done.stderr


def test_names_that_are_no_text_are_written_as_far_as_they_can_be(commands: Commands, log: Path) -> None:
    line = commands.line("--log", str(log), "run", "--bundle", "/nowhere/\udcff", commands.id)
    done = subprocess.run(line, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 1
    assert "no such file or directory" in log.read_text()
    assert b"Traceback" not in done.stderr
