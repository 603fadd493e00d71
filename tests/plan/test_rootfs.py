"""The container's file tree, from nothing to ``/``."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.plan import Plan, Site, plan_create
from ocirt.plan import tree_ops as t
from ocirt.plan.context import RootDirectory
from ocirt.plan.ops import Op
from ocirt.spec import Device, IDMapping, Linux, Mount, Namespace, Process, Root, Spec
from tests.plan.examples import ROOT

SITE = Site("c", "/bundle", "/rootfs")
MOUNT = Namespace("mount")


def planned(document: Spec | None = None, *, site: Site = SITE, **linux: object) -> Plan:
    document = document or Spec(root=Root("rootfs"))
    return plan_create(document.evolve(linux=Linux(namespaces=(MOUNT,)).evolve(**linux)), ROOT, site)


def of(plan: Plan, *kinds: type[Op]) -> list[Op]:
    return [op for op in plan.ops if isinstance(op, kinds)]


@pytest.mark.parametrize(
    ("wanted", "flags", "private"),
    [
        (None, [0x84000], False),
        ("slave", [0x84000, 0x80000], False),
        ("rprivate", [0x84000, 0x44000], False),
        ("runbindable", [0x84000, 0x24000], False),
        ("shared", [0x104000, 0x40000, 0x100000], True),
        ("rshared", [0x104000, 0x40000, 0x104000], True),
    ],
)
def test_the_host_hears_of_our_mounts_only_if_asked_to(wanted: str | None, flags: list[int], private: bool) -> None:
    """And never of those that make the rootfs: pivot_root(2) would refuse them as well."""
    plan = planned(rootfs_propagation=wanted)
    assert [op.flag for op in plan.ops if isinstance(op, t.SetPropagation)] == flags
    (rootfs,) = of(plan, t.AttachRootfs)
    assert isinstance(rootfs, t.AttachRootfs)
    assert rootfs.private is private


def test_a_read_only_root_turns_so_just_before_the_pivot() -> None:
    plan = planned(Spec(root=Root("rootfs", readonly=True)))
    kinds = [type(op) for op in plan.ops]
    place = kinds.index(t.PivotRoot)
    assert plan.ops[place - 1] == t.SetMountAttributes("/", t.Attributes(set=1), origin="root.readonly")


def test_the_same_path_is_masked_once() -> None:
    plan = planned(masked_paths=("/a", "/a/", "/b", "/b/../a"))
    assert [op.origin for op in of(plan, t.MaskPath)] == ["linux.maskedPaths[0]", "linux.maskedPaths[2]"]


def test_a_throw_away_layer_lies_over_the_rootfs() -> None:
    plan = planned(site=Site("c", "/bundle", "/rootfs", "/scratch"))
    assert of(plan, t.OverlayRootfs) == [t.OverlayRootfs(("/rootfs",), "/scratch", False, origin="root.path")]
    assert of(plan, t.AttachRootfs) == []


def test_a_joined_mount_namespace_is_not_pivoted() -> None:
    """Others are in it, and their root would change as well."""
    plan = planned(namespaces=(Namespace("mount", "/m"),))
    assert of(plan, t.PivotRoot, t.ChangeRoot) == [t.ChangeRoot(origin="root.path")]


@pytest.mark.parametrize("wanted", ["private", "rprivate"])
def test_a_tree_that_stays_below_must_hear_of_the_hosts_unmounts(wanted: str) -> None:
    site = Site("c", "/bundle", "/rootfs", full_views=("/proc",))
    words = r"rootfsPropagation of \[r\]private is not safe without pivot_root"
    with pytest.raises(UnsupportedError, match=words):
        planned(site=site, rootfs_propagation=wanted)
    assert of(planned(site=site, rootfs_propagation="rslave"), t.CoverRoot, t.PivotRoot) == [
        t.CoverRoot(("/proc",), origin="root.path")
    ]


def test_without_a_mount_namespace_the_root_directory_is_all_that_changes() -> None:
    plan = planned(namespaces=())
    (op,) = of(plan, t.ChangeRoot)
    assert isinstance(op, t.ChangeRoot)
    assert plan.descriptors[op.fd] == RootDirectory("/rootfs", "root.path")
    assert of(plan, t.AttachRootfs, t.MakeDevice, t.MakeSymlink, t.SetPropagation) == []


@pytest.mark.parametrize(
    ("document", "linux", "origin"),
    [
        (Spec(root=Root("r"), mounts=(Mount("/x", "tmpfs"),)), {}, "mounts"),
        (Spec(root=Root("r", readonly=True)), {}, "root.readonly"),
        (Spec(root=Root("r"), process=Process(cwd="/", args=("x",), terminal=True)), {}, "process.terminal"),
        (Spec(root=Root("r")), {"masked_paths": ("/x",)}, "linux.maskedPaths"),
        (Spec(root=Root("r")), {"readonly_paths": ("/x",)}, "linux.readonlyPaths"),
        (Spec(root=Root("r")), {"devices": (Device("p", "/x"),)}, "linux.devices"),
        (Spec(root=Root("r")), {"rootfs_propagation": "slave"}, "linux.rootfsPropagation"),
    ],
)
def test_what_would_mount_on_the_host_is_refused(document: Spec, linux: dict[str, object], origin: str) -> None:
    document = document.evolve(linux=Linux().evolve(**linux))
    with pytest.raises(UnsupportedError, match="needs a mount namespace") as caught:
        plan_create(document, ROOT, SITE)
    assert caught.value.origin == origin


def test_with_a_user_namespace_the_rootfs_is_taken_beforehand() -> None:
    mappings = (IDMapping(0, 100_000, 65_536),)
    plan = planned(namespaces=(MOUNT, Namespace("user")), uid_mappings=mappings, gid_mappings=mappings)
    taken = plan.ops[[type(op) for op in plan.ops].index(t.OpenTree)]
    assert isinstance(taken, t.OpenTree)
    assert (taken.path, taken.recursive) == ("/rootfs", True)
    (rootfs,) = of(plan, t.AttachRootfs)
    assert isinstance(rootfs, t.AttachRootfs)
    assert rootfs.fd == taken.fd
