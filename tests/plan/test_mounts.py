"""The mounts of config.json."""

from __future__ import annotations

import pytest
from attrs import evolve

from ocirt.errors import UnsupportedError
from ocirt.host import Host
from ocirt.plan import Plan, Site, plan_create
from ocirt.plan.context import MappedUserNamespace
from ocirt.plan.ops import NO_FD, Clone, Fd, Op, Tolerance
from ocirt.plan.tree_ops import (
    Attributes,
    BindMount,
    MakeSymlink,
    MapOwners,
    MountFilesystem,
    OpenTree,
    SetMountAttributes,
)
from ocirt.spec import IDMapping, Linux, Mount, Namespace, Root, Spec
from tests.plan.examples import ROOT
from tests.plan.strategies import CGROUP_MOUNTS

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
CREATE = int(Tolerance.CREATE_TARGET)
SITE = Site("c", "/bundle", "/rootfs")


def planned(*mounts: Mount, namespaces: tuple[str, ...] = ("mount",), site: Site = SITE, host: Host = ROOT) -> Plan:
    mappings = (IDMapping(0, 100_000, 65_536),) if "user" in namespaces else ()
    linux = Linux(namespaces=tuple(map(Namespace, namespaces)), uid_mappings=mappings, gid_mappings=mappings)
    return plan_create(Spec(root=Root("rootfs"), mounts=mounts, linux=linux), host, site)


def of_mounts(plan: Plan) -> list[Op]:
    return [op for op in plan.ops if op.origin.startswith("mounts[")]


def only(plan: Plan) -> Op:
    (op,) = of_mounts(plan)
    return op


def test_options_become_attributes_and_parameters() -> None:
    assert only(planned(Mount("/x", "tmpfs", "none", ("nosuid", "noexec", "size=1k", "sync", "huge")))) == (
        MountFilesystem(
            "/x",
            "tmpfs",
            "none",
            ("sync", "size=1k", "huge"),
            Attributes(set=NOSUID | NOEXEC),
            CREATE | Tolerance.INHERIT_MODE,
            origin="mounts[0]",
            origins=("mounts[0]", "mounts[0].options[3]", "mounts[0].options[2]", "mounts[0].options[4]"),
        )
    )


def test_a_tmpfs_looks_like_the_directory_below_unless_told_otherwise() -> None:
    tolerances = [
        op.tolerance
        for op in of_mounts(
            planned(Mount("/a", "tmpfs"), Mount("/b", "tmpfs", options=("mode=700",)), Mount("/c", "mqueue"))
        )
        if isinstance(op, MountFilesystem)
    ]
    assert tolerances == [CREATE | Tolerance.INHERIT_MODE, CREATE, CREATE]


@pytest.mark.parametrize("type_", ["proc", "sysfs"])
def test_proc_and_sysfs_go_to_ordinary_directories(type_: str) -> None:
    op = only(planned(Mount("/elsewhere", type_)))
    assert isinstance(op, MountFilesystem)
    assert op.tolerance == CREATE | Tolerance.ORDINARY_DIRECTORY


def test_only_reports_may_be_covered_below_proc() -> None:
    mounts = (
        Mount(f"/proc/{name}", source="/x", options=("bind",))
        for name in ("uptime", "sys", "self/attr", "../proc/stat")
    )
    tolerances = [op.tolerance for op in of_mounts(planned(*mounts)) if isinstance(op, BindMount)]
    assert tolerances == [CREATE | Tolerance.INSIDE_PROC, CREATE, CREATE, CREATE | Tolerance.INSIDE_PROC]


@pytest.mark.parametrize("destination", ["x/y", "/x/y/", "//x//y", "/x/./z/../y", "/../x/y"])
def test_destinations_start_at_the_root(destination: str) -> None:
    op = only(planned(Mount(destination, "mqueue")))
    assert isinstance(op, MountFilesystem)
    assert op.target == "/x/y"


def test_a_relative_source_starts_at_the_bundle() -> None:
    op = only(planned(Mount("/x", source="data/y", options=("bind",))))
    assert isinstance(op, BindMount)
    assert (op.source, op.fd, op.recursive) == ("/bundle/data/y", NO_FD, False)


