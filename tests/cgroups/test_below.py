"""A process may go below its container's cgroups, and nowhere else (runc exec --cgroup)."""

from __future__ import annotations

import pytest

from ocirt.cgroups.below import below
from ocirt.cgroups.files import Cgroup, Directory
from ocirt.errors import UnsupportedError

HYBRID = Cgroup(
    (
        Directory("/cg/cpu,cpuacct/c", ("cpu", "cpuacct"), 1),
        Directory("/cg/memory/c", ("memory",), 1),
        Directory("/cg/unified/c", (), 2),
    )
)


def paths(cgroup: Cgroup) -> list[str]:
    return [directory.path for directory in cgroup.directories]


def test_a_path_alone_is_for_every_hierarchy() -> None:
    assert paths(below(HYBRID, {"": "a/b"})) == ["/cg/cpu,cpuacct/c/a/b", "/cg/memory/c/a/b", "/cg/unified/c/a/b"]


def test_a_controllers_path_is_for_its_hierarchy() -> None:
    assert paths(below(HYBRID, {"cpuacct": "/a"})) == ["/cg/cpu,cpuacct/c/a", "/cg/memory/c", "/cg/unified/c"]


def test_the_top_is_not_left_but_may_be_meant() -> None:
    assert paths(below(HYBRID, {"": "."})) == paths(HYBRID)
    assert paths(below(HYBRID, {"": "a/.."})) == paths(HYBRID)


@pytest.mark.parametrize("path", ["..", "/..", "a/../..", "../c2", "a/../../b"])
def test_no_path_leads_out(path: str) -> None:
    with pytest.raises(UnsupportedError, match="bad sub cgroup path"):
        below(HYBRID, {"": path})


def test_a_controller_without_a_hierarchy_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="unknown controller pids in SubCgroupPaths"):
        below(HYBRID, {"pids": "a"})
