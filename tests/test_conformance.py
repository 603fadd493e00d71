"""docs/spec-conformance.md is true and whole: nothing of config.json is ignored."""

from __future__ import annotations

import ctypes.util
import re
import subprocess
import sys

import pytest

from ocirt.errors import UnsupportedError
from ocirt.plan import plan_create, plan_exec
from ocirt.seccomp import program_of
from ocirt.spec import Spec
from ocirt.spec.options import KNOWN, WITHOUT_EFFECT
from tests import conformance
from tests.conformance import OTHER_PLATFORMS, ROOT, Row, faults, matches, option_state, refusal, state, text
from tests.documents import changed_or_left_out, documents_with, member_paths
from tests.members import Object
from tests.mutations import HOST, SITE, is_near

ELSEWHERE = {
    "ociVersion": "it is checked, and told in the state",
    "annotations": "they are told in the state",
    "root": "it has a path",
    "root.path": "the host finds the rootfs and says where it is",
    "linux.namespaces[].type": "there is no other that would be as good: linux.namespaces as a whole is tried",
    "linux.cgroupsPath": "the host makes the cgroups",
    "linux.personality.flags": "no flag is defined yet, so that there is nothing to leave out",
    "linux.seccomp.listenerPath": "the host sends the listener there",
    "linux.seccomp.listenerMetadata": "the host sends it along",
    "process.execCPUAffinity.initial": "the host sets it before the process is in the container's cgroups",
}
LIBSECCOMP = ctypes.util.find_library("seccomp") is not None

BY_HOST = {
    "linux.resources": "the host writes the limits",
    "linux.intelRdt": "the host writes the schemata",
    "linux.uidMappings": "the host writes the ID maps",
    "linux.gidMappings": "the host writes the ID maps",
    "hooks.prestart[]": "the host runs the hook",
    "hooks.createRuntime[]": "the host runs the hook",
    "hooks.poststart": "the host runs the hook",
    "hooks.poststop": "the host runs the hook",
}
"""What is honoured and yet in no plan, the latter with all that is below it."""


def test_the_table_is_what_the_tests_make_of_it() -> None:
    """In a process of its own, since it collects all tests, whichever are being run now."""
    command = [sys.executable, "-m", "tests.conformance", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("path", sorted(member_paths()))
def test_what_is_honoured_changes_what_is_done(path: str) -> None:
    """A member that could be left out, or be another, with the same outcome is ignored."""
    honoured = [document for document in documents_with(path) if refusal(document) is None]
    if path.startswith("linux.seccomp.") and not LIBSECCOMP:
        pytest.skip("needs libseccomp (Debian: apt-get install libseccomp2)")
    if path in OTHER_PLATFORMS or path in ELSEWHERE or path.startswith(tuple(BY_HOST)) or not honoured:
        return
    assert any(
        done(document) != done(other)
        for document in honoured
        for other in changed_or_left_out(document, path)
        if refusal(other) is None
    )


@pytest.mark.parametrize("path", sorted(member_paths()))
def test_what_is_refused_is_told_at_its_path(path: str) -> None:
    """At the member itself, at the object or list that it is in, or at a part of it."""
    for document in documents_with(path):
        if error := refusal(document):
            assert is_near(generic(error.origin), generic(path))


def generic(path: str) -> str:
    """Without places in lists and keys of maps; the two kinds of mappings are refused together."""
    return re.sub(r"\[[^]]*\]|\.\*", "", path).replace("gidMappings", "uidMappings")


@pytest.mark.parametrize("option", sorted(KNOWN))
def test_no_mount_option_is_ignored_without_a_reason(option: str) -> None:
    """Those without an effect are few, and known as such to the parser too."""
    assert option_state(option).startswith("no effect") == (option in conformance.WITHOUT_EFFECT)
    assert option not in conformance.WITHOUT_EFFECT or option in WITHOUT_EFFECT


def done(document: Object) -> object:
    """What init does to make the container, and to execute one more process as its own; and their filter."""
    spec = Spec.from_json(document)
    created = plan_create(spec, HOST, SITE)
    executed = spec.process and plan_exec(spec.process, spec, HOST, SITE)
    return created, executed, _filter(spec)


def _filter(spec: Spec) -> bytes | str:
    """Where libseccomp is missing, or too old for it, the words that say so."""
    try:
        return program_of(spec)
    except UnsupportedError as error:
        return error.needs


# The table tells what is wrong.

HONOURED = Row("hostname", "honoured", ("tests/lifecycle/test_x.py::test_a_name_is_set",))


def told(row: Row, **covering: set[str]) -> list[str]:
    return list(faults(covering, [row], text([row])))


def test_a_property_without_a_test_is_told() -> None:
    assert told(HONOURED) == []
    assert told(Row("hostname", "honoured", ())) == ["hostname is not refused, and no test is marked as covering it"]
    assert told(Row("hostname", "honoured", ("tests/spec/test_x.py::test_y",)))
    assert told(Row("hostname", "refused: `hostname`", ())) == []


def test_a_marker_for_nothing_is_told() -> None:
    assert told(HONOURED, test={"hostnam"}) == ["test covers 'hostnam', which is no property"]


def test_an_old_table_is_told() -> None:
    assert list(faults({}, [HONOURED], "old")) == [
        "docs/spec-conformance.md is out of date: python -m tests.conformance"
    ]


def test_a_row_links_to_its_tests() -> None:
    assert str(HONOURED) == "| `hostname` | honoured | [a name is set](../tests/lifecycle/test_x.py) |"


@pytest.mark.parametrize(
    ("pattern", "path", "matched"),
    [
        ("process.user", "process.user", True),
        ("process.user", "process.user.uid", False),
        ("process.user.**", "process.user", True),
        ("process.user.**", "process.user.uid", True),
        ("process.user.**", "process.username", False),
        ("linux.devices.**", "linux.devices[].uid", True),
        ("hooks.*[].env", "hooks.poststop[].env", True),
        ("hooks.*", "hooks.poststop[].env", False),
        ("linux.rdma.*.hcaHandles", "linux.rdma.*.hcaHandles", True),
    ],
)
def test_patterns(pattern: str, path: str, matched: bool) -> None:
    assert matches(pattern, path) is matched


def test_a_state_is_found_by_asking() -> None:
    assert state("hostname") == "honoured"
    assert state("windows") == "other platform: Windows"
    assert conformance._told({"a": [{"b": "x"}]}, UnsupportedError("a[0].b", "nothing")) == "`a[].b`"
    assert conformance._told({"a": ["x"]}, UnsupportedError("a[0]", "nothing")) == "`a[]` (`x`)"


def test_every_member_of_every_class_has_a_row() -> None:
    rows = conformance.paths()
    assert "linux.resources.rdma.*.hcaHandles" in rows
    assert "hooks.poststop[].env" in rows
    assert "linux.resources.blockIO.throttleWriteIOPSDevice[].rate" in rows