def test_bind_attributes_are_for_the_mount_and_recursive_ones_for_its_tree() -> None:
    op = only(planned(Mount("/x", source="/y", options=("rbind", "ro", "exec", "rnodev", "rprivate", "slave"))))
    assert isinstance(op, BindMount)
    assert op.recursive
    assert op.attributes == Attributes(RDONLY, NOEXEC, NODEV, 0, (0x44000, 0x80000))


def test_sources_are_opened_beforehand_where_root_in_the_container_may_not_see_them() -> None:
    plan = planned(Mount("/x", source="/y", options=("rbind",)), namespaces=("mount", "user"))
    taken, bound = of_mounts(plan)
    assert isinstance(taken, OpenTree)
    assert isinstance(bound, BindMount)
    assert (taken.path, taken.recursive) == ("/y", True)
    assert bound.fd == taken.fd


def test_a_read_only_tmpfs_turns_so_when_all_is_in_it() -> None:
    first, _, last = of_mounts(planned(Mount("/x", "tmpfs", options=("ro",)), Mount("/x/y", "tmpfs")))
    assert isinstance(first, MountFilesystem)
    assert first.attributes == Attributes()
    assert last == SetMountAttributes("/x", Attributes(set=RDONLY), origin="mounts[0].options")


def test_a_remount_changes_what_stands() -> None:
    op = only(planned(Mount("/x", options=("remount", "ro", "nosuid"))))
    assert op == SetMountAttributes("/x", Attributes(set=RDONLY | NOSUID), origin="mounts[0]")


