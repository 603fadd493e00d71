"""A filter as ocirt-init hands it to the kernel, and what it can still say under one."""

from __future__ import annotations

import errno
import signal

import pytest

from ocirt.plan import Plan
from ocirt.plan import ops as o
from ocirt.plan.ops import FILTER_FLAGS
from ocirt.seccomp.bpf import INSTRUCTION, LOAD, RETURN
from ocirt.wire import ListenerOpened, encode
from tests.native.initrun import run, run_bytes
from tests.plan.strategies import FILTER

NNP = o.SetNoNewPrivileges()
NOWHERE = o.FindProgram("no such program", ("/bin",))


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in instructions)


def failing(*calls: int) -> bytes:
    """EXDEV for these system calls; all others are allowed."""
    pairs = [pair for call in calls for pair in ((0x15, 0, 1, call), (RETURN, 0, 0, 0x50000 | errno.EXDEV))]
    return program((LOAD, 0, 0, 0), *pairs, (RETURN, 0, 0, 0x7FFF0000))


def test_a_filter_is_installed() -> None:
    assert run(NNP, o.InstallSeccomp(FILTER, 0), o.SetUmask(0o22)).succeeded


@pytest.mark.parametrize(
    ("filter", "error"),
    [(b"", errno.EINVAL), (FILTER * 4097, errno.E2BIG), (program((LOAD, 0, 0, 0)), errno.EINVAL)],
    ids=["empty", "too long", "without an end"],
)
def test_what_is_no_filter_is_refused(filter: bytes, error: int) -> None:
    failure = run(NNP, o.InstallSeccomp(filter, 0)).failure
    assert failure is not None
    assert (failure.call, failure.errno, failure.index) == ("seccomp", error, 1)


def test_flags_that_do_not_exist_are_refused() -> None:
    failure = run(NNP, o.InstallSeccomp(FILTER, 1 << 20)).failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("seccomp", errno.EINVAL)


def test_a_failure_is_told_under_a_filter_that_forbids_messages() -> None:
    """By write(2), whatever number sendmsg has here: all of the two machines' are forbidden."""
    failure = run(NNP, o.InstallSeccomp(failing(46, 211), 0), NOWHERE).failure
    assert failure is not None
    assert (failure.call, failure.errno, failure.index) == ("PATH", errno.ENOENT, 2)


def test_the_number_of_a_listener_is_told_and_its_taking_awaited() -> None:
    plan = encode(Plan((NNP, o.InstallSeccomp(FILTER, FILTER_FLAGS["NEW_LISTENER"]), NOWHERE))).encoded()
    answered = run_bytes(plan, answers=1)
    assert isinstance(answered.events[0], ListenerOpened)
    assert answered.events[0].number > 3
    assert answered.events[0].fd == -1
    assert answered.failure is not None


def test_a_filter_may_kill() -> None:
    kill = program((RETURN, 0, 0, 0x80000000))
    assert run(NNP, o.InstallSeccomp(kill, 0), o.SetUmask(0o22)).returncode == -signal.SIGSYS
