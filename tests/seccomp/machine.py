"""The machine that filters are written for, from linux/filter.h: as much of classic BPF as they use."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from ocirt.seccomp.bpf import INSTRUCTION

DATA = struct.Struct("=iIQ6Q")
"""struct seccomp_data: number, architecture, instruction pointer, arguments."""

LOAD, JUMP_BY, AND, RETURN = 0x20, 0x05, 0x54, 0x06
JUMPS: Mapping[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}


def run(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What the filter returns; the kernel would have refused a program that does not."""
    signed = number - 2**32 if number >= 2**31 else number
    data = DATA.pack(signed, architecture, 0, *arguments, *([0] * (6 - len(arguments))))
    instructions = list(INSTRUCTION.iter_unpack(program))
    place, accumulator = 0, 0
    while True:
        code, if_true, if_false, constant = instructions[place]
        place += 1
        if code == LOAD:
            assert constant % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, constant)
        elif code == AND:
            accumulator &= constant
        elif code == JUMP_BY:
            place += constant
        elif code == RETURN:
            return int(constant)
        else:
            place += if_true if JUMPS[code](accumulator, constant) else if_false
