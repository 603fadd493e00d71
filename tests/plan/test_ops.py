"""Operations as people read them, and as C does."""

from __future__ import annotations

import pytest

from ocirt.plan import Plan
from ocirt.plan import ops as o
from ocirt.plan import tree_ops as t

READABLE = [
    (o.Clone(0x10000000 | 0x20000), "mount user"),
    (o.Clone(0), "process"),
    (o.JoinNamespaces(((0x40000000, o.Fd(1)),)), "network=fd#1"),
    (o.Sync(o.Purpose.HOOKS), "host: hooks"),
    (o.WriteProc("self/x", "1\n"), "self/x '1'"),
    (o.SetUmask(0o22), "0022"),
    (o.SetUser(1000, 100, may_set_groups=True, groups=(5, 44)), "1000:100 +[5, 44]"),
    (o.FindProgram("sh", ("/a", "/b")), "sh in /a:/b"),
    (o.FindProgram("/bin/sh", ("/a",)), "/bin/sh"),
    (o.Exec(("sh", "-c"), ("SECRET=1",)), "sh -c"),
    (t.SetPropagation(0x84000), "/ rslave"),
    (t.OpenTree(o.Fd(64), "/x", recursive=False, nofollow=True), "/x as fd#64 (not followed)"),
    (t.OpenTree(o.Fd(64), "/x", recursive=True, inside=True), "/x as fd#64 (of the container)"),
    (t.MapOwners(o.Fd(64), o.Fd(1), recursive=True), "fd#64 as in fd#1 recursive"),
    (t.MountFilesystem("/x", "tmpfs", tolerance=64, mapped=o.Fd(1)), "tmpfs on /x with what is there IDs as in fd#1"),
    (t.BindDevice("/dev/x", 0o020000, 1, 3), "that of the host on /dev/x c 1:3"),
    (t.BindDevice("/dev/x", 0o060000, 8, 0, o.Fd(64)), "fd#64 on /dev/x b 8:0"),
    (t.MaskPath("/x"), "/x (may be absent)"),
    (t.MakeDevice("/dev/x", 0o060640, 8, 1, 0, 6), "/dev/x b 8:1 0640 0:6"),
    (t.MakeSymlink("/a", "b"), "/a -> b"),
    (t.BindMount("/a", "/b", recursive=True, attributes=t.Attributes(set=1)), "/b on /a recursive ro"),
    (t.MountFilesystem("/a", "tmpfs", parameters=("size=1k",)), "tmpfs on /a [size=1k]"),
    (o.KeepDescriptors(((o.Fd(0), 3), (o.Fd(1), 700))), "fd#0=3 fd#1=700"),
    (t.OpenTerminal(24, 80, 0, console=False), "80x24"),
]


@pytest.mark.parametrize(("op", "words"), READABLE, ids=lambda value: type(value).__name__)
def test_operands_are_told_in_words(op: o.Op, words: str) -> None:
    assert " ".join(op.details()) == words


def test_a_plan_is_printed_a_line_an_operation() -> None:
    plan = Plan((t.PivotRoot(), o.SetHostname("demo", origin="hostname")))
    assert str(plan) == "-                           PivotRoot\nhostname                    SetHostname         demo\n"


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        (t.Attributes(), ""),
        (t.Attributes(set=1 | 2 | 4 | 8), "ro,nosuid,nodev,noexec"),
        (t.Attributes(clear=1), "rw"),
        (t.Attributes(clear=0x70), "relatime"),
        (t.Attributes(set=0x10, clear=0x70), "noatime"),
        (t.Attributes(recursive_set=1, propagation=(0x44000, 0x100000)), "rro,rprivate,shared"),
    ],
)
def test_attributes_are_told_as_the_options_that_set_them(attributes: t.Attributes, words: str) -> None:
    assert "".join(attributes.words()) == words


def test_numbers_of_attributes_stand_where_c_reads_them() -> None:
    assert t.Attributes(1, 2, 3, 4, (5, 6)).numbers(7) == (1, 2, 3, 4, 7, 5, 6)


@pytest.mark.parametrize(
    "name", [f"{r}{kind}" for r in ("", "r") for kind in ("private", "slave", "shared", "unbindable")]
)
def test_propagation_has_a_number_for_each_name_and_back(name: str) -> None:
    assert t.propagation_name(t.propagation_flag(name)) == name
