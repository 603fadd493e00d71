"""What engines look for in messages about memory that ran out."""

from __future__ import annotations

import errno

import pytest

from ocirt.cli import words
from ocirt.errors import InitDied, SetupError

IN_INIT = "unable to start container process: error during container init: "


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        ("FindProgram", 'unable to start container process: exec: "x": executable file not found in $PATH'),
        ("Exec", "exec x: no such file or directory"),
        ("BindMount", f"{IN_INIT}origin: BindMount x: PATH: no such file or directory (ENOENT)"),
    ],
)
def test_a_kill_meanwhile_is_told_of(operation: str, text: str) -> None:
    error = SetupError("origin", operation, "PATH", errno.ENOENT, "x")
    assert words.of(error) == text
    error.oom_suspected = True
    assert words.of(error) == f"{text} (possibly OOM-killed)"


def test_an_init_that_was_killed() -> None:
    error = InitDied("process", "launch", -9)
    error.oom_killed = True
    assert "container init was OOM-killed (memory limit too low?)" in words.of(error)
