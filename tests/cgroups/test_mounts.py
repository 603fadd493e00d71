"""What a container sees below /sys/fs/cgroup."""

from __future__ import annotations

from ocirt.cgroups.choice import choose
from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.layout import Here
from ocirt.cgroups.mounts import CgroupMountEntry, mount_entries

from . import machines


def entries(here: Here) -> tuple[CgroupMountEntry, ...]:
    return mount_entries(here, Cgroup(choose(here, "/demo", "id").directories))


def test_version_1_has_a_directory_for_each_hierarchy_and_links_for_merged_ones() -> None:
    root = "/sys/fs/cgroup"
    assert entries(machines.V1) == (
        CgroupMountEntry("systemd", "cgroup", ("none", "name=systemd"), f"{root}/systemd/demo", ()),
        CgroupMountEntry("cpu,cpuacct", "cgroup", ("cpu", "cpuacct"), f"{root}/cpu,cpuacct/demo", ("cpu", "cpuacct")),
        CgroupMountEntry("memory", "cgroup", ("memory",), f"{root}/memory/demo", ()),
        CgroupMountEntry("cpuset", "cgroup", ("cpuset",), f"{root}/cpuset/demo", ()),
    )


def test_version_2_is_one_mount_at_the_destination() -> None:
    assert entries(machines.V2) == (CgroupMountEntry("", "cgroup2", (), "/sys/fs/cgroup/demo", ()),)


def test_hybrid_shows_version_2_as_unified() -> None:
    assert entries(machines.HYBRID)[-1] == CgroupMountEntry("unified", "cgroup2", (), "/sys/fs/cgroup/unified/demo", ())


def test_where_there_is_no_cgroup_of_its_own_it_sees_ours() -> None:
    sources = [entry.source for entry in mount_entries(machines.NESTED, Cgroup())]
    assert sources == ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids/inner", "/sys/fs/cgroup/freezer"]
