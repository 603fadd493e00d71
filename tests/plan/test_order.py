"""The order of things: laws of ``plan_create`` and ``plan_exec`` that other runtimes keep as comments.

Each holds for every configuration that can be honoured, on every host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
from attrs import evolve
from hypothesis import given, settings

from ocirt.errors import UnsupportedError
from ocirt.plan import Plan, plan_create, plan_exec, plan_start
from ocirt.plan import label_ops as lo
from ocirt.plan import ops as o
from ocirt.plan import process_ops as po
from ocirt.plan import scheduling_ops as so
from ocirt.plan import tree_ops as t
from ocirt.plan.context import Context
from ocirt.plan.ops import Op, Purpose
from ocirt.spec import Process
from tests.plan.paths import ABSENT, is_known, look_up
from tests.plan.strategies import Case, cases, executions, honoured

T = TypeVar("T", bound=Op)

pytestmark = pytest.mark.slow  # all of them together

# Drawing a configuration takes longer than planning it: so many examples a law, and many laws.
law = settings(max_examples=30)

MOUNTS = (t.AttachRootfs, t.OverlayRootfs, t.SelectRootfs, t.MountFilesystem, t.BindMount, t.BindDevice)
"""What adds a mount that config.json names."""

TAKEN = (t.OpenTree, t.MapOwners)
"""What is done to trees before they are mounted."""

PLACED = (*MOUNTS, t.MaskPath, t.ReadonlyPath, t.MakeDevice, t.MakeSymlink, t.SetMountAttributes)

CHANGES_TREE = (*PLACED, *TAKEN)

NEEDS_ROOT = (
    *CHANGES_TREE,
    *(t.PivotRoot, t.ChangeRoot, t.CoverRoot, t.SetPropagation, t.OpenTerminal, t.MakeDirectory),
    *(o.JoinNamespaces, o.JoinProcess, o.Unshare, o.Clone, o.BecomeRoot),
    *(o.WriteProc, o.SetHostname, o.SetDomainname, o.LoopbackUp, o.SetRlimits, o.DropBounding, o.PrepareStdio),
    *(o.OfferNetlink, po.JoinKeyring, lo.SetFileLabel, so.SetScheduler, so.SetIoPriority),
)
"""What an ordinary user in the container could not do, or only wrongly."""

CGROUP = o.CLONE_NEW["cgroup"]

SWITCHES = (t.PivotRoot, t.ChangeRoot, t.CoverRoot)


def places(plan: Plan, *kinds: type[Op]) -> list[int]:
    """Where in the plan there are operations of these kinds."""
    return [index for index, op in enumerate(plan.ops) if isinstance(op, kinds)]


def syncs(plan: Plan, purpose: Purpose) -> list[int]:
    return [index for index, op in enumerate(plan.ops) if op == o.Sync(purpose, origin=op.origin)]


def of_kind(plan: Plan, kind: type[T]) -> list[T]:
    return [op for op in plan.ops if isinstance(op, kind)]


def precede(first: Sequence[int], second: Sequence[int]) -> bool:
    return not first or not second or max(first) < min(second)


@law
@given(honoured())
def test_what_is_supported_is_planned(case: Case) -> None:
    assert plan_create(*case).ops


@law
@given(cases())
def test_what_is_not_supported_is_refused_by_its_path(case: Case) -> None:
    assert is_path_of(case, refused_at(case))


def refused_at(case: Case) -> str:
    """``-`` if it is planned."""
    try:
        plan_create(*case)
    except UnsupportedError as error:
        return error.origin
    return "-"


@law
@given(honoured())
def test_the_same_input_gives_the_same_plan(case: Case) -> None:
    assert plan_create(*case) == plan_create(*case)


@law
@given(honoured())
def test_no_mount_follows_the_switch_of_roots(case: Case) -> None:
    plan = plan_create(*case)
    assert precede(places(plan, *CHANGES_TREE), places(plan, *SWITCHES))


@law
@given(honoured())
def test_roots_are_switched_once(case: Case) -> None:
    assert len(places(plan_create(*case), *SWITCHES)) == 1


@law
@given(honoured())
def test_a_container_with_mounts_of_its_own_pivots_if_it_may(case: Case) -> None:
    linux = case.document.linux
    assert linux is not None
    own = any(namespace.type == "mount" and not namespace.path for namespace in linux.namespaces)
    plan = plan_create(*case)
    assert bool(places(plan, t.PivotRoot)) is (own and case.site.full_views is None)
    assert bool(places(plan, t.CoverRoot)) is (own and case.site.full_views is not None)


@law
@given(honoured())
def test_host_mounts_are_cut_off_before_anything_is_mounted(case: Case) -> None:
    plan = plan_create(*case)
    if mounts := places(plan, *MOUNTS):
        assert min(places(plan, t.SetPropagation)) < min(mounts)


@law
@given(honoured())
def test_a_tree_that_the_host_shares_is_not_let_go_of_as_such(case: Case) -> None:
    plan = plan_create(*case)
    shares = any(op.flag & t.PROPAGATION["shared"] for op in of_kind(plan, t.SetPropagation) if op.flag & t.RECURSIVE)
    for op in of_kind(plan, t.PivotRoot):
        assert op.shared or not shares


@law
@given(honoured())
def test_masks_and_read_only_paths_follow_every_mount(case: Case) -> None:
    plan = plan_create(*case)
    assert precede(places(plan, *MOUNTS, t.MakeDevice, t.MakeSymlink), places(plan, t.MaskPath, t.ReadonlyPath))


@law
@given(honoured())
def test_the_rootfs_turns_read_only_when_nothing_is_left_to_be_made_in_it(case: Case) -> None:
    plan = plan_create(*case)
    turns = [index for index, op in enumerate(plan.ops) if op.origin == "root.readonly"]
    assert precede(places(plan, *MOUNTS, t.MakeDevice, t.MakeSymlink, t.MakeDirectory), turns)


@law
@given(honoured())
def test_mounts_keep_the_order_of_the_configuration(case: Case) -> None:
    origins = [op.origin for op in plan_create(*case).ops if isinstance(op, (t.MountFilesystem, t.BindMount))]
    numbers = [int(origin.split("[")[1].split("]")[0]) for origin in origins if origin.startswith("mounts[")]
    assert numbers == sorted(numbers)


@law
@given(honoured())
def test_nothing_needs_root_once_the_user_is_set(case: Case) -> None:
    plan = plan_create(*case)
    assert precede(places(plan, *NEEDS_ROOT), places(plan, o.SetUser))


@law
@given(honoured())
def test_ids_are_mapped_before_anybody_has_one(case: Case) -> None:
    plan = plan_create(*case)
    mapped = syncs(plan, Purpose.ID_MAPS)
    assert precede(mapped, places(plan, o.BecomeRoot, o.SetUser, o.PrepareStdio, *PLACED))
    assert len(mapped) == sum(op.flags >> 28 & 1 for op in of_kind(plan, o.Clone))


@law
@given(honoured())
def test_host_trees_are_taken_before_the_user_namespace_is_entered(case: Case) -> None:
    plan = plan_create(*case)
    entered = [*places(plan, o.JoinNamespaces), *syncs(plan, Purpose.ID_MAPS)]
    inside = {op.fd for op in of_kind(plan, t.OpenTree) if op.inside}
    taken = [place for place in places(plan, *TAKEN) if not inside & set(slots(plan.ops[place]))]
    if not Context.of(*case).sees_host:
        assert precede(taken, entered)
    assert precede(entered, [place for place in places(plan, *TAKEN) if place not in taken])


@law
@given(honoured())
def test_ids_are_mapped_after_a_tree_is_taken_and_before_it_is_mounted(case: Case) -> None:
    """The kernel maps only what nobody has seen yet."""
    plan = plan_create(*case)
    taken = [(place, op.fd) for place, op in enumerate(plan.ops) if isinstance(op, t.OpenTree)]
    mounted = [(place, op.fd) for place, op in enumerate(plan.ops) if isinstance(op, t.BindMount)]
    for place, op in enumerate(plan.ops):
        if isinstance(op, t.MapOwners):
            assert [before for before, fd in taken if fd == op.tree and before < place]
            assert [after for after, fd in mounted if fd == op.tree and after > place]


@law
@given(honoured())
def test_every_mount_that_asks_for_mapped_ids_gets_them(case: Case) -> None:
    plan = plan_create(*case)
    asked = {index for index, mount in enumerate(case.document.mounts) if mount.uid_mappings}
    mapped = {op.origin for op in of_kind(plan, t.MapOwners)}
    mapped |= {f"{op.origin}.uidMappings" for op in of_kind(plan, t.MountFilesystem) if op.mapped != o.NO_FD}
    assert {f"mounts[{index}].uidMappings" for index in asked} <= mapped


@law
@given(honoured())
def test_a_slot_is_filled_before_it_is_used(case: Case) -> None:
    plan = plan_create(*case)
    filled = set(range(len(plan.descriptors)))
    for op in plan.ops:
        if isinstance(op, t.OpenTree):
            filled.add(op.fd)
        assert {fd for fd in slots(op) if fd != o.NO_FD} <= filled


def slots(op: Op) -> tuple[int, ...]:
    match op:
        case o.JoinNamespaces(pairs):
            return tuple(fd for _, fd in pairs)
        case o.JoinProcess(fd) | o.AwaitStart(fd) | t.ChangeRoot(fd) | lo.SetLabel(fd):
            return (fd,)
        case t.BindMount() | t.AttachRootfs() | t.BindDevice():
            return (op.fd,)
        case t.MapOwners(tree, namespace):
            return (tree, namespace)
        case t.MountFilesystem():
            return (op.mapped,)
        case t.OpenTree(fd):
            return (fd,)
        case o.KeepDescriptors(pairs):
            return tuple(fd for fd, _ in pairs)
    return ()


OPENS = (*TAKEN, *MOUNTS, t.PivotRoot, t.MaskPath, t.OpenTerminal, o.OfferNetlink, o.RunHook, o.AwaitStart)
"""What opens a file, if only for a while: it gets the lowest number that is free."""


@law
@given(honoured())
def test_descriptors_get_their_numbers_while_these_are_free(case: Case) -> None:
    assert_kept_early(plan_create(*case), case)


@law
@given(executions())
def test_exec_gives_descriptors_their_numbers_while_these_are_free(execution: tuple[Process, Case]) -> None:
    program, case = execution
    assert_kept_early(plan_exec(program, *case), case)


def assert_kept_early(plan: Plan, case: Case) -> None:
    """Nor is there a limit of open files yet; and a Clone that the start itself can do is still the first of all."""
    kept = of_kind(plan, o.KeepDescriptors)
    assert [[number for _, number in op.pairs] for op in kept] == ([list(case.site.kept)] if case.site.kept else [])
    assert precede(
        places(plan, o.KeepDescriptors), [*places(plan, *OPENS, o.SetRlimits), *syncs(plan, Purpose.RLIMITS)]
    )
    without = Case(case.document, case.host, evolve(case.site, kept=()))
    first = plan_create(*without).ops[0]
    assert isinstance(first, o.Clone) == isinstance(plan_create(*case).ops[0], o.Clone)


@law
@given(executions())
def test_only_the_containers_own_program_is_told_of_sockets_that_it_is_started_for(
    execution: tuple[Process, Case],
) -> None:
    program, case = execution
    for op in of_kind(plan_create(*case), o.Exec):
        told = (f"LISTEN_FDS={case.site.activated}", "LISTEN_PID=1")
        assert (op.env[-2:] == told or op.env[-3:-1] == told) is (case.site.activated > 0)
        assert ("NOTIFY_SOCKET=/run/notify/notify.sock" in op.env) is (case.site.notify is not None)
    for hook in of_kind(plan_create(*case), o.RunHook):
        assert "LISTEN_PID=1" not in hook.env
    (executed,) = of_kind(plan_exec(program, *case), o.Exec)
    assert "LISTEN_PID=1" not in executed.env


def has_filter(case: Case) -> bool:
    linux = case.document.linux
    return linux is not None and linux.seccomp is not None


@law
@given(honoured())
def test_a_filter_is_installed_once_if_and_only_if_there_is_a_profile_and_a_process(case: Case) -> None:
    expected = int(has_filter(case) and case.document.process is not None)
    assert len(places(plan_create(*case), o.InstallSeccomp)) == expected


@law
@given(honoured())
def test_a_filter_comes_while_privileges_last_or_else_as_the_last_thing_before_exec(case: Case) -> None:
    process = case.document.process
    if process is not None and has_filter(case):
        assert_filter_stands_right(plan_create(*case), process)


def assert_filter_stands_right(plan: Plan, process: Process) -> None:
    (place,) = places(plan, o.InstallSeccomp)
    if process.no_new_privileges:
        assert isinstance(plan.ops[place + 1], o.Exec)
        assert precede(places(plan, o.SetNoNewPrivileges), [place])
    else:
        assert precede([place], places(plan, o.SetUser, o.SetCapabilities))
        assert precede(places(plan, *NEEDS_ROOT), [place])


@law
@given(honoured())
def test_privileges_go_in_the_one_order_that_the_kernel_allows(case: Case) -> None:
    plan = plan_create(*case)
    if case.document.process is None:
        return
    steps = places(plan, o.DropBounding, o.SetUser, o.SetCapabilities, o.FindProgram)
    assert [type(plan.ops[step]) for step in steps] == [o.DropBounding, o.SetUser, o.SetCapabilities, o.FindProgram]
    assert precede(places(plan, o.SetNoNewPrivileges), places(plan, o.SetUser))


@law
@given(honoured())
def test_the_working_directory_is_tried_as_root_and_then_as_the_user(case: Case) -> None:
    plan = plan_create(*case)
    if case.document.process is None:
        return
    first, second = places(plan, o.ChangeDirectory)
    (user,) = places(plan, o.SetUser)
    assert first < user < second
    assert [op.again for op in of_kind(plan, o.ChangeDirectory)] == [False, True]


@law
@given(honoured())
def test_no_new_privileges_is_set_if_and_only_if_asked_for(case: Case) -> None:
    process = case.document.process
    asked = process is not None and process.no_new_privileges
    assert bool(places(plan_create(*case), o.SetNoNewPrivileges)) is asked


@law
@given(honoured())
def test_cgroups_are_joined_before_their_namespace_and_before_any_hook(case: Case) -> None:
    plan = plan_create(*case)
    entered = [place for place, op in enumerate(plan.ops) if isinstance(op, o.Unshare) and op.flags == CGROUP]
    placed = places(plan, so.SetScheduler, so.SetMemoryPolicy)
    follow = [*entered, *syncs(plan, Purpose.HOOKS), *places(plan, o.RunHook), *placed]
    joined = syncs(plan, Purpose.JOINED)
    assert precede(joined, follow)
    if case.site.joins_cgroups and [place for place in follow if place < syncs(plan, Purpose.CREATED)[0]]:
        assert len(joined) == 1


@law
@given(honoured())
def test_cgroups_are_made_before_they_are_shown_and_show_what_their_namespace_lets(case: Case) -> None:
    plan = plan_create(*case)
    made = [*syncs(plan, Purpose.CGROUPS), *syncs(plan, Purpose.JOINED)]
    shown = [place for place, op in enumerate(plan.ops) if shows_cgroups(op)]
    entered = [place for place, op in enumerate(plan.ops) if isinstance(op, o.Unshare) and op.flags == CGROUP]
    assert precede(entered, shown)
    if case.site.joins_cgroups and shown:
        assert made
        assert min(made) < min(shown)


@law
@given(honoured())
def test_network_devices_come_between_their_namespace_and_whoever_may_use_them(case: Case) -> None:
    """A sysctl may name one, and a hook may configure it."""
    plan = plan_create(*case)
    offered = places(plan, o.OfferNetlink)
    linux = case.document.linux
    assert len(offered) == bool(linux and linux.net_devices)
    joined = linux is not None and any(entry.type == "network" and entry.path for entry in linux.namespaces)
    entered = [*places(plan, o.JoinNamespaces), *syncs(plan, Purpose.RECORD)]
    if joined:
        assert precede(offered, [place for place in places(plan, o.Clone) if place])
    else:
        entered += [place for place, op in enumerate(plan.ops) if isinstance(op, (o.Clone, o.BecomeRoot))]
        entered += [place for place in places(plan, o.Unshare) if not is_cgroup_namespace(plan.ops[place])]
    assert precede(entered, offered)
    sysctls = [place for place, op in enumerate(plan.ops) if op.origin.startswith("linux.sysctl")]
    assert precede(offered, [*sysctls, *syncs(plan, Purpose.HOOKS), *places(plan, o.RunHook)])


def is_cgroup_namespace(op: Op) -> bool:
    return isinstance(op, o.Unshare) and op.flags == CGROUP


def shows_cgroups(op: Op) -> bool:
    match op:
        case t.MountFilesystem():
            return op.type in ("cgroup", "cgroup2")
        case t.BindMount():
            return op.source.startswith("/sys/fs/cgroup/")
    return False


@law
@given(honoured())
def test_the_process_that_the_host_moves_to_the_cgroups_has_no_child_yet(case: Case) -> None:
    """Or it would be the wrong one: the host knows only the process that it started."""
    plan = plan_create(*case)
    first, *others = places(plan, o.Clone)
    born = [first, *others] if first else others  # the first of all is the start itself
    if case.site.joins_cgroups and born:
        assert precede(syncs(plan, Purpose.JOINED), born)
        assert syncs(plan, Purpose.JOINED)


@law
@given(honoured())
def test_hooks_run_at_their_points(case: Case) -> None:
    plan = plan_create(*case)
    hooks = case.document.hooks
    expected = []
    if hooks is not None and (hooks.prestart or hooks.create_runtime or hooks.create_container):
        expected.append("host")
    if hooks is not None:
        expected += [f"hooks.createContainer[{index}]" for index in range(len(hooks.create_container))]
    expected += ["switch", "created", "start"]
    if hooks is not None:
        expected += [f"hooks.startContainer[{index}]" for index in range(len(hooks.start_container))]
    assert [name for name in map(milestone, plan.ops) if name] == expected


def milestone(op: Op) -> str:
    match op:
        case o.Sync(Purpose.HOOKS):
            return "host"
        case o.Sync(Purpose.CREATED):
            return "created"
        case t.PivotRoot() | t.ChangeRoot() | t.CoverRoot():
            return "switch"
        case o.AwaitStart():
            return "start"
        case o.RunHook():
            return op.origin
    return ""


@law
@given(honoured())
def test_hooks_of_the_host_see_every_mount_and_device(case: Case) -> None:
    plan = plan_create(*case)
    before = places(plan, *MOUNTS, t.MakeDevice, t.MakeSymlink)
    hooks = [place for place in places(plan, o.RunHook) if not inside(plan.ops[place])]
    assert precede(before, [*syncs(plan, Purpose.HOOKS), *hooks])


def inside(op: Op) -> bool:
    return isinstance(op, o.RunHook) and op.inside


@law
@given(honoured())
def test_everything_but_start_container_is_done_when_the_container_is_created(case: Case) -> None:
    plan = plan_create(*case)
    (created,) = syncs(plan, Purpose.CREATED)
    hooks = case.document.hooks
    after: list[type[Op]] = [o.AwaitStart, *([o.RunHook] * len(hooks.start_container) if hooks else [])]
    if case.document.process is not None:
        if has_filter(case) and case.document.process.no_new_privileges:
            after.append(o.InstallSeccomp)
        after.append(o.Exec)
    assert [type(op) for op in plan.ops[created + 1 :]] == after


@law
@given(honoured())
def test_exec_is_last_and_once_if_there_is_a_process(case: Case) -> None:
    plan = plan_create(*case)
    assert places(plan, o.Exec) == ([len(plan.ops) - 1] if case.document.process is not None else [])


@law
@given(honoured())
def test_what_start_does_is_the_end_of_what_create_planned(case: Case) -> None:
    after = plan_start(*case).ops
    assert plan_create(*case).ops[-len(after) :] == after if after else True


@law
@given(honoured())
def test_the_program_is_looked_up_as_the_user_before_anybody_is_told_of_success(case: Case) -> None:
    plan = plan_create(*case)
    assert precede(places(plan, o.SetCapabilities), places(plan, o.FindProgram))
    assert precede(places(plan, o.FindProgram), syncs(plan, Purpose.CREATED))


@law
@given(honoured())
def test_the_keyring_is_made_inside_all_namespaces_and_before_any_hook(case: Case) -> None:
    """Keyrings are found by name in a user namespace (keyrings(7))."""
    plan = plan_create(*case)
    rings = places(plan, po.JoinKeyring)
    assert len(rings) == case.site.keyring
    assert precede(places(plan, o.JoinNamespaces, o.Clone, o.BecomeRoot), rings)
    assert precede(rings, [*syncs(plan, Purpose.HOOKS), *places(plan, o.RunHook)])


@law
@given(honoured())
def test_what_the_program_will_be_labelled_with_is_said_after_every_hook_of_create(case: Case) -> None:
    """Or they would be executed with it."""
    plan = plan_create(*case)
    labels = [place for place in places(plan, lo.SetLabel) if wanted_at_exec(plan.ops[place])]
    (created,) = syncs(plan, Purpose.CREATED)
    assert precede([place for place in places(plan, o.RunHook) if place < created], labels)
    assert precede(labels, [created])


def wanted_at_exec(op: Op) -> bool:
    return isinstance(op, lo.SetLabel) and op.files[-1] == "thread-self/attr/exec"


@law
@given(honoured())
def test_how_it_is_scheduled_is_said_by_the_process_that_executes_it(case: Case) -> None:
    plan = plan_create(*case)
    settled = places(plan, po.SetAffinity, so.SetScheduler, so.SetIoPriority, so.SetPersonality, so.SetMemoryPolicy)
    assert precede([*places(plan, o.Clone), *places(plan, *SWITCHES)], settled)
    assert len(places(plan, po.SetAffinity)) == (case.document.process is not None)


@law
@given(honoured())
def test_every_origin_is_a_member_of_the_configuration(case: Case) -> None:
    for op in plan_create(*case).ops:
        if op.origin == "NOTIFY_SOCKET":  # of the caller's environment
            assert case.site.notify is not None
            continue
        assert all(is_path_of(case, origin) for origin in (op.origin, *op.origins)), op


def is_path_of(case: Case, origin: str) -> bool:
    """It is there; or its absence is what asked, by the default that the specification or ocirt gives it."""
    return origin == "-" or look_up(case.document.to_json(), origin) is not ABSENT or is_known(origin)


@law
@given(executions())
def test_exec_enters_before_it_becomes_the_user_and_ends_in_the_program(execution: tuple[Process, Case]) -> None:
    program, case = execution
    plan = plan_exec(program, *case)
    assert precede(places(plan, *NEEDS_ROOT), places(plan, o.SetUser))
    assert precede(syncs(plan, Purpose.JOINED), places(plan, o.JoinProcess, po.SetAffinity, so.SetScheduler))
    assert precede(places(plan, o.JoinProcess, o.Clone, o.BecomeRoot), places(plan, po.JoinKeyring, po.SetAffinity))
    assert bool(syncs(plan, Purpose.JOINED)) is case.site.joins_cgroups
    assert precede(places(plan, o.JoinProcess), places(plan, o.Clone))
    assert places(plan, o.Exec) == [len(plan.ops) - 1]


@law
@given(executions())
def test_exec_is_under_the_filter_of_the_container(execution: tuple[Process, Case]) -> None:
    program, case = execution
    plan = plan_exec(program, *case)
    if has_filter(case):
        assert_filter_stands_right(plan, program)
    else:
        assert not places(plan, o.InstallSeccomp)


@law
@given(executions())
def test_exec_makes_nothing_new_in_the_container(execution: tuple[Process, Case]) -> None:
    program, case = execution
    plan = plan_exec(program, *case)
    assert not places(plan, *CHANGES_TREE, t.PivotRoot, o.Unshare, o.RunHook, o.AwaitStart)
    assert [op.flags for op in of_kind(plan, o.Clone)] == [0]


@law
@given(executions())
def test_exec_joins_all_namespaces_that_the_container_has(execution: tuple[Process, Case]) -> None:
    program, case = execution
    linux = case.document.linux
    assert linux is not None
    wanted = sum(o.CLONE_NEW[namespace.type] for namespace in linux.namespaces)
    assert sum(op.flags for op in of_kind(plan_exec(program, *case), o.JoinProcess)) == wanted
