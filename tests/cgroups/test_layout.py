"""What is mounted, and where this process is, from the kernel's own machines."""

from __future__ import annotations

import os

import pytest

from ocirt.cgroups import layout
from ocirt.cgroups.layout import Here, Hierarchy, Layout

from . import machines


def test_version_1_controllers_are_told_from_mount_options() -> None:
    assert machines.V1.layout.hierarchies == (
        Hierarchy(("name=systemd",), "/sys/fs/cgroup/systemd", 1),
        Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", 1),
        Hierarchy(("memory",), "/sys/fs/cgroup/memory", 1),
        Hierarchy(("cpuset",), "/sys/fs/cgroup/cpuset", 1),
    )


def test_a_second_mount_of_a_hierarchy_is_somebody_elses() -> None:
    mountpoints = [hierarchy.mountpoint for hierarchy in machines.V1.layout.hierarchies]
    assert "/var/lib/c1/rootfs/sys/fs/cgroup/memory" not in mountpoints


def test_version_2_has_no_controllers_of_its_own() -> None:
    assert machines.V2.layout.hierarchies == (Hierarchy((), "/sys/fs/cgroup", 2),)


@pytest.mark.parametrize(
    ("here", "mode"),
    [(machines.V1, "v1"), (machines.V2, "v2"), (machines.HYBRID, "hybrid"), (machines.NONE, "none")],
)
def test_mode(here: Here, mode: str) -> None:
    assert here.layout.mode == mode


def test_names_are_those_of_the_directories() -> None:
    assert [hierarchy.name for hierarchy in machines.V1.layout.hierarchies] == [
        "systemd",
        "cpu,cpuacct",
        "memory",
        "cpuset",
    ]


def test_mountinfo_escapes_are_undone() -> None:
    line = r"33 31 0:28 /a\134b /mnt/my\040cgroups/pids rw - cgroup cgroup rw,pids"
    assert Layout.parse(line).hierarchies == (Hierarchy(("pids",), "/mnt/my cgroups/pids", 1, "/a\\b"),)


def test_optional_fields_of_mountinfo_may_be_absent_or_many() -> None:
    line = "33 31 0:28 / /m rw shared:1 master:2 propagate_from:3 - cgroup cgroup rw,pids"
    assert Layout.parse(line).hierarchies == (Hierarchy(("pids",), "/m", 1),)


def test_own_cgroup_is_a_directory_in_each_hierarchy() -> None:
    assert [directory for _, directory in machines.V1.directories] == [
        "/sys/fs/cgroup/systemd/user.slice/user-0.slice/session-1.scope",
        "/sys/fs/cgroup/cpu,cpuacct/user.slice",
        "/sys/fs/cgroup/memory/user.slice",
        "/sys/fs/cgroup/cpuset",
    ]
    assert [directory for _, directory in machines.V2.directories] == ["/sys/fs/cgroup/system.slice/ssh.service"]


def test_own_path_may_contain_spaces_and_colons() -> None:
    here = Here.parse(Layout.parse(machines.HYBRID_MOUNTS), "4:memory:/a b:c/d\n")
    assert [directory for _, directory in here.directories] == ["/sys/fs/cgroup/memory/a b:c/d"]


def test_in_a_container_what_the_mount_begins_with_is_taken_off() -> None:
    # The third one is beside what the mount shows, though its name begins alike.
    assert [directory for _, directory in machines.NESTED.directories] == [
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/pids/inner",
        "/sys/fs/cgroup/freezer",
    ]


def test_a_cgroup_outside_of_our_cgroup_namespace_becomes_the_mount_itself() -> None:
    here = Here.parse(Layout.parse(machines.V2_MOUNTS), "0::/../other.slice\n")
    assert [directory for _, directory in here.directories] == ["/sys/fs/cgroup"]


def test_a_hierarchy_that_does_not_tell_is_left_out() -> None:
    here = Here.parse(Layout.parse(machines.HYBRID_MOUNTS), "0::/x\n")
    assert [directory for _, directory in here.directories] == ["/sys/fs/cgroup/unified/x"]


def test_this_machine_is_read_once_and_its_cgroups_exist() -> None:
    assert layout.probe() is layout.probe()
    assert all(os.path.isdir(directory) for _, directory in layout.here().directories)
