"""exec: the container's own process, but for what the flags change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.cli.lifecycle import signal_number
from ocirt.cli.parse import UsageError
from ocirt.host import Host
from tests.cli.commands import Commands
from tests.support import SECONDS, eventually

pytestmark = pytest.mark.root


@pytest.fixture
def running(commands: Commands) -> Commands:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "--detach", commands.id)
    return commands


def status_of(commands: Commands, *flags: str) -> dict[str, str]:
    """proc_pid_status(5) of a process that was executed with these flags."""
    text = commands.run("exec", *flags, commands.id, "cat", "/proc/self/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_a_uid_alone_keeps_the_group(running: Commands) -> None:
    assert running.run("exec", "--user", "7", running.id, "id", "-g") == "0\n"
    assert running.run("exec", "--user=7:8", "-g", "9", "-g", "10", running.id, "id", "-G") == "8 9 10\n"


@pytest.mark.parametrize(
    ("user", "message"), [("root", "bad uid"), ("1:root", "bad gid"), ("-1", "bad uid"), ("", "bad uid")]
)
def test_users_are_numbers(running: Commands, user: str, message: str) -> None:
    done = running.tried("exec", f"--user={user}", running.id, "true")
    assert done.returncode == 255
    assert f"exec failed: {message}" in done.stderr


def test_an_added_capability_is_not_inheritable(running: Commands) -> None:
    """CAP_SYS_ADMIN, number 21, beside runc's default three."""
    status = status_of(running, "--cap", "CAP_SYS_ADMIN")
    assert [status[name] for name in ("CapBnd", "CapEff", "CapPrm")] == ["0000000020200420"] * 3
    assert status["CapInh"] == "0000000000000000"


def test_no_new_privileges_can_be_switched_off(running: Commands) -> None:
    assert status_of(running)["NoNewPrivs"] == "1"
    assert status_of(running, "--no-new-privs=false")["NoNewPrivs"] == "0"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--apparmor=docker-default", "apparmor profile docker-default specified but AppArmor not enabled"),
        ("--process-label=x", "selinux label is specified in config, but selinux is disabled or not supported"),
    ],
)
def test_labels_are_refused_where_they_mean_nothing(running: Commands, flag: str, message: str) -> None:
    if Host.probe().apparmor or Host.probe().selinux:
        pytest.skip("there are security modules here")
    done = running.tried("exec", flag, running.id, "true")
    assert (done.returncode, message in done.stderr) == (255, True)
    assert running.run("exec", "--apparmor", "unconfined", running.id, "echo", "x") == "x\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cgroup", "a", "--cgroup", "b"), "invalid --cgroup argument: a (missing <controller>: prefix)"),
        (("--cgroup", "memory:a", "--cgroup", "memory:b"), "duplicate controller memory"),
        (("--cgroup", ":a"), "invalid --cgroup argument: :a (empty controller)"),
        (("--cgroup", "../a"), "bad sub cgroup path"),
        (("--cgroup", "nosuch:a"), "unknown controller nosuch"),
    ],
)
def test_a_cgroup_that_is_none_of_the_containers_is_refused(
    running: Commands, flags: tuple[str, ...], message: str
) -> None:
    done = running.tried("exec", *flags, running.id, "true")
    assert (done.returncode, message in done.stderr) == (255, True)


def test_a_cgroup_below_the_containers_is_taken(running: Commands) -> None:
    lines = running.run("exec", running.id, "cat", "/proc/self/cgroup").splitlines()
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    top = Path("/sys/fs/cgroup/memory" + paths.get("memory", "/nowhere"))
    if not top.is_dir():
        pytest.skip("needs a memory controller of cgroup version 1")
    (top / "inner").mkdir()
    words = ("exec", "--ignore-paused", "--cgroup", "memory:inner", running.id, "grep", ":memory:", "/proc/self/cgroup")
    assert running.run(*words).strip().endswith(f"{paths['memory']}/inner")


def test_a_process_may_come_from_a_file(running: Commands, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"args": ["sh", "-c", "echo $A; exit 2"], "cwd": "/", "env": ["PATH=/bin", "A=b"]}))
    assert running.run("exec", "--process", str(file), running.id, status=2) == "b\n"


