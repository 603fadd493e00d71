"""Descriptors at the numbers that a program wants, and what ocirt-init holds itself out of their way."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest

from ocirt._native import lib
from ocirt.plan import ops as o
from ocirt.plan import tree_ops as t
from tests.native.initrun import Outcome, run

HIGH = 700


def seen(numbers: Sequence[int], order: Sequence[int] | None = None) -> dict[int, int]:
    """What a program has at each of these numbers: the place in ``numbers`` that the file was made for."""
    read, write = os.pipe()
    files = [os.memfd_create(str(place)) for place in range(len(numbers))]
    script = f"(ls -l /proc/$$/fd >/proc/self/fd/{HIGH + 1}); true"
    pairs = sorted(zip(map(o.Fd, order or range(len(numbers))), numbers, strict=True), key=lambda pair: pair[1])
    keep = o.KeepDescriptors((*pairs, (o.Fd(len(numbers)), HIGH + 1)))
    program = ("sh", "-c", script)
    outcome = run(keep, o.FindProgram("sh", ("/bin",)), o.Exec(program, ("PATH=/bin",)), slots=(*files, write))
    for fd in (*files, write):
        os.close(fd)
    with open(read) as output:
        links = [line.partition(" -> ") for line in output if "->" in line]
    assert outcome == Outcome((), 0)
    found = {int(left.split()[-1]): right.split()[0] for left, _, right in links}
    assert found.pop(HIGH + 1).startswith("pipe:")
    assert [os.path.basename(found.pop(number)) for number in range(3)] == ["null"] * 3
    return {number: int(target.removeprefix("/memfd:")) for number, target in found.items()}


FIRST = lib.WIRE_FIRST_SLOT_FD


@pytest.mark.parametrize(
    "numbers",
    [
        (lib.WIRE_EVENTS_FD,),
        (FIRST,),
        (FIRST, FIRST + 1, FIRST + 2),
        (3, 4, 5, 6, 7, 8, 9),
        (6, 8, 10),
        (FIRST + 1, HIGH),
        tuple(range(3, 203)),
    ],
    ids=lambda numbers: f"{len(numbers)} from {numbers[0]} to {numbers[-1]}",
)
@pytest.mark.parametrize("backwards", [False, True])
def test_each_gets_its_number_whichever_is_in_the_way(numbers: tuple[int, ...], backwards: bool) -> None:
    """Each slot's own number may be wanted for another, and the events socket's for any."""
    order = tuple(range(len(numbers)))[:: -1 if backwards else 1]
    assert seen(numbers, order) == dict(zip(numbers, order, strict=True))


def test_what_fails_later_is_heard() -> None:
    """Wherever the events socket is by then."""
    keep = o.KeepDescriptors(tuple((o.Fd(place), 3 + place) for place in range(5)))
    failure = run(keep, o.FindProgram("no such program", ("/bin",)), slots=[0] * 5).failure
    assert failure is not None
    assert (failure.index, failure.errno) == (1, errno.ENOENT)


@pytest.mark.root
def test_other_slots_keep_what_they_hold(tmp_path: Path) -> None:
    """A directory whose number is wanted for another is found where it went."""
    (tmp_path / "program").touch(0o755)
    directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    keep = o.KeepDescriptors(((o.Fd(1), FIRST),))
    outcome = run(keep, t.ChangeRoot(o.Fd(0)), o.FindProgram("/program", ()), slots=[directory, 0])
    os.close(directory)
    assert outcome.succeeded


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**32 + 3, 2**63])
def test_a_number_beyond_every_limit_is_refused(number: int) -> None:
    failure = run(o.KeepDescriptors(((o.Fd(0), number),)), slots=[0]).failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("dup3", errno.EBADF)


def test_nothing_moves_beyond_the_limit_for_the_highest_number_that_there_can_be() -> None:
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    assert run(o.KeepDescriptors(((o.Fd(0), 3), (o.Fd(1), highest))), slots=[0, 0]).succeeded
