"""A process in the foreground: its terminal is ours for as long as it runs, and ours again afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.commands import Commands
from tests.cli.test_commands import read_until
from tests.support import SECONDS, process

pytestmark = pytest.mark.root


@contextmanager
def at_a_terminal(commands: Commands, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A command on a terminal of 91 columns and 37 lines; with both of the terminal's sides."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(master, (37, 91))
    run = subprocess.Popen(
        commands.line(*words), stdin=slave, stdout=slave, stderr=slave, cwd=commands.bundle, start_new_session=True
    )
    try:
        with run:
            try:
                yield run, master, slave
            except BaseException:
                run.kill()  # or we would wait for it, and it for us
                raise
    finally:
        os.close(slave)
        os.close(master)


def configure_on_terminal(commands: Commands, script: str) -> None:
    commands.configure([], process=process("sh", "-c", script).evolve(terminal=True))


def test_the_size_of_our_terminal_is_handed_on_and_its_changes_too(commands: Commands) -> None:
    configure_on_terminal(
        commands, "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    )
    with at_a_terminal(commands, "run", commands.id) as (run, master, _):
        assert "37 91" in read_until(master, b"ready")
        termios.tcsetwinsize(master, (10, 20))
        run.send_signal(signal.SIGWINCH)
        assert "10 20" in read_until(master, b"10 20")
        assert run.wait(SECONDS) == 0


def test_our_terminal_is_raw_meanwhile_and_afterwards_as_before(commands: Commands) -> None:
    configure_on_terminal(commands, "echo ready; read line; exit 4")
    with at_a_terminal(commands, "run", commands.id) as (run, master, slave):
        read_until(master, b"ready")
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        os.write(master, b"\n")
        assert run.wait(SECONDS) == 4
        assert termios.tcgetattr(slave)[3] & termios.ICANON
        assert termios.tcgetattr(slave)[3] & termios.ECHO


def test_an_interrupt_key_is_for_the_containers_terminal(commands: Commands) -> None:
    configure_on_terminal(commands, "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.05; done")
    with at_a_terminal(commands, "run", commands.id) as (run, master, _):
        read_until(master, b"ready")
        os.write(master, b"\x03")
        read_until(master, b"interrupted")
        assert run.wait(SECONDS) == 6


def test_what_a_terminal_showed_has_no_carriage_returns_in_a_file(commands: Commands) -> None:
    configure_on_terminal(commands, "echo one; echo two")
    assert commands.run("run", commands.id) == "one\ntwo\n"


def test_much_output_on_a_terminal_arrives_whole(commands: Commands) -> None:
    configure_on_terminal(commands, "seq 1 20000")
    assert commands.run("run", commands.id) == "".join(f"{number}\n" for number in range(1, 20001))


def test_exec_has_a_terminal_by_a_flag(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    with at_a_terminal(commands, "exec", "-t", commands.id, "sh", "-c", "tty; stty size; read x; exit 9") as (
        run,
        master,
        _,
    ):
        assert "/dev/pts/0" in read_until(master, b"37 91")
        os.write(master, b"\n")
        assert run.wait(SECONDS) == 9


def test_a_kept_container_is_there_after_its_end(commands: Commands) -> None:
    commands.configure(["true"])
    commands.run("run", "--keep", commands.id)
    assert commands.state(commands.id)["status"] == "stopped"


def test_a_pid_file_that_cannot_be_written_leaves_no_container(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.run("create", "--pid-file", "nowhere/pid", commands.id, status=1)
    assert commands.run("list", "-q") == ""


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_terminal_that_nobody_would_hold_is_refused(commands: Commands, command: str) -> None:
    configure_on_terminal(commands, "true")
    words = (command, *(["--detach"] if command == "run" else []), commands.id)
    message = "cannot allocate tty if runc will detach without setting console socket"
    assert message in commands.tried(*words).stderr
    commands.configure(["true"])
    message = "cannot use console socket if runc will not detach or allocate tty"
    assert message in commands.tried(*words[:-1], "--console-socket", "/nowhere", commands.id).stderr