@pytest.mark.parametrize(
    ("mount", "origin"),
    [
        (Mount("/x", None, "/y"), "mounts[0].type"),
        (Mount("/x", "none", "/y", ("ro",)), "mounts[0].type"),
        (Mount("/x", "bind", "/y"), "mounts[0].type"),
        (Mount("/x", None, "/y", ("bind", "size=1k")), "mounts[0].options"),
        (Mount("/x", None, None, ("remount", "size=1k")), "mounts[0].options"),
        (Mount("/x", None, None, ("remount", "sync")), "mounts[0].options"),
    ],
)
def test_what_would_be_ignored_is_refused(mount: Mount, origin: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(mount)
    assert caught.value.origin == origin


MAPPING = (IDMapping(1000, 0, 1),)
IDMAPPED = Mount("/x", None, "/y", ("rbind", "ridmap"), MAPPING, MAPPING)


def test_a_tree_with_mapped_owners_is_taken_mapped_and_mounted() -> None:
    plan = planned(IDMAPPED, IDMAPPED.evolve(destination="/z", options=("bind",)))
    taken, mapped, bound, *second = of_mounts(plan)
    assert taken == OpenTree(Fd(64), "/y", recursive=True, origin="mounts[0].source")
    assert mapped == MapOwners(Fd(64), Fd(0), recursive=True, origin="mounts[0].uidMappings")
    assert isinstance(bound, BindMount)
    assert bound.fd == 64
    assert second[1] == MapOwners(Fd(65), Fd(0), recursive=False, origin="mounts[1].uidMappings")
    assert plan.descriptors[0] == MappedUserNamespace(MAPPING, MAPPING, "mounts[0].uidMappings")


def test_owners_are_mapped_by_who_still_has_the_right_to() -> None:
    """Root of the container's user namespace has no power over the host's filesystems."""
    plan = planned(IDMAPPED, namespaces=("mount", "user"))
    kinds = [type(op) for op in plan.ops]
    assert kinds.index(MapOwners) < kinds.index(Clone)


@pytest.mark.parametrize(
    ("mount", "host", "origin", "words"),
    [
        (IDMAPPED, Host(in_user_namespace=True), "mounts[0].uidMappings", "not supported for rootless containers"),
        (IDMAPPED.evolve(uid_mappings=(), gid_mappings=()), ROOT, "mounts[0].options[1]", "no mapping to apply"),
        (Mount("/x", "cgroup", None, (), MAPPING, MAPPING), ROOT, "mounts[0].uidMappings", "only supported for bind"),
        (Mount("/x", None, None, ("remount",), MAPPING, MAPPING), ROOT, "mounts[0].options", "not in a remount"),
        (Mount("/x", None, "/y", ("bind", "sync")), ROOT, "mounts[0].options[1]", "filesystem-specific"),
        (Mount("/x", "tmpfs", None, ("mand",)), Host(kernel=(5, 15)), "mounts[0].options[0]", "mandatory locks"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_words(mount: Mount, host: Host, origin: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        planned(mount, host=host)
    assert caught.value.origin == origin


def test_a_tmpfs_with_owners_mapped_belongs_to_no_user_namespace() -> None:
    mount = Mount("/x", "tmpfs", None, (), MAPPING, MAPPING)
    op = only(planned(mount))
    assert isinstance(op, MountFilesystem)
    assert op.mapped == 0
    with pytest.raises(UnsupportedError, match="only supported for bind-mounts"):
        planned(mount, namespaces=("mount", "user"))


def test_mandatory_locks_are_for_kernels_that_have_them() -> None:
    op = only(planned(Mount("/x", "tmpfs", None, ("mand",)), host=Host(kernel=(5, 14))))
    assert isinstance(op, MountFilesystem)
    assert op.parameters == ("mand",)


@pytest.mark.parametrize(
    ("options", "inherited"),
    [
        ((), Tolerance.INHERIT_MODE | Tolerance.INHERIT_OWNER),
        (("mode=700",), Tolerance.INHERIT_OWNER),
        (("gid=7",), Tolerance.INHERIT_MODE),
    ],
)
def test_a_copy_inherits_what_no_option_says(options: tuple[str, ...], inherited: int) -> None:
    op = only(planned(Mount("/x", "tmpfs", None, ("tmpcopyup", *options))))
    assert isinstance(op, MountFilesystem)
    assert op.tolerance == CREATE | Tolerance.COPY_UP | inherited


@pytest.mark.parametrize(
    ("source", "inside"),
    [("/rootfs/a/b", "/a/b"), ("/rootfs/a", "/a"), ("/rootfs/./a/c/../b", "/a/b"), ("/rootfs/ab", ""), ("/a/b", "")],
)
def test_a_source_below_an_earlier_mount_is_the_containers(source: str, inside: str) -> None:
    _, *ops = of_mounts(planned(Mount("/a", "tmpfs"), Mount("/x", None, source, ("bind",))))
    assert [op.path for op in ops if isinstance(op, OpenTree) and op.inside] == ([inside] if inside else [])


def test_a_source_below_a_throw_away_layer_is_the_hosts() -> None:
    site = Site("c", "/bundle", "/", "/run/scratch")
    ops = of_mounts(planned(Mount("/a", "tmpfs"), Mount("/x", None, "/a/b", ("bind",)), site=site))
    assert not [op for op in ops if isinstance(op, OpenTree)]


@pytest.mark.parametrize(
    ("word", "nofollow", "tolerance"),
    [
        ("src-nofollow", True, 0),
        ("dest-nofollow", False, Tolerance.KEEP_LINK),
        ("copy-symlink", True, Tolerance.COPY_LINK),
    ],
)
def test_words_about_links(word: str, nofollow: bool, tolerance: int) -> None:
    op = only(planned(Mount("/x", None, "/y", ("bind", word))))
    assert isinstance(op, BindMount)
    assert (op.nofollow, op.tolerance) == (nofollow, CREATE | tolerance)


def test_sysfs_without_a_network_namespace_of_ones_own_is_the_hosts() -> None:
    sysfs = Mount("/sys", "sysfs", "sysfs", ("nosuid", "ro"))
    taken, op = of_mounts(planned(sysfs, namespaces=("mount", "user")))
    assert isinstance(op, BindMount)
    assert isinstance(taken, OpenTree)
    assert (op.source, op.recursive, op.attributes) == ("/sys", True, Attributes(RDONLY | NOSUID, 0, RDONLY))
    assert isinstance(only(planned(sysfs, namespaces=("mount", "user", "network"))), MountFilesystem)
    with pytest.raises(UnsupportedError, match="network namespace"):
        planned(sysfs.evolve(options=("ro", "rw")), namespaces=("mount", "user"))


CGROUP = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid",))


def test_cgroups_of_version_2_are_one_mount() -> None:
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=CGROUP_MOUNTS[1])
    op = only(planned(CGROUP, site=site))
    assert isinstance(op, BindMount)
    assert (op.source, op.target) == ("/sys/fs/cgroup/ocirt/c", "/sys/fs/cgroup")


def test_cgroups_of_version_1_are_a_directory_each_with_links_for_merged_controllers() -> None:
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=CGROUP_MOUNTS[2])
    ops = of_mounts(planned(CGROUP, site=site))
    assert [op.target for op in ops if isinstance(op, BindMount)] == [
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/unified",
    ]
    assert [(op.path, op.destination) for op in ops if isinstance(op, MakeSymlink)] == [
        ("/sys/fs/cgroup/cpu", "cpu,cpuacct"),
        ("/sys/fs/cgroup/cpuacct", "cpu,cpuacct"),
    ]


def test_in_a_cgroup_namespace_cgroups_are_mounted_anew() -> None:
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=CGROUP_MOUNTS[1])
    (op,) = (op for op in of_mounts(planned(CGROUP, site=site, namespaces=("mount", "cgroup"))))
    assert isinstance(op, MountFilesystem)
    assert op.type == "cgroup2"


def test_version_2_beside_version_1_can_be_had_alone() -> None:
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=CGROUP_MOUNTS[2])
    op = only(planned(CGROUP.evolve(type="cgroup2"), site=site))
    assert isinstance(op, BindMount)
    assert (op.source, op.target) == ("/sys/fs/cgroup/unified/ocirt/c", "/sys/fs/cgroup")


def test_version_2_that_is_not_there_is_refused() -> None:
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=CGROUP_MOUNTS[2][:2])
    with pytest.raises(UnsupportedError, match="version 2") as caught:
        planned(CGROUP.evolve(type="cgroup2"), site=site)
    assert caught.value.origin == "mounts[0].type"


