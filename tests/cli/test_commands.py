"""runc's everyday workflow with ocirt in its place."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.support import SECONDS

pytestmark = pytest.mark.root


def read_until(terminal: int, wanted: bytes) -> str:
    seen = b""
    while wanted not in seen:
        assert select.select([terminal], [], [], SECONDS)[0], seen
        seen += os.read(terminal, 1000)
    return seen.decode()


def test_spec_keeps_what_is_there(commands: Commands) -> None:
    commands.run("spec")
    refused = commands.tried("spec")
    assert refused.returncode == 1
    assert "File config.json exists. Remove it first" in refused.stderr


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("true", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_run_ends_as_its_container_does(commands: Commands, script: str, status: int) -> None:
    # Behind a shell, since the first process of a pid namespace is immune to its own signals.
    commands.configure(["sh", "-c", f"sh -c '{script}'; exit $?"])
    commands.run("run", commands.id, status=status)
    assert commands.run("list", "-q") == ""


def test_run_passes_the_streams(commands: Commands) -> None:
    commands.configure(["sh", "-c", "cat; echo err >&2"])
    done = commands.tried("run", commands.id, input="hello\n")
    assert (done.stdout, done.stderr) == ("hello\n", "err\n")


def test_run_hands_signals_on(commands: Commands) -> None:
    commands.configure(["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"])
    with subprocess.Popen(commands.line("run", commands.id), stdout=subprocess.PIPE, cwd=commands.bundle) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGTERM)
        assert run.wait(SECONDS) == 5


def test_a_terminal_is_relayed(commands: Commands) -> None:
    from tests.support import process

    commands.configure([], process=process("sh", "-c", "tty; read line; echo got $line").evolve(terminal=True))
    master, slave = pty.openpty()
    with subprocess.Popen(
        commands.line("run", commands.id),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=commands.bundle,
        start_new_session=True,
    ) as run:
        os.close(slave)
        assert "/dev/pts/0" in read_until(master, b"\n")
        os.write(master, b"typed\n")
        assert "got typed" in read_until(master, b"got typed")
        assert run.wait(SECONDS) == 0
    os.close(master)


def test_a_life_in_single_commands(commands: Commands, tmp_path: Path) -> None:
    commands.configure(["sleep", "1000"])
    pid_file = tmp_path / "pid"
    commands.detached("create", "--pid-file", str(pid_file), commands.id)
    state = commands.state(commands.id)
    assert state["status"] == "created"
    assert pid_file.read_text() == str(state["pid"])
    assert list(state) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]

    assert commands.run("start", commands.id) == ""
    assert commands.state(commands.id)["status"] == "running"
    assert json.loads(commands.run("ps", "--format", "json", commands.id)) == [state["pid"]]
    assert "sleep 1000" in commands.run("ps", commands.id)
    assert (
        commands.run("exec", "-e", "A=b", "--cwd", "/tmp", commands.id, "sh", "-c", "echo $A; pwd; exit 3", status=3)
        == "b\n/tmp\n"
    )
    assert commands.run("exec", "-u", "12:34", commands.id, "id", "-u") == "12\n"
    (listed,) = json.loads(commands.run("list", "--format", "json"))
    assert (listed["id"], listed["status"], listed["owner"]) == (commands.id, "running", "root")

    refused = commands.tried("delete", commands.id)
    assert refused.returncode == 1
    assert f"cannot delete container {commands.id} that is not stopped: running" in refused.stderr
    assert commands.run("kill", commands.id, "kill") == ""
    while commands.state(commands.id)["status"] != "stopped":
        time.sleep(0.01)
    assert commands.run("delete", commands.id) == ""
    assert commands.run("list", "-q") == ""


def test_a_console_socket_gets_the_terminal(commands: Commands, tmp_path: Path) -> None:
    from tests.support import process

    commands.configure([], process=process("sh", "-c", "echo on $(tty)").evolve(terminal=True))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        commands.run("create", "--console-socket", str(tmp_path / "console"), commands.id)
        with listener.accept()[0] as connection:
            _, (master,), _, _ = socket.recv_fds(connection, 4096, 1)
    commands.run("start", commands.id)
    assert b"on /dev/pts/0" in os.read(master, 100)
    os.close(master)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("state", "nobody"), 1, "container does not exist"),
        (("start", "nobody"), 1, "container does not exist"),
        (("delete", "nobody"), 1, "container does not exist"),
        (("exec", "nobody", "ls"), 255, "exec failed: container does not exist"),
        (("run", "--bundle", "/nowhere", "one"), 1, "ocirt run failed: /nowhere: no such file or directory"),
        (("run", "--bundle", "rootfs", "one"), 1, "ocirt run failed: JSON specification file config.json not found"),
        (("create", "--config", "mine.json", "one"), 1, "JSON specification file mine.json not found"),
        (("run", "../x"), 1, "invalid container ID format"),
        (("list", "--format", "xml"), 1, "invalid format option"),
        (("kill",), 1, "requires a minimum of 1 argument(s)"),
        (("run", "--nope", "one"), 1, "flag provided but not defined: -nope"),
        (("nope",), 3, "No help topic for 'nope'"),
    ],
)
def test_failures_are_one_line(commands: Commands, words: tuple[str, ...], status: int, message: str) -> None:
    commands.configure(["true"])
    done = commands.tried(*words)
    assert done.returncode == status
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith('time="')


def test_a_missing_program_is_told_in_words_that_engines_know(commands: Commands) -> None:
    commands.configure(["nosuch"])
    done = commands.tried("run", commands.id)
    assert done.returncode == 1
    assert r"executable file not found in $PATH" in done.stderr
    assert commands.run("list", "-q") == ""


def test_delete_by_force_knows_no_absent_container(commands: Commands) -> None:
    assert commands.run("delete", "--force", "nobody") == ""


@pytest.mark.parametrize(("flags", "expected"), [((), True), (("--no-new-keyring",), False)])
def test_a_container_has_a_keyring_unless_told_otherwise(
    commands: Commands, flags: tuple[str, ...], expected: bool
) -> None:
    keys = Path("/proc/keys")
    if not keys.exists():
        pytest.skip("needs a kernel with keys")
    commands.configure(["sleep", "1000"])
    commands.detached("create", *flags, commands.id)
    assert (f"_ses.{commands.id}:" in keys.read_text()) is expected


def test_plan_prints_every_step(commands: Commands) -> None:
    commands.configure(["true"])
    lines = commands.run("plan", str(commands.bundle)).splitlines()
    assert lines[0].split() == ["linux.namespaces", "Clone", "mount", "uts", "ipc", "pid"]
    assert lines[-1].split() == ["process", "Exec", "true"]


@pytest.mark.parametrize("flag", ["--config", "-f"])
def test_the_configuration_may_lie_elsewhere(commands: Commands, flag: str) -> None:
    """As crun has it; its paths are the bundle's still."""
    commands.configure(["echo", "elsewhere"])
    elsewhere = commands.bundle / "elsewhere"
    elsewhere.mkdir()
    (commands.bundle / "config.json").rename(elsewhere / "mine.json")
    assert commands.run("run", flag, "elsewhere/mine.json", commands.id) == "elsewhere\n"


def test_a_state_root_is_private_and_stays(commands: Commands) -> None:
    """The sticky bit keeps what is in $XDG_RUNTIME_DIR from being tidied up (XDG Base Directory Specification)."""
    commands.configure(["true"])
    commands.run("run", commands.id)
    assert stat.S_IMODE(commands.root.stat().st_mode) == 0o1700


@pytest.mark.parametrize("command", ["state", "start", "kill", "delete", "exec", "ps", "events", "pause", "update"])
def test_an_id_that_could_be_nobodys_is_told(commands: Commands, command: str) -> None:
    assert "container id cannot be empty" in commands.tried(command, "").stderr
    assert "invalid container ID format" in commands.tried(command, "../x").stderr
    assert commands.tried("delete", "--force", "../x").returncode == 1
