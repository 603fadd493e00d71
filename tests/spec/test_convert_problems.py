"""Types are strict, and everything that is wrong is told at once."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from ocirt.errors import BundleError, Problem, SpecError
from ocirt.spec import Process, Root, Spec, User
from ocirt.spec.base import JSON

MINIMAL: dict[str, JSON] = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}


def problems(document: JSON | str | bytes) -> list[Problem]:
    """What Spec finds wrong with a text, or with a value's text."""
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    with pytest.raises(SpecError) as caught:
        Spec.loads(text)
    return list(caught.value.problems)


def process(**members: JSON) -> dict[str, JSON]:
    return {**MINIMAL, "process": {"cwd": "/", "args": ["sh"], **members}}


# Strictness.


@pytest.mark.parametrize(
    ("member", "value", "rule"),
    [
        ("terminal", 1, "must be true or false"),
        ("terminal", "true", "must be true or false"),
        ("terminal", None, "must not be null"),
        ("cwd", 7, "must be a string"),
        ("cwd", ["/"], "must be a string"),
        ("cwd", "/a\0b", "must not hold a NUL character"),
        ("cwd", "/\ud800", "holds half a surrogate pair"),
        ("args", "sh", "must be an array"),
        ("args", {"0": "sh"}, "must be an array"),
        ("user", 0, "must be an object"),
        ("user", [], "must be an object"),
        ("oomScoreAdj", True, "must be an integer"),
        ("oomScoreAdj", "7", "must be an integer"),
        ("oomScoreAdj", 7.0, "must be an integer"),
        ("oomScoreAdj", 2**31, "must be within -2147483648 and 2147483647 (int32)"),
    ],
)
def test_types_are_strict(member: str, value: JSON, rule: str) -> None:
    assert problems(process(**{member: value})) == [Problem(f"process.{member}", value, rule)]


@pytest.mark.parametrize(
    ("path", "low", "high"),
    [
        ("process.user.uid", 0, 2**32 - 2),
        ("process.rlimits.0.hard", 0, 2**64 - 1),
        ("linux.resources.memory.limit", -1, 2**63 - 1),
        ("linux.resources.blockIO.weightDevice.0.major", -(2**63), 2**63 - 1),
        ("linux.seccomp.syscalls.0.args.0.value", 0, 2**64 - 1),
    ],
)
def test_integers_have_the_width_of_the_schema(path: str, low: int, high: int) -> None:
    for number, fits in ((low, True), (high, True), (low - 1, False), (2**64, False)):
        document = copy.deepcopy(WIDE)
        *parents, last = path.split(".")
        place: JSON = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]  # type: ignore[index]  # known shape
        place[last] = number  # type: ignore[index, call-overload]  # known shape
        if fits:
            Spec.loads(json.dumps(document))
        else:
            assert len(problems(document)) == 1


