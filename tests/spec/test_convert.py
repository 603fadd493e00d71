"""JSON to values and back: nothing is lost, nothing is guessed, everything wrong is told at once."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import Problem, SpecError
from ocirt.spec import Linux, Namespace, Process, Rlimit, Root, Spec, convert
from ocirt.spec.base import JSON
from tests.strategies import processes, specs

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "runtime-spec-schema" / "test" / "config"
needs_examples = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the specification's examples are not beside us")

MINIMAL: dict[str, JSON] = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}


def problems(document: JSON) -> list[Problem]:
    """What Spec finds wrong with a value."""
    with pytest.raises(SpecError) as caught:
        Spec.from_json(document)
    return list(caught.value.problems)


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


@pytest.mark.covers("windows", "vm")
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
    assert [(problem.path, problem.value) for problem in problems(value)] == [(place_of(path), 0.5)]


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


def test_a_converter_of_cattrs_takes_these_classes_within_others() -> None:
    @attrs.frozen
    class Job:
        name: str
        limit: Rlimit

    made = convert.CONVERTER.structure({"name": "n", "limit": {"type": "RLIMIT_CORE", "hard": 2, "soft": 1}}, Job)
    assert made == Job("n", Rlimit("RLIMIT_CORE", hard=2, soft=1))
    assert convert.CONVERTER.unstructure(made)["limit"] == {"type": "RLIMIT_CORE", "hard": 2, "soft": 1}


def test_loading_and_dumping_need_no_cattrs() -> None:
    """A tenth of what a create by command takes."""
    code = "import sys, ocirt.spec as s; s.Spec.loads(s.Spec.default().dumps()); print('cattrs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout == b"False\n"
