"""What this version of ocirt reads but does not honour yet: an error each, never a silent skip."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.errors import UnsupportedError
from ocirt.spec import Linux, Spec

NOT_YET = "is not honoured by this version of ocirt"


def check(document: Spec) -> None:
    for origin in _document(document):
        raise UnsupportedError(origin, NOT_YET)


def _document(document: Spec) -> Iterator[str]:
    if document.linux is not None:
        yield from _linux(document.linux)


def _linux(linux: Linux) -> Iterator[str]:
    seccomp = linux.seccomp
    members = {
        # An object without an action and without syscalls asks for nothing (runc reads it so, and engines send it).
        "seccomp": seccomp is not None and (bool(seccomp.default_action) or bool(seccomp.syscalls)),
    }
    yield from (f"linux.{name}" for name, value in members.items() if value)
    if linux.resources is not None:
        resources = linux.resources
        limits = {
            "memory": resources.memory,
            "cpu": resources.cpu,
            "pids": resources.pids,
            "blockIO": resources.block_io,
            "hugepageLimits": resources.hugepage_limits,
            "network": resources.network,
            "rdma": resources.rdma,
            "unified": resources.unified,
        }
        yield from (f"linux.resources.{name}" for name, value in limits.items() if value)
