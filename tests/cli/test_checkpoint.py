"""checkpoint and restore as engines call them; where CRIU works there is more in tests/lifecycle/test_checkpoint.py."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.spec import Mount
from tests.cli.commands import Commands
from tests.support import SECONDS, eventually, shell

pytestmark = pytest.mark.root


def failed(commands: Commands, *words: str) -> str:
    """What a command that fails says, on standard error alone."""
    done = commands.tried(*words)
    assert done.returncode == 1, done
    return done.stderr


@pytest.fixture
def running(commands: Commands) -> Commands:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "-d", commands.id)
    return commands


def test_engines_ask_whether_there_are_checkpoints(commands: Commands) -> None:
    """podman's two questions."""
    assert "--image-path" in commands.run("checkpoint", "--help")
    assert "flag needs an argument" in failed(commands, "restore", "--lsm-mount-context")


def test_docker_asks_by_an_annotation(commands: Commands) -> None:
    there = str(shutil.which("criu") is not None or os.path.exists("/usr/sbin/criu")).lower()
    assert f'"org.opencontainers.runc.checkpoint.enabled": "{there}"' in commands.run("features")


def test_a_container_that_does_not_run(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("create", commands.id)
    assert "Container cannot be checkpointed in created state" in failed(commands, "checkpoint", commands.id)


def test_a_container_that_is_not_there(commands: Commands) -> None:
    assert "container does not exist" in failed(commands, "checkpoint", commands.id)


def test_without_criu_it_goes_on(running: Commands, tmp_path: Path) -> None:
    said = failed(running, "--criu", "/no/criu", "checkpoint", "--image-path", str(tmp_path / "images"), running.id)
    assert 'exec: \\"/no/criu\\": executable file not found' in said
    assert "install CRIU" in said
    assert running.state(running.id)["status"] == "running"
    assert not (tmp_path / "images").exists()


def test_a_criu_that_fails_is_quoted_and_the_container_goes_on(running: Commands, tmp_path: Path) -> None:
    """One that knows its version, and ends when it is asked for more."""
    criu = tmp_path / "criu"
    real = shutil.which("criu", path="/usr/sbin:/usr/bin")
    if real is None:
        pytest.skip("needs CRIU (Debian: apt-get install criu)")
    criu.write_text(f'#!/bin/sh\ntest -e {tmp_path}/asked && exit 4\ntouch {tmp_path}/asked\nexec {real} "$@"\n')
    criu.chmod(0o755)
    images = tmp_path / "images"
    said = failed(running, "--criu", str(criu), "checkpoint", "--image-path", str(images), running.id)
    assert "criu failed: type DUMP errno 0" in said
    assert f"log file: {images}/dump.log" in said
    assert running.state(running.id)["status"] == "running"
    assert images.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--manage-cgroups-mode", "loose"), "invalid manage-cgroups-mode value"),
        (("--empty-ns", "user"), "namespace user is not supported"),
        (("--page-server", "nowhere"), "Use --page-server ADDRESS:PORT"),
        (("--page-server", "host:99999"), "Use --page-server ADDRESS:PORT"),
        (("--lazy-pages", "--status-fd", "99"), "invalid --status-fd argument 99: Bad file descriptor"),
        (("--lazy-pages", "--status-fd", "0"), "invalid --status-fd argument 0: not writable"),
        (("--parent-path", "/absolute"), "must be relative to the image path"),
        (("--parent-path", "../missing"), "is no directory"),
        (("--network-lock", "none"), "one of iptables, nftables and skip"),
        (("--status-fd", "x"), "for flag -status-fd: parse error"),
    ],
)
def test_what_cannot_be_asked_for(running: Commands, words: tuple[str, ...], expected: str) -> None:
    if shutil.which("criu", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs CRIU (Debian: apt-get install criu)")
    assert expected in failed(running, "checkpoint", *words, running.id)
    assert running.state(running.id)["status"] == "running"


def test_a_file_of_options_that_is_missing(commands: Commands) -> None:
    if shutil.which("criu", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs CRIU (Debian: apt-get install criu)")
    commands.configure(["sleep", "1000"], annotations={"org.criu.config": "/no/file"})
    commands.detached("run", "-d", commands.id)
    assert "annotations[org.criu.config]: /no/file" in failed(commands, "checkpoint", commands.id)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--image-path", "/no/images"), "/no/images: is no directory"),
        (("--image-path", "/no/images", "-no-subreaper"), "/no/images: is no directory"),
        (("--bundle", "/no/bundle"), "JSON specification file"),
        (("--no-pivot",), "--no-pivot"),
        (("--console-socket", "/no/socket"), "cannot use console socket"),
    ],
)
def test_what_cannot_be_restored(commands: Commands, words: tuple[str, ...], expected: str) -> None:
    commands.configure(["sleep", "1000"])
    assert expected in failed(commands, "restore", *words, commands.id)
    assert not (commands.root / commands.id).exists()


