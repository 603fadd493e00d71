"""Operations that exclude each other, at the same moment: one wins, the others get a typed error (runtime.md)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from ocirt import Container
from ocirt.errors import ExistsError, NotFoundError, OCIError, StateError
from tests.support import Lab, document, python

pytestmark = pytest.mark.root

SLEEP = document("sleep", "600")
ROUNDS = 5


def at_once(*operations: Callable[[], object]) -> list[str]:
    """How each of them ended: ``done``, or the name of its error."""
    barrier, results = threading.Barrier(len(operations)), [""] * len(operations)

    def run(index: int) -> None:
        barrier.wait()
        try:
            operations[index]()
        except StateError as error:
            results[index] = type(error).__name__
        except OCIError as error:
            results[index] = f"wrong: {error!r}"
        else:
            results[index] = "done"

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(operations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_many_creates_of_one_id_one_wins(lab: Lab) -> None:
    bundle = lab.bundle(SLEEP)
    for _ in range(ROUNDS):
        name = lab.new_id()
        made: list[Container] = []

        def create(name: str = name, made: list[Container] = made) -> None:
            made.append(Container.create(name, bundle, root=lab.root, stdin=-3, stdout=-3))

        assert Counter(at_once(*[create] * 5)) == {"done": 1, ExistsError.__name__: 4}
        assert made[0].status == "created"
        made[0].delete()
        assert lab.remains() == []


def test_of_many_starts_one_wins(lab: Lab) -> None:
    for _ in range(ROUNDS):
        with lab.create(SLEEP) as container:
            results = at_once(*[lambda: lab.load(container).start()] * 5)  # called in this round
            assert Counter(results) == {"done": 1, "StateError": 4}
            assert container.status == "running"


def test_of_many_deletes_one_wins(lab: Lab) -> None:
    for _ in range(ROUNDS):
        container = lab.create(SLEEP)
        loaded = [lab.load(container) for _ in range(5)]
        assert Counter(at_once(*[one.delete for one in loaded])) == {"done": 1, NotFoundError.__name__: 4}
        assert lab.remains() == []


def test_a_kill_succeeds_although_its_victim_is_deleted_at_once(lab: Lab) -> None:
    """As a command in the foreground does, which has nothing else to wait for."""
    script = "import sys; from ocirt import Container; Container.load(sys.argv[1], root=sys.argv[2]).kill(9)"
    for _ in range(ROUNDS):
        with lab.create(SLEEP) as container:
            container.start()
            killer = threading.Thread(target=python, args=(script, container.id, str(lab.root)))
            killer.start()
            container.wait()
            container.delete()
            killer.join()  # what it raises, the test fails by


def test_start_and_delete_leave_a_running_container_or_none(lab: Lab) -> None:
    for _ in range(ROUNDS):
        container = lab.create(SLEEP)
        started, deleted = at_once(lab.load(container).start, lab.load(container).delete)
        assert (started, deleted) in {("done", "StateError"), ("NotFoundError", "done"), ("StateError", "done")}
        if deleted == "done":
            assert lab.remains() == []
        else:
            assert container.status == "running"
            container.delete(force=True)


def test_start_and_forced_delete_leave_none(lab: Lab) -> None:
    for _ in range(ROUNDS):
        container = lab.create(SLEEP)
        started, deleted = at_once(lab.load(container).start, lambda: lab.load(container).delete(force=True))  # noqa: B023  # called in this round
        assert not started.startswith("wrong") or "InitDied" in started or "SetupError" in started
        # A start that fails takes the container away itself, and then there is none left to delete.
        assert deleted in {"done", "NotFoundError"}
        assert lab.remains() == []


def test_kill_and_delete_never_fail_untyped(lab: Lab) -> None:
    for _ in range(ROUNDS):
        container = lab.start(SLEEP)
        loaded = [lab.load(container) for _ in range(4)]
        results = at_once(
            lambda: loaded[0].kill(9),  # noqa: B023  # called in this round
            lambda: loaded[1].kill(9),  # noqa: B023  # as above
            lambda: loaded[2].delete(force=True),  # noqa: B023  # as above
            lambda: loaded[3].delete(force=True),  # noqa: B023  # as above
        )
        assert set(results[:2]) <= {"done", "StateError", "NotFoundError"}
        assert Counter(results[2:]) == {"done": 1, "NotFoundError": 1}
        assert lab.remains() == []
        assert container.process is not None
        container.process.close()


def test_processes_race_as_threads_do(lab: Lab) -> None:
    """A process each that tries to create, start and delete; between them every id has one life at a time."""
    script = """
import sys, subprocess, threading
from ocirt import Container
from ocirt.errors import StateError
id, root, bundle = sys.argv[1:]
lives = 0
for _ in range(20):
    try:
        container = Container.create(id, bundle, root=root, stdin=-3, stdout=-3)
    except StateError:
        continue
    container.start()
    container.delete(force=True)
    lives += 1
print(lives)
"""
    container_id, bundle = lab.new_id(), str(lab.bundle(SLEEP).path)
    lives: list[int] = []
    threads = [
        threading.Thread(target=lambda: lives.append(int(python(script, container_id, str(lab.root), bundle))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lives) == 3
    assert sum(lives) > 0
    assert lab.remains() == []
