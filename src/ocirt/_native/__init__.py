"""The C side as Python sees it: ``lib`` has the shim's functions and the numbers of ``wire.h``, ``ffi`` is cffi's."""

from __future__ import annotations

from pathlib import Path

from ocirt._native._ffi import ffi

HERE = Path(__file__).parent
INIT = HERE / "ocirt-init"
"""The static program that becomes a container's init."""

lib = ffi.dlopen(str(HERE / "libocirt.so"))

__all__ = ["INIT", "ffi", "lib"]
