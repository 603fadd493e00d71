"""``kill``, ``start`` and ``delete`` without Python do what they do with it, or leave everything as it was."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
from pathlib import Path
from subprocess import PIPE

import pytest

from ocirt import Container, Spec
from ocirt.cli.lifecycle import signal_number
from ocirt.spec import Hook, Hooks, Resources, Seccomp, Syscall
from ocirt.spec.limits import Pids
from tests.command.programs import Program, install, run
from tests.support import SECONDS, Lab, document, eventually, linux, namespaces, shell

pytestmark = pytest.mark.root

TRAPS = [number for number in range(1, 32) if number not in (signal.SIGKILL, signal.SIGSTOP)]

ECHO = f"""
for number in {" ".join(map(str, TRAPS))}; do trap "echo $number" $number; done
sleep 100000 &
echo ready
while :; do wait $!; done
"""

SLEEP = document("sleep", "1000")
TRUE = Hook("/bin/true", ("true",))


def line(container: Container) -> str:
    """What its shell says next."""
    assert container.process is not None
    stream = container.process.stdout
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], SECONDS)
    assert ready, "it says nothing"
    return os.read(stream.fileno(), 100).decode().strip()


@pytest.mark.slow
def test_signals_are_known_by_their_numbers_and_names(lab: Lab, program: Program) -> None:
    with lab.start(shell(ECHO)) as container:
        assert line(container) == "ready"
        for number in TRAPS:
            name = signal.Signals(number).name
            for word in (str(number), f"{number:02}", name, name.removeprefix("SIG"), name.lower(), name[3:].lower()):
                assert signal_number(word) == number
                program.answer("kill", container.id, word)
                assert line(container) == str(number), word
        program.answer("kill", container.id)
        assert line(container) == str(int(signal.SIGTERM))


@pytest.mark.parametrize("status", ["created", "running"])
def test_sigkill_ends_a_container(lab: Lab, program: Program, status: str) -> None:
    with lab.create(SLEEP) as container:
        if status == "running":
            container.start()
        assert program.answer("kill", container.id, "KILL") == b""
        assert container.wait(SECONDS) == -signal.SIGKILL
        assert program.leaves("kill", container.id, "KILL")


def test_sigkill_is_left_where_a_namespace_would_survive_it(lab: Lab, program: Program) -> None:
    shared = linux(namespaces=namespaces("mount", "ipc", "uts"))
    with lab.create(SLEEP.evolve(linux=shared)) as container:
        container.start()
        assert program.leaves("kill", container.id, "KILL")
        assert container.status == "running"
        program.answer("kill", container.id, "CONT")


def test_a_paused_container_is_left(lab: Lab, program: Program) -> None:
    with lab.create(SLEEP) as container:
        container.start()
        container.pause()
        for words in (("kill", container.id, "KILL"), ("delete", "--force", container.id), ("start", container.id)):
            assert program.leaves(*words)
        assert container.status == "paused"


def test_start_runs_the_program(lab: Lab, program: Program) -> None:
    with lab.create(document("echo", "hello"), stdout=PIPE) as container:
        assert program.answer("start", container.id) == b""
        assert line(container) == "hello"
        assert not (lab.root / container.id / "start.sock").exists()
        assert container.wait(SECONDS) == 0
        assert program.leaves("start", container.id)


def test_a_long_state_root_is_no_matter(lab: Lab, program: Program) -> None:
    """The address of a socket has room for 108 bytes (unix(7))."""
    long = Program(program.path, lab.root / ("x" * 200))
    bundle = lab.bundle(SLEEP)
    with Container.create(lab.new_id(), bundle, root=long.root, stdin=PIPE, stdout=PIPE) as container:
        assert b'"created"' in long.agrees("state", container.id)
        long.answer("start", container.id)
        assert container.status == "running"
        long.answer("delete", "--force", container.id)
    long.root.rmdir()


@pytest.mark.parametrize(
    "spec",
    [
        SLEEP.evolve(hooks=Hooks(poststart=(TRUE,))),
        SLEEP.evolve(process=None),
    ],
    ids=["poststart", "no process"],
)
def test_a_start_with_more_to_do_is_left(lab: Lab, program: Program, spec: Spec) -> None:
    with lab.create(spec) as container:
        assert program.leaves("start", container.id)
        assert container.status == "created"


def test_what_its_configuration_leaves_to_the_program_is_in_the_record(lab: Lab) -> None:
    hooks = Hooks(create_runtime=(TRUE,), start_container=(TRUE,))
    listening = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("mkdir",), "SCMP_ACT_NOTIFY"),))
    expected = {
        ("start", "kill", "delete"): SLEEP.evolve(hooks=hooks),
        ("kill", "delete"): SLEEP.evolve(linux=linux(seccomp=listening)),
        ("start", "kill"): SLEEP.evolve(hooks=Hooks(poststop=(TRUE,))),
        ("start", "delete"): SLEEP.evolve(
            linux=linux(namespaces=namespaces("mount", "uts", pid=f"/proc/{os.getpid()}/ns/pid"))
        ),
    }
    for plain, spec in expected.items():
        created = Container.create(
            lab.new_id(),
            lab.bundle(spec),
            root=lab.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            on_syscall=(lambda _: 0) if spec.linux and spec.linux.seccomp else None,
        )
        with created as container, lab.load(container)._store.open(container.id) as directory:
            record = directory.read_record()
            assert record is not None
            assert record.plain == plain


def test_an_update_leaves_the_record_in_its_form(lab: Lab, program: Program) -> None:
    with lab.create(SLEEP) as container:
        container.update(Resources(pids=Pids(20)))
        assert b'"created"' in program.agrees("state", container.id)


def test_a_start_that_a_service_manager_waits_for_is_left(lab: Lab, program: Program) -> None:
    with lab.create(SLEEP) as container:
        assert program.leaves("start", container.id, environment={"NOTIFY_SOCKET": "/nowhere"})
        assert container.status == "created"
        assert program.tried("start", container.id, environment={"NOTIFY_SOCKET": ""}).returncode == 0


def not_executable(lab: Lab) -> Spec:
    """Found at create, and no program for the kernel (execve(2): ENOEXEC)."""
    path = lab.directory / "rootfs-of-its-own" / "bin" / "nonsense"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    spec = document("/bin/nonsense")
    return spec.evolve(root=spec.root.evolve(path=str(path.parent.parent)))


@pytest.mark.parametrize("failing", ["execve", "startContainer hook"])
def test_a_start_that_fails_is_told_by_python_as_if_it_had_tried_itself(lab: Lab, failing: str) -> None:
    """It gets the connection on which init has said why."""
    installed = install(lab.directory / "installed", lab.root)
    hook = Hook("/bin/false", ("false",))
    spec = not_executable(lab) if failing == "execve" else SLEEP.evolve(hooks=Hooks(start_container=(hook,)))
    bundle = lab.bundle(spec)
    answers = []
    for begin in ([str(installed.path)], [f"{installed.path}-python"]):
        created = Container.create(
            lab.new_id(), bundle, root=lab.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        interpreter = [] if begin == [str(installed.path)] else [*installed_python(installed)]
        with created as container:
            done = run([*interpreter, *begin, "--root", str(lab.root), "start", container.id])
            answers.append((done.returncode, done.stderr.partition(b"level=")[2]))
            assert not (lab.root / container.id).exists(), "a container that cannot start is removed"
    assert answers[0] == answers[1]
    assert answers[0][0] == 1
    assert (b"exec format error" if failing == "execve" else b"hook") in answers[0][1]


def installed_python(installed: Program) -> tuple[str, ...]:
    """What the script's first line says, with the program's own flags."""
    first = Path(f"{installed.path}-python").read_text().splitlines()[0]
    return first.removeprefix("#!"), "-I", "-S"


def test_a_start_whose_init_is_killed_meanwhile_is_told_by_python(lab: Lab) -> None:
    """It is stopped, so that it hears the start and cannot act on it before it is killed."""
    installed = install(lab.directory / "installed", lab.root)
    with lab.create(SLEEP) as container:
        os.kill(container.pid, signal.SIGSTOP)
        args = [str(installed.path), "--root", str(lab.root), "start", container.id]
        with subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=PIPE, env={}) as process:
            eventually(lambda: is_waiting(process.pid), "it waits for init")
            os.kill(container.pid, signal.SIGKILL)
            _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert errors.endswith(b'msg="cannot start a container that has stopped"\n')


def is_waiting(pid: int) -> bool:
    """In ppoll(2), with no time limit; by its number, which is the first field (proc(5))."""
    numbers = {"7", "271", "73"}
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in numbers


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
@pytest.mark.parametrize("force", [True, False])
def test_delete_leaves_nothing(lab: Lab, program: Program, status: str, force: bool) -> None:
    container = lab.create(SLEEP.evolve(linux=linux(cgroups_path=f"/{lab.new_id()}/below/{lab.new_id()}")))
    assert container.process is not None
    if status != "created":
        container.start()
    if status == "stopped":
        container.kill(signal.SIGKILL)
        container.wait(SECONDS)
    words = ("delete", "--force", container.id) if force else ("delete", container.id)
    if status == "running" and not force:
        assert program.leaves(*words)
        assert container.status == "running"
        words = ("delete", "-f", container.id)
    assert program.answer(*words) == b""
    assert lab.remains() == []
    container.process.wait(SECONDS)
    container.process.close()
    assert program.leaves("delete", container.id)


def test_delete_is_left_where_there_is_more_to_remove(lab: Lab, program: Program) -> None:
    """A hook of the end, a directory beside the record, somebody else at work: nothing is touched."""
    with lab.create(SLEEP.evolve(hooks=Hooks(poststop=(TRUE,)))) as container:
        assert program.leaves("delete", container.id)
        assert container.status == "created"
    with lab.create(SLEEP) as container:
        directory = lab.root / container.id
        (directory / "scratch").mkdir()
        assert program.leaves("delete", container.id)
        assert container.status == "created"
        (directory / "scratch").rmdir()
        fd = os.open(directory, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert program.leaves("delete", "--force", container.id)
        os.close(fd)
        assert container.status == "created"
        program.answer("delete", container.id)


def test_a_delete_that_is_left_half_done_is_finished_by_python(lab: Lab, program: Program) -> None:
    """A cgroup that the container has made below its own keeps that busy."""
    with lab.create(SLEEP) as container:
        last = container._record
        assert last is not None
        if not last.cgroup.directories:
            pytest.skip("no cgroups here")
        os.mkdir(f"{last.cgroup.directories[-1].path}/below")
        assert program.leaves("delete", container.id)
        assert not os.path.exists(last.cgroup.directories[0].path) or len(last.cgroup.directories) == 1
        assert container.status == "stopped"
        assert program.by_python("delete", container.id) == b""
        assert lab.remains() == []
