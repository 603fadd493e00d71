"""The C side as Python sees it: ``lib`` has the shim's functions and the numbers of ``wire.h``, ``ffi`` is cffi's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from ocirt._native._ffi import ffi

if TYPE_CHECKING:
    from cffi import FFI

HERE = os.path.dirname(__file__)
INIT = f"{HERE}/ocirt-init"
"""The static program that becomes a container's init."""


class Library(Protocol):
    """``host.h``, and every number of ``wire.h`` by its name."""

    def ocirt_spawn(
        self,
        program: int,
        plan: bytes,
        size: int,
        fds: Sequence[int],
        count: int,
        namespaces: int,
        cgroup: int,
        made: FFI.CData,
        /,
    ) -> int: ...
    def ocirt_take_fd(self, pidfd: int, number: int, /) -> int: ...
    def ocirt_bpf(self, command: int, attributes: FFI.CData, size: int, /) -> int: ...
    def ocirt_openat2(self, directory: int, path: bytes, flags: int, resolve: int, /) -> int: ...
    def ocirt_adopt_orphans(self) -> int: ...
    def __getattr__(self, name: str, /) -> int: ...


lib = cast("Library", ffi.dlopen(f"{HERE}/libocirt.so"))

__all__ = ["INIT", "ffi", "lib"]
