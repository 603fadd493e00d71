"""How a container ended, and why: the kernel's OOM killer is told from every other death by SIGKILL."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import signal
import subprocess
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

import ocirt
from ocirt import CONTINUE, Container, ExitStatus, Spec, SystemCall
from ocirt.answers import Verdict
from ocirt.cgroups import layout
from ocirt.errors import InitDied, SetupError
from ocirt.spec import Hook, Hooks, Seccomp, Syscall
from tests.lifecycle.test_seccomp import under
from tests.observed import MIB, await_the_log, limited, place, reached
from tests.support import SECONDS, Lab, document, error_of, eventually, linux, namespaces, python, said, shell

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]

ALLOCATE = "tail /dev/zero"
"""Keeps all of a line that has no end."""

TOO_LOW = "there is no memory for another process; is the container's limit too low?"


SHARED = linux(namespaces=namespaces("mount", "uts", "ipc", "network"))
"""The init of a pid namespace could not kill itself."""


def ended(lab: Lab, spec: Spec) -> tuple[Container, ExitStatus]:
    """A container with 32 MiB that has ended, and how."""
    container = lab.create(limited(spec, 32 * MIB), stderr=DEVNULL)
    container.start()
    return container, container.wait(SECONDS)


def test_an_allocation_loop_ends_by_the_oom_killer(lab: Lab) -> None:
    container, status = ended(lab, document("tail", "/dev/zero"))
    assert status == -signal.SIGKILL
    assert status.signal is signal.SIGKILL
    assert status.oom_killed is True
    assert status.reason == reached("32 MiB")
    if lab.manager != "systemd":  # which removes the cgroup, and what it knew, at once
        assert status.peak_memory_bytes is not None
        assert 31 * MIB < status.peak_memory_bytes <= 32 * MIB
    container.delete()


def test_a_child_of_init_was_hit(lab: Lab) -> None:
    container, status = ended(lab, shell(f"{ALLOCATE}; exit 3"))
    assert (status, status.signal, status.oom_killed) == (3, None, True)
    assert status.reason == f"exited with 3 after another process was OOM-killed: {reached('32 MiB')}"
    container.delete()


def test_several_children_were_hit(lab: Lab) -> None:
    container, status = ended(lab, shell(f"{ALLOCATE}; {ALLOCATE}; true"))
    assert status.reason == f"exited with 0 after 2 other processes were OOM-killed: {reached('32 MiB')}"
    container.delete()


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 0", 0, "exited with 0"),
        ("exit 3", 3, "exited with 3"),
        ("kill -TERM $$", -signal.SIGTERM, "killed by SIGTERM"),
        ("kill -40 $$", -40, "killed by signal 40"),
    ],
)
def test_ends_that_are_nobodys_fault(lab: Lab, script: str, code: int, reason: str) -> None:
    spec = shell(script, linux=SHARED)
    container, status = ended(lab, spec)
    assert (status, status.reason, status.oom_killed) == (code, reason, False)
    assert status.signal == (-code if code < 0 else None)
    container.delete()


def test_a_sigkill_is_not_the_oom_killers_though_there_is_a_limit(lab: Lab) -> None:
    container = lab.create(limited(document("sleep", "600"), 32 * MIB))
    container.start()
    container.kill(signal.SIGKILL)
    status = container.wait(SECONDS)
    assert (status.oom_killed, status.reason) == (False, "killed by SIGKILL")
    container.delete()


def test_cpu_seconds_are_those_of_a_busy_loop(lab: Lab) -> None:
    """Checked against what the shell's own entry in /proc tells of it (proc_pid_stat(5))."""
    if lab.manager == "systemd":
        pytest.skip("it removes the cgroup, and what that knew, at once")
    loop = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; read stat </proc/1/stat; echo $stat"
    with lab.start(shell(loop)) as container:
        fields = said(container).rpartition(") ")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        status = container.wait(SECONDS)
    assert ticks > 10  # or it says nothing
    assert status.cpu_seconds == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"), rel=0.1, abs=0.05)


def test_what_was_used_is_known_after_a_delete_to_whoever_holds_the_status(lab: Lab) -> None:
    with lab.create(limited(document("tail", "/dev/zero"), 32 * MIB)) as container:
        container.start()
        status = container.wait(SECONDS)
    assert status.oom_killed is True
    assert status.reason == reached("32 MiB")
    if lab.manager != "systemd":
        assert status.peak_memory_bytes is not None
        assert status.cpu_seconds is not None


def test_a_wait_after_the_delete_knows_whose_sigkill_it_was(lab: Lab) -> None:
    with lab.create(limited(document("tail", "/dev/zero"), 32 * MIB)) as container:
        container.start()
        assert container.wait(SECONDS) == -signal.SIGKILL
    assert container.wait().reason == reached("32 MiB")


def test_what_nobody_asked_for_before_the_delete_nobody_knows(lab: Lab) -> None:
    with lab.create(document("true")) as container:
        container.start()
        assert container.wait(SECONDS) == 0
    status = container.wait()
    assert (status, status.oom_killed, status.peak_memory_bytes, status.cpu_seconds) == (0, None, None, None)
    assert status.reason == "exited with 0"


