"""A plan arrives as it was sent, however long its parts are; events are read as they were meant.

``tests/native/test_check_plan.py`` holds the other side to it.
"""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt import wire
from ocirt._native import lib
from ocirt.plan import ID_MARK, Plan, label_ops, ops, plan_create, process_ops, scheduling_ops, tree_ops
from ocirt.plan.ops import Manner, Op, Purpose, Tolerance
from ocirt.wire import Cloned, Failed, NetlinkOpened, Started, SyncRequested, TerminalOpened, decode, encode
from tests.plan.strategies import Case, honoured

CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")


def every_operation() -> set[type[Op]]:
    return {
        value
        for module in (ops, tree_ops, process_ops, scheduling_ops, label_ops)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Op) and value is not Op
    }


def constants(prefix: str) -> dict[str, int]:
    return {name: getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}


def test_every_operation_has_its_code_and_every_code_its_operation() -> None:
    codes = constants("OP_")
    del codes["OP_END"]
    assert sorted(wire.CODES[operation] for operation in every_operation()) == sorted(codes.values())


def test_an_operation_is_found_by_its_name() -> None:
    assert wire.CODES[tree_ops.MountFilesystem] == lib.OP_MOUNT_FILESYSTEM
    assert wire.CODES[ops.Exec] == lib.OP_EXEC


def test_tolerances_have_the_numbers_of_the_header() -> None:
    assert {tolerance.name: tolerance.value for tolerance in Tolerance} == {
        name: getattr(lib, name) for name in Tolerance.__members__
    }


def test_manners_have_the_numbers_of_the_header() -> None:
    assert {manner.name: manner.value for manner in Manner} == {
        name: getattr(lib, f"SYNC_{name}") for name in Manner.__members__
    }


def parse(frame: bytes) -> list[tuple[int, list[int], list[bytes]]]:
    """A second reader, written from ``wire.h`` alone."""
    magic, version, size, operations, numbers, strings, text, _ = struct.unpack_from("=8I", frame)
    assert (magic, version, size) == (0x7472636F, 1, len(frame))
    at = 32 + 24 * operations
    number = struct.unpack_from(f"={numbers}Q", frame, at)
    offset = struct.unpack_from(f"={strings}I", frame, at + 8 * numbers)
    letters = frame[at + 8 * numbers + 4 * strings :]
    assert len(letters) == text
    found = []
    for place in range(operations):
        code, count, string_count, first, first_string, _ = struct.unpack_from("=6I", frame, 32 + 24 * place)
        own = [
            letters[start : letters.index(b"\0", start)] for start in offset[first_string : first_string + string_count]
        ]
        found.append((code, list(number[first : first + count]), own))
    return found


def spoken(plan: Plan) -> list[tuple[int, list[int], list[bytes]]]:
    return [
        (
            wire.CODES[type(op)],
            [int(number) % 2**64 for number in op.operands()[0]],
            [string.encode("utf-8", "surrogateescape") for string in op.operands()[1]],
        )
        for op in plan.ops
    ]


@settings(max_examples=30)
@given(honoured())
def test_a_plan_arrives_as_it_was_sent(case: Case) -> None:
    plan = plan_create(*case)
    assert parse(encode(plan).encoded()) == spoken(plan)


@given(st.lists(st.text(CHARACTERS)))
def test_strings_arrive_whole(strings: list[str]) -> None:
    plan = Plan((ops.FindProgram("x", tuple(strings)), ops.SetHostname("y")))
    assert parse(encode(plan).encoded()) == spoken(plan)


LENGTHS = (255, 256, 2**15, 65_519, 65_520, 65_535, 65_536, 65_548, 2**20)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_long_string_changes_nothing_else(length: int) -> None:
    """CVE-2021-43784: lengths of 16 bits let the end of a string be read as instructions."""
    plan = Plan((ops.SetHostname("x" * length), tree_ops.PivotRoot(), ops.SetHostname("y")))
    assert parse(encode(plan).encoded()) == spoken(plan)


