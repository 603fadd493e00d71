"""What this version of ocirt reads but does not honour yet: an error each, never a silent skip."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.errors import UnsupportedError
from ocirt.spec import Linux, Resources, Spec

NOT_YET = "is not honoured by this version of ocirt"


def check(document: Spec) -> None:
    for origin in _limits(document.linux or Linux()):
        raise UnsupportedError(origin, NOT_YET)


def _limits(linux: Linux) -> Iterator[str]:
    resources = linux.resources or Resources()
    members = {
        "memory": resources.memory,
        "cpu": resources.cpu,
        "pids": resources.pids,
        "blockIO": resources.block_io,
        "hugepageLimits": resources.hugepage_limits,
        "network": resources.network,
        "rdma": resources.rdma,
        "unified": resources.unified,
    }
    return (f"linux.resources.{name}" for name, value in members.items() if value)