def test_numbers_of_a_successor_are_not_taken_for_the_containers_own(lab: Lab) -> None:
    container_id = lab.new_id()
    container = lab.create(document("true"), id=container_id)
    container.start()
    status = container.wait(SECONDS)
    lab.load(container_id).delete()
    with lab.create(document("sleep", "600"), id=container_id):
        assert (status.oom_killed, status.peak_memory_bytes, status.cpu_seconds) == (None, None, None)


def test_another_process_may_wait_and_knows_as_much(lab: Lab) -> None:
    container = lab.create(limited(shell(f"{ALLOCATE}; exit 3"), 32 * MIB))
    container.start()
    script = """
import sys, ocirt
print(ocirt.Container.load(sys.argv[1], root=sys.argv[2]).wait(60).reason)
"""
    told = python(script, container.id, str(lab.root))
    assert told == f"exited with 3 after another process was OOM-killed: {reached('32 MiB')}\n"
    container.delete(force=True)


def test_the_kernels_log_knows_of_kills_in_a_cgroup_that_is_gone(lab: Lab) -> None:
    """As with systemd, which removes it at once; here we do, with nobody left in it."""
    await_the_log()
    container = lab.create(limited(shell(f"{ALLOCATE}; {ALLOCATE}; exit 3"), 32 * MIB), stderr=DEVNULL)
    container.start()
    assert container.process is not None
    container.process.wait(SECONDS)
    assert container._record is not None
    container._record.cgroup.remove(kill=False)
    status = container.wait(SECONDS)
    assert (status, status.oom_killed, status.peak_memory_bytes) == (3, True, None)
    assert status.reason == f"exited with 3 after 2 other processes were OOM-killed: {reached('32 MiB')}"


def test_the_kernels_log_knows_of_no_kill_too(lab: Lab) -> None:
    await_the_log()
    container = lab.create(limited(shell("kill -9 $$", linux=SHARED), 32 * MIB))
    container.start()
    assert container.process is not None
    container.process.wait(SECONDS)
    assert container._record is not None
    container._record.cgroup.remove(kill=False)
    status = container.wait(SECONDS)
    assert (status, status.oom_killed, status.reason) == (-signal.SIGKILL, False, "killed by SIGKILL")


def test_a_status_is_a_number_that_can_be_sent_elsewhere(lab: Lab) -> None:
    container, status = ended(lab, document("tail", "/dev/zero"))
    assert isinstance(status, int)
    assert f"{status} {status:d} {status!s}" == "-9 -9 -9"
    assert repr(status) == f"ExitStatus(-9, {status.reason!r})"
    for twin in (pickle.loads(pickle.dumps(status)), copy.copy(status), copy.deepcopy(status)):
        assert (twin, twin.reason, twin.peak_memory_bytes) == (status, status.reason, status.peak_memory_bytes)
    container.delete()


def test_what_others_did_in_the_cgroup_before_does_not_count(lab: Lab) -> None:
    """A cgroup that is there already will do, but its counters go on. systemd's units are always new."""
    lab.manager = "cgroupfs"
    first = lab.create(limited(shell(ALLOCATE), 32 * MIB))
    first.start()
    first.wait(SECONDS)
    own = place(first, "memory").path
    second = lab.create(shell("sleep 600", linux=linux(cgroups_path=first.id)))
    try:
        assert place(second, "memory").path == own
        second.start()
        second.kill(signal.SIGKILL)
        status = second.wait(SECONDS)
        assert (status.oom_killed, status.reason) == (False, "killed by SIGKILL")
        assert status.peak_memory_bytes is None
        assert status.cpu_seconds is not None
        assert status.cpu_seconds < 1
    finally:
        second.delete(force=True)
        first.delete(force=True)


def test_without_a_cgroup_of_its_own_the_status_is_all_that_is_known(lab: Lab) -> None:
    with Container.create(
        lab.new_id(),
        lab.bundle(shell("exit 3")),
        root=lab.root,
        cgroup_manager="disabled",
        stdin=DEVNULL,
        stdout=DEVNULL,
    ) as container:
        container.start()
        status = container.wait(SECONDS)
    assert (status, status.oom_killed, status.peak_memory_bytes, status.cpu_seconds) == (3, None, None, None)
    assert status.reason == "exited with 3"


def test_an_init_that_was_killed_while_it_waited_for_its_start(lab: Lab) -> None:
    """Its limit is lowered below what it holds, and the kernel has nothing to free."""
    with lab.create(limited(document("true"), 32 * MIB)) as container:
        found = place(container, "memory")
        if found.version == 1:
            pytest.skip("version 1 refuses a limit below what is in use")
        Path(found.path, "memory.max").write_text("4096")
        eventually(lambda: container.status == "stopped", "the OOM killer ends init")
        error = error_of(container.start)
        assert isinstance(error, InitDied)
        assert error.oom_killed is True
        assert "container init was OOM-killed (memory limit too low?)" in str(error)


