"""Which system calls a container may make: ``linux.seccomp`` (config-linux.md, Seccomp)."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from ocirt.spec.base import FreeText, OCIObject, UInt32, UInt64, strings


@frozen(repr=False)
class SyscallArg(OCIObject):
    """A condition on one argument of a system call."""

    index: UInt32
    value: UInt64
    value_two: UInt64 | None = None
    op: str = field(kw_only=True)


@frozen(repr=False)
class Syscall(OCIObject):
    """What happens to some system calls, where every condition in ``args`` holds."""

    names: tuple[str, ...] = field(converter=strings)
    action: str
    errno_ret: UInt32 | None = None
    args: tuple[SyscallArg, ...] = field(default=(), converter=tuple[SyscallArg, ...])


def _flags(values: Iterable[str] | None) -> tuple[str, ...] | None:
    """Absent flags leave the choice to the runtime, an empty list asks for none."""
    return None if values is None else strings(values)


@frozen(repr=False)
class Seccomp(OCIObject):
    """Which system calls the container may make (config-linux.md, Seccomp).

    The specification requires a default action. Engines send an object without one nevertheless, to say that they want
    no filter, and runc takes it for that as long as there are no rules either.
    """

    default_action: str = ""
    default_errno_ret: UInt32 | None = None
    architectures: tuple[str, ...] = field(default=(), converter=strings)
    flags: tuple[str, ...] | None = field(default=None, converter=_flags)
    listener_path: str | None = None
    listener_metadata: FreeText | None = None
    syscalls: tuple[Syscall, ...] = field(default=(), converter=tuple[Syscall, ...])
