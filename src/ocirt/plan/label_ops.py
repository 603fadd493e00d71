"""The operations of security modules: labels of processes and of files."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.plan.ops import Fd, Op, Operands


class SetLabel(Op):
    """Write to the first of these files that there is, below the host's ``/proc`` (proc_pid_attr(5))."""

    proc: Fd
    value: str
    files: tuple[str, ...]

    def operands(self) -> Operands:
        return (self.proc,), (self.value, *self.files)

    def details(self) -> Iterator[str]:
        yield f"{self.value!r} to {' or '.join(self.files)}"


class SetFileLabel(Op):
    """setxattr(2) of security.selinux on a directory of the container."""

    path: str
    label: str

    def operands(self) -> Operands:
        return (), (self.path, self.label)
