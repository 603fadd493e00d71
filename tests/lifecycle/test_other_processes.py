"""A container belongs to no process: any may start, wait for, or delete it (runtime.md, Scope of a container)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.errors import ExitStatusUnknown, StateError
from tests.support import SECONDS, Lab, document, eventually, python, shell

pytestmark = pytest.mark.root

IMPORTS = """
import os, signal, subprocess, sys, threading, time
from ocirt import Container
id, root, bundle = sys.argv[1:]
NULL = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""

SLEEP = document("sleep", "600")


def elsewhere(lab: Lab, container_id: str, script: str, bundle: str = "") -> str:
    return python(IMPORTS + script, container_id, str(lab.root), bundle)


def created_elsewhere(lab: Lab, script: str = "") -> str:
    """A container of a process that is gone by now."""
    container_id = lab.new_id()
    elsewhere(lab, container_id, f"Container.create(id, bundle, root=root, **NULL)\n{script}", bundle_of(lab, SLEEP))
    return container_id


def bundle_of(lab: Lab, spec: Spec) -> str:
    return str(lab.bundle(spec).path)


def test_one_process_creates_a_second_starts_a_third_deletes(lab: Lab) -> None:
    container_id = created_elsewhere(lab)
    assert lab.load(container_id).status == "created"
    elsewhere(lab, container_id, "Container.load(id, root=root).start()")
    assert lab.load(container_id).status == "running"
    assert elsewhere(lab, container_id, "print(Container.load(id, root=root).status)") == "running\n"
    elsewhere(lab, container_id, "Container.load(id, root=root).delete(force=True)")
    assert lab.remains() == []


def test_a_container_outlives_the_process_that_made_it(lab: Lab) -> None:
    container_id = created_elsewhere(lab, "Container.load(id, root=root).start(); os.kill(os.getpid(), 0)")
    container = lab.load(container_id)
    assert container.status == "running"
    container.delete(force=True)


def test_it_outlives_a_creator_that_is_killed(lab: Lab) -> None:
    container_id = lab.new_id()
    creator = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{IMPORTS}Container.create(id, bundle, root=root, **NULL).start(); print(flush=True); time.sleep(600)",
            container_id,
            str(lab.root),
            bundle_of(lab, SLEEP),
        ],
        stdout=subprocess.PIPE,
    )
    assert creator.stdout is not None
    creator.stdout.readline()
    creator.kill()
    creator.communicate()
    container = lab.load(container_id)
    assert container.status == "running"
    container.kill(signal.SIGKILL)
    eventually(lambda: container.status == "stopped", "the killed container is stopped")
    container.delete()
    assert lab.remains() == []


def test_die_with_parent_kills_the_container_however_its_creator_ends(lab: Lab) -> None:
    for end in ("os.kill(os.getpid(), signal.SIGKILL)", "sys.exit()"):
        container_id = lab.new_id()
        script = f"Container.create(id, bundle, root=root, die_with_parent=True, **NULL).start()\nos.fork() or {end}"
        process = subprocess.run(
            [sys.executable, "-c", IMPORTS + script, container_id, str(lab.root), bundle_of(lab, SLEEP)], check=False
        )
        assert process.returncode in (0, -9)
        eventually(partial(_has_stopped, lab, container_id), f"stopped after {end}")


def test_die_with_parent_does_not_mean_the_thread(lab: Lab) -> None:
    made = []
    thread = threading.Thread(target=lambda: made.append(lab.create(SLEEP, die_with_parent=True)))
    thread.start()
    thread.join()
    with made[0] as container:
        container.start()
        with pytest.raises(subprocess.TimeoutExpired):
            container.wait(0.3)


def test_a_stranger_can_wait_and_gets_the_status(lab: Lab) -> None:
    """Through its pidfd, which keeps the status after init's own parent has reaped it (Linux 6.15)."""
    script = "container = Container.load(id, root=root); print(flush=True); print(container.wait())"
    with lab.create(shell("exit 7")) as container:
        waiter = subprocess.Popen(
            [sys.executable, "-c", IMPORTS + script, container.id, lab.root, ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "\n"
        container.start()
        assert container.wait(SECONDS) == 7
        output, errors = waiter.communicate(timeout=SECONDS)
        if ExitStatusUnknown.__name__ in errors:
            pytest.skip("this kernel keeps no status for a pidfd (before Linux 6.15)")
        assert (output, errors) == ("7\n", "")


def test_waiting_for_what_ended_before_it_was_loaded_is_an_error(lab: Lab) -> None:
    container_id = created_elsewhere(lab)
    pid = lab.load(container_id).pid
    lab.load(container_id).kill(signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "reaped")
    with pytest.raises(StateError):
        lab.load(container_id).wait(SECONDS)


@pytest.fixture
def ignored_children() -> Iterator[None]:
    """The kernel reaps our children by itself (signal(7)): nobody can wait for them."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def thief() -> Iterator[None]:
    """A thread that reaps whatever child it can get."""
    over = threading.Event()

    def steal() -> None:
        while not over.is_set():
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                over.wait(0.0005)

    thread = threading.Thread(target=steal)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.mark.parametrize("disturbance", ["ignored_children", "thief"])
def test_the_status_is_right_whoever_else_reaps_our_children(
    lab: Lab, disturbance: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(disturbance)
    for code in (0, 3, 77):
        with lab.start(shell(f"exit {code}")) as container:
            try:
                assert container.wait(SECONDS) == code
            except ExitStatusUnknown:
                pytest.skip("this kernel keeps no status for a pidfd (before Linux 6.15)")
            assert container.status == "stopped"


def test_create_errors_are_the_same_where_children_are_ignored(lab: Lab, ignored_children: None) -> None:
    for _ in range(3):
        with pytest.raises(Exception, match="no-such-program"):
            lab.create(document("no-such-program"))
    assert lab.remains() == []


def test_the_state_root_is_private(lab: Lab) -> None:
    lab.create(SLEEP)
    assert (lab.root.stat().st_mode & 0o777) == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(lab.root).rglob("*") if not path.is_socket())


def test_a_state_root_that_others_may_write_to_is_refused(lab: Lab) -> None:
    lab.root.mkdir()
    lab.root.chmod(0o777)
    with pytest.raises(StateError, match="is not ours alone"):
        lab.create(SLEEP)


def _has_stopped(lab: Lab, container_id: str) -> bool:
    return lab.load(container_id).status == "stopped"
