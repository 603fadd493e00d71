"""A device list as a program for cgroup version 2, and a machine to try it on (BPF_PROG_TYPE_CGROUP_DEVICE).

The kernel runs the program at every open(2) and mknod(2) of a device, on struct bpf_cgroup_dev_ctx, and refuses what it
returns 0 for. The rules are walked from the last to the first: an access is allowed once rules have allowed all that it
consists of, and denied as soon as one denies a part that no later rule has allowed.

The few instructions that this takes are those of the kernel's Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ocirt.cgroups.devices import ORIGIN, DeviceList, Rule
from ocirt.errors import UnsupportedError

TYPES: Final = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_* of linux/bpf.h."""
ACCESS: Final = {"m": 1, "r": 2, "w": 4}
"""BPF_DEVCG_ACC_*"""

MOST: Final = 2**15 - 1
"""How far a jump leads. The kernel itself would take more of those who may load such a program at all."""


class Operation(enum.IntEnum):
    """Those that device programs are made of; numbers are compared as the 32 bits that they have."""

    LOAD_WORD = 0x61
    LOAD_HALF = 0x69
    MOVE = 0xB4
    AND = 0x54
    JUMP = 0x05
    JUMP_UNLESS_EQUAL = 0x56
    JUMP_IF_ANY_BIT = 0x46
    EXIT = 0x95


RESULT, CONTEXT, TYPE, UNDECIDED, NUMBER = range(5)
"""Registers. ``UNDECIDED`` holds the parts of the access that no rule has allowed yet."""

TYPE_AT, ACCESS_AT, MAJOR_AT, MINOR_AT = 0, 2, 4, 8
"""Where struct bpf_cgroup_dev_ctx has them: the first two are the halves of one number, little end first."""

CONTEXT_LAYOUT: Final = struct.Struct("<HHII")

INSTRUCTION: Final = struct.Struct("<BBhI")
"""Operation, registers, offset, constant (struct bpf_insn)."""


class Program(NamedTuple):
    """What the kernel loads, and what its ways out stand for."""

    code: bytes
    exits: Mapping[int, str]
    """The member of config.json that decides, by the number of the instruction that ends the program."""
    everything: bool
    """It allows every access."""


class Instruction(NamedTuple):
    """One of struct bpf_insn."""

    operation: Operation
    to: int = 0
    by: int = 0
    """The other register."""
    offset: int = 0
    constant: int = 0

    def pack(self) -> bytes:
        return INSTRUCTION.pack(self.operation, self.to | self.by << 4, self.offset, self.constant)


@functools.lru_cache(maxsize=32)
def assemble(devices: DeviceList) -> Program:
    """The program of a device list.

    :raises UnsupportedError: it is too long.
    """
    instructions: list[Instruction] = [Instruction(Operation.LOAD_HALF, TYPE, CONTEXT, TYPE_AT)]
    exits: dict[int, str] = {}
    for type_, number in TYPES.items():
        section, ways_out = _section([rule for rule in devices.rules if rule.type == type_], devices)
        instructions.append(Instruction(Operation.JUMP_UNLESS_EQUAL, TYPE, offset=len(section), constant=number))
        exits |= {len(instructions) + place: origin for place, origin in ways_out.items()}
        instructions += section
    instructions += _end(devices.allow)  # never reached, as there are no other types; but the verifier does not know
    if len(instructions) > MOST:
        raise UnsupportedError(
            ORIGIN, f"makes a program of {len(instructions)} instructions, and {MOST} are possible: use fewer rules"
        )
    return Program(b"".join(map(Instruction.pack, instructions)), exits, devices.everything)


def _section(rules: Sequence[Rule], devices: DeviceList) -> tuple[list[Instruction], dict[int, str]]:
    """What decides about one type of devices."""
    instructions = [Instruction(Operation.LOAD_HALF, UNDECIDED, CONTEXT, ACCESS_AT)]
    exits = {}
    for rule in reversed(rules):
        instructions += _rule(rule)
        exits[len(instructions) - 1] = rule.origin
    instructions += _end(devices.allow)
    exits[len(instructions) - 1] = devices.origin
    return instructions, exits


def _rule(rule: Rule) -> list[Instruction]:
    """What ends the program, behind a jump over it for each reason not to.

    Numbers are read anew for each rule: if the verifier had to remember what earlier comparisons told of them, it
    would tell apart more and more ways through the program, and give up after some hundred rules.
    """
    bits = sum(ACCESS[letter] for letter in rule.access)
    if rule.allow:
        verdict = [
            Instruction(Operation.AND, UNDECIDED, constant=~bits & 0xFFFF),
            Instruction(Operation.JUMP_UNLESS_EQUAL, UNDECIDED, offset=2, constant=0),
        ]
    else:
        verdict = [
            Instruction(Operation.JUMP_IF_ANY_BIT, UNDECIDED, offset=1, constant=bits),
            Instruction(Operation.JUMP, offset=2),
        ]
    body = [*verdict, *_end(rule.allow)]
    for place, number in ((MINOR_AT, rule.minor), (MAJOR_AT, rule.major)):
        if number is not None:
            skip = Instruction(Operation.JUMP_UNLESS_EQUAL, NUMBER, offset=len(body), constant=number)
            body = [Instruction(Operation.LOAD_WORD, NUMBER, CONTEXT, place), skip, *body]
    return body


def _end(allow: bool) -> tuple[Instruction, Instruction]:
    return Instruction(Operation.MOVE, RESULT, constant=int(allow)), Instruction(Operation.EXIT)


def run(code: bytes, type: str, access: str, major: int, minor: int) -> tuple[bool, int]:
    """What the kernel would make of an access, and the number of the instruction that ended the program."""
    context = CONTEXT_LAYOUT.pack(TYPES[type], sum(ACCESS[letter] for letter in access), major, minor)
    instructions = [
        Instruction(Operation(one), at & 15, at >> 4, *rest) for one, at, *rest in INSTRUCTION.iter_unpack(code)
    ]
    registers = [0] * 11
    place = 0
    while (instruction := instructions[place]).operation != Operation.EXIT:
        place += 1 + _step(instruction, registers, context)
    return bool(registers[RESULT]), place


def _step(instruction: Instruction, registers: list[int], context: bytes) -> int:
    """Carry out one instruction; how many to skip after it."""
    to, offset, constant = instruction.to, instruction.offset, instruction.constant
    match instruction.operation:
        case Operation.LOAD_WORD:  # of the context, since there is no other memory
            (registers[to],) = struct.unpack_from("<I", context, offset)
        case Operation.LOAD_HALF:
            (registers[to],) = struct.unpack_from("<H", context, offset)
        case Operation.MOVE:
            registers[to] = constant
        case Operation.AND:
            registers[to] &= constant
        case Operation.JUMP:
            return offset
        case Operation.JUMP_UNLESS_EQUAL:
            return 0 if registers[to] == constant else offset
        case Operation.JUMP_IF_ANY_BIT:
            return offset if registers[to] & constant else 0
    return 0