def test_a_detached_process_outlives_the_command(running: Commands, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    running.detached("exec", "-d", "--pid-file", str(pid_file), running.id, "sleep", "999")
    assert int(pid_file.read_text()) in json.loads(running.run("ps", "-f", "json", running.id))


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to hold a command back")
@pytest.mark.parametrize("words", [("exec",), ("run",)])
def test_the_status_of_a_detached_process_is_left_to_a_subreaper(
    running: Commands, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Even if it ends before the command that started it, which is held back when it writes the pid file."""
    running.configure(["sh", "-c", "exit 7"])
    names = [running.id, "sh", "-c", "exit 7"] if words == ("exec",) else [f"{running.id}-2"]
    slowly = ["strace", "-qq", f"--output={os.devnull}", "--trace=rename", "--inject=rename:delay_enter=500000"]
    command = running.line(*words, "--detach", f"--pid-file={tmp_path}/pid", *names)
    shim = "import ctypes, os, subprocess, sys; ctypes.CDLL(None).prctl(36, 1); "
    shim += "subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL); pid = int(open(sys.argv[1]).read()); "
    shim += "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    done = subprocess.run(
        [sys.executable, "-c", shim, f"{tmp_path}/pid", *slowly, *command],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=running.bundle,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "exec failed: exec args cannot be empty"),
        (
            ("nosuch",),
            r"exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
        ),
        (("/bin/nosuch",), r"exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"),
        (("/proc/version",), r"exec: \"/proc/version\": permission denied"),
        (("/proc",), r"exec: \"/proc\": is a directory: permission denied"),
    ],
)
def test_failures_exit_with_255(running: Commands, args: tuple[str, ...], message: str) -> None:
    done = running.tried("exec", running.id, *args)
    assert done.returncode == 255
    assert message in done.stderr


@pytest.mark.parametrize("name", ["9", "KILL", "SIGKILL", "sigkill"])
def test_a_signal_is_a_number_or_a_name(running: Commands, name: str) -> None:
    running.run("kill", running.id, name)
    eventually(lambda: running.state(running.id)["status"] == "stopped", "it is killed")
    assert "container not running" in running.tried("kill", running.id).stderr
    assert running.run("kill", "--all", running.id, "9") == ""


def test_an_unknown_signal_is_refused(running: Commands) -> None:
    assert r"unknown signal \"FOO\"" in running.tried("kill", running.id, "FOO").stderr
    assert running.state(running.id)["status"] == "running"


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_every_flag_has_a_long_name_with_one_dash_or_two(running: Commands, dashes: str) -> None:
    flags = (
        "env",
        "A=1\n2",
        "env",
        "B=3,4",
        "cwd",
        "/tmp",
        "user",
        "5:6",
        "additional-gids",
        "7",
        "additional-gids",
        "8",
    )
    words = [f"{dashes}{word}" if place % 2 == 0 else word for place, word in enumerate(flags)]
    script = 'echo "$A,$B"; pwd; id -u; id -g; grep ^Groups /proc/self/status'
    said = running.run("exec", f"{dashes}no-subreaper", f"{dashes}tty=false", *words, running.id, "sh", "-c", script)
    assert said.split() == ["1", "2,3,4", "/tmp", "5", "6", "Groups:", "7", "8"]


def test_what_no_flag_says_is_the_containers(commands: Commands) -> None:
    """Its environment, directory and user; not its terminal."""
    from ocirt.spec import User
    from tests.support import process

    own = process("sleep", "1000", cwd="/tmp", env=("PATH=/bin", "A=own"), user=User(uid=5, gid=6))
    commands.configure([], process=own)
    commands.detached("run", "-d", commands.id)
    script = "echo $A $B; pwd; id -u; tty || true"
    said = commands.run("exec", "-e", "B=more", commands.id, "sh", "-c", script)
    assert said.splitlines() == ["own more", "/tmp", "5", "not a tty"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("RTMIN", signal.SIGRTMIN),
        ("sigrtmin+3", signal.SIGRTMIN + 3),
        ("RTMAX-2", signal.SIGRTMAX - 2),
        ("SIGRTMAX", signal.SIGRTMAX),
        ("64", 64),
        ("hup", signal.SIGHUP),
        ("SigUsr1", signal.SIGUSR1),
    ],
)
def test_signals_may_be_spelt_as_crun_has_them(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["RTMIN+31", "RTMAX+1", "RTMIN-1", "65", "-9", "SIG", "SIGSIGKILL", "9x", "٩"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        signal_number(text)
