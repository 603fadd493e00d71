"""Commands that show something: tables that align as runc's, and entries that somebody left half made."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cli.commands import Commands
from tests.support import SECONDS

pytestmark = pytest.mark.root


def test_an_empty_list_is_a_heading_or_null(commands: Commands) -> None:
    commands.root.mkdir(0o700)
    assert commands.run("list") == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert commands.run("list", "-f", "json") == "null\n"


def test_a_root_that_was_named_must_exist(commands: Commands) -> None:
    done = commands.tried("list")
    assert done.returncode == 1
    assert "no such file or directory" in done.stderr


@pytest.mark.parametrize("record", [None, "", '{"id": "half'])
def test_what_a_killed_creator_left_is_listed_and_can_be_deleted(commands: Commands, record: str | None) -> None:
    left = commands.root / "left"
    left.mkdir(0o700, parents=True)
    commands.root.chmod(0o700)
    if record is not None:
        (left / "state.json").write_text(record)
    (listed,) = json.loads(commands.run("list", "--format=json"))
    assert (listed["id"], listed["pid"], listed["status"]) == ("left", 0, "stopped")
    assert listed["created"] == "0001-01-01T00:00:00Z"  # Go refuses a list with an empty time in it
    assert commands.run("delete", "left") == ""
    assert not left.exists()


def test_ps_hands_its_options_on_and_needs_the_pids(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "-d", commands.id)
    pid = commands.state(commands.id)["pid"]
    assert [line.split() for line in commands.run("ps", commands.id, "-eo", "pid,comm").splitlines()] == [
        ["PID", "COMMAND"],
        [str(pid), "sleep"],
    ]
    assert "couldn't find PID field in ps output" in commands.tried("ps", commands.id, "-eo", "comm").stderr


@pytest.mark.covers("annotations")
def test_annotations_are_part_of_the_state_where_there_are_some(commands: Commands) -> None:
    commands.configure(["true"], annotations={"org.example.key": "value"})
    commands.detached("create", commands.id)
    assert commands.state(commands.id)["annotations"] == {"org.example.key": "value"}


def test_features_are_json_as_runc_writes_it_and_nothing_else(commands: Commands) -> None:
    """CRI-O reads what is on both streams together."""
    done = commands.tried("features")
    assert done.stderr == ""
    assert done.stdout.startswith(
        '{\n    "ociVersionMin": "1.0.0",\n    "ociVersionMax": "1.3.0",\n    "hooks": [\n        "'
    )
    assert done.stdout.endswith("\n}\n")
    assert json.loads(done.stdout)["linux"]["namespaces"]


def test_features_take_no_arguments(commands: Commands) -> None:
    assert "requires exactly 0 argument(s)" in commands.tried("features", "x").stderr


def test_paths_that_are_no_text_are_shown_as_far_as_they_can_be(commands: Commands) -> None:
    """In any locale: JSON is UTF-8, and Go writes U+FFFD for what is not."""
    odd = commands.bundle / "b\udcff\u00fc"
    odd.mkdir()
    commands.configure(["sleep", "1000"])
    (commands.bundle / "config.json").rename(odd / "config.json")
    (odd / "rootfs").symlink_to(commands.bundle / "rootfs")
    commands.detached("create", "--bundle", str(odd), commands.id)
    for words in (("list",), ("list", "-f", "json"), ("state", commands.id)):
        line = commands.line(*words)
        locale = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
        shown = subprocess.run(line, capture_output=True, check=True, env=locale, timeout=SECONDS).stdout
        assert "/b\ufffd\u00fc" in shown.decode(), words