def test_counts_are_not_limited_to_16_bits() -> None:
    args = tuple(f"{number}" for number in range(100_000))
    plan = Plan((ops.Exec(args, ()), ops.SetUser(0, 0, True, tuple(range(70_000)))))
    assert parse(encode(plan).encoded()) == spoken(plan)


def test_a_string_is_sent_once() -> None:
    plan = Plan(tuple(ops.SetHostname("x" * 1000) for _ in range(100)))
    assert len(encode(plan).encoded()) < 5000


def test_bytes_that_are_no_text_arrive_as_bytes() -> None:
    plan = Plan((ops.SetHostname("\udcff\udc80"),))
    assert parse(encode(plan).encoded())[0][2] == [b"\xff\x80"]


@pytest.mark.parametrize("string", ["\0", "x\0y", f"{ID_MARK}\0", f"\0{ID_MARK}"])
def test_a_nul_is_refused(string: str) -> None:
    with pytest.raises(ValueError, match=r"process: .* contains a NUL"):
        encode(Plan((ops.SetHostname(string, origin="process"),)))


def test_what_was_done_by_the_start_itself_is_not_sent() -> None:
    plan = Plan((ops.Clone(1), ops.SetHostname("x")))
    assert parse(encode(plan, 1).encoded()) == spoken(Plan(plan.ops[1:]))


def test_the_id_is_filled_in_wherever_its_mark_stands() -> None:
    plan = Plan((ops.SetHostname("a"), ops.SetHostname(f"/{ID_MARK}/x/{ID_MARK}"), ops.SetHostname(ID_MARK)))
    frame = encode(plan)
    for container_id in ("c", "longer"):
        written = [string for _, _, (string,) in parse(frame.encoded(container_id))]
        assert written == [b"a", f"/{container_id}/x/{container_id}".encode(), container_id.encode()]


@given(CHARACTERS)
def test_no_text_of_a_configuration_is_taken_for_the_id(character: str) -> None:
    plan = Plan((ops.SetHostname(character),))
    assert parse(encode(plan).encoded("id"))[0][2] == [character.encode()]


def event(kind: int, *, value: int = 0, call: bytes = b"", detail: bytes = b"") -> bytes:
    return wire.EVENT.pack(kind, 3, 2, 0, errno.EIO, value, call, detail)


def test_events_are_read_as_they_were_meant() -> None:
    assert decode(event(lib.EVENT_PID, value=7), 9) == Cloned(7, 9, index=3)
    assert decode(event(lib.EVENT_SYNC, value=Purpose.HOOKS), -1) == SyncRequested(Purpose.HOOKS, index=3)
    assert decode(event(lib.EVENT_TERMINAL), 9) == TerminalOpened(9, index=3)
    assert decode(event(lib.EVENT_NETLINK), 9) == NetlinkOpened(9, index=3)
    assert decode(event(lib.EVENT_STARTED), -1) == Started(index=3)
    failed = decode(event(lib.EVENT_FAILED, value=1, call=b"open", detail=b"/x"), -1)
    assert failed == Failed(index=3, left=2, errno=errno.EIO, value=1, call="open", detail="/x")


def test_what_a_container_says_cannot_command_a_terminal() -> None:
    failed = decode(event(lib.EVENT_FAILED, detail=b"\x1b[2Jred\xff\ttab\nline"), -1)
    assert isinstance(failed, Failed)
    assert failed.detail == "\\x1b[2Jred\\xff\ttab\nline"


def test_a_detail_may_fill_its_field() -> None:
    failed = decode(event(lib.EVENT_FAILED, call=b"c" * lib.WIRE_CALL_SIZE, detail=b"d" * lib.WIRE_DETAIL_SIZE), -1)
    assert isinstance(failed, Failed)
    assert (len(failed.call), len(failed.detail)) == (lib.WIRE_CALL_SIZE, lib.WIRE_DETAIL_SIZE)
