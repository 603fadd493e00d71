"""The classes themselves: what people build in Python."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import attrs
import pytest

import ocirt.spec
from ocirt.spec import (
    Hooks,
    IDMapping,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Root,
    Seccomp,
    Spec,
    User,
)

CLASSES = [
    value for name in ocirt.spec.__all__ if isinstance(value := getattr(ocirt.spec, name), type) and attrs.has(value)
]


def test_any_iterable_of_strings_will_do() -> None:
    process = Process(args=["sh", "-c", "true"], cwd="/", env=(f"{name}=1" for name in "AB"))
    assert process.args == ("sh", "-c", "true")
    assert process.env == ("A=1", "B=1")


def test_any_iterable_of_objects_will_do() -> None:
    assert Linux(namespaces=[Namespace("pid")]).namespaces == (Namespace("pid"),)


def test_a_lone_string_is_refused() -> None:
    """It would be taken for its letters."""
    with pytest.raises(TypeError, match=r"expected several strings, not the one string 'sh'"):
        Process(args="sh", cwd="/")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_absent_lists_and_maps_are_empty(cls: type[attrs.AttrsInstance]) -> None:
    """Nobody needs to write ``or ()``; seccomp flags alone tell absent from empty (config-linux.md, Seccomp)."""
    for field in attrs.fields(cls):
        if field.init and str(field.type).startswith(("tuple", "Mapping")) and (cls, field.name) != (Seccomp, "flags"):
            assert field.default is not None


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_keeps_unknown_members(cls: type[attrs.AttrsInstance]) -> None:
    assert attrs.fields_dict(cls)["unknown"].kw_only


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_values_do_not_change(cls: type[attrs.AttrsInstance]) -> None:
    value = cls(**{field.name: ("1",) for field in attrs.fields(cls) if field.default is attrs.NOTHING})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.unknown = {}  # type: ignore[attr-defined]  # the point of the test


def test_evolve_changes_a_copy() -> None:
    before = Spec.default()
    after = before.evolve(hostname="h")
    assert (before.hostname, after.hostname) == ("runc", "h")
    assert after.evolve(hostname="runc") == before


def test_a_changed_copy_is_checked_again() -> None:
    document = Spec.default()
    assert document.check() == ()
    assert [problem.path for problem in document.evolve(oci_version="new").check()] == ["ociVersion"]


def test_a_spec_can_be_a_key() -> None:
    assert {Spec.default(): 1}[Spec.default()] == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(copied: type) -> None:
    document = Spec.default()
    assert copied(document) == document
    assert copied(document).to_json() == document.to_json()


def test_repr_shows_what_is_set() -> None:
    assert repr(Mount("/x", options=["ro"])) == "Mount(destination='/x', options=('ro',))"
    assert repr(User()) == "User(uid=0, gid=0)"
    assert repr(IDMapping(0, 1, 2, unknown={"a": 1})) == (
        "IDMapping(container_id=0, host_id=1, size=2, unknown={'a': 1})"
    )


def test_every_name_of_the_package_is_there() -> None:
    assert {cls.__name__ for cls in CLASSES} >= {"Seccomp", "Memory", "Scheduler", "RDMA"}
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = ocirt.spec.Nonsense


def test_the_classes_come_without_cattrs_and_without_the_rare_ones() -> None:
    """A one-shot command must not pay for what it does not use."""
    code = (
        "import sys, ocirt.spec as s; s.Spec.default();"
        "print([m for m in sys.modules if m == 'cattrs' or m.startswith('ocirt.spec.')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "cattrs" not in loaded
    assert "limits" not in loaded
    assert "seccomp" not in loaded
    assert "scheduling" not in loaded


def test_an_empty_object_is_not_an_absent_one() -> None:
    document = Spec(root=Root("r"), hooks=Hooks(), linux=Linux(resources=Resources()))
    assert document.to_json() == {
        "ociVersion": "1.3.0",
        "root": {"path": "r"},
        "linux": {"resources": {}},
        "hooks": {},
    }
