"""The operations that say how the kernel is to treat a process. Few containers ask for any, so few load this."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.plan.ops import Op, Operands
from ocirt.plan.process_ops import members


class SetScheduler(Op):
    """sched_setattr(2): numbers as that takes them, times in nanoseconds."""

    policy: int
    flags: int = 0
    nice: int = 0
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0

    def operands(self) -> Operands:
        numbers = (self.policy, self.flags, self.nice, self.priority, self.runtime, self.deadline, self.period)
        return numbers, ()

    def details(self) -> Iterator[str]:
        yield f"policy={self.policy}"
        for name in ("flags", "nice", "priority", "runtime", "deadline", "period"):
            if value := getattr(self, name):
                yield f"{name}={value}"


class SetIoPriority(Op):
    """ioprio_set(2) for the process group: class and priority."""

    class_: int
    priority: int

    def operands(self) -> Operands:
        return (self.class_ << 13 | self.priority,), ()

    def details(self) -> Iterator[str]:
        yield f"class={self.class_} priority={self.priority}"


class SetPersonality(Op):
    """personality(2)"""

    domain: int

    def operands(self) -> Operands:
        return (self.domain,), ()

    def details(self) -> Iterator[str]:
        yield f"{self.domain:#x}"


class SetMemoryPolicy(Op):
    """set_mempolicy(2): the mode with its flags, and a mask of nodes."""

    mode: int
    nodes: tuple[int, ...] = ()

    def operands(self) -> Operands:
        return (self.mode, *self.nodes), ()

    def details(self) -> Iterator[str]:
        yield f"mode={self.mode:#x}"
        if self.nodes:
            yield f"nodes={members(self.nodes)}"