def test_an_image_that_is_none_leaves_nothing(commands: Commands, tmp_path: Path) -> None:
    if shutil.which("criu", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs CRIU (Debian: apt-get install criu)")
    commands.configure(["sleep", "1000"])
    images = tmp_path / "images"
    images.mkdir()
    assert "descriptors.json: cannot be read" in failed(
        commands, "restore", "-d", "--image-path", str(images), commands.id
    )
    (images / "descriptors.json").write_text('["/dev/null", "/dev/null", "/dev/null"]')
    said = failed(commands, "restore", "-d", "--image-path", str(images), "--pid-file", "pid", commands.id)
    assert "criu failed: type RESTORE" in said
    assert f"log file: {images}/restore.log" in said
    assert os.listdir(commands.root) == []
    assert not (commands.bundle / "pid").exists()


def shown(commands: Commands, script: str, **changes: object) -> Path:
    """Configure a container that shares a directory with us."""
    shared = commands.bundle / "shared"
    shared.mkdir()
    spec = shell(script)
    mount = Mount("/shared", "none", str(shared), ("bind", "rw"))
    commands.configure(["sh", "-c", script], mounts=(*spec.mounts, mount), **changes)
    return shared


@pytest.mark.vm
def test_there_and_back_again(commands: Commands) -> None:
    """As podman does it by conmon, and containerd by go-runc."""
    shared = shown(commands, "n=5; touch /shared/ready; until [ -e /shared/go ]; do sleep 0.05; done; exit $((n+2))")
    commands.detached("run", "-d", commands.id)
    eventually((shared / "ready").exists, "runs")
    commands.run("checkpoint", "--image-path", "images", "--work-path", "work", "--file-locks", commands.id)
    assert "does not exist" in failed(commands, "state", commands.id)
    assert (commands.bundle / "work/dump.log").exists()
    images = ("--image-path", "images", "--work-path", "work")
    commands.detached("restore", *images, "--detach", "--pid-file", "pid", "-no-subreaper", commands.id)
    state = commands.state(commands.id)
    assert state["status"] == "running"
    assert (commands.bundle / "pid").read_text() == str(state["pid"])
    commands.run("kill", commands.id, "KILL")
    eventually(lambda: commands.state(commands.id)["status"] == "stopped", "stopped")
    commands.run("delete", commands.id)
    process = subprocess.Popen(
        commands.line("restore", *images, "-b", str(commands.bundle), commands.id),
        cwd=commands.bundle,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    eventually(lambda: commands.tried("state", commands.id).returncode == 0, "restored")
    (shared / "go").touch()
    assert process.wait(SECONDS) == 7
    assert "does not exist" in failed(commands, "state", commands.id)


@pytest.mark.vm
def test_init_is_left_to_whoever_adopts_orphans(commands: Commands) -> None:
    """conmon and the shims wait for it themselves."""
    shown(commands, "sleep 1000")
    commands.detached("run", "-d", commands.id)
    commands.run("checkpoint", "--leave-running", commands.id)
    commands.run("delete", "--force", commands.id)
    script = (
        "import ctypes, os, subprocess, sys\n"
        "assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n"  # PR_SET_CHILD_SUBREAPER
        "subprocess.run(sys.argv[1:], check=True, stdin=-3, stdout=-3, stderr=-3)\n"
        "pid = int(open('pid').read())\n"
        "print(open(f'/proc/{pid}/stat').read().rpartition(') ')[2].split()[1], os.getpid())\n"
        "os.kill(pid, 9)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    line = commands.line("restore", "--detach", "--pid-file", "pid", commands.id)
    done = subprocess.run(
        [sys.executable, "-c", script, *line],
        cwd=commands.bundle,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done
    parent, adopter, status = done.stdout.split()
    assert parent == adopter
    assert status == "9"


@pytest.mark.vm
def test_a_terminal_for_the_console_socket(commands: Commands) -> None:
    process = shell("true").process
    assert process is not None
    args = ("sh", "-c", "while read line; do echo got $line; done")
    commands.configure(args, process=process.evolve(args=args, terminal=True))
    path = commands.bundle / "console"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        commands.detached("run", "-d", "--console-socket", str(path), commands.id)
        first = received(listener)
        commands.run("checkpoint", "--image-path", "images", commands.id)
        os.close(first)
        words = ("--image-path", "images", "--console-socket", str(path), "--detach")
        commands.detached("restore", *words, commands.id)
        second = received(listener)
    try:
        os.write(second, b"two\n")
        seen = b""
        while b"got two" not in seen:
            assert select.select([second], [], [], SECONDS)[0]
            seen += os.read(second, 4096)
    finally:
        os.close(second)


def received(listener: socket.socket) -> int:
    listener.settimeout(SECONDS)
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    return fds[0]