def test_an_init_that_has_no_room_to_begin_in(lab: Lab) -> None:
    """With more and more of it, until there is enough. In version 2 the first few are not even enough to be born."""
    hooks = Hooks(create_runtime=(Hook("/bin/true"),))  # so that it has still something to do in its cgroup
    deaths: list[InitDied] = []
    limit = 4096
    while (error := error_of(partial(lab.create, limited(document("true", hooks=hooks), limit)))) is not None:
        assert isinstance(error, SetupError)
        assert isinstance(error, InitDied) or (error.operation, error.hint) == ("Clone", TOO_LOW)
        deaths += [error] if isinstance(error, InitDied) else []
        limit = limit * 5 // 4
    assert deaths
    # Of so many in a row the kernel's log, which alone remembers those of systemd's, leaves some out.
    known = {True, None} if lab.manager == "systemd" else {True}
    assert {death.oom_killed for death in deaths} <= known
    assert {death.signal for death in deaths} == {signal.SIGKILL}
    assert any("container init was OOM-killed (memory limit too low?)" in str(death) for death in deaths)
    lab.sweep()
    assert lab.remains() == []


def test_an_init_that_is_killed_by_anybody_else_says_so(lab: Lab) -> None:
    """By a hook, which is told its pid."""
    hook = Hook("/bin/sh", ("sh", "-c", "kill -9 $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')"))
    error = error_of(lambda: lab.create(limited(document("true", hooks=Hooks(create_runtime=(hook,))), 32 * MIB)))
    assert isinstance(error, InitDied)
    assert (error.oom_killed, error.signal) == (False, signal.SIGKILL)
    assert "was killed by SIGKILL" in str(error)


def test_an_exec_that_fails_while_somebody_is_killed_may_have_been_hit_too(lab: Lab) -> None:
    """The kernel tells that there was one, and not whom. Here it is another one, while exec waits in execve(2)."""
    joins = 'echo $$ >"$1/cgroup.procs" && exec tail /dev/zero'

    def kill_another(call: SystemCall) -> Verdict:
        if not call.text(call.arguments[0]).endswith("/false"):
            return CONTINUE
        command = ["sh", "-c", joins, "sh", place(container, "memory").path]
        killed = subprocess.run(command, timeout=SECONDS, check=False)
        assert killed.returncode == -signal.SIGKILL
        raise FileNotFoundError(errno.ENOENT, call.name)

    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("execve",), "SCMP_ACT_NOTIFY"),))
    spec = limited(under(profile, "sleep 600"), 32 * MIB)
    with Container.create(lab.new_id(), lab.bundle(spec), root=lab.root, on_syscall=kill_another) as container:
        container.start()
        error = error_of(lambda: container.exec(["false"]))
        assert isinstance(error, SetupError)
        assert error.oom_suspected
        assert str(error).endswith("No such file or directory (ENOENT) (possibly OOM-killed)")


def test_an_exec_that_fails_by_itself_does_not_speak_of_memory(lab: Lab) -> None:
    with lab.create(
        limited(shell(f"{ALLOCATE}; echo hit; sleep 600"), 32 * MIB), stdout=PIPE, stderr=DEVNULL
    ) as container:
        container.start()
        assert container.process is not None
        assert container.process.stdout is not None
        assert container.process.stdout.readline() == b"hit\n"
        error = error_of(lambda: container.exec(["no-such-program"]))
        assert isinstance(error, SetupError)
        assert not error.oom_suspected
        assert "OOM" not in str(error)


def test_run_tells_how_its_program_ended(lab: Lab) -> None:
    bundle = lab.bundle(shell("head -c 8m /dev/zero | tail >/dev/null; exit 3"))
    done = ocirt.run([], bundle=bundle, root=lab.root)
    assert (done.returncode, done.signal, done.reason) == (3, None, "exited with 3")
    if layout.probe().mode != "v2":  # there a cgroup without a limit has no memory controller
        assert done.oom_killed is False
        assert done.peak_memory_bytes is not None
        assert done.peak_memory_bytes > 8 * MIB
    assert done.cpu_seconds is not None
    assert 0 < done.cpu_seconds < done.wall_seconds * (os.cpu_count() or 1)


def test_run_with_a_limit_tells_that_it_was_reached() -> None:
    done = ocirt.run(["tail", "/dev/zero"], memory="32M")
    assert (done.returncode, done.signal, done.oom_killed) == (-signal.SIGKILL, signal.SIGKILL, True)
    assert done.reason == reached("32 MiB")
    assert done.peak_memory_bytes is not None
    assert 31 * MIB < done.peak_memory_bytes <= 32 * MIB
    assert done.cpu_seconds is not None


def test_run_without_a_cgroup_knows_the_status_alone() -> None:
    done = ocirt.run(["sh", "-c", "kill -9 $$ & wait"])
    assert (done.oom_killed, done.peak_memory_bytes, done.cpu_seconds) == (None, None, None)
    assert done.reason == "exited with 0"
