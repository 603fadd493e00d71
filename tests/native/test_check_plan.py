"""A plan that is not one is refused before anything is done, whatever is wrong with it (CVE-2021-43784)."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt._native import lib
from ocirt.plan import Plan, plan_create
from ocirt.plan import ops as o
from ocirt.plan import tree_ops as t
from ocirt.wire import HEADER, OPERATION, encode
from tests.native.initrun import MOUNT_NAMESPACE, Outcome, plan_bytes, run, run_bytes
from tests.plan.strategies import Case, honoured

HARMLESS = Plan((o.SetUmask(0o22), o.SetUmask(0o77), o.SetNoNewPrivileges()))
FIELDS = ("magic", "version", "size", "operations", "numbers", "strings", "text", "passed_fds")


def assert_refused(outcome: Outcome) -> None:
    """It says so, and ends as a runtime's failures do; it does not crash."""
    assert outcome.returncode == 125
    failure = outcome.failure
    assert failure is not None
    assert (failure.call, failure.errno) in (("check_plan", errno.EPROTO), ("load_plan", errno.EPROTO))


def test_a_plan_as_encoded_is_run() -> None:
    assert run_bytes(encode(HARMLESS).encoded()) == Outcome((), 0)


def test_an_empty_plan_does_nothing() -> None:
    assert run_bytes(plan_bytes()) == Outcome((), 0)


@pytest.mark.parametrize("size", range(0, len(encode(HARMLESS).encoded()), 3))
def test_a_truncated_plan_is_refused(size: int) -> None:
    assert_refused(run_bytes(encode(HARMLESS).encoded()[:size]))


def test_bytes_after_the_plan_are_refused() -> None:
    assert_refused(run_bytes(encode(HARMLESS).encoded() + b"\0"))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1])
def test_a_header_that_does_not_fit_is_refused(field: str, value: int) -> None:
    plan = bytearray(encode(HARMLESS).encoded())
    header = list(HEADER.unpack_from(plan))
    place = FIELDS.index(field)
    if header[place] == value or (field == "passed_fds" and value <= lib.WIRE_SLOTS):
        return
    header[place] = value
    HEADER.pack_into(plan, 0, *header)
    assert_refused(run_bytes(bytes(plan)))


def test_text_without_an_end_is_refused() -> None:
    assert_refused(run_bytes(plan_bytes(text=b"x")))


def test_a_string_outside_the_text_is_refused() -> None:
    assert_refused(run_bytes(plan_bytes(strings=[2], text=b"x\0")))


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    assert_refused(run_bytes(noise))


SLOT_USERS = [
    o.JoinNamespaces(((0, o.Fd(0)),)),
    o.JoinProcess(o.Fd(0), 0),
    o.AwaitStart(o.Fd(0)),
    o.KeepDescriptors(((o.Fd(0), 3),)),
    o.KillWhenOrphaned(o.Fd(0), o.Fd(0)),
    t.AttachRootfs("/", o.Fd(0)),
    t.BindMount("/", "/", o.Fd(0)),
    t.ChangeRoot(o.Fd(0)),
    t.BindDevice("/x", 0, 0, 0, o.Fd(0)),
    t.MapOwners(o.Fd(0), o.Fd(0), recursive=False),
]


@pytest.mark.root  # for a mount namespace of its own
@pytest.mark.parametrize("slot", [lib.WIRE_SLOTS - 1, lib.WIRE_SLOTS, 2**31, 2**32, 2**63])
@pytest.mark.parametrize("op", SLOT_USERS, ids=lambda op: type(op).__name__)
def test_a_slot_that_holds_nothing_or_does_not_exist_is_refused(op: o.Op, slot: int) -> None:
    plan = bytearray(encode(Plan((op,))).encoded())
    struct.pack_into("=Q", plan, first_number(op), slot)
    outcome = run_bytes(bytes(plan), namespaces=MOUNT_NAMESPACE)
    assert outcome.returncode == 125
    assert outcome.failure is not None
    assert outcome.failure.errno == errno.EBADF


def first_number(op: o.Op) -> int:
    """Where the slot of an operation that is alone in its plan stands; a pair of JoinNamespaces begins with a flag."""
    return HEADER.size + OPERATION.size + (8 if isinstance(op, o.JoinNamespaces) else 0)


@pytest.mark.root
def test_an_open_tree_goes_to_no_slot_that_does_not_exist() -> None:
    op = t.OpenTree(o.Fd(lib.WIRE_SLOTS), "/", recursive=False)
    failure = run(op, namespaces=MOUNT_NAMESPACE).failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("open_tree", errno.EBADF)


def test_exec_counts_its_strings() -> None:
    plan = bytearray(encode(Plan((o.Exec(("true",), ()),))).encoded())
    struct.pack_into("=2Q", plan, HEADER.size + OPERATION.size, 2**32 - 1, 2)
    failure = run_bytes(bytes(plan)).failure
    assert failure is not None
    assert (failure.call, failure.errno, failure.detail) == ("execve", errno.EPROTO, "operands")


def test_the_failed_operation_is_named_by_its_place() -> None:
    failure = run(o.SetUmask(0), o.FindProgram("no such program", ("/bin",)), o.SetUmask(0)).failure
    assert failure is not None
    assert (failure.index, failure.left, failure.errno) == (1, 1, errno.ENOENT)


@settings(max_examples=30)
@given(honoured())
def test_every_plan_that_is_made_is_taken(case: Case) -> None:
    """All of it is checked before the first operation runs; here that one fails."""
    plan = plan_create(*case)
    outcome = run(o.FindProgram("/no/such/program", ()), *plan.ops)
    assert outcome.failure is not None
    assert (outcome.failure.index, outcome.failure.left, outcome.failure.call) == (0, len(plan.ops), "stat")
