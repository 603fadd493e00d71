"""The JSON Schema of the specification and ``Spec.load`` agree, but where ``tests.schema_differences`` says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings

from ocirt.errors import Problem, SpecError
from ocirt.spec import JSON, Spec
from tests import schema
from tests.conformance import paths
from tests.members import BASES, VALUES, copied, put, random_document
from tests.mutations import is_near, mutate
from tests.schema_differences import LAXER, STRICTER, explained
from tests.strategies import specs
from tests.support import Lab
from tests.support import document as process_of

pytestmark = pytest.mark.skipif(
    not schema.IS_HERE, reason="needs the schema (OCIRT_RUNTIME_SPEC_SCHEMA names its folder)"
)

DOCUMENTS = 30
MUTATIONS = 8
"""Of each document; the schema takes ten times as long as we do."""


def problems(document: JSON) -> tuple[Problem, ...]:
    try:
        Spec.from_json(document)
    except SpecError as error:
        return error.problems
    return ()


def disagreements(document: JSON) -> list[str]:
    """What one side alone tells, without a reason that we know."""
    ours, theirs = problems(document), schema.breaches(document)
    return [*_theirs_alone(ours, theirs), *([] if theirs else _ours_alone(ours))]


def _theirs_alone(ours: Sequence[Problem], theirs: Mapping[str, str]) -> list[str]:
    return [
        f"the schema alone: {path}: {words}"
        for path, words in theirs.items()
        if not any(is_near(problem.path, path) for problem in ours) and not explained(LAXER, path, words)
    ]


def _ours_alone(ours: Sequence[Problem]) -> list[str]:
    return [f"ocirt alone: {problem}" for problem in ours if not explained(STRICTER, problem.path, problem.rule)]


@pytest.mark.parametrize("path", schema.examples("good"), ids=lambda path: path.stem)
def test_good_examples_are_good(path: Path) -> None:
    assert disagreements(json.loads(path.read_text())) == []
    assert schema.breaches(json.loads(path.read_text())) == {}


@pytest.mark.parametrize("path", schema.examples("bad"), ids=lambda path: path.stem)
def test_bad_examples_are_bad(path: Path) -> None:
    text = path.read_text()
    try:
        document = json.loads(text)
    except ValueError:
        with pytest.raises(SpecError, match="is not JSON"):
            Spec.loads(text)
        return
    assert schema.breaches(document) != {}
    assert disagreements(document) == []
    assert problems(document) or path.stem.startswith("freebsd")


@settings(max_examples=25)
@given(specs())
def test_a_generated_spec_is_good(document: Spec) -> None:
    assert disagreements(document.to_json()) == []


def test_every_value_of_every_member_is_good() -> None:
    for path, values in VALUES.items():
        for value in values:
            document = copied(BASES[0])
            if path not in ("linux.uidMappings", "linux.gidMappings"):
                put(document, path, value)
            assert _theirs_alone((), schema.breaches(document)) == []


def test_a_changed_spec_is_as_good_or_bad() -> None:
    random = Random(1)
    for _ in range(DOCUMENTS):
        document = random_document(random)
        for _ in range(MUTATIONS):
            mutation = mutate(document, random)
            assert (mutation.what, disagreements(mutation.document)) == (mutation.what, [])


@pytest.mark.parametrize(
    ("path", "value"),
    [("linux.rootfsPropagation", "rslave"), ("linux.devices", [{"type": "p", "path": "/p", "fileMode": 0o10644}])],
)
def test_what_the_schema_alone_refuses_is_listed(path: str, value: JSON) -> None:
    document = copied(BASES[0])
    put(document, path, value)
    assert problems(document) == ()
    assert len(schema.breaches(document)) == 1
    assert disagreements(document) == []


@pytest.mark.root
def test_the_state_of_a_container_is_good(lab: Lab) -> None:
    with lab.create(process_of("true").evolve(annotations={"a": "b"})) as container:
        state = json.loads(json.dumps(container.state()))
    assert schema.breaches(state, "state-schema.json") == {}


def test_every_property_of_the_schema_has_a_row_in_the_table() -> None:
    """``docs/spec-conformance.md``; the schema spells the two clocks out."""
    rows = set(paths())
    others = tuple(f"{path}." for path in rows if "." not in path and path not in ("root", "process", "hooks", "linux"))
    listed = {path for path in schema.properties() if not path.startswith(others)}
    clocks = {path for path in listed if path.startswith("linux.timeOffsets.")}
    assert listed - clocks - rows == set()
    assert rows - listed == {"linux.timeOffsets.*.secs", "linux.timeOffsets.*.nanosecs"}
