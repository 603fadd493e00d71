"""A process in the foreground: its terminal is ours for as long as it runs, and ours again afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocirt.spec import Hook, Hooks
from tests.cli.commands import Commands
from tests.cli.test_commands import read_until
from tests.support import SECONDS, Lab, document, eventually, linux, process, python

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


def trapping(numbers: Collection[int]) -> str:
    """A script that says which signals it has got, and has no children of its own to hear of."""
    traps = "; ".join(f"trap 'echo got {number} >&2' {number}" for number in numbers)
    return f"{traps}; echo ready >&2; while :; do read line; done"


def test_every_signal_but_runcs_three_is_handed_on(commands: Commands) -> None:
    """Those that stop us, those that we might have brought upon ourselves, and the real-time ones among them."""
    kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}
    numbers = sorted(signal.valid_signals() - kept)
    assert len(numbers) > 50
    commands.configure(["sh", "-c", trapping([*numbers, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH])])
    line = commands.line("run", commands.id)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=commands.bundle) as run:
        assert run.stderr is not None
        try:
            assert run.stderr.readline() == b"ready\n"
            for number in (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH):
                run.send_signal(number)
            for number in numbers:
                run.send_signal(number)
                assert run.stderr.readline() == b"got %d\n" % number
        finally:
            commands.run("kill", commands.id, "KILL")
        assert run.wait(SECONDS) == 128 + signal.SIGKILL


def test_exec_hands_signals_on_too(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    script = "trap 'exit 8' TSTP; echo ready >&2; while :; do sleep 0.05; done"
    line = commands.line("exec", commands.id, "sh", "-c", script)
    with subprocess.Popen(line, stderr=subprocess.PIPE, cwd=commands.bundle) as run:
        assert run.stderr is not None
        assert run.stderr.readline() == b"ready\n"
        run.send_signal(signal.SIGTSTP)
        assert run.wait(SECONDS) == 8


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGUSR2, signal.SIGRTMIN + 3, signal.SIGSEGV])
def test_our_terminal_is_as_before_when_a_signal_ends_it(commands: Commands, number: int) -> None:
    script = f"trap 'exit 3' {number}; echo ready; while :; do sleep 0.05; done"
    configure_on_terminal(commands, script)
    with at_a_terminal(commands, "run", commands.id) as (run, master, slave):
        before = termios.tcgetattr(slave)
        read_until(master, b"ready")
        assert termios.tcgetattr(slave) != before
        run.send_signal(number)
        assert run.wait(SECONDS) == 3
        assert termios.tcgetattr(slave) == before


def test_our_terminal_is_as_before_when_the_start_fails(commands: Commands) -> None:
    hooks = Hooks(poststart=(Hook("/bin/sh", ("sh", "-c", "echo no; exit 3")),))
    commands.configure([], process=process("sleep", "1000").evolve(terminal=True), hooks=hooks)
    with at_a_terminal(commands, "run", commands.id) as (run, master, slave):
        before = termios.tcgetattr(slave)
        assert "error running poststart hook #0" in read_until(master, b"exited with 3")
        assert run.wait(SECONDS) == 1
        assert termios.tcgetattr(slave) == before


def test_our_terminal_is_as_before_when_nobody_reads_it(commands: Commands) -> None:
    """Restoring it must not wait until all of its output is seen."""
    configure_on_terminal(commands, "echo last words; exit 2")
    with at_a_terminal(commands, "run", commands.id) as (run, _, slave):
        before = termios.tcgetattr(slave)
        assert run.wait(SECONDS) == 2
        assert termios.tcgetattr(slave) == before


ORPHAN = "(sleep 1000 & echo $! >&2); while :; do sleep 0.05; done"


def parent_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


@pytest.mark.parametrize("flags", [(), ("--no-subreaper",)])
def test_run_adopts_and_reaps_whom_the_container_orphans(commands: Commands, flags: tuple[str, ...]) -> None:
    """Where there is no pid namespace whose init would."""
    shared = tuple(entry for entry in linux().namespaces if entry.type != "pid")
    commands.configure(["sh", "-c", ORPHAN], linux=linux(namespaces=shared))
    line = commands.line("run", *flags, commands.id)
    with subprocess.Popen(line, stderr=subprocess.PIPE, cwd=commands.bundle) as run:
        assert run.stderr is not None
        try:
            orphan = int(run.stderr.readline())
            if flags:
                init = int(str(commands.state(commands.id)["pid"]))
                eventually(lambda: parent_of(orphan) not in (run.pid, init), "adopted by somebody else")
                assert parent_of(orphan)
            else:
                eventually(lambda: parent_of(orphan) == run.pid, "adopted")
                os.kill(orphan, signal.SIGKILL)
                eventually(lambda: not Path(f"/proc/{orphan}").exists(), "reaped")
                assert run.poll() is None
        finally:
            commands.run("kill", commands.id, "KILL")
        assert run.wait(SECONDS) == 128 + signal.SIGKILL


def test_the_library_does_not_make_its_caller_adopt_anybody(lab: Lab) -> None:
    """prctl(PR_GET_CHILD_SUBREAPER), after a whole life."""
    script = """
import ctypes, sys, ocirt
ocirt.Container.create(sys.argv[1], sys.argv[2], root=sys.argv[3], stdout=-3, stderr=-3).start()
container = ocirt.Container.load(sys.argv[1], root=sys.argv[3])
container.exec(["true"]).wait()
container.delete(force=True)
adopts = ctypes.c_int(7)
assert ctypes.CDLL(None).prctl(37, ctypes.byref(adopts), 0, 0, 0) == 0
print(adopts.value)
"""
    bundle = lab.bundle(document("sleep", "1000"))
    assert python(script, lab.new_id(), str(bundle.path), str(lab.root)) == "0\n"
