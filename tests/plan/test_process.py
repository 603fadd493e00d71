"""The user's program: where it stands, what it is given, how it starts."""

from __future__ import annotations

import pytest

from ocirt.plan import Plan, Site, ops, plan_create
from ocirt.plan.context import StartSocket
from ocirt.plan.process import environment
from ocirt.plan.tree_ops import MakeDirectory, OpenTerminal
from ocirt.spec import ConsoleSize, Linux, Namespace, Process, Root, Spec
from tests.plan.examples import ROOT

MOUNT = Linux(namespaces=(Namespace("mount"),))


def planned(program: Process | None, *, streams: int = 0) -> Plan:
    site = Site("c", "/bundle", "/rootfs", streams=streams)
    return plan_create(Spec(root=Root("rootfs"), process=program, linux=MOUNT), ROOT, site)


def find(plan: Plan, kind: type[ops.Op]) -> list[ops.Op]:
    return [op for op in plan.ops if isinstance(op, kind)]


@pytest.mark.parametrize(
    ("env", "directories"),
    [((), ()), (("PATH=/a:/b",), ("/a", "/b")), (("PATH=/a::",), ("/a", "", "")), (("PATH=/a", "PATH=/b"), ("/b",))],
)
def test_the_program_is_sought_in_its_own_path(env: tuple[str, ...], directories: tuple[str, ...]) -> None:
    (op,) = find(planned(Process(cwd="/", args=("sh", "-c"), env=env)), ops.FindProgram)
    assert op == ops.FindProgram("sh", directories, origin="process.args[0]")


@pytest.mark.parametrize(
    ("env", "found"), [((), True), (("HOME=",), True), (("HOME=/x",), False), (("HOMER=/x",), True)]
)
def test_home_is_looked_up_where_there_is_none(env: tuple[str, ...], found: bool) -> None:
    assert bool(find(planned(Process(cwd="/", args=("x",), env=env)), ops.FindHome)) is found


def test_the_last_of_several_entries_counts() -> None:
    assert environment(("A=1", "B=2", "A=3", "HOME=", "C")) == ("A=3", "B=2", "C")


def test_arguments_arrive_as_they_are() -> None:
    (op,) = find(planned(Process(cwd="/", args=("x", "", "a b", "é"), env=("A=1",))), ops.Exec)
    assert op.operands() == ((4, 1), ("x", "", "a b", "é", "A=1"))


def test_a_missing_working_directory_is_made() -> None:
    assert find(planned(Process(cwd="/a/b", args=("x",))), MakeDirectory) == [
        MakeDirectory("/a/b", origin="process.cwd")
    ]
    assert find(planned(Process(cwd="/", args=("x",))), MakeDirectory) == []


def test_a_terminal_takes_the_place_of_the_streams() -> None:
    plan = planned(Process(cwd="/", args=("x",), terminal=True, console_size=ConsoleSize(height=24, width=80)))
    assert find(plan, OpenTerminal) == [OpenTerminal(24, 80, 0, console=True, origin="process.terminal")]
    assert find(plan, ops.PrepareStdio) == []


def test_streams_that_we_made_are_given_to_the_user() -> None:
    (op,) = find(planned(Process(cwd="/", args=("x",)), streams=0b110), ops.PrepareStdio)
    assert op.operands() == ((0, 0b110), ())


def test_without_a_process_a_container_can_be_created_and_started() -> None:
    plan = planned(None)
    assert [type(op) for op in plan.ops[-2:]] == [ops.Sync, ops.AwaitStart]
    (start,) = find(plan, ops.AwaitStart)
    assert isinstance(start, ops.AwaitStart)
    assert plan.descriptors[start.listener] == StartSocket()
