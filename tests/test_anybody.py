"""What must work for whoever runs these tests: as root, and as an ordinary user without any help of root's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, PIPE

import pytest

import ocirt
from ocirt import Bundle, Container, SetupError, Spec, UnsupportedError, host
from tests import support


def reason() -> str:
    here = host.Host.probe()
    return "" if here.privileged or here.user_namespaces else "this user may not create user namespaces"


pytestmark = pytest.mark.skipif(bool(reason()), reason=reason())


def default(*args: str, terminal: bool = False) -> Spec:
    """What ``runc spec``, or ``runc spec --rootless``, says for this caller."""
    spec = Spec.default(rootless=os.geteuid() != 0)
    assert spec.process is not None
    return spec.evolve(process=spec.process.evolve(args=args, terminal=terminal))


def create(rootfs: Path, directory: Path, spec: Spec, stdout: int = DEVNULL) -> Container:
    bundle = Bundle.create(directory / "bundle", rootfs=rootfs, spec=spec)
    container_id = f"anybody-{token_hex(4)}"
    return Container.create(container_id, bundle, root=directory / "state", stdin=DEVNULL, stdout=stdout)


@pytest.fixture
def sleeping(rootfs: Path, tmp_path: Path) -> Iterator[Container]:
    with create(rootfs, tmp_path, default("sleep", "1000")) as container:
        container.start()
        yield container
    assert not ocirt.containers(root=tmp_path / "state")


def test_one_call_runs_the_hosts_software(tmp_path: Path) -> None:
    done = ocirt.run(["python3", "-c", "import os; print(6 * 7, os.getpid(), os.getuid())"], root=tmp_path, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42 1 0\n", "")


def test_one_call_shows_nothing_of_the_callers_home(tmp_path: Path) -> None:
    assert ocirt.run(["ls", "-A", "/home", "/root"], root=tmp_path, text=True).stdout == "/home:\n\n/root:\n"


def test_a_life(rootfs: Path, tmp_path: Path) -> None:
    with create(rootfs, tmp_path, default("sh", "-c", "id -u; hostname; exit 3"), stdout=PIPE) as container:
        assert container.status == "created"
        container.start()
        assert support.said(container) == "0\nrunc\n"
        assert container.wait(support.SECONDS) == 3
        assert container.status == "stopped"
    assert not ocirt.containers(root=tmp_path / "state")


def test_a_kill(sleeping: Container) -> None:
    assert sleeping.status == "running"
    sleeping.kill(signal.SIGKILL)
    assert sleeping.wait(support.SECONDS) == -9


def test_five_commands_at_once(sleeping: Container) -> None:
    def command(number: int) -> bytes | None:
        return sleeping.exec(["sh", "-c", f"sleep 0.1; echo {number}"], stdout=PIPE).communicate(timeout=60)[0]

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(command, range(5))) == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


def test_a_terminal(rootfs: Path, tmp_path: Path) -> None:
    with create(rootfs, tmp_path, default("sh", "-c", "tty; exit 5", terminal=True)) as container:
        container.start()
        assert container.process is not None
        terminal = container.process.terminal
        assert terminal is not None
        assert container.wait(support.SECONDS) == 5
        assert terminal.read() == b"/dev/pts/0\r\n"


def test_a_missing_program_is_named_and_leaves_nothing(rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        create(rootfs, tmp_path, default("no-such-program"))
    assert caught.value.origin == "process.args[0]"
    assert not ocirt.containers(root=tmp_path / "state")


def test_the_command_line_passes_output_and_exit_status(rootfs: Path, tmp_path: Path) -> None:
    Bundle.create(tmp_path, rootfs=rootfs, spec=default("sh", "-c", "echo said; exit 7"))
    ocirt_ = (sys.executable, "-m", "ocirt", "--root", str(tmp_path / "state"))
    done = subprocess.run(
        [*ocirt_, "run", "anybody"],
        cwd=tmp_path,
        stdin=DEVNULL,
        capture_output=True,
        timeout=support.SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"said\n", b"")
    listed = subprocess.run([*ocirt_, "list", "--format", "json"], capture_output=True, check=True)
    assert json.loads(listed.stdout) in (None, [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do it")
def test_what_an_ordinary_user_cannot_have_is_told_with_its_member(rootfs: Path, tmp_path: Path) -> None:
    spec = default("true")
    assert spec.process is not None
    grouped = spec.process.evolve(user=spec.process.user.evolve(additional_gids=(44,)))
    with pytest.raises(UnsupportedError) as caught:
        create(rootfs, tmp_path, spec.evolve(process=grouped))
    assert caught.value.origin.startswith("process.user.additionalGids")
