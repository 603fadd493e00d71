"""Keyrings and labels: the exact bytes and where they go, and an error where they would mean nothing."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.host import Host
from ocirt.plan import Plan, Site, plan_create, plan_exec
from ocirt.plan.context import ProcDirectory
from ocirt.plan.label_ops import SetFileLabel, SetLabel
from ocirt.plan.process_ops import JoinKeyring
from ocirt.plan.tree_ops import MaskPath, MountFilesystem
from ocirt.spec import Linux, Mount, Namespace, Process, Root, Spec

SITE = Site("c", "/bundle", "/rootfs")
HOST = Host(apparmor=True, selinux=True)
PROGRAM = Process(cwd="/", args=("x",))
LABEL = "system_u:system_r:container_t:s0:c1,c2"
FILE_LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


def document(program: Process = PROGRAM, mounts: tuple[Mount, ...] = (), **members: object) -> Spec:
    linux = Linux(namespaces=(Namespace("mount"),)).evolve(**members)
    return Spec(root=Root("rootfs"), process=program, linux=linux, mounts=mounts)


def both(program: Process, host: Host = HOST) -> list[Plan]:
    """For create, and for exec in a container without labels."""
    return [plan_create(document(program), host, SITE), plan_exec(program, document(), host, SITE)]


def labels(plan: Plan) -> list[tuple[str, tuple[str, ...]]]:
    return [(op.value, op.files) for op in plan.ops if isinstance(op, SetLabel)]


@pytest.mark.covers("process.apparmorProfile")
def test_an_apparmor_profile_is_for_the_program_alone() -> None:
    for plan in both(PROGRAM.evolve(apparmor_profile="docker-default")):
        files = ("thread-self/attr/apparmor/exec", "thread-self/attr/exec")
        assert labels(plan) == [("exec docker-default", files)]


@pytest.mark.covers("process.selinuxLabel")
def test_an_selinux_label_is_for_the_program_and_for_its_keyring() -> None:
    for plan in both(PROGRAM.evolve(selinux_label=LABEL)):
        assert labels(plan) == [
            (LABEL, ("thread-self/attr/keycreate",)),
            ("", ("thread-self/attr/keycreate",)),
            (LABEL, ("thread-self/attr/exec",)),
        ]
        between = [type(op) for op in plan.ops if isinstance(op, SetLabel | JoinKeyring)]
        assert between == [SetLabel, JoinKeyring, SetLabel, SetLabel]


def test_they_are_written_by_way_of_the_hosts_proc() -> None:
    """CVE-2025-52881: what the container has at that path is not asked."""
    for plan in both(PROGRAM.evolve(selinux_label=LABEL, apparmor_profile="p")):
        slots = {op.proc for op in plan.ops if isinstance(op, SetLabel)}
        assert [plan.descriptors[slot] for slot in slots] == [ProcDirectory()]
        assert plan.descriptors.count(ProcDirectory()) == 1


def test_nobody_takes_proc_along_without_need() -> None:
    for plan in both(PROGRAM):
        assert ProcDirectory() not in plan.descriptors


@pytest.mark.covers("process.apparmorProfile", "process.selinuxLabel")
@pytest.mark.parametrize(
    ("program", "origin", "words"),
    [
        (
            PROGRAM.evolve(apparmor_profile="docker-default"),
            "process.apparmorProfile",
            "apparmor profile docker-default specified but AppArmor not enabled",
        ),
        (
            PROGRAM.evolve(selinux_label=LABEL),
            "process.selinuxLabel",
            "selinux label is specified in config, but selinux is disabled or not supported",
        ),
    ],
)
def test_a_label_without_its_module_is_refused(program: Process, origin: str, words: str) -> None:
    with pytest.raises(UnsupportedError) as at_create:
        plan_create(document(program), Host(), SITE)
    with pytest.raises(UnsupportedError) as at_exec:
        plan_exec(program, document(), Host(), SITE)
    for error in (at_create.value, at_exec.value):
        assert (error.origin, error.needs) == (origin, words)


@pytest.mark.covers("linux.mountLabel")
def test_a_mount_label_without_selinux_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="selinux label is specified in config") as caught:
        plan_create(document(mount_label=FILE_LABEL), Host(), SITE)
    assert caught.value.origin == "linux.mountLabel"


def test_files_below_a_throw_away_layer_cannot_be_labelled_anew() -> None:
    site = Site("c", "/bundle", "/rootfs", "/scratch")
    with pytest.raises(UnsupportedError) as caught:
        plan_create(document(mount_label=FILE_LABEL), HOST, site)
    assert caught.value.origin == "linux.mountLabel"


@pytest.mark.parametrize("profile", ["unconfined", ""])
def test_no_confinement_needs_no_apparmor(profile: str) -> None:
    for plan in both(PROGRAM.evolve(apparmor_profile=profile), Host()):
        assert labels(plan) == []


def test_unconfined_is_said_where_there_is_apparmor() -> None:
    """The caller may be confined itself."""
    for plan in both(PROGRAM.evolve(apparmor_profile="unconfined")):
        assert [value for value, _ in labels(plan)] == ["exec unconfined"]


def mounted(*mounts: Mount, masked: tuple[str, ...] = ()) -> Plan:
    return plan_create(document(mounts=mounts, mount_label=FILE_LABEL, masked_paths=masked), HOST, SITE)


@pytest.mark.covers("linux.mountLabel")
@pytest.mark.parametrize("type_", ["tmpfs", "devpts", "overlay", "ext4"])
def test_a_new_filesystem_is_labelled_whole(type_: str) -> None:
    (op,) = [op for op in mounted(Mount("/a", type_, None, ("mode=755",))).ops if isinstance(op, MountFilesystem)]
    assert op.parameters == ("mode=755", f"context={FILE_LABEL}")
    assert op.origins == ("mounts[0]", "mounts[0].options[0]", "linux.mountLabel")


@pytest.mark.parametrize("type_", ["proc", "sysfs", "mqueue"])
def test_one_whose_files_the_policy_labels_is_not(type_: str) -> None:
    plan = mounted(Mount("/proc" if type_ == "proc" else "/a", type_))
    (op,) = [op for op in plan.ops if isinstance(op, MountFilesystem)]
    assert op.parameters == ()
    expected = [SetFileLabel("/a", FILE_LABEL, origin="linux.mountLabel")] if type_ == "mqueue" else []
    assert [op for op in plan.ops if isinstance(op, SetFileLabel)] == expected


def test_a_bind_mount_keeps_its_labels() -> None:
    plan = mounted(Mount("/a", None, "/b", ("bind",)))
    assert "context" not in str(plan)


def test_what_masks_a_directory_is_labelled() -> None:
    (op,) = [op for op in mounted(masked=("/x",)).ops if isinstance(op, MaskPath)]
    assert op.operands() == ((), ("/x", FILE_LABEL))


def test_a_keyring_is_made_by_create_and_joined_by_exec() -> None:
    ring = [[op for op in plan.ops if isinstance(op, JoinKeyring)] for plan in both(PROGRAM)]
    assert ring == [[JoinKeyring("_ses.c", 0x80000)], [JoinKeyring("_ses.c", 0)]]


def test_without_a_keyring_no_keys_are_touched() -> None:
    site = Site("c", "/bundle", "/rootfs", keyring=False)
    program = PROGRAM.evolve(selinux_label=LABEL)
    for plan in (plan_create(document(program), HOST, site), plan_exec(program, document(), HOST, site)):
        assert not [op for op in plan.ops if isinstance(op, JoinKeyring)]
        assert labels(plan) == [(LABEL, ("thread-self/attr/exec",))]
