"""A container's life changes nothing of the process that calls us, and nothing of that process gets into it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import SECONDS, Caller, Lab, document, eventually, python, said, shell

pytestmark = pytest.mark.root


def attributes() -> dict[str, object]:
    """Everything of a process that a library might change and not put back."""
    mask = os.umask(0)
    os.umask(mask)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    numbers = [number for number in range(1, 65) if number not in (32, 33)]
    return {
        "cwd": os.getcwd(),
        "umask": mask,
        "environment": dict(os.environ),
        "handlers": [signal.getsignal(number) for number in numbers],
        "signal masks": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "limits": [resource.getrlimit(number) for number in range(16)],
        "session": (os.getsid(0), os.getpgrp(), os.getppid()),
        "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
        "capabilities": [status[name] for name in status if name.startswith("Cap")],
        "privileges": (status["NoNewPrivs"], status["Seccomp"]),
        "oom": Path("/proc/self/oom_score_adj").read_text(),
        "affinity": os.sched_getaffinity(0),
        "cgroup": Path("/proc/self/cgroup").read_text(),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")},
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "modules that must not be imported": [name for name in ("asyncio", "multiprocessing") if name in sys.modules],
    }


def live(lab: Lab) -> None:
    with lab.start(document("cat"), stdin=subprocess.PIPE) as container:
        container.exec(["true"], stdin=subprocess.DEVNULL).wait(SECONDS)
        said(container)


def test_nothing_of_the_caller_changes(lab: Lab) -> None:
    before, attributes_before = Caller.now(), attributes()
    live(lab)
    assert attributes() == attributes_before
    assert Caller.now() == before


def test_nothing_changes_when_it_fails(lab: Lab) -> None:
    before = attributes()
    with pytest.raises(Exception, match="no-such"):
        lab.create(document("no-such"))
    assert attributes() == before


def test_other_children_are_left_alone(lab: Lab) -> None:
    """One that has ended stays for the caller to wait for, one that runs goes on."""
    ended, runs = subprocess.Popen(["sh", "-c", "exit 5"]), subprocess.Popen(["sleep", "600"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    live(lab)
    assert ended.wait(SECONDS) == 5
    assert runs.poll() is None
    runs.kill()
    assert runs.wait(SECONDS) == -9


def test_no_signal_reaches_the_caller_but_sigchld(lab: Lab) -> None:
    heard: list[int] = []
    numbers = (signal.SIGHUP, signal.SIGPIPE, signal.SIGIO, signal.SIGUSR1, signal.SIGTERM, signal.SIGURG)
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    try:
        live(lab)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert heard == []


def test_the_program_has_three_descriptors(lab: Lab) -> None:
    """Whatever the caller has open, inheritable or not."""
    opened = [os.open("/", os.O_RDONLY) for _ in range(50)]
    for fd in opened:
        os.set_inheritable(fd, True)
    try:
        directory = "3"  # that ls itself reads
        assert lab.output(document("ls", "/proc/self/fd")).split() == ["0", "1", "2", directory]
        with lab.start(document("sleep", "600")) as container:
            made = container.exec(["ls", "/proc/self/fd"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert made.communicate(timeout=SECONDS)[0] == b"0\n1\n2\n3\n"
    finally:
        for fd in opened:
            os.close(fd)


def test_a_created_init_holds_its_streams_and_two_sockets(lab: Lab) -> None:
    """To its creator, and for anybody who may start it."""
    with lab.create(document("true"), stderr=subprocess.DEVNULL) as container:
        directory = f"/proc/{container.pid}/fd"

        def found() -> list[str]:
            with suppress(FileNotFoundError):  # one that was listed is closed by now
                names = sorted(os.listdir(directory), key=int)
                return [os.readlink(f"{directory}/{name}").split(":")[0] for name in names]
            return []

        eventually(lambda: found() == [*["/dev/null"] * 3, "socket", "socket"], f"five, not {found()}")


def test_the_program_starts_with_signals_as_the_kernel_made_them(lab: Lab) -> None:
    """Python ignores SIGPIPE and SIGXFSZ; this caller ignores and blocks whatever it can."""
    numbers = [number for number in range(1, 65) if number not in (9, 19, 32, 33)]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers if number != signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        shown = lab.output(document("grep", "Sig[BI]", "/proc/self/status"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert shown.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_a_poisoned_caller_gives_nothing_on(lab: Lab) -> None:
    """Its umask, directory, environment, groups and limits of its own do not show inside."""
    script = """
import os, resource, sys
from ocirt import Container
id, bundle, root = sys.argv[1:]
os.umask(0o777)
os.chdir("/tmp")
os.setgroups([7, 8, 9])
os.environ["POISON"] = "yes"
resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with Container.create(id, bundle, root=root) as container:
    container.start()
    container.wait()
"""
    spec = shell("umask; pwd; echo $POISON; id -G; ulimit -n")
    shown = python(script, lab.new_id(), str(lab.bundle(spec).path), str(lab.root))
    assert shown.splitlines() == ["0022", "/", "", "0", "1024"]


def test_threads_may_live_different_lives_at_once(lab: Lab) -> None:
    outputs: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(lab.output(document("echo", str(n))))) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs) == [f"{n}\n" for n in range(6)]


def test_a_fork_of_the_caller_can_go_on_alone(lab: Lab) -> None:
    """A child that was made by fork(2) after a container has no use for what its parent holds, and no harm from it."""
    with lab.start(document("sleep", "600")) as container:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if lab.load(container).status == "running" else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert container.status == "running"