WIDE: dict[str, JSON] = {
    **MINIMAL,
    "process": {
        "cwd": "/",
        "args": ["sh"],
        "user": {"uid": 0, "gid": 0},
        "rlimits": [{"type": "RLIMIT_CPU", "hard": 0, "soft": 0}],
    },
    "linux": {
        "resources": {"memory": {}, "blockIO": {"weightDevice": [{"major": 0, "minor": 0, "weight": 10}]}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {
                    "names": ["read"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
    },
}


def test_bytes_that_are_no_utf8_survive_as_python_writes_them() -> None:
    """File names from os.fsdecode; a saved state must load again."""
    document = Spec(root=Root("r"), process=Process(args=["caf\udce9"], cwd="/"))
    assert Spec.loads(document.dumps()) == document


def test_annotations_are_free_text() -> None:
    document = {**MINIMAL, "annotations": {"a.b/c": "\0"}}
    assert Spec.loads(json.dumps(document)).annotations == {"a.b/c": "\0"}


@pytest.mark.parametrize("text", ["null", "[]", "7", '"x"'])
def test_a_document_is_an_object(text: str) -> None:
    assert [problem.path for problem in problems(text)] == [""]


@pytest.mark.parametrize("name", ["ociVersion", "root"])
def test_required_members(name: str) -> None:
    document = {key: value for key, value in MINIMAL.items() if key != name}
    assert problems(document) == [Problem(name, None, "is required")]


def test_required_members_of_parts() -> None:
    document: dict[str, JSON] = {
        **process(user={"uid": 1}, rlimits=[{"type": "RLIMIT_CPU", "soft": 1}]),
        "mounts": [{"type": "proc"}],
        "hooks": {"poststop": [{}]},
    }
    assert {problem.path for problem in problems(document)} == {
        "process.user.gid",
        "process.rlimits[0].hard",
        "mounts[0].destination",
        "hooks.poststop[0].path",
    }


def test_a_deep_member_that_nobody_reads_is_refused_rather_than_lost() -> None:
    deep: JSON = []
    for _ in range(101):
        deep = [deep]
    assert problems({**MINIMAL, "x": deep}) == [Problem("x", None, "is nested more than 100 levels deep")]


# All at once.


def test_all_problems_are_told_at_once() -> None:
    """Wrong types hide neither each other nor broken rules, and nothing is told of what they touch."""
    document: dict[str, JSON] = {
        "ociVersion": "one",
        "mounts": [{"destination": "/a", "type": "tmpfs", "options": ["noexce", 7]}, 7],
        "process": {"cwd": "rel", "args": "sh", "user": {"uid": "0", "gid": 0}, "env": ["A"]},
        "hostname": "h",
        "linux": {
            "namespaces": [{"type": "netwrok"}],
            "resources": {"memory": {"limit": "1"}},
            "uidMappings": [{"containerID": 0, "hostID": 0}],
        },
    }
    assert {problem.path for problem in problems(document)} == {
        "ociVersion",
        "root",
        "mounts[0].options[0]",
        "mounts[0].options[1]",
        "mounts[1]",
        "process.cwd",
        "process.args",
        "process.user.uid",
        "process.env[0]",
        "hostname",
        "linux.namespaces[0].type",
        "linux.resources.memory.limit",
        "linux.uidMappings[0].size",
    }


def test_duplicates_and_other_problems_come_together() -> None:
    text = '{"ociVersion": "1.0.0", "root": {"path": 1}, "hostname": "a", "hostname": "b"}'
    assert {problem.path for problem in problems(text)} == {"hostname", "root.path"}


def test_the_error_reads_well() -> None:
    with pytest.raises(SpecError) as caught:
        Spec.loads(json.dumps(process(cwd="x", user={"uid": "0", "gid": 0})))
    assert str(caught.value) == (
        "config.json: 2 problems\n"
        "  process.user.uid: '0' must be an integer\n"
        "  process.cwd: 'x' is relative: Cwd must be an absolute path"
    )


def test_the_paths_of_a_process_document_are_its_own() -> None:
    with pytest.raises(SpecError) as caught:
        Process.loads('{"cwd": "x", "args": [7]}')
    assert [problem.path for problem in caught.value.problems] == ["args[0]", "cwd"]
    assert caught.value.source == "process.json"


def test_a_missing_file_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"JSON specification file config\.json not found"):
        Spec.load(tmp_path / "config.json")


def test_a_directory_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="Is a directory"):
        Spec.load(tmp_path)


def test_a_spec_of_wrong_types_built_in_python_is_told() -> None:
    wrong = Spec(root=Root("r"), process=Process(args=["sh"], cwd="/", user=User(uid="0")))  # type: ignore[arg-type]  # the point
    assert wrong.check() == (Problem("process.user.uid", "0", "must be an integer"),)


def test_from_json_takes_what_json_loads_gives() -> None:
    assert Spec.from_json(MINIMAL) == Spec(oci_version="1.0.0", root=Root("rootfs"))
    assert Spec.default() == Spec.from_json(Spec.default().to_json())
