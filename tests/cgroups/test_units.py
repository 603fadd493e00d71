"""Names of units and slices, and where those are among the cgroups."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.units import SUBGROUP, Place, Unit, below, cgroup_name, escaped, place, slice_path, subgroup
from ocirt.errors import SpecError, UnsupportedError

components = st.text(st.sampled_from("abcXYZ019_"), min_size=1, max_size=6).filter(lambda text: text[0] != "_")
levels = st.lists(components, min_size=1, max_size=6)


def problem(cgroups_path: str, container_id: str = "demo") -> str:
    with pytest.raises(SpecError) as caught:
        place(cgroups_path, container_id, "system")
    (found,) = caught.value.problems
    assert found.path == "linux.cgroupsPath"
    return found.rule


@pytest.mark.covers("linux.cgroupsPath")
def test_three_parts_are_a_scope_in_a_slice() -> None:
    assert place("machine.slice:libpod:c1", "demo", "system") == Place("machine.slice", "libpod-c1.scope")


def test_without_a_prefix_the_name_stands_alone() -> None:
    assert place("a.slice::c1", "demo", "system") == Place("a.slice", "c1.scope")


@pytest.mark.parametrize("absent", [None, ""])
def test_without_a_path_there_are_defaults(absent: str | None) -> None:
    assert place(absent, "demo", "system") == Place("system.slice", "ocirt-demo.scope")
    assert place(absent, "demo", "user") == Place("user.slice", "ocirt-demo.scope")
    assert place(":p:n", "demo", "user") == Place("user.slice", "p-n.scope")


def test_a_name_that_ends_so_is_the_slice_itself() -> None:
    found = place("pods.slice:p:pods-a.slice", "demo", "system")
    assert found == Place("pods.slice", "pods-a.slice")
    assert found.is_slice
    assert found.path == "/pods.slice/pods-a.slice"


def test_an_id_is_never_a_slice() -> None:
    assert place(None, "my.slice", "system").name == "ocirt-my.slice.scope"


@pytest.mark.parametrize("path", ["/a/b", "a", "a:b", "a:b:c:d", ":"])
def test_anything_but_three_parts_is_refused_in_runcs_words(path: str) -> None:
    words = 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "%s" instead'
    assert problem(path) == words % path


@pytest.mark.parametrize("slice_", ["a", "a.scope", ".slice", "a--b.slice", "-a.slice", "a-.slice", "a/b.slice", "-"])
def test_a_wrong_slice_is_refused_in_runcs_words(slice_: str) -> None:
    assert problem(f"{slice_}:p:n") == f"invalid slice name: {slice_}"


@pytest.mark.parametrize("name", ["a/b", "a b", "a\nb", "é", "", "x" * 250])
def test_a_name_that_no_unit_can_have_is_refused(name: str) -> None:
    assert "systemd does not take" in problem(f"::{name}")


def test_a_name_that_is_a_slice_is_a_good_one() -> None:
    assert problem("a.slice:p:a--b.slice") == "invalid slice name: a--b.slice"


def test_the_root_of_all_slices_is_no_container() -> None:
    assert "root of all slices" in problem("::-.slice")


def test_an_id_may_have_what_a_unit_may_not() -> None:
    assert escaped("a+b_c.d-e") == r"a\x2bb_c.d-e"
    assert place(None, "a+b", "system").name == r"ocirt-a\x2bb.scope"


def test_every_dash_of_a_slice_is_a_level() -> None:
    assert slice_path("a.slice") == "/a.slice"
    assert slice_path("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
    assert slice_path("-.slice") == "/"
    assert Place("-.slice", "x.scope").path == "/x.scope"
    assert Place("a-b.slice", "x.scope").path == "/a.slice/a-b.slice/x.scope"


@given(levels)
def test_a_slices_path_has_a_directory_a_level_and_each_begins_with_the_one_above(parts: list[str]) -> None:
    directories = slice_path("-".join(parts) + ".slice").split("/")[1:]
    assert len(directories) == len(parts)
    bare = [directory.removeprefix("_").removesuffix(".slice") for directory in directories]
    assert bare[-1].split("-") == parts
    assert all(longer.startswith(f"{shorter}-") for shorter, longer in pairwise(bare))


@given(levels, levels)
def test_a_slice_below_another_has_its_path_below_the_others(outer: list[str], inner: list[str]) -> None:
    above = slice_path("-".join(outer) + ".slice")
    assert slice_path("-".join([*outer, *inner]) + ".slice").startswith(f"{above}/")


@given(st.text(min_size=1), st.text(max_size=8))
def test_whatever_is_taken_stays_below_its_systemd(text: str, id: str) -> None:
    try:
        path = place(text, id or "x", "system").path
    except SpecError:
        return
    assert path.startswith("/")
    assert not {"", ".", ".."} & set(path[1:].split("/"))


def test_a_subgroup_is_one_cgroup_below_a_scope() -> None:
    scope = place(None, "demo", "system")
    assert subgroup({SUBGROUP: "container"}, scope) == "container"
    assert subgroup({SUBGROUP: ""}, scope) == subgroup({}, scope) == ""
    assert below(Unit(scope.name, "system"), f"/sys/fs/cgroup{scope.path}/container/a") == "/container/a"
    assert below(Unit(scope.name, "system"), f"/sys/fs/cgroup{scope.path}") == ""


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", "cgroup.procs", "memory.max", "_a", "a\n"])
def test_a_subgroup_leads_nowhere_else(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        subgroup({SUBGROUP: name}, place(None, "demo", "system"))
    assert caught.value.problems[0].path == 'annotations["run.oci.systemd.subgroup"]'


def test_a_slice_has_no_subgroup() -> None:
    with pytest.raises(UnsupportedError, match="name a scope"):
        subgroup({SUBGROUP: "a"}, place("::a.slice", "demo", "system"))


def test_a_unit_named_like_a_file_of_the_kernels_is_marked() -> None:
    assert [cgroup_name(name) for name in ("memory.scope", "_a.scope", "cgroup.a.scope", "a.memory.scope")] == [
        "_memory.scope",
        "__a.scope",
        "_cgroup.a.scope",
        "a.memory.scope",
    ]
