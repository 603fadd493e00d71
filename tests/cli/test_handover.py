"""What a command hands to its caller: a terminal, a pidfd, a pid file."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from ocirt.spec import ConsoleSize
from tests.cli.commands import Commands
from tests.cli.test_commands import read_until
from tests.support import SECONDS, process

pytestmark = pytest.mark.root


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """However long the path is (unix(7) has 107 bytes for one)."""
    directory = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(f"/proc/self/fd/{directory}/{path.name}")
            listener.listen()
            listener.settimeout(SECONDS)
            yield listener
    finally:
        os.close(directory)


def received(listener: socket.socket) -> tuple[bytes, int]:
    """All that came on one connection: the payload, and the one descriptor."""
    with listener.accept()[0] as connection:
        connection.settimeout(SECONDS)
        payload, (fd,), flags, _ = socket.recv_fds(connection, 4096, 8)
        assert not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
        assert connection.recv(1) == b""
    return payload, fd


@contextmanager
def closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def is_pidfd_of(fd: int, pid: int) -> bool:
    told = Path(f"/proc/self/fdinfo/{fd}").read_text()
    return f"Pid:\t{pid}\n" in told


def deep(directory: Path) -> Path:
    """A directory whose path alone is longer than a socket's may be."""
    found = directory / ("long" * 20) / ("longer" * 20)
    found.mkdir(parents=True)
    return found


def test_a_console_socket_may_have_a_long_path(commands: Commands, tmp_path: Path) -> None:
    size = ConsoleSize(height=31, width=77)
    program = process("sh", "-c", "tty; stty size; stat -c '%u:%g %t:%T' /dev/console").evolve(
        terminal=True, console_size=size
    )
    commands.configure([], process=program)
    path = deep(tmp_path) / "console"
    with listening(path) as listener:
        commands.run("create", "--console-socket", str(path), commands.id)
        payload, master = received(listener)
    with closing(master):
        assert payload == b"/dev/pts/0"
        commands.run("start", commands.id)
        assert read_until(master, b"88:0").split("\r\n")[:3] == ["/dev/pts/0", "31 77", "0:5 88:0"]


def test_the_terminal_of_exec_is_the_users_and_as_large_as_it_says(commands: Commands, tmp_path: Path) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    program = process("sh", "-c", "tty; stty size; stat -c %u:%g $(tty); echo all; sleep 1000").evolve(
        terminal=True, console_size=ConsoleSize(height=21, width=43)
    )
    program = program.evolve(user=program.user.evolve(uid=1000, gid=1000))
    (tmp_path / "process.json").write_text(program.dumps())
    path = tmp_path / "console"
    with listening(path) as listener:
        words = ("--detach", "--process", str(tmp_path / "process.json"), "--console-socket", str(path))
        commands.run("exec", *words, commands.id)
        payload, master = received(listener)
    with closing(master):
        assert payload == b"/dev/pts/0"
        assert read_until(master, b"all").split("\r\n")[:3] == ["/dev/pts/0", "21 43", "1000:5"]
        assert struct.unpack("HHHH", ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (21, 43)


@pytest.mark.parametrize("flag", ["--console-socket", "--pidfd-socket"])
@pytest.mark.parametrize("command", ["create", "run"])
def test_a_socket_that_nobody_listens_at_is_told_and_leaves_nothing(
    commands: Commands, tmp_path: Path, command: str, flag: str
) -> None:
    commands.configure([], process=process("true").evolve(terminal=flag == "--console-socket"))
    path = tmp_path / "nobody"
    words = (command, *(["--detach"] if command == "run" else []), flag, str(path), commands.id)
    done = commands.tried(*words)
    assert done.returncode == 1
    assert f"{path}: no such file or directory" in done.stderr
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
    assert f"{path}: connection refused" in commands.tried(*words).stderr
    assert not commands.root.exists()


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_pidfd_of_init_goes_to_its_socket(commands: Commands, tmp_path: Path, command: str) -> None:
    commands.configure(["sleep", "1000"])
    path = deep(tmp_path) / "pidfd"
    detach = ["--detach"] if command == "run" else []
    with listening(path) as listener:
        commands.detached(command, *detach, "--pidfd-socket", str(path), commands.id)
        payload, pidfd = received(listener)
    with closing(pidfd):
        assert payload == b"standard"
        pid = commands.state(commands.id)["pid"]
        assert isinstance(pid, int)
        assert is_pidfd_of(pidfd, pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], SECONDS)[0]


def test_a_pidfd_of_an_executed_process_goes_to_its_socket(commands: Commands, tmp_path: Path) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    path = tmp_path / "pidfd"
    with listening(path) as listener:
        words = ("--detach", "--pidfd-socket", str(path), "--pid-file", str(tmp_path / "pid"))
        commands.detached("exec", *words, commands.id, "sleep", "1000")
        payload, pidfd = received(listener)
    with closing(pidfd):
        assert payload == b"setns"
        assert is_pidfd_of(pidfd, int((tmp_path / "pid").read_text()))
        assert not is_pidfd_of(pidfd, int(str(commands.state(commands.id)["pid"])))


def test_an_annotation_may_name_the_pidfds_socket_as_for_crun(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "pidfd"
    commands.configure(["sleep", "1000"], annotations={"run.oci.pidfd_receiver": str(path)})
    with listening(path) as listener:
        commands.detached("create", commands.id)
        _, pidfd = received(listener)
    with closing(pidfd):
        assert is_pidfd_of(pidfd, int(str(commands.state(commands.id)["pid"])))


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_pid_file_holds_digits_alone_once_the_process_is_ready(
    commands: Commands, tmp_path: Path, command: str
) -> None:
    commands.configure(["sleep", "1000"])
    file = tmp_path / "pid"
    detach = ["--detach"] if command == "run" else []
    commands.detached(command, *detach, "--pid-file", str(file), commands.id)
    assert file.read_text() == str(commands.state(commands.id)["pid"])
    assert not (tmp_path / ".pid").exists()


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_a_pid_file_that_somebody_else_is_writing_is_told_and_nothing_runs(
    commands: Commands, tmp_path: Path, command: str
) -> None:
    """What the other one wrote stays."""
    commands.configure(["sleep", "1000"])
    if command == "exec":
        commands.detached("run", "--detach", commands.id)
    (tmp_path / ".pid").write_text("theirs")
    detach = [] if command == "create" else ["--detach"]
    program = ["sleep", "1234"] if command == "exec" else []
    done = commands.tried(command, *detach, "--pid-file", str(tmp_path / "pid"), commands.id, *program)
    assert done.returncode == (255 if command == "exec" else 1)
    assert "file exists" in done.stderr
    assert (tmp_path / ".pid").read_text() == "theirs"
    assert not (tmp_path / "pid").exists()
    if command == "exec":
        assert "sleep 1234" not in commands.run("ps", commands.id, "-ef")
    else:
        assert commands.run("list", "-q") == ""


def test_no_pid_file_is_written_for_what_never_became_ready(commands: Commands, tmp_path: Path) -> None:
    commands.configure(["no-such-program"])
    for command in ("create", "run"):
        assert commands.tried(command, "--pid-file", str(tmp_path / "pid"), commands.id).returncode == 1
    assert not {"pid", ".pid"} & {entry.name for entry in tmp_path.iterdir()}
