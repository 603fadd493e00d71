"""More processes in a container (what other runtimes call exec)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

import pytest

from ocirt import Container
from ocirt.errors import NotFoundError, SetupError, SpecError, StateError
from ocirt.spec import IDMapping, User
from tests.support import SECONDS, Lab, document, eventually, linux, namespaces, process

pytestmark = pytest.mark.root

TYPES = ("pid", "network", "ipc", "uts", "mount", "cgroup", "user", "time")
FILES = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time")


@pytest.fixture
def container(lab: Lab) -> Iterator[Container]:
    with lab.start(document("sleep", "600")) as running:
        yield running


def said(container: Container, *args: str, input: bytes | None = None, **options: Any) -> str:  # noqa: ANN401  # exec's own signature checks them
    """What a further process writes, to both streams."""
    stdin = PIPE if input is not None else DEVNULL
    with container.exec(args, stdin=stdin, stdout=PIPE, stderr=STDOUT, **options) as made:
        output, _ = made.communicate(input, SECONDS)
    assert output is not None
    return output.decode()


def test_it_is_in_all_the_containers_namespaces(lab: Lab) -> None:
    mappings = (IDMapping(0, 200000, 65536),)
    members = linux(namespaces=namespaces(*TYPES), uid_mappings=mappings, gid_mappings=mappings)
    with lab.start(document("sleep", "600").evolve(linux=members)) as container:
        made = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=DEVNULL)
        for name in FILES:
            assert os.readlink(f"/proc/{made.pid}/ns/{name}") == os.readlink(f"/proc/{container.pid}/ns/{name}")
        assert said(container, "id", "-u") == "0\n"
        made.kill()
        made.wait(SECONDS)


def test_it_is_in_the_containers_cgroups(container: Container) -> None:
    made = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=DEVNULL)
    assert Path(f"/proc/{made.pid}/cgroup").read_text() == Path(f"/proc/{container.pid}/cgroup").read_text()
    assert sorted(container.processes()) == sorted([container.pid, made.pid])
    made.kill()
    made.wait(SECONDS)


def test_it_sees_the_containers_files(container: Container) -> None:
    assert said(container, "ls", "/").split() == "bin dev etc proc root sys tmp".split()


def test_it_reads_and_writes_its_streams(container: Container) -> None:
    assert said(container, "tr", "a-z", "A-Z", input=b"text") == "TEXT"


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_its_exit_status_is_its_own(container: Container, code: int) -> None:
    made = container.exec(["sh", "-c", f"exit {code}"], stdin=DEVNULL)
    assert made.wait(SECONDS) == code
    assert container.status == "running"


def test_its_death_by_a_signal_is_told(container: Container) -> None:
    made = container.exec(["sleep", "600"], stdin=DEVNULL)
    made.send_signal(signal.SIGTERM)
    assert made.wait(SECONDS) == -signal.SIGTERM


def test_variables_are_added_to_the_containers(container: Container) -> None:
    shown = said(container, "env", env={"TERM": "dumb", "A": "1"})
    words = dict(line.split("=", 1) for line in shown.splitlines())
    assert (words["TERM"], words["A"]) == ("dumb", "1")
    assert words["PATH"].endswith("/bin")


@pytest.mark.covers("process.cwd", "process.user.**")
def test_the_directory_the_user_and_the_umask_can_be_others(container: Container) -> None:
    assert said(container, "pwd", cwd="/etc") == "/etc\n"
    assert said(container, "sh", "-c", "id -u; id -G", user=1000) == "1000\n1000\n"
    assert said(container, "sh", "-c", "id -u; id -G", user=(1000, 7)) == "1000\n7\n"
    who = User(uid=1, gid=2, umask=0o077, additional_gids=(3,))
    assert said(container, "sh", "-c", "id -u; id -G; umask", user=who) == "1\n2 3\n0077\n"


@pytest.mark.covers("process.capabilities")
def test_capabilities_can_be_given_and_taken(container: Container) -> None:
    assert said(container, "grep", "CapEff", "/proc/self/status", capabilities=()).split()[1] == "0" * 16
    shown = said(container, "grep", "CapEff", "/proc/self/status", capabilities=("CAP_CHOWN", "CAP_SETUID"))
    assert int(shown.split()[1], 16) == 1 << 0 | 1 << 7


def test_by_default_its_privileges_are_the_containers(container: Container) -> None:
    script = "grep -E 'Cap|NoNewPrivs' /proc/$0/status"
    own = said(container, "sh", "-c", script, "self")
    assert own == said(container, "sh", "-c", script, "1")


@pytest.mark.covers("process")
def test_a_whole_process_of_the_configurations_kind_can_be_given(container: Container) -> None:
    program = process("sh", "-c", "pwd; id -u; echo $X", cwd="/tmp", env=("PATH=/bin", "X=y"), user=User(uid=9, gid=9))
    with container.exec(program, stdin=DEVNULL, stdout=PIPE) as made:
        assert made.communicate(timeout=SECONDS)[0] == b"/tmp\n9\ny\n"


def test_it_can_have_a_terminal_of_its_own(container: Container) -> None:
    with container.exec(["sh", "-c", "tty; stty size"], terminal=True, size=(90, 30)) as made:
        assert made.terminal is not None
        text = b""
        while part := made.terminal.read():
            text += part
        assert text.split() == [b"/dev/pts/0", b"30", b"90"]
        made.terminal.close()


def test_many_run_at_the_same_time(container: Container) -> None:
    made = [container.exec(["sh", "-c", f"read x; echo {n}"], stdin=PIPE, stdout=PIPE) for n in range(10)]
    eventually(lambda: len(container.processes()) == 11, "eleven processes")
    assert [one.communicate(b"\n", SECONDS)[0] for one in made] == [f"{n}\n".encode() for n in range(10)]


def test_many_threads_may_start_them(container: Container) -> None:
    outputs: list[str] = []
    threads = [threading.Thread(target=lambda n=n: outputs.append(said(container, "echo", str(n)))) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == [f"{n}\n" for n in range(5)]


def test_it_works_in_a_container_of_another_process(lab: Lab, container: Container) -> None:
    assert said(lab.load(container), "echo", "found") == "found\n"


def test_it_works_in_a_container_without_namespaces(lab: Lab) -> None:
    spec = document("sleep", "600").evolve(
        mounts=(),
        hostname=None,
        root=document().root.evolve(readonly=False),
        linux=linux(namespaces=(), masked_paths=(), readonly_paths=()),
    )
    with lab.start(spec) as container:
        assert said(container, "ls", "/").split() == "bin dev etc proc root sys tmp".split()


@pytest.mark.parametrize(
    ("args", "options", "origin"),
    [
        (["no-such-program"], {}, "process.args[0]"),
        (["/etc"], {}, "process.args[0]"),
        (["true"], {"cwd": "/proc/self/fd/5"}, "process.cwd"),
    ],
)
def test_what_cannot_be_done_names_its_member(
    lab: Lab, container: Container, args: list[str], options: dict[str, Any], origin: str
) -> None:
    with pytest.raises(SetupError) as caught:
        said(container, *args, **options)
    assert caught.value.origin == origin
    assert container.processes() == (container.pid,)


@pytest.mark.parametrize("options", [{"cwd": "relative"}, {"user": -1}])
def test_what_is_no_process_is_refused(container: Container, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        said(container, "true", **options)


def test_it_needs_a_container_that_runs(lab: Lab) -> None:
    container = lab.start(document("true"))
    container.wait(SECONDS)
    with pytest.raises(StateError, match="cannot exec in a stopped container"):
        said(container, "true")
    container.delete()
    with pytest.raises(NotFoundError):
        said(container, "true")


def test_a_created_container_can_be_looked_into(lab: Lab) -> None:
    with lab.create(document("sleep", "600")) as container:
        assert said(container, "echo", "here") == "here\n"
        container.start()
        assert container.status == "running"


def test_a_paused_container_takes_no_process(container: Container) -> None:
    container.pause()
    assert container.status == "paused"
    with pytest.raises(StateError, match="cannot exec in a paused container"):
        said(container, "true")
    container.resume()
    assert container.status == "running"


def test_a_paused_container_can_be_deleted_by_force(container: Container, lab: Lab) -> None:
    container.pause()
    assert container.status == "paused"
    container.delete(force=True)
    assert lab.remains() == []


def test_processes_end_with_their_container(container: Container) -> None:
    made = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=DEVNULL)
    container.delete(force=True)
    assert made.wait(SECONDS) == -9


def test_inherited_capabilities_are_never_among_them(container: Container) -> None:
    """CVE-2022-29162: a file capability could bring them back to an ordinary user."""
    shown = said(container, "grep", "CapInh", "/proc/self/status", capabilities=("CAP_CHOWN",))
    assert shown.split()[1] == "0" * 16


def test_a_failed_timeout_leaves_the_container(container: Container) -> None:
    made = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        made.communicate(timeout=0.1)
    assert made.returncode == -9
    assert container.status == "running"
