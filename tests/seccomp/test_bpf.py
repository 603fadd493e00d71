"""What no profile can list is not implemented; what follows decides about all else."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from ocirt.seccomp import bpf
from tests.seccomp.machine import run

ALLOW = 0x7FFF0000
NOT_IMPLEMENTED = 0x50000 | errno.ENOSYS
AARCH64 = 0xC00000B7

REST = bpf.INSTRUCTION.pack(bpf.RETURN, 0, 0, ALLOW)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_greater_numbers_are_not_implemented(highest: int, number: int) -> None:
    program = bpf.refuse_above(AARCH64, highest) + REST
    assert run(program, AARCH64, number) == (NOT_IMPLEMENTED if number > highest else ALLOW)


@given(st.integers(0, 2**20), st.integers(0, 2**32 - 1))
def test_other_architectures_are_left_alone(highest: int, number: int) -> None:
    assert run(bpf.refuse_above(AARCH64, highest) + REST, bpf.X86_64, number) == ALLOW


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 1000), st.booleans())
def test_x32_is_another_architecture_of_the_same_name(
    highest: int, highest_x32: int, number: int, is_x32: bool
) -> None:
    program = bpf.refuse_above(bpf.X86_64, highest) + bpf.refuse_above(bpf.X32, bpf.X32_BIT | highest_x32) + REST
    wanted = highest_x32 if is_x32 else highest
    result = run(program, bpf.X86_64, number | (bpf.X32_BIT if is_x32 else 0))
    assert result == (NOT_IMPLEMENTED if number > wanted else ALLOW)


@given(st.integers(0, 500), st.integers(bpf.X32_BIT, 2**32 - 1))
def test_x32_is_left_to_what_follows_where_only_the_other_is_meant(highest: int, number: int) -> None:
    assert run(bpf.refuse_above(bpf.X86_64, highest) + REST, bpf.X86_64, number) == ALLOW
