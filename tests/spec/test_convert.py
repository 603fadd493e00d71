"""JSON to values and back: nothing is lost, nothing is guessed, everything wrong is told at once."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import BundleError, Problem, SpecError
from ocirt.spec import Linux, Namespace, Process, Root, Spec, User
from ocirt.spec.base import JSON
from tests.strategies import processes, specs

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "runtime-spec-schema" / "test" / "config"
needs_examples = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the specification's examples are not beside us")

MINIMAL: dict[str, JSON] = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}


def problems(document: JSON | str | bytes) -> list[Problem]:
    """What Spec finds wrong with a text, or with a value's text."""
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    with pytest.raises(SpecError) as caught:
        Spec.loads(text)
    return list(caught.value.problems)


def process(**members: JSON) -> dict[str, JSON]:
    return {**MINIMAL, "process": {"cwd": "/", "args": ["sh"], **members}}


# Round trips.


@given(specs())
def test_what_is_dumped_loads_as_the_same(document: Spec) -> None:
    text = document.dumps()
    loaded = Spec.loads(text)
    assert loaded == document
    assert loaded.dumps() == text


@given(processes())
def test_a_process_is_a_document_too(process: Process) -> None:
    assert Process.loads(process.dumps()) == process


@given(specs())
def test_a_generated_spec_breaks_no_rule(document: Spec) -> None:
    assert document.check() == ()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def objects(value: JSON) -> Iterator[dict[str, JSON]]:
    """Every object in a document that has a class of ours, in which unknown members may stand."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name not in ("annotations", "sysctl", "unified", "rdma", "netDevices", "timeOffsets"):
                yield from objects(inner)
    if isinstance(value, list):
        for inner in value:
            yield from objects(inner)


@given(specs(), st.data())
def test_unknown_members_stay_wherever_they_are(document: Spec, data: st.DataObject) -> None:
    value = json.loads(document.dumps())
    for place in objects(value):
        place["x-unknown"] = data.draw(JSON_VALUES)
    assert json.loads(Spec.loads(json.dumps(value)).dumps()) == value


@pytest.mark.parametrize(
    "extra",
    [
        {"mounts": []},
        {"hooks": {}},
        {"hooks": {"prestart": []}},
        {"annotations": {}},
        {"linux": {}},
        {"linux": {"namespaces": [], "sysctl": {}, "resources": {}}},
        {"linux": {"resources": {"memory": {"disableOOMKiller": False}, "rdma": {}}}},
        {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": [], "syscalls": []}}},
        {"root": {"path": "r", "readonly": False}},
        {"process": {"cwd": "/", "args": ["sh"]}},
        {"process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}, "terminal": False, "env": []}},
        {"process": {"cwd": "/", "args": ["sh"], "ioPriority": {"class": "IOPRIO_CLASS_BE"}, "execCPUAffinity": {}}},
        {"windows": {"layerFolders": ["a"]}, "vm": {"kernel": {"path": "/k"}}, "unknown": {"a": None}},
        {"linux": {"timeOffsets": {}, "intelRdt": {"closID": "c", "enableCMT": True}}},
    ],
)
def test_what_says_nothing_is_still_written_back(extra: dict[str, JSON]) -> None:
    document = {**MINIMAL, **extra}
    assert Spec.loads(json.dumps(document)).to_json() == document


def test_a_changed_member_wins_over_what_was_read() -> None:
    document = Spec.loads('{"ociVersion": "1.0.0", "root": {"path": "r", "readonly": false}}')
    assert document.root.evolve(readonly=True).unknown == {"readonly": False}
    assert document.evolve(root=document.root.evolve(readonly=True)).to_json()["root"] == {
        "path": "r",
        "readonly": True,
    }


def test_names_in_json_are_those_of_the_specification() -> None:
    document: JSON = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "blockIO": {
            "leafWeight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 1}],
        },
        "memory": {"kernelTCP": 1, "disableOOMKiller": True, "checkBeforeUpdate": True},
        "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
        "rdma": {"mlx": {"hcaHandles": 1}},
    }
    spec = Spec.loads(json.dumps({**MINIMAL, "linux": {"resources": document}}))
    assert spec.linux is not None
    resources = spec.linux.resources
    assert resources is not None
    assert resources.unknown == {}
    assert resources.block_io is not None
    assert resources.block_io.unknown == {}
    assert resources.block_io.throttle_write_iops_device[0].rate == 1
    assert resources.memory is not None
    assert resources.memory.unknown == {}
    assert resources.network is not None
    assert resources.network.class_id == 1


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    Spec.default().dump(path)
    assert Spec.load(path) == Spec.default()
    assert path.read_text().startswith('{\n\t"ociVersion": "1.3.0"')


# The specification's own examples.


@needs_examples
@pytest.mark.parametrize("name", ["minimal", "minimal-for-start", "spec-example", "linux-netdevice", "linux-rdma"])
def test_good_examples_load_and_come_back(name: str) -> None:
    """Those for Linux; the others set a hostname where there is no UTS namespace."""
    text = (EXAMPLES / "good" / f"{name}.json").read_text()
    assert Spec.loads(text).to_json() == json.loads(text)


@needs_examples
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("invalid-json", ""),
        ("linux-hugepage", "linux.resources.hugepageLimits[0].pageSize"),
        ("linux-netdevice", "linux.netDevices.eth0.name"),
        ("linux-rdma", "linux.resources.rdma.mlx5_1.hcaHandles"),
    ],
)
def test_bad_examples_are_refused_where_they_are_bad(name: str, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        Spec.load(EXAMPLES / "bad" / f"{name}.json")
    assert [problem.path for problem in caught.value.problems] == [path]


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


# Mutations.


def leaves(value: JSON, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a document, itself excepted."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))


def place_of(path: tuple[str | int, ...]) -> str:
    """As problems write it."""
    text = ""
    for part in path:
        plain = isinstance(part, str) and part.isidentifier()
        text += f".{part}" if plain else f"[{part!r}]"
    return text.removeprefix(".")


@given(specs(), st.data())
def test_one_wrong_type_is_one_problem_at_its_place(document: Spec, data: st.DataObject) -> None:
    """A float is never right: every leaf of a valid document, replaced by one, is told, and nothing beside it."""
    value = json.loads(document.dumps())
    path = data.draw(st.sampled_from(sorted(leaves(value), key=str)))
    place = value
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = 0.5
    assert problems(value) == [
        Problem(place_of(path), 0.5, rule) for rule in [problem.rule for problem in problems(value)][:1]
    ]


@given(specs(), st.data(), JSON_VALUES)
def test_any_value_anywhere_loads_or_is_told(document: Spec, data: st.DataObject, new: JSON) -> None:
    """Nothing but SpecError comes out, and what loads comes back."""
    value = json.loads(document.dumps())
    path = data.draw(st.sampled_from(sorted(leaves(value), key=str)))
    place = value
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = new
    with contextlib.suppress(SpecError):
        assert Spec.loads(json.dumps(value)).to_json() == value


def test_a_joined_namespace_keeps_its_path() -> None:
    linux = Linux(namespaces=[Namespace("network", "/run/netns/a")])
    assert Spec(root=Root("r"), linux=linux).to_json()["linux"] == {
        "namespaces": [{"type": "network", "path": "/run/netns/a"}]
    }