@pytest.mark.parametrize("entries", CGROUP_MOUNTS[1:])
@pytest.mark.parametrize("options", [(), ("rw",), ("ro",)])
def test_cgroups_that_are_not_the_containers_are_shown_read_only(entries: tuple[()], options: tuple[str, ...]) -> None:
    """CVE-2023-25809."""
    site = Site("c", "/bundle", "/rootfs", cgroup_mounts=entries, own_cgroup=False)
    ops = of_mounts(planned(CGROUP.evolve(options=options), site=site))
    assert all(op.attributes.set & RDONLY for op in ops if isinstance(op, BindMount))
    assert not any(op.attributes.clear & RDONLY for op in ops if isinstance(op, BindMount))


def test_a_list_of_layers_that_no_parameter_holds_becomes_one_each() -> None:
    """Where the kernel takes that; elsewhere it goes by mount(2)."""
    lowers = [*(f"/store/{'x' * 80}/{number}" for number in range(3)), "/with\\:colon"]
    options = (f"lowerdir={':'.join(lowers)}", "upperdir=/u", "workdir=/w")
    mount = Mount("/", "overlay", "overlay", options)
    op = only(planned(mount, host=evolve(ROOT, kernel=(6, 8))))
    assert isinstance(op, MountFilesystem)
    apart = [f"lowerdir+={lower}" for lower in (*lowers[:3], "/with:colon")]
    assert op.parameters == (*apart, "upperdir=/u", "workdir=/w")
    places = [f"mounts[0].options[{number}]" for number in (0, 0, 0, 0, 1, 2)]
    assert op.origins == ("mounts[0]", *places)
    op = only(planned(mount, host=evolve(ROOT, kernel=(6, 7))))
    assert isinstance(op, MountFilesystem)
    assert op.parameters == options
