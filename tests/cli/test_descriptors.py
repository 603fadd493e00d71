"""``--preserve-fds`` and LISTEN_FDS: files that whoever calls ocirt has open for the container's program."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from io import FileIO
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.support import SECONDS, eventually, is_let_go

pytestmark = pytest.mark.root

SHOW = ["sh", "-c", "ls -l /proc/$$/fd; env; true"]


def offered(
    commands: Commands,
    *words: str,
    files: Mapping[int, Path],
    activated: str = "",
    of: str = "$$",
    streams: str = "",
) -> subprocess.CompletedProcess[str]:
    """A command that has these files open, and nothing else of its caller's; started for some of them."""
    listen = f"LISTEN_FDS={activated} LISTEN_PID={of}" if activated else ""
    redirections = " ".join(f"{number}<{path}" for number, path in files.items())
    return subprocess.run(
        ["sh", "-c", f'{listen} exec "$@" {redirections} {streams}', "sh", *commands.line(*words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=commands.bundle,
    )


def shown(output: str) -> tuple[dict[int, str], list[str]]:
    """The name of each file that the program had besides its streams, and what the environment said of them."""
    links = [line.partition(" -> ") for line in output.splitlines() if "->" in line]
    seen = {int(left.split()[-1]): os.path.basename(right) for left, _, right in links}
    assert {0, 1, 2} <= set(seen)
    variables = sorted(line for line in output.splitlines() if line.startswith("LISTEN"))
    return {number: name for number, name in seen.items() if number > 2}, variables


@pytest.fixture
def files(tmp_path: Path) -> dict[int, Path]:
    """Files for the numbers from 3 on, each named by its number."""
    made = {number: tmp_path / str(number) for number in range(3, 7)}
    for path in made.values():
        path.write_text("text")
    return made


def some(files: Mapping[int, Path], *numbers: int) -> dict[int, Path]:
    return {number: files[number] for number in numbers}


def names(*numbers: int) -> dict[int, str]:
    return {number: str(number) for number in numbers}


def test_run_hands_on_as_many_as_it_is_told(commands: Commands, files: dict[int, Path]) -> None:
    commands.configure(SHOW)
    assert shown(offered(commands, "run", "--preserve-fds", "2", commands.id, files=files).stdout) == (names(3, 4), [])
    assert shown(offered(commands, "run", commands.id, files=files).stdout) == ({}, [])


def test_a_created_container_holds_them_until_it_starts(commands: Commands, files: dict[int, Path]) -> None:
    """Whoever called create has ended by then, and the start is another command's."""
    output = commands.root.parent / "output"
    commands.configure(["sh", "-c", f"{SHOW[2]}; echo all"])
    create = ("create", "--preserve-fds=2", commands.id)
    offered(commands, *create, files=files, activated="1", streams=f">{output} 2>&1")
    assert not output.read_text()
    commands.run("start", commands.id)
    eventually(lambda: output.read_text().endswith("all\n"), "its output")
    assert shown(output.read_text()) == (names(3, 4, 5), ["LISTEN_FDS=1", "LISTEN_PID=1"])


def test_exec_hands_them_on_but_is_not_started_for_any(commands: Commands, files: dict[int, Path]) -> None:
    """LISTEN_FDS is for the container's own program; what it was told, an executed one is not."""
    commands.configure(["sleep", "600"])
    run = ("run", "--detach", commands.id)
    assert offered(commands, *run, files=files, activated="1", streams=">/dev/null 2>&1").returncode == 0
    done = offered(commands, "exec", "--preserve-fds", "1", commands.id, *SHOW, files=files, activated="2")
    assert shown(done.stdout) == (names(3), [])


def test_sockets_that_it_is_started_for_come_first(commands: Commands, files: dict[int, Path]) -> None:
    commands.configure(SHOW)
    told = ["LISTEN_FDS=2", "LISTEN_PID=1"]
    done = offered(commands, "run", commands.id, files=files, activated="2")
    assert shown(done.stdout) == (names(3, 4), told)
    done = offered(commands, "run", "--preserve-fds", "1", commands.id, files=files, activated="2")
    assert shown(done.stdout) == (names(3, 4, 5), told)


def test_what_the_configuration_says_of_sockets_gives_way(commands: Commands, files: dict[int, Path]) -> None:
    from tests.support import process

    env = ("PATH=/bin", "LISTEN_FDS=7", "LISTEN_PID=7")
    commands.configure([], process=process(*SHOW, env=env))
    done = offered(commands, "run", commands.id, files=files, activated="1")
    assert shown(done.stdout) == (names(3), ["LISTEN_FDS=1", "LISTEN_PID=1"])


@pytest.mark.parametrize(
    ("activated", "of"), [("2", "1"), ("2", "0$$"), ("2", ""), ("0", "$$"), ("two", "$$"), ("-1", "$$"), ("''", "$$")]
)
def test_sockets_for_somebody_else_are_not_handed_on(
    commands: Commands, files: dict[int, Path], activated: str, of: str
) -> None:
    """Nor are any that are not counted (sd_listen_fds(3))."""
    commands.configure(SHOW)
    done = offered(commands, "run", commands.id, files=files, activated=activated, of=of)
    assert shown(done.stdout) == ({}, [])


@pytest.mark.parametrize(
    ("command", "status"), [(("create",), 1), (("run",), 1), (("run", "--detach"), 1), (("exec",), 255)]
)
@pytest.mark.parametrize("debug", [True, False])
def test_a_number_that_is_not_open_is_told_and_nothing_of_ours_is_handed_on(
    commands: Commands, files: dict[int, Path], command: tuple[str, ...], status: int, debug: bool
) -> None:
    """Whatever ocirt has opened by then, its log file included."""
    commands.configure(SHOW)
    log = commands.root.parent / "log"
    words = ("--log", str(log), *(["--debug"] if debug else []), *command, "--preserve-fds", "3", commands.id)
    arguments = ("true",) if command == ("exec",) else ()
    done = offered(commands, *words, *arguments, files=some(files, 3, 5))
    assert done.returncode == status
    assert done.stderr.endswith("failed: unable to stat preserved-fd 1 (of 3): bad file descriptor\n")
    assert "unable to stat preserved-fd 1 (of 3)" in log.read_text()
    assert not commands.root.exists()


def test_a_missing_socket_is_told(commands: Commands, files: dict[int, Path]) -> None:
    commands.configure(SHOW)
    done = offered(commands, "run", "--preserve-fds", "1", commands.id, files=some(files, 3, 5), activated="2")
    assert done.returncode == 1
    assert "unable to stat 4 (of LISTEN_FDS): bad file descriptor" in done.stderr
    done = offered(commands, "run", "--preserve-fds", "2", commands.id, files=some(files, 3, 4, 5), activated="2")
    assert "unable to stat preserved-fd 1 (of 2): bad file descriptor" in done.stderr


def test_less_than_none_cannot_be_handed_on(commands: Commands) -> None:
    commands.configure(SHOW)
    done = offered(commands, "run", "--preserve-fds=-1", commands.id, files={})
    assert done.returncode == 1
    assert "-preserve-fds: value out of range" in done.stderr


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_command_that_waits_keeps_no_end_of_a_pipe(commands: Commands, command: str) -> None:
    """Once the program has closed it, the other side hears of that."""
    script = ["sh", "-c", "exec 3>&-; sleep 600"]
    commands.configure(["sleep", "600"] if command == "exec" else script)
    if command == "exec":
        commands.detached("run", "--detach", commands.id)
    arguments = script if command == "exec" else []
    read, write = os.pipe()
    line = commands.line(command, "--preserve-fds", "1", commands.id, *arguments)
    with (
        FileIO(read) as other,
        subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3>&1 >/dev/null', "sh", *line],
            stdout=write,
            stdin=subprocess.DEVNULL,
            cwd=commands.bundle,
        ) as waiting,
    ):
        os.close(write)
        try:
            assert is_let_go(other)
            assert waiting.poll() is None
        finally:
            commands.run("kill", commands.id, "KILL")
            waiting.wait(SECONDS)
    eventually(lambda: command == "exec" or commands.run("list", "-q") == "", "deleted")
