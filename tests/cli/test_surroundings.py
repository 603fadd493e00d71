"""What the process of a command finds around it: descriptors, directory, environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ocirt.spec import Root
from tests.cli.commands import Commands
from tests.support import SECONDS, eventually, process

pytestmark = pytest.mark.root

PATH = "PATH=/bin"


def around(commands: Commands, words: tuple[str, ...], *command: str) -> str:
    """What a process prints that ``exec -p`` or a plain ``exec`` starts."""
    return commands.run("exec", *words, commands.id, *command)


def test_a_created_init_holds_nothing_of_its_callers(commands: Commands, tmp_path: Path) -> None:
    """Directories and devices that somebody has left open would be ways out of the container (CVE-2024-21626)."""
    commands.configure(["sleep", "1000"])
    left = "4</proc 5</sys/fs/cgroup 7</ 8</etc 9</dev/null"
    subprocess.run(
        ["sh", "-c", f'exec "$@" {left} </dev/null >/dev/null 2>&1', "sh", *commands.line("create", commands.id)],
        timeout=SECONDS,
        check=True,
        cwd=commands.bundle,
    )
    directory = Path(f"/proc/{commands.state(commands.id)['pid']}/fd")

    def held() -> dict[int, str]:
        return {int(entry.name): os.readlink(entry).split(":")[0] for entry in directory.iterdir()}

    eventually(lambda: set(held().values()) == {"/dev/null", "socket"}, f"streams and sockets, not {held()}")
    assert sorted(held())[:3] == [0, 1, 2]
    assert len(held()) <= 5


@pytest.mark.parametrize(("mode", "owner", "uid"), [(0o700, 42, 42), (0o700, 0, 42), (0o700, 42, 0), (0o755, 0, 42)])
def test_a_working_directory_need_be_open_to_either_alone(commands: Commands, mode: int, owner: int, uid: int) -> None:
    """The runtime or the user: by run and by exec. Root without capabilities may enter what it could not read."""
    directory = commands.bundle / "rootfs/private"
    directory.mkdir()
    os.chown(directory, owner, owner)
    directory.chmod(mode)
    user = process().user.evolve(uid=uid, gid=uid)
    commands.configure([], process=process("readlink", "/proc/self/cwd", cwd="/private", user=user))
    assert commands.run("run", commands.id) == "/private\n"
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    words = ("--cwd", "/private", "--user", f"{uid}:{uid}")
    assert around(commands, words, "readlink", "/proc/self/cwd") == "/private\n"


def test_home_is_looked_up_for_who_has_none(commands: Commands, tmp_path: Path) -> None:
    """For run, for exec and for a whole process from a file, which may have no environment at all."""
    (commands.bundle / "rootfs/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:\n")
    program = process("/bin/env", env=())
    user = program.user.evolve(uid=1000, gid=1000)
    for who, home in ((program.user, "/root"), (user, "/home/user"), (user.evolve(uid=5), "/")):
        commands.configure([], process=program.evolve(user=who))
        assert commands.run("run", commands.id) == f"HOME={home}\n"
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    for who, home in ((program.user, "/root"), (user, "/home/user"), (user.evolve(uid=5), "/")):
        (tmp_path / "process.json").write_text(program.evolve(user=who).dumps())
        assert commands.run("exec", "--process", str(tmp_path / "process.json"), commands.id) == f"HOME={home}\n"
        shown = around(commands, ("--user", f"{who.uid}:{who.gid}", "--env", "HOME="), "env")
        assert f"HOME={home}\n" in shown


def test_values_of_several_lines_arrive_whole(commands: Commands, tmp_path: Path) -> None:
    value = "one\n two=2\n\nlast\n"
    script = 'printf %s "$LINES_OF"'
    commands.configure([], process=process("sh", "-c", script, env=(PATH, f"LINES_OF={value}")))
    assert commands.run("run", commands.id) == value
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    assert around(commands, ("--env", f"LINES_OF={value}"), "sh", "-c", script) == value
    (tmp_path / "process.json").write_text(process("sh", "-c", script, env=(PATH, f"LINES_OF={value}")).dumps())
    assert commands.run("exec", "--process", str(tmp_path / "process.json"), commands.id) == value


def test_a_missing_working_directory_is_made_for_run_and_told_by_exec(commands: Commands) -> None:
    commands.configure([], process=process("pwd", cwd="/new/one"), root=Root("rootfs"))
    assert commands.run("run", commands.id) == "/new/one\n"
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    done = commands.tried("exec", "--cwd", "/nowhere", commands.id, "pwd")
    assert done.returncode == 255
    assert "process.cwd" in done.stderr
