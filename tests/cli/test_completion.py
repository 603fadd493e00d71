"""Completions in the shells themselves: commands, flags, values, and the containers that there are."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt.cli.completion import SCRIPTS
from ocirt.cli.table import COMMANDS, GLOBALS
from tests.cli.commands import Commands
from tests.cli.test_commands import read_until
from tests.support import SECONDS

INSTALLED = str(Path(sys.executable).with_name("ocirt"))

Ask = Callable[[str], list[str]]


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


def answer(words: list[str], directory: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(INSTALLED).parent}:{os.environ['PATH']}", "HOME": str(directory)}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=SECONDS, check=True, cwd=directory, env=environment
    )
    assert done.stderr == ""
    return done.stdout


def wide_terminal() -> tuple[int, int]:
    """No line of ours is broken on it."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, 500))
    return master, slave


@pytest.fixture
def bash(tmp_path: Path) -> Ask:
    """What bash offers for a line; it splits words at = itself, so the line has them apart."""
    script = tmp_path / "ocirt.bash"
    script.write_text(SCRIPTS["bash"]())

    def ask(line: str) -> list[str]:
        words = line.replace("=", " = ").split(" ")
        words = [word for word in words[:-1] if word] + words[-1:]
        texts = " ".join(f"'{word}'" for word in words)
        code = f"COMP_WORDS=({texts}); COMP_CWORD={len(words) - 1}; _ocirt; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return answer(["bash", "-c", f". {script}; complete -p ocirt >/dev/null; {code}"], tmp_path).split()

    return ask


@pytest.fixture
def fish(tmp_path: Path) -> Ask:
    script = tmp_path / "ocirt.fish"
    script.write_text(SCRIPTS["fish"]())

    def ask(line: str) -> list[str]:
        code = f"source {script}; complete -C '{line}'"
        found = answer(["fish", "--no-config", "-c", code], tmp_path)
        return [offer.split("\t")[0] for offer in found.splitlines()]

    return ask


@pytest.fixture(params=[pytest.param("bash", marks=needs("bash")), pytest.param("fish", marks=needs("fish"))])
def ask(request: pytest.FixtureRequest) -> Ask:
    asked: Ask = request.getfixturevalue(request.param)
    return asked


@pytest.fixture
def two(commands: Commands) -> Commands:
    """A root with two containers."""
    commands.configure(["sleep", "1000"])
    for name in ("one", "two"):
        commands.detached("create", f"{name}-{commands.id}")
    return commands


def test_commands(ask: Ask) -> None:
    assert sorted(ask("ocirt ")) == sorted({*(command.name.partition(" ")[0] for command in COMMANDS), "help"})
    assert sorted(ask("ocirt image p")) == ["prune", "pull"]
    assert sorted(ask("ocirt --debug image pull --pol")) == ["--policy"]
    assert sorted(ask("ocirt image pull --policy ")) == ["always", "missing", "never"]
    assert sorted(ask("ocirt --debug p")) == ["pause", "plan", "ps"]
    assert ask("ocirt --log /tmp/x --root /tmp reas") == []


def test_flags(ask: Ask) -> None:
    assert sorted(ask("ocirt --")) == sorted(f"--{flag.name}" for flag in GLOBALS if not flag.hidden)
    for command in COMMANDS:
        shown = [flag.name for flag in command.flags if not flag.hidden]
        assert sorted(ask(f"ocirt {command.name} --")) == sorted(f"--{name}" for name in [*shown, "help"])


def test_values(ask: Ask) -> None:
    assert sorted(ask("ocirt --log-format ")) == ["json", "text"]
    assert sorted(ask("ocirt list -f ")) == ["json", "table"]
    assert ask("ocirt completion b") == ["bash"]
    assert ask("ocirt kill --all x KIL") == ["KILL"]
    assert "state" in ask("ocirt help ")


@needs("bash")
def test_a_value_behind_a_sign(bash: Ask, fish: Ask) -> None:
    assert bash("ocirt --log-format=j") == ["json"]
    if shutil.which("fish"):
        assert fish("ocirt --log-format=j") == ["--log-format=json"]


def test_files_and_directories(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner.json").write_text("{}")
    found = {offer.rstrip("/") for offer in ask("ocirt create --config inn")}
    assert found == {"inner", "inner.json"}
    assert [offer.rstrip("/") for offer in ask("ocirt create --bundle inn")] == ["inner"]


@pytest.mark.root
def test_containers_are_those_of_the_root_that_the_line_names(ask: Ask, two: Commands) -> None:
    known = [f"one-{two.id}", f"two-{two.id}"]
    assert sorted(ask(f"ocirt --root {two.root} state ")) == known
    assert sorted(ask(f"ocirt --debug --root={two.root} exec -t ")) == [f"{name}" for name in known]
    assert ask(f"ocirt --root {two.root} kill tw") == known[1:]
    assert ask(f"ocirt --root {two.root} delete --force o") == known[:1]
    assert f"one-{two.id}" not in ask(f"ocirt --root {two.root} run o")


@needs("bash")
def test_a_key_in_a_real_bash(tmp_path: Path) -> None:
    script = tmp_path / "ocirt.bash"
    script.write_text(SCRIPTS["bash"]())
    master, slave = wide_terminal()
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "> ", "HOME": str(tmp_path)},
    )
    try:
        os.close(slave)
        os.write(master, f". {script}; echo rea'dy'\n".encode())
        read_until(master, b"ready")
        os.write(master, b"ocirt feat\t")
        assert "ocirt features " in read_until(master, b"ocirt features ")
    finally:
        shell.kill()
        shell.wait(SECONDS)
        os.close(master)


@needs("zsh")
@pytest.mark.root
def test_keys_in_a_real_zsh(two: Commands, tmp_path: Path) -> None:
    (tmp_path / "_ocirt").write_text(SCRIPTS["zsh"]())
    master, slave = wide_terminal()
    path = f"{Path(INSTALLED).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={"PATH": path, "TERM": "dumb", "HOME": str(tmp_path)},
    )
    lines = {
        "ocirt feat": "ocirt features",
        "ocirt --debug list -f js": "list -f json",
        "ocirt kill x KIL": "kill x KILL",
        f"ocirt --root {two.root} state on": f"state one-{two.id}",
        f"ocirt --root={two.root} exec -t tw": f"exec -t two-{two.id}",
    }
    try:
        os.close(slave)
        setup = (
            f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; bindkey '^I' complete-word; echo rea'dy'"
        )
        os.write(master, f"{setup}\n".encode())
        read_until(master, b"ready\r\n")
        for typed, completed in lines.items():
            os.write(master, f"{typed}\t".encode())
            assert completed in read_until(master, f"{completed} ".encode())
            os.write(master, b"\x15")  # ^U: the line is taken away
    finally:
        shell.kill()
        shell.wait(SECONDS)
        os.close(master)


@needs("zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    """As a function below fpath, where it is found by its first line."""
    (tmp_path / "_ocirt").write_text(SCRIPTS["zsh"]())
    assert answer(["zsh", "-f", "-n", str(tmp_path / "_ocirt")], tmp_path) == ""
    code = f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u -D; print $_comps[ocirt]"
    assert answer(["zsh", "-f", "-c", code], tmp_path) == "_ocirt\n"


def test_there_is_no_other_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocirt", "completion", "csh"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "unknown shell: csh (one of bash, zsh, fish)" in done.stderr
