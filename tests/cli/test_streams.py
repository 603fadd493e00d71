"""The streams of a process in the foreground that has no terminal: pipes of its own, and ours at their other ends."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.commands import Commands
from tests.cli.test_commands import read_until
from tests.support import SECONDS, process

pytestmark = pytest.mark.root

COMMANDS = pytest.mark.parametrize("command", ["run", "exec"])


def line(commands: Commands, command: str, script: str, **changes: object) -> list[str]:
    """Of ``run`` for a container with this script, or of ``exec`` in one; ``changes`` are the process's."""
    if command == "run":
        commands.configure([], process=process("sh", "-c", script, **changes))
        return commands.line("run", commands.id)
    commands.configure([], process=process("sleep", "1000", **changes))
    commands.detached("run", "--detach", commands.id)
    return commands.line("exec", commands.id, "sh", "-c", script)


def done(words: list[str], commands: Commands, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, input=input, capture_output=True, timeout=SECONDS, check=False, cwd=commands.bundle)


@contextmanager
def begun(words: list[str], commands: Commands) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=commands.bundle
    ) as started:
        try:
            yield started
        except BaseException:
            started.kill()
            raise


@COMMANDS
def test_they_are_pipes_that_the_user_may_open_by_name(commands: Commands, command: str) -> None:
    """nginx logs to /dev/stderr, whoever it has become."""
    user = process().user.evolve(uid=1000, gid=1000)
    script = "for n in 0 1 2; do stat -L -c '%F %u' /proc/self/fd/$n; done; echo errors >/dev/stderr; cat /dev/stdin"
    ended = done(line(commands, command, script, user=user), commands, b"typed")
    assert (ended.returncode, ended.stderr) == (0, b"errors\n")
    assert ended.stdout == b"fifo 1000\n" * 3 + b"typed"


@COMMANDS
def test_our_own_terminal_is_none_of_them(commands: Commands, command: str) -> None:
    """Or a container could type for us (TIOCSTI)."""
    words = line(commands, command, "for n in 0 1 2; do test -t $n && echo terminal; done; echo none")
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, cwd=commands.bundle) as started:
            seen = read_until(master, b"none")
            assert started.wait(SECONDS) == 0
        assert "terminal" not in seen
    finally:
        os.close(slave)
        os.close(master)


@COMMANDS
def test_much_goes_both_ways_at_once(commands: Commands, command: str) -> None:
    data = os.urandom(1 << 16) * 200
    ended = done(line(commands, command, "tee /dev/stderr"), commands, data)
    assert ended.returncode == 0
    for output in (ended.stdout, ended.stderr):
        assert hashlib.sha256(output).digest() == hashlib.sha256(data).digest()


@COMMANDS
def test_the_end_of_our_input_is_the_end_of_its(commands: Commands, command: str) -> None:
    with begun(line(commands, command, "echo ready; cat; echo over; read line; exit 5"), commands) as started:
        assert started.stdin
        assert started.stdout
        assert started.stdout.readline() == b"ready\n"
        started.stdin.write(b"one\n")
        started.stdin.flush()
        assert started.stdout.readline() == b"one\n"
        started.stdin.close()
        assert started.stdout.readline() == b"over\n"
        assert started.wait(SECONDS) == 5


@COMMANDS
def test_a_reader_may_take_its_time(commands: Commands, command: str) -> None:
    """Nobody reads until the program is through; what it wrote last waits in pipes then."""
    script = "head -c 50000 /dev/zero; echo last; echo written >&2"
    with begun(line(commands, command, script), commands) as started:
        assert started.stdout
        assert started.stderr
        assert started.stderr.readline() == b"written\n"
        assert started.stdout.read() == bytes(50000) + b"last\n"
        assert started.wait(SECONDS) == 0


@COMMANDS
def test_a_reader_that_goes_stops_who_writes(commands: Commands, command: str) -> None:
    """As in a pipeline without us: the writer gets SIGPIPE, and nobody else does."""
    script = "trap 'exit 5' PIPE; (while echo y; do :; done); echo $? >&2; exit 7"
    with begun(line(commands, command, script), commands) as started:
        assert started.stdout
        assert started.stderr
        assert started.stdout.readline() == b"y\n"
        started.stdout.close()
        assert started.stderr.readline() == b"141\n"
        assert started.wait(SECONDS) == 7


@COMMANDS
def test_an_input_that_nobody_reads_holds_nobody_up(commands: Commands, command: str) -> None:
    ended = done(line(commands, command, "exec <&-; echo heard nothing; exit 4"), commands, bytes(1 << 20))
    assert (ended.returncode, ended.stdout) == (4, b"heard nothing\n")


def test_the_status_of_a_signal_is_a_shells(commands: Commands) -> None:
    with begun(line(commands, "run", "echo ready; cat"), commands) as started:
        assert started.stdout
        assert started.stdout.readline() == b"ready\n"
        commands.run("kill", commands.id, "KILL")
        assert started.wait(SECONDS) == 128 + signal.SIGKILL
    assert done(line(commands, "exec", "kill -USR1 $$"), commands).returncode == 128 + signal.SIGUSR1


def test_exec_does_not_wait_for_whom_the_program_leaves_behind(commands: Commands) -> None:
    ended = done(line(commands, "exec", "sleep 1000 & echo started; exit 6"), commands)
    assert (ended.returncode, ended.stdout) == (6, b"started\n")


@COMMANDS
def test_a_command_whose_streams_are_closed_hands_on_none_of_its_files(commands: Commands, command: str) -> None:
    """Their numbers would go to whatever it opens first."""
    words = line(commands, command, "cat; echo all >&2; exit 3")
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&-', "sh", *words],
        stderr=subprocess.PIPE,
        timeout=SECONDS,
        check=False,
        cwd=commands.bundle,
    )
    assert (ended.returncode, ended.stderr) == (3, b"all\n")


def test_a_detached_process_has_our_own(commands: Commands) -> None:
    commands.configure(["sh", "-c", "test -f /proc/self/fd/1 && echo file; cat"])
    output = commands.root.parent / "output"
    with output.open("wb") as file:
        subprocess.run(
            commands.line("run", "--detach", commands.id),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            timeout=SECONDS,
            check=True,
            cwd=commands.bundle,
        )
    from tests.support import eventually

    eventually(lambda: output.read_text() == "file\n", "its output")


@pytest.mark.parametrize("words", [("exec", "--detach", "--user", "1000:1000"), ("exec", "--user", "1000:1000")])
def test_the_hosts_null_device_stays_the_hosts(commands: Commands, words: tuple[str, ...]) -> None:
    """runc 1.1.1 gave it away."""
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    commands.detached(*words, commands.id, "true")
    info = os.stat("/dev/null")
    assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (0, 0, 0o666)
