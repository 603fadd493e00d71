"""The operations that every process gets, whatever its configuration: its CPUs and its keys."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.plan.ops import Op, Operands

WORD = 64
"""Bits of a mask go into numbers of that many."""


def mask(bits: Iterator[int] | tuple[int, ...]) -> tuple[int, ...]:
    """The words of a bit mask, lowest first."""
    number = 0
    for bit in bits:
        number |= 1 << bit
    return tuple((number >> place) & (1 << WORD) - 1 for place in range(0, number.bit_length(), WORD))


def members(words: tuple[int, ...]) -> str:
    """The bits of a mask as people say them: ``0,2,3``."""
    return ",".join(
        str(index * WORD + bit) for index, word in enumerate(words) for bit in range(WORD) if word >> bit & 1
    )


class SetAffinity(Op):
    """sched_setaffinity(2), as a mask; without one, all CPUs that the cgroups allow."""

    cpus: tuple[int, ...] = ()

    def operands(self) -> Operands:
        return self.cpus, ()

    def details(self) -> Iterator[str]:
        yield members(self.cpus) or "all CPUs"


class JoinKeyring(Op):
    """A session keyring of this name: a new one, which ``permission`` lets others of the container join, or theirs."""

    name: str
    permission: int = 0

    def operands(self) -> Operands:
        return (self.permission,), (self.name,)

    def details(self) -> Iterator[str]:
        yield self.name
        if self.permission:
            yield "(new)"
