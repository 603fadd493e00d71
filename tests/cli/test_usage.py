"""Help, versions and names: what people read, and what engines look for in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.cli.rows import Command
from ocirt.cli.table import COMMANDS, GLOBALS
from ocirt.cli.usage import WIDTH
from tests.support import SECONDS


def asked(*words: str, program: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    line = [str(program)] if program else [sys.executable, "-m", "ocirt"]
    return subprocess.run(
        [*line, *words], capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **changes}
    )


@pytest.fixture
def runc(tmp_path: Path) -> Path:
    """The installed script by another name."""
    link = tmp_path / "runc"
    link.symlink_to(Path(sys.executable).with_name("ocirt"))
    return link


def test_the_first_lines_of_the_version_are_those_that_engines_read() -> None:
    first, second, third, *rest = asked("--version").stdout.splitlines()
    assert first.startswith("ocirt version ")
    assert second.startswith("commit: ")
    assert third == "spec: 1.3.0"
    assert [line.partition(":")[0] for line in rest] in ([], ["libseccomp"])


def test_who_calls_us_runc_hears_runcs_words(runc: Path) -> None:
    """go-runc takes no version whose line begins otherwise."""
    assert asked("-v", program=runc).stdout.startswith("runc version ")
    assert asked("state", program=runc).stderr.endswith(r'msg="runc: \"state\" requires exactly 1 argument(s)"' + "\n")
    assert 'msg="runc create failed: ' in asked("create", "--bundle", "/nowhere", "x", program=runc).stderr
    assert "   runc list [command options]" in asked("list", "--help", program=runc).stdout


def test_the_help_names_every_command_and_every_flag() -> None:
    done = asked()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for command in COMMANDS:
        assert any(line.startswith(f"   {command.name} ") for line in lines), command.name
    for flag in GLOBALS:
        assert (f"--{flag.name}" in done.stdout) is not flag.hidden
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_is_found_three_ways(command: Command) -> None:
    done = asked(*command.name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        asked("help", *command.name.split()).stdout == asked("-debug", "h", *command.name.split()).stdout == done.stdout
    )
    assert done.stdout.startswith(f"NAME:\n   ocirt {command.name} - {command.help}\n")
    for flag in command.flags:
        assert (f"   --{flag.name}" in done.stdout) is not flag.hidden
    assert max(map(len, done.stdout.splitlines())) <= WIDTH


def test_flags_that_nobody_is_told_of_are_taken(tmp_path: Path) -> None:
    done = asked("--criu", "/nowhere", "--root", str(tmp_path), "list", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("root", ["/", "", "//", "/..", "../../../../../../../../../../.."])
def test_the_hosts_root_is_no_place_for_states(root: str) -> None:
    done = asked("--root", root, "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Option --root argument should not be set to /" in done.stderr


@pytest.mark.parametrize("value", ["true", "false", "auto", "AUTO", "1", "F", ""])
def test_what_rootless_may_be(tmp_path: Path, value: str) -> None:
    assert asked("--root", str(tmp_path), f"--rootless={value}", "list").returncode == 0


def test_what_rootless_may_not_be(tmp_path: Path) -> None:
    done = asked("--root", str(tmp_path), "--rootless=maybe", "list")
    assert (done.returncode, "invalid rootless: maybe" in done.stderr) == (1, True)


ROOT = "import os; from ocirt.state import default_root; os.seteuid({user}); print(default_root())"
IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user")


@pytest.mark.root
@pytest.mark.parametrize(
    ("prefix", "euid", "user", "expected"),
    [
        ((), 0, None, "/run/ocirt"),
        (IN_A_NAMESPACE, 0, None, "/run/user/x/ocirt"),
        (IN_A_NAMESPACE, 0, "somebody", "/run/user/x/ocirt"),
        (IN_A_NAMESPACE, 0, "root", "/run/ocirt"),
        ((), 1234, None, "/run/user/x/ocirt"),
    ],
)
def test_where_states_are_kept_by_default(prefix: tuple[str, ...], euid: int, user: str | None, expected: str) -> None:
    """As runc decides it: rootless engines call it as root of a user namespace."""
    environment = {name: value for name, value in os.environ.items() if name != "USER"}
    environment |= {"XDG_RUNTIME_DIR": "/run/user/x", **({"USER": user} if user else {})}
    where = subprocess.run(
        [*prefix, sys.executable, "-c", ROOT.format(user=euid)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
        env=environment,
    )
    assert where.stdout == f"{expected}\n"
