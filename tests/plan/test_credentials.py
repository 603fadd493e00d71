"""Who the process is and what it may do."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.host import Host
from ocirt.plan import Plan, Site, ops, plan_create
from ocirt.spec import Capabilities, IDMapping, Linux, Namespace, Process, Rlimit, Root, Spec, User
from tests.plan.examples import ALONE, ROOT, WITH_SUBORDINATE_IDS

SITE = Site("c", "/bundle", "/rootfs")
MAPPED = (IDMapping(0, 100_000, 65_536),)


def planned(process: Process, host: Host = ROOT, mappings: tuple[IDMapping, ...] = ()) -> Plan:
    namespaces = (Namespace("mount"), *((Namespace("user"),) if mappings else ()))
    linux = Linux(namespaces=namespaces, uid_mappings=mappings, gid_mappings=mappings)
    return plan_create(Spec(root=Root("rootfs"), process=process, linux=linux), host, SITE)


def find(plan: Plan, kind: type[ops.Op]) -> ops.Op:
    (op,) = (op for op in plan.ops if isinstance(op, kind))
    return op


def as_user(uid: int, gid: int, *groups: int) -> Process:
    return Process(cwd="/", args=("x",), user=User(uid, gid, additional_gids=groups))


def test_no_capabilities_are_given_unless_asked_for() -> None:
    plan = planned(Process(cwd="/", args=("x",)))
    assert find(plan, ops.DropBounding) == ops.DropBounding(0, origin="process.capabilities.bounding")
    assert find(plan, ops.SetCapabilities) == ops.SetCapabilities(0, 0, 0, 0, origin="process.capabilities")


def test_each_set_is_the_one_that_was_asked_for() -> None:
    sets = Capabilities(("CAP_CHOWN",), ("CAP_DAC_OVERRIDE",), ("CAP_FOWNER",), ("CAP_KILL",), ("CAP_SYS_ADMIN",))
    plan = planned(Process(cwd="/", args=("x",), capabilities=sets))
    bounding, set_ = find(plan, ops.DropBounding), find(plan, ops.SetCapabilities)
    assert isinstance(bounding, ops.DropBounding)
    assert isinstance(set_, ops.SetCapabilities)
    assert bounding.keep == 1 << 0
    assert (set_.effective, set_.inheritable, set_.permitted, set_.ambient) == (1 << 1, 1 << 3, 1 << 5, 1 << 21)


def test_capabilities_that_the_kernel_or_the_caller_does_not_have_are_left_out() -> None:
    names = ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")
    process = Process(cwd="/", args=("x",), capabilities=Capabilities(names, names, names, names, names))
    host = Host(capabilities=1 << 0 | 1 << 21 | 1 << 40, last_capability=39)
    assert find(planned(process, host), ops.DropBounding).operands() == ((1 << 0 | 1 << 21,), ())


def test_in_a_user_namespace_all_capabilities_are_there_to_be_given() -> None:
    process = Process(cwd="/", args=("x",), capabilities=Capabilities(bounding=("CAP_CHOWN", "CAP_NET_ADMIN")))
    plan = planned(process, Host(capabilities=1 << 21), MAPPED)
    assert find(plan, ops.DropBounding).operands() == ((1 << 0 | 1 << 12,), ())


def test_the_user_has_its_groups_and_no_others() -> None:
    assert find(planned(as_user(1000, 100, 5, 44)), ops.SetUser).operands() == ((1000, 100, True, 5, 44), ())


@pytest.mark.parametrize(
    ("process", "origin"),
    [
        (as_user(65_536, 0), "process.user.uid"),
        (as_user(0, 65_536), "process.user.gid"),
        (as_user(0, 0, 5, 65_536), "process.user.additionalGids[1]"),
    ],
)
def test_ids_that_nothing_maps_are_refused(process: Process, origin: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(process, ROOT, MAPPED)
    assert caught.value.origin == origin


def test_a_user_who_maps_nothing_but_itself_has_no_other_groups() -> None:
    alone = (IDMapping(0, ALONE.euid, 1),)
    assert find(planned(as_user(0, 0), ALONE, alone), ops.SetUser).operands() == ((0, 0, False), ())
    with pytest.raises(UnsupportedError, match="additional groups") as caught:
        planned(as_user(0, 0, 0), ALONE, alone)
    assert caught.value.origin == "process.user.additionalGids"


def test_a_user_with_subordinate_ids_may_have_groups() -> None:
    mappings = (IDMapping(0, 1000, 1), IDMapping(1, 100_000, 100))
    plan = planned(as_user(7, 7, 9), WITH_SUBORDINATE_IDS, mappings)
    assert find(plan, ops.SetUser).operands() == ((7, 7, True, 9), ())


LIMITS = (Rlimit("RLIMIT_NOFILE", hard=20, soft=10), Rlimit("RLIMIT_CORE", hard=2**64 - 1, soft=0))


def test_limits_are_set_by_init_itself() -> None:
    op = find(planned(Process(cwd="/", args=("x",), rlimits=LIMITS)), ops.SetRlimits)
    assert op == ops.SetRlimits(
        ((7, 10, 20), (4, 0, 2**64 - 1)), origin="process.rlimits", origins=("process.rlimits[0]", "process.rlimits[1]")
    )


def test_in_a_user_namespace_limits_are_raised_by_the_host() -> None:
    plan = planned(Process(cwd="/", args=("x",), rlimits=LIMITS), ROOT, MAPPED)
    assert ops.Sync(ops.Purpose.RLIMITS, origin="process.rlimits") in plan.ops
    assert not any(isinstance(op, ops.SetRlimits) for op in plan.ops)


@pytest.mark.parametrize(("umask", "mask"), [(None, 0o022), (0, 0), (0o077, 0o077)])
def test_the_umask_is_022_unless_asked_for(umask: int | None, mask: int) -> None:
    plan = planned(Process(cwd="/", args=("x",), user=User(0, 0, umask)))
    assert find(plan, ops.SetUmask).operands() == ((mask,), ())


def test_the_oom_score_is_left_alone_unless_asked_for() -> None:
    assert not any(isinstance(op, ops.WriteProc) for op in planned(Process(cwd="/", args=("x",))).ops)
    plan = planned(Process(cwd="/", args=("x",), oom_score_adj=-5))
    assert find(plan, ops.WriteProc).operands() == ((), ("self/oom_score_adj", "-5"))
