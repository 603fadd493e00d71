"""Any one change to a valid configuration leaves it valid, or is told where it was made (``tests.mutations``)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings

from ocirt.errors import SpecError, UnsupportedError
from ocirt.plan import plan_create
from ocirt.spec import JSON, Spec
from tests import mutations
from tests.documents import documents_with, member_paths
from tests.members import BASES, VALUES, Object, copied, put, random_document
from tests.mutations import Mutation, is_near, judge, mutate
from tests.plan.strategies import Case, honoured

MUTATIONS = 2000
"""``make fuzz`` makes fifty times as many, from another seed each time."""


@pytest.mark.slow
def test_any_single_change_is_valid_or_told_where_it_is() -> None:
    assert list(mutations.run(MUTATIONS, seed=1)) == []


@pytest.mark.slow
def test_changes_reach_most_members_and_are_refused_as_often_as_not() -> None:
    """So that the law above says something."""
    random = Random(2)
    changed: set[str] = set()
    refused = 0
    for _ in range(500):
        mutation = mutate(random_document(random), random)
        changed.add(mutation.path)
        refused += is_refused(mutation.document)
    assert 100 < refused < 400
    assert len({path.partition("[")[0] for path in changed}) > 80


def is_refused(document: JSON) -> bool:
    try:
        Spec.from_json(document)
    except SpecError:
        return True
    return False


@settings(max_examples=40)
@given(honoured())
def test_what_can_be_honoured_is_planned_and_comes_back(case: Case) -> None:
    assert plan_create(*case).ops
    loaded = Spec.loads(case.document.dumps())
    assert loaded == case.document
    assert plan_create(loaded, case.host, case.site) == plan_create(*case)


@pytest.mark.parametrize("path", sorted(member_paths()))
def test_every_member_has_a_valid_value_that_comes_back(path: str) -> None:
    """A member that is new in ocirt.spec needs one in tests/members.py."""
    documents = list(documents_with(path))
    assert documents
    for document in documents:
        assert Spec.from_json(document).to_json() == document


def test_every_value_is_valid_on_every_base_and_planned_or_refused_by_its_path() -> None:
    for base in BASES:
        for path, values in VALUES.items():
            for value in values:
                document = copied(base)
                put(document, path, value)
                assert refusal(document) is None or is_near(refusal(document) or "", path)


def refusal(document: Object) -> str | None:
    try:
        plan_create(Spec.from_json(document), mutations.HOST, mutations.SITE)
    except UnsupportedError as error:
        return error.origin
    return None


# The judge is just.

DOCUMENT: Object = {"ociVersion": "1.3.0", "root": {"path": "r"}, "process": {"cwd": "x", "args": ["sh"]}}


def test_a_problem_at_another_place_breaks_the_law() -> None:
    assert "process.cwd" in (judge(Mutation(DOCUMENT, "root.path", "")) or "")
    assert judge(Mutation(DOCUMENT, "process.cwd", "")) is None
    assert judge(Mutation(DOCUMENT, "process", "")) is None


@pytest.mark.parametrize(
    ("place", "changed", "near"),
    [
        ("mounts[0].type", "mounts[0]", True),
        ("mounts[0]", "mounts[0].type", True),
        ("mounts[1]", "mounts[10]", False),
        ("process.user", "process.username", False),
        ("", "root", False),
    ],
)
def test_what_is_near(place: str, changed: str, near: bool) -> None:
    assert is_near(place, changed) is near


@pytest.mark.parametrize(
    ("process", "changed"),
    [
        ({"scheduler": {"policy": "SCHED_FIFO", "nice": 5}}, "process.scheduler.policy"),
        ({"scheduler": {"policy": "SCHED_BATCH", "priority": 5}}, "process.scheduler.policy"),
        ({"scheduler": {"policy": "SCHED_BATCH", "runtime": 5}}, "process.scheduler.policy"),
        ({"terminal": True, "consoleSize": {"height": 65536, "width": 1}}, "process.terminal"),
        (
            {"rlimits": [{"type": "RLIMIT_AS", "hard": 1, "soft": 1}, {"type": "RLIMIT_AS", "hard": 1, "soft": 1}]},
            "process.rlimits[0].type",
        ),
    ],
)
def test_a_member_that_is_wrong_beside_another_names_it(process: Object, changed: str) -> None:
    whole: Object = {**DOCUMENT, "process": {"cwd": "/", "args": ["sh"], **process}}
    assert is_refused(whole)
    assert judge(Mutation(whole, changed, "")) is None
