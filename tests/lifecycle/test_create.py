"""Create, start, wait, kill, delete, state: the operations and what they refuse (runtime.md, Operations)."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ocirt import Container, Spec, containers
from ocirt.errors import ExistsError, NotFoundError, StateError
from ocirt.spec import Root
from tests.support import SECONDS, Lab, document, eventually, shell

pytestmark = pytest.mark.root

SLEEP = document("sleep", "600")


def test_a_container_runs_its_program(lab: Lab) -> None:
    assert lab.output(document("echo", "hello")) == "hello\n"


def test_it_goes_from_created_to_running_to_stopped(lab: Lab) -> None:
    container = lab.create(SLEEP)
    assert container.status == "created"
    container.start()
    assert container.status == "running"
    container.kill(signal.SIGKILL)
    assert container.wait(SECONDS) == -9
    assert container.status == "stopped"
    container.delete()
    with pytest.raises(NotFoundError):
        _ = container.status


def test_the_program_does_not_run_before_start(own_lab: Lab) -> None:
    with own_lab.create(shell("echo ran > /tmp/ran").evolve(root=writable(own_lab))) as container:
        time.sleep(0.2)
        assert not (own_lab.rootfs / "tmp/ran").exists()
        container.start()
        assert container.wait(SECONDS) == 0
        assert (own_lab.rootfs / "tmp/ran").read_text() == "ran\n"


def writable(lab: Lab) -> Root:
    return document("true").root.evolve(path=str(lab.rootfs), readonly=False)


@pytest.mark.covers("annotations")
def test_the_state_is_what_the_specification_lists(lab: Lab) -> None:
    with lab.create(SLEEP.evolve(annotations={"org.example": "yes"})) as container:
        state = dict(container.state())
        created = state.pop("created")
        assert state == {
            "ociVersion": "1.3.0",
            "id": container.id,
            "status": "created",
            "pid": container.pid,
            "bundle": container.bundle,
            "annotations": {"org.example": "yes"},
            "rootfs": str(lab.rootfs),
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", str(created))
        container.start()
        assert container.state()["status"] == "running"
        assert container.state()["pid"] == container.pid
        container.kill(signal.SIGKILL)
        container.wait(SECONDS)
        assert container.state()["status"] == "stopped"
        assert container.state()["pid"] == 0


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_an_exit_status_is_the_return_code(lab: Lab, code: int) -> None:
    with lab.start(shell(f"exit {code}")) as container:
        assert container.wait(SECONDS) == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMAX])
def test_a_death_by_signal_is_a_negative_return_code(lab: Lab, number: int) -> None:
    """Without a pid namespace: as pid 1, init would hear no signal that it does not catch."""
    spec = without_pid_namespace(document("sleep", "600"))
    with lab.start(spec) as container:
        container.kill(number)
        assert container.wait(SECONDS) == -number


def without_pid_namespace(spec: Spec) -> Spec:
    linux = spec.linux
    assert linux is not None
    return spec.evolve(linux=linux.evolve(namespaces=tuple(n for n in linux.namespaces if n.type != "pid")))


def test_wait_gives_up_after_its_timeout_and_the_container_goes_on(lab: Lab) -> None:
    with lab.start(SLEEP) as container:
        with pytest.raises(subprocess.TimeoutExpired):
            container.wait(0.05)
        assert container.status == "running"


def test_processes_are_those_in_the_container(lab: Lab) -> None:
    with lab.start(shell("sleep 600 & sleep 600 & wait")) as container:
        eventually(lambda: len(container.processes()) == 3, "three processes")
        assert container.pid in container.processes()
    assert lab.remains() == []


def test_a_stopped_container_has_no_process(lab: Lab) -> None:
    with lab.start(document("true")) as container:
        container.wait(SECONDS)
        assert container.processes() == ()
        assert container.pid == 0


def test_start_is_for_created_containers_only(lab: Lab) -> None:
    with lab.start(SLEEP) as container:
        with pytest.raises(StateError, match="cannot start an already running container"):
            container.start()
        assert container.status == "running"
        container.kill(signal.SIGKILL)
        container.wait(SECONDS)
        with pytest.raises(StateError, match="cannot start a container that has stopped"):
            container.start()


@pytest.mark.covers("process")
def test_a_container_without_a_process_can_be_created_and_not_started(lab: Lab) -> None:
    with lab.create(SLEEP.evolve(process=None)) as container:
        with pytest.raises(StateError, match="process property must not be empty"):
            container.start()
        assert container.status == "created"


def test_kill_needs_a_process(lab: Lab) -> None:
    with lab.start(document("true")) as container:
        container.wait(SECONDS)
        with pytest.raises(StateError, match="container not running"):
            container.kill(signal.SIGTERM)


def test_kill_reaches_a_created_container(lab: Lab) -> None:
    with lab.create(SLEEP) as container:
        container.kill(signal.SIGKILL)
        assert container.wait(SECONDS) == -9
        assert container.status == "stopped"


def test_sigkill_without_a_pid_namespace_reaches_every_process(lab: Lab) -> None:
    with lab.start(without_pid_namespace(shell("sleep 600 & sleep 600 & wait"))) as container:
        eventually(lambda: len(container.processes()) == 3, "three processes")
        pids = container.processes()
        container.kill(signal.SIGKILL)
        container.wait(SECONDS)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids[1:]), "the others are gone")


def test_a_running_container_is_deleted_by_force_only(lab: Lab) -> None:
    container = lab.start(SLEEP)
    with pytest.raises(StateError, match="that is not stopped"):
        container.delete()
    assert container.status == "running"
    container.delete(force=True)
    assert lab.remains() == []


def test_a_created_container_is_deleted_without_force(lab: Lab) -> None:
    lab.create(SLEEP).delete()
    assert lab.remains() == []


def test_delete_of_a_deleted_container_is_an_error(lab: Lab) -> None:
    container = lab.create(SLEEP)
    container.delete()
    for force in (False, True):
        with pytest.raises(NotFoundError, match="container does not exist"):
            container.delete(force)


def test_an_id_is_taken_until_delete(lab: Lab) -> None:
    container = lab.create(SLEEP)
    with pytest.raises(ExistsError, match="container with given ID already exists"):
        lab.create(SLEEP, id=container.id)
    assert container.status == "created"
    container.delete()
    lab.create(SLEEP, id=container.id).delete()


@pytest.mark.parametrize("bad", ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\n", "a" * 300, "a\0b", "../x"])
def test_an_id_is_a_plain_file_name(lab: Lab, bad: str) -> None:
    with pytest.raises(StateError, match=r"container id cannot be empty|invalid container ID format"):
        lab.create(SLEEP, id=bad)
    with pytest.raises(NotFoundError):
        lab.load(bad)
    assert lab.remains() == []


@pytest.mark.parametrize("good", ["A", "0", "a_b+c-d.e", "_", "+", "-"])
def test_letters_digits_and_four_signs_make_an_id(lab: Lab, good: str) -> None:
    lab.ids.append(good)
    with lab.create(SLEEP, id=good) as container:
        assert lab.load(good).pid == container.pid


def test_with_deletes_what_it_made_when_something_goes_wrong_inside(lab: Lab) -> None:
    with pytest.raises(KeyboardInterrupt), lab.start(SLEEP):
        raise KeyboardInterrupt
    assert lab.remains() == []


def test_the_list_of_containers_is_sorted_and_complete(lab: Lab) -> None:
    made = [lab.create(SLEEP) for _ in range(3)]
    assert [container.id for container in containers(root=lab.root)] == sorted(container.id for container in made)
    assert [container.status for container in containers(root=lab.root)] == ["created"] * 3


def test_there_are_no_containers_where_there_is_no_state_root(lab: Lab) -> None:
    assert containers(root=lab.root) == []
    with pytest.raises(NotFoundError):
        Container.load("any", root=lab.root)


def test_a_change_of_the_configuration_after_create_has_no_effect(lab: Lab) -> None:
    container = lab.create(document("echo", "old"), stdout=subprocess.PIPE)
    (Path(container.bundle) / "config.json").write_text("{}")
    container.start()
    assert container.process is not None
    assert container.process.communicate(timeout=SECONDS)[0] == b"old\n"
    assert lab.load(container).spec.process == document("echo", "old").process
