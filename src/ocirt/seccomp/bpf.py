"""The head of every filter: system calls that the profile's author cannot have known.

A program that tries a new system call takes ENOSYS for "use the old one" and EPERM for an error. A profile that lists
what it allows would answer EPERM to all that came later, so those get ENOSYS, as in runc (runc#2151).

The instructions are those of classic BPF (linux/filter.h), the data that they see is struct seccomp_data.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Final

from ocirt.seccomp import ACTIONS

INSTRUCTION: Final = struct.Struct("=HBBI")
MOST: Final = 4096
"""BPF_MAXINSNS: the kernel takes no longer program."""

LOAD, EQUAL, GREATER, AT_LEAST, RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4

X86_64: Final = 0xC000003E
X32: Final = 0x4000003E
"""libseccomp's token; to the kernel it is X86_64 with a bit in the number of the call."""
X32_BIT: Final = 0x40000000

UNKNOWN: Final = ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS


def kernels_name(architecture: int) -> int:
    """What struct seccomp_data has for an architecture of libseccomp's: AUDIT_ARCH_* of linux/audit.h."""
    return X86_64 if architecture == X32 else architecture


def refuse_above(architecture: int, highest: int) -> bytes:
    """ENOSYS for every system call of this architecture with a greater number; others are left to what follows."""
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in _refuse_above(architecture, highest))


def _refuse_above(architecture: int, highest: int) -> Iterator[tuple[int, int, int, int]]:
    bounded = architecture == X86_64  # from X32_BIT on it is the other one
    yield LOAD, 0, 0, ARCHITECTURE_AT
    yield EQUAL, 0, 4 if bounded else 3, kernels_name(architecture)
    yield LOAD, 0, 0, NUMBER_AT
    if bounded:
        yield AT_LEAST, 2, 0, X32_BIT
    yield GREATER, 0, 1, highest
    yield RETURN, 0, 0, UNKNOWN
