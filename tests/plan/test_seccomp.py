"""When and how a filter is installed."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.host import Host
from ocirt.plan import Plan, Site, plan_create
from ocirt.plan.ops import InstallSeccomp
from ocirt.spec import Linux, Namespace, Process, Root, Seccomp, Spec, Syscall, SyscallArg
from tests.plan.examples import ROOT
from tests.plan.strategies import FILTER

ASKING = (Syscall(("mkdir",), "SCMP_ACT_NOTIFY"),)
OLD, NEW = Host(kernel=(5, 18)), Host(kernel=(5, 19))


def planned(profile: Seccomp, host: Host = ROOT, compiled: bytes = FILTER) -> Plan:
    document = Spec(
        root=Root("rootfs"),
        process=Process(cwd="/", args=("x",), no_new_privileges=True),
        linux=Linux(namespaces=(Namespace("mount"),), seccomp=profile),
    )
    return plan_create(document, host, Site("c", "/bundle", "/rootfs", filter=compiled))


def flags(*names: str, asking: bool = False) -> str:
    """As the plan prints them."""
    wanted = [f"SECCOMP_FILTER_FLAG_{name}" for name in names]
    (line,) = installed(Seccomp("SCMP_ACT_ALLOW", flags=wanted, syscalls=ASKING if asking else ()), NEW)
    return line.removeprefix("1 instructions").strip()


def installed(profile: Seccomp, host: Host = ROOT) -> list[str]:
    return [" ".join(op.details()) for op in planned(profile, host).ops if isinstance(op, InstallSeccomp)]


def test_without_flags_speculation_is_allowed_as_in_runc() -> None:
    assert installed(Seccomp("SCMP_ACT_ALLOW")) == ["1 instructions spec_allow"]


def test_an_empty_list_of_flags_asks_for_none() -> None:
    assert flags() == ""


@pytest.mark.parametrize("name", ["TSYNC", "LOG", "SPEC_ALLOW"])
def test_flags_are_those_of_the_profile(name: str) -> None:
    assert flags(name) == name.lower()


def test_a_profile_that_asks_has_a_listener() -> None:
    assert flags(asking=True) == "new_listener"


def test_waiting_killably_is_for_listeners_alone() -> None:
    """The kernel refuses the flag without one; runc ignores it then."""
    assert flags("WAIT_KILLABLE_RECV", asking=True) == "new_listener wait_killable_recv"
    assert flags("WAIT_KILLABLE_RECV") == ""


def test_a_listener_and_all_threads_at_once_need_one_flag_more() -> None:
    """Or the kernel could not tell a listener from a thread that failed (seccomp(2))."""
    assert flags("TSYNC", asking=True) == "tsync new_listener tsync_esrch"


@pytest.mark.parametrize("asking", [True, False])
def test_a_flag_that_the_kernel_is_too_old_for_is_refused_by_its_path(asking: bool) -> None:
    names = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
    with pytest.raises(UnsupportedError) as caught:
        planned(Seccomp("SCMP_ACT_ALLOW", flags=names, syscalls=ASKING if asking else ()), OLD)
    assert caught.value.origin == "linux.seccomp.flags[1]"


def test_a_profile_without_an_action_is_none() -> None:
    assert installed(Seccomp()) == []


def test_a_profile_that_nobody_has_compiled_does_not_get_lost() -> None:
    """The kernel refuses a filter without instructions, and so the container fails rather than run without one."""
    plan = planned(Seccomp("SCMP_ACT_LOG"), compiled=b"")
    assert [op.program for op in plan.ops if isinstance(op, InstallSeccomp)] == [b""]


SENDING = Syscall(("sendmsg",), "SCMP_ACT_ALLOW")
CONDITION = (SyscallArg(0, 1, op="SCMP_CMP_EQ"),)


@pytest.mark.parametrize(
    ("default", "rules", "sends"),
    [
        ("SCMP_ACT_ALLOW", (), True),
        ("SCMP_ACT_LOG", (), True),
        ("SCMP_ACT_ERRNO", (), False),
        ("SCMP_ACT_ERRNO", (SENDING,), True),
        ("SCMP_ACT_ERRNO", (SENDING.evolve(args=CONDITION),), False),
        ("SCMP_ACT_ALLOW", (SENDING.evolve(action="SCMP_ACT_NOTIFY"),), False),
        ("SCMP_ACT_ALLOW", (SENDING.evolve(action="SCMP_ACT_KILL", args=CONDITION),), False),
    ],
)
def test_a_listener_is_sent_if_the_filter_lets_that_pass(default: str, rules: tuple[Syscall, ...], sends: bool) -> None:
    plan = planned(Seccomp(default, syscalls=(*ASKING, *rules)))
    assert [op.sends for op in plan.ops if isinstance(op, InstallSeccomp)] == [sends]
