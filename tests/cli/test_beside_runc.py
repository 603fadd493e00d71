"""The same command lines, given to ocirt and to runc: the same status, and the same words."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.spec.test_default import newer
from tests.support import SECONDS, eventually, process

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed (Debian: apt-get install runc)"),
]

# None of them makes a container. Both are asked in a directory without a config.json.
LINES = """
help
--help
-h
help list
h list
list --help
state nobody -h
checkpoint --help
--version=false
--
help nope
nope
nope x y
- list
version
state
state a b
state nobody
state -- nobody
state nobody -- x
list
-- list
list --
list x
list -q=maybe
list -qf json
list -fjson
list --format xml
list --format=
list -f
start ""
start nobody
start nobody x
kill
kill a b c
kill nobody -9
kill -9 nobody
kill nobody FOO
kill --all nobody
kill -a=false nobody 9
exec
exec nobody
exec nobody ls -l
exec -t -e A=b nobody ls
exec -p
exec -p /nope nobody
ps
ps nobody -ef
ps nobody -f json
events
events nobody
events nobody --stats
events --interval=abc nobody
events --interval=1 nobody
delete
delete nobody
delete --force nobody
delete nobody -f
delete -force=false nobody
delete nobody --force=true
pause
pause nobody
resume nobody
update nobody
update --pids-limit x nobody
update --blkio-weight x nobody
create
create x
create -bundle . x
create x --bundle .
create --preserve-fds x y
exec --preserve-fds 0x0 nobody ls
run
run x
run --detach=maybe x
restore --lsm-mount-context
restore -lsm-mount-context
features x
spec x
spec --rootless=maybe
--nope list
--log
--log-format xml list
--log /nowhere/log state nobody
--rootless
--rootless=true --rootless=false state nobody
--systemd-cgroup state nobody
--criu /nowhere/criu state nobody
--debug=x list
--- list
--=x list
-= list
--log-format json state nobody
""".strip().splitlines()

# A build without CRIU's commands has nothing to compare.
ABSENT = frozenset(("checkpoint", "restore"))


def told(words: list[str], directory: Path) -> tuple[int, str, str]:
    """Status, the first words on standard output, and standard error without what is nobody's to agree on."""
    done = subprocess.run(
        words, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    stdout = re.match(r"(NAME:|Incorrect Usage[.:]?|ID  +PID|)", done.stdout)
    assert stdout is not None
    stderr = re.sub(r'time(=|":)"[^"]*"', "", done.stderr)
    # runc's library has had both kinds of dashes in this message.
    stderr = stderr.replace("argument: --", "argument: -").replace(r"\n", "")
    return done.returncode, stdout[0], stderr.replace("ocirt", "runc")


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_has_the_same_effect(commands: Commands, tmp_path: Path, line: str) -> None:
    from ocirt.cli.table import COMMANDS

    words = shlex.split(line)
    if missing := ABSENT.intersection(words) - {command.name for command in COMMANDS}:
        pytest.skip(f"there is no {', '.join(missing)}")
    empty, root = tmp_path / "empty", tmp_path / "state"
    for directory in (empty, root):
        directory.mkdir(0o700)
    ours = told(commands.line(*words), empty)
    assert ours == told(["runc", "--root", str(root), *words], empty)


@pytest.mark.parametrize("flags", [(), ("--rootless",)])
def test_spec_writes_the_same_bytes(commands: Commands, tmp_path: Path, flags: tuple[str, ...]) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(["runc", "spec", *flags], cwd=theirs, check=True)
    commands.run("spec", *flags)
    version = re.compile(r'"ociVersion": "[^"]*"')
    ours = (commands.bundle / "config.json").read_text()
    assert version.sub("", ours) == version.sub("", newer((theirs / "config.json").read_text()))
    assert ours.startswith('{\n\t"ociVersion"')


@pytest.fixture
def both(commands: Commands, tmp_path: Path) -> Iterator[tuple[Commands, list[str]]]:
    """The same container of both: ocirt's commands, and the beginning of runc's."""
    commands.configure([], process=process("sleep", "1000"), annotations={"a": "<b> & ü"})
    runc = ["runc", "--root", str(tmp_path / "theirs")]
    commands.detached("run", "-d", commands.id)
    words = [*runc, "run", "-d", "--bundle", str(commands.bundle), f"{commands.id}-theirs"]
    null = subprocess.DEVNULL
    subprocess.run(words, stdin=null, stdout=null, stderr=null, check=True, timeout=SECONDS)
    try:
        yield commands, runc
    finally:
        subprocess.run([*runc, "delete", "-f", f"{commands.id}-theirs"], check=True, timeout=SECONDS)


def same(ours: str, theirs: str, container_id: str) -> None:
    """But for ids, numbers and times; and versions, which are not ours to choose."""
    vague = re.compile(r'"[0-9TZ:.+-]{20,}"|(?<="ociVersion":)\s*"[^"]*"|\b\d{2,}\b')
    theirs = theirs.replace(f"{container_id}-theirs", container_id)
    assert vague.sub("_", ours) == vague.sub("_", theirs)


def test_what_programs_read_has_the_same_bytes(both: tuple[Commands, list[str]]) -> None:
    commands, runc = both
    their_id = f"{commands.id}-theirs"

    def asked(*words: str) -> str:
        done = subprocess.run([*runc, *words], capture_output=True, text=True, check=True, timeout=SECONDS)
        return done.stdout

    same(commands.run("state", commands.id), asked("state", their_id), commands.id)
    same(commands.run("list", "--format=json"), asked("list", "--format=json"), commands.id)
    same(commands.run("ps", "-f", "json", commands.id), asked("ps", "-f", "json", their_id), commands.id)
    assert commands.run("list", "-q") == asked("list", "-q").replace(their_id, commands.id)
    assert json.loads(commands.run("state", commands.id))["annotations"] == {"a": "<b> & ü"}


def test_a_stopped_container_looks_the_same(both: tuple[Commands, list[str]]) -> None:
    commands, runc = both
    theirs = [*runc, "state", f"{commands.id}-theirs"]
    commands.run("kill", commands.id, "KILL")
    subprocess.run([*runc, "kill", f"{commands.id}-theirs", "KILL"], check=True, timeout=SECONDS)
    eventually(lambda: commands.state(commands.id)["status"] == "stopped", "ours ends")
    eventually(lambda: b'"stopped"' in subprocess.check_output(theirs), "theirs ends")
    same(commands.run("state", commands.id), subprocess.check_output(theirs, text=True), commands.id)


def test_kill_takes_every_spelling_that_runc_takes(both: tuple[Commands, list[str]]) -> None:
    commands, runc = both
    for name in ("WINCH", "SIGWINCH", "winch", "sigwinch", "28", "0"):
        commands.run("kill", commands.id, name)
        subprocess.run([*runc, "kill", f"{commands.id}-theirs", name], check=True, timeout=SECONDS)
    for name in ("FOO", "SIGFOO", "", "-1", "1000"):
        assert commands.tried("kill", commands.id, name).returncode == 1, name
