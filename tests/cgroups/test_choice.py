"""Where a container's cgroup goes."""

from __future__ import annotations

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.choice import choose
from ocirt.cgroups.files import Directory
from ocirt.cgroups.layout import Here
from ocirt.errors import SpecError, UnsupportedError

from . import machines

MACHINES = (machines.V1, machines.V2, machines.HYBRID, machines.NESTED)


def paths(here: Here, cgroups_path: str | None) -> list[str]:
    return [directory.path for directory in choose(here, cgroups_path, "demo").directories]


def test_without_a_path_it_goes_below_our_own_by_its_id() -> None:
    assert paths(machines.HYBRID, None) == [
        "/sys/fs/cgroup/cpu/demo",
        "/sys/fs/cgroup/memory/a b/c/demo",
        "/sys/fs/cgroup/devices/demo",
        "/sys/fs/cgroup/unified/demo",
    ]


def test_on_version_2_alone_it_goes_beside_our_own() -> None:
    assert paths(machines.V2, None) == ["/sys/fs/cgroup/system.slice/demo"]
    assert paths(machines.V2, "pods/a") == ["/sys/fs/cgroup/system.slice/pods/a"]


def test_who_was_given_its_own_cgroup_alone_may_go_below_that() -> None:
    below = choose(machines.V2, "pods/a", "demo").below
    own = "/sys/fs/cgroup/system.slice/ssh.service"
    assert below == Directory(f"{own}/pods/a", (), 2, (f"{own}/pods",))
    assert choose(machines.V2, "/pods/a", "demo").below is None
    assert choose(machines.HYBRID, None, "demo").below is None


def test_the_top_of_a_version_2_mount_has_nothing_beside_it() -> None:
    assert paths(machines.machine(machines.V2_MOUNTS, "0::/\n"), None) == ["/sys/fs/cgroup/demo"]


@pytest.mark.covers("linux.cgroupsPath")
def test_an_absolute_path_begins_at_the_mount() -> None:
    assert paths(machines.V2, "/pods/a") == ["/sys/fs/cgroup/pods/a"]
    assert paths(machines.NESTED, "/pods/a") == [
        "/sys/fs/cgroup/memory/pods/a",
        "/sys/fs/cgroup/pids/pods/a",
        "/sys/fs/cgroup/freezer/pods/a",
    ]


@pytest.mark.covers("linux.cgroupsPath")
def test_a_relative_path_begins_at_our_own() -> None:
    assert paths(machines.NESTED, "pods/a") == [
        "/sys/fs/cgroup/memory/pods/a",
        "/sys/fs/cgroup/pids/inner/pods/a",
        "/sys/fs/cgroup/freezer/pods/a",
    ]


def test_every_level_between_is_listed_outermost_first() -> None:
    (directory,) = choose(machines.V2, "/a/b/c", "demo").directories
    assert directory == Directory("/sys/fs/cgroup/a/b/c", (), 2, ("/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"))


def test_dots_are_cleaned_and_lead_nowhere_else() -> None:
    assert paths(machines.V2, "/a/./../../../b//c/") == ["/sys/fs/cgroup/b/c"]
    assert paths(machines.V2, "../../b") == ["/sys/fs/cgroup/system.slice/b"]
    assert paths(machines.V2, "//a") == ["/sys/fs/cgroup/a"]


def test_a_systemd_path_is_just_a_path_for_files() -> None:
    assert paths(machines.V2, "system.slice:ocirt:demo") == ["/sys/fs/cgroup/system.slice/system.slice:ocirt:demo"]


@pytest.mark.covers("linux.cgroupsPath")
@pytest.mark.parametrize("path", ["/", ".", "..", "/..", "a/..", "/./", "a\nb", "a\0b", "\ud800"])
def test_a_path_that_names_no_cgroup_is_refused_by_its_field(path: str) -> None:
    with pytest.raises(SpecError) as caught:
        choose(machines.V2, path, "demo")
    assert caught.value.problems[0].path == "linux.cgroupsPath"


def test_whether_the_path_was_asked_for_is_remembered() -> None:
    assert choose(machines.V2, "/a", "demo").explicit
    assert not choose(machines.V2, None, "demo").explicit
    assert not choose(machines.V2, "", "demo").explicit


def test_without_any_hierarchy_only_an_explicit_path_is_an_error() -> None:
    assert choose(machines.NONE, None, "demo").directories == ()
    with pytest.raises(UnsupportedError, match=r"^linux\.cgroupsPath: no cgroup hierarchy is mounted"):
        choose(machines.NONE, "/a", "demo")


@given(here=st.sampled_from(MACHINES), path=st.text(st.sampled_from("ab./:\n\0é"), min_size=1) | st.text(min_size=1))
def test_no_path_whatever_leaves_the_mount(here: Here, path: str) -> None:
    try:
        placement = choose(here, path, "demo")
    except SpecError:
        return
    for (hierarchy, _), directory in zip(here.directories, placement.directories, strict=True):
        assert os.path.normpath(directory.path) == directory.path
        assert directory.path.startswith(hierarchy.mountpoint + "/")
        assert all(parent.startswith(hierarchy.mountpoint + "/") for parent in directory.parents)


@given(here=st.sampled_from(MACHINES), container_id=st.text(st.sampled_from("ab./+_-"), min_size=1))
def test_no_id_whatever_leaves_our_own_cgroup(here: Here, container_id: str) -> None:
    try:
        placement = choose(here, None, container_id)
    except SpecError:
        return
    for (hierarchy, own), directory in zip(here.directories, placement.directories, strict=True):
        base = hierarchy.mountpoint if container_id.startswith("/") else own
        if here is machines.V2 and not container_id.startswith("/"):
            base = os.path.dirname(own)
        assert directory.path.startswith(base + "/")
