"""libseccomp, opened when the first profile is compiled: ocirt neither needs its headers nor ships it.

The declarations are in ``_native/seccomp.h``. Functions of the library return a negative errno.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self, cast

from ocirt._native import ffi
from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from cffi import FFI

SONAME: Final = "libseccomp.so.2"
MISSING: Final = f"needs libseccomp, which is not installed: apt-get install libseccomp2 (there is no {SONAME})"

OPTIMIZE, BINARY_TREE = 8, 2
"""SCMP_FLTATR_CTL_OPTIMIZE of seccomp_attr_set(3), and one of its values."""

ABSENT: Final = -1
"""__NR_SCMP_ERROR: libseccomp knows no system call of that name."""

OPERATORS: Final = {
    f"SCMP_CMP_{name}": number for number, name in enumerate(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), 1)
}
"""enum scmp_compare"""


class Condition(NamedTuple):
    """struct scmp_arg_cmp"""

    argument: int
    operator: int
    first: int
    second: int


class _Version(Protocol):
    major: int
    minor: int
    micro: int


class _Library(Protocol):
    """``seccomp.h``"""

    def seccomp_init(self, action: int, /) -> FFI.CData: ...
    def seccomp_release(self, rules: FFI.CData, /) -> None: ...
    def seccomp_arch_native(self) -> int: ...
    def seccomp_arch_resolve_name(self, name: bytes, /) -> int: ...
    def seccomp_arch_add(self, rules: FFI.CData, token: int, /) -> int: ...
    def seccomp_attr_set(self, rules: FFI.CData, attribute: int, value: int, /) -> int: ...
    def seccomp_syscall_resolve_name(self, name: bytes, /) -> int: ...
    def seccomp_syscall_resolve_name_arch(self, token: int, name: bytes, /) -> int: ...
    def seccomp_rule_add_array(
        self, rules: FFI.CData, action: int, number: int, count: int, conditions: FFI.CData, /
    ) -> int: ...
    def seccomp_export_bpf(self, rules: FFI.CData, fd: int, /) -> int: ...
    def seccomp_version(self) -> _Version: ...


@functools.cache
def _library() -> _Library:
    try:
        return cast("_Library", ffi.dlopen(SONAME))
    except OSError as error:
        raise UnsupportedError("linux.seccomp", MISSING) from error


def version() -> str:
    """:raises UnsupportedError: there is no libseccomp."""
    found = _library().seccomp_version()
    return f"{found.major}.{found.minor}.{found.micro}"


def native() -> int:
    """The architecture of this machine, as libseccomp names it to itself."""
    return _library().seccomp_arch_native()


def architecture(name: str) -> int:
    """The token of SCMP_ARCH_*; 0 where this libseccomp is too old to know it."""
    return _library().seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())


def system_call(name: str) -> int:
    """Its number here; ``ABSENT``, or another negative number if only other architectures have it."""
    return _library().seccomp_syscall_resolve_name(name.encode())


def system_call_of(token: int, name: str) -> int:
    """The same on another architecture."""
    return _library().seccomp_syscall_resolve_name_arch(token, name.encode())


class Rules:
    """A filter in the making (seccomp_init(3)).

    What the library refuses is an OSError: the caller knows which member of the profile is to blame.
    """

    def __init__(self, default: int) -> None:
        self._library = _library()
        self._rules = self._library.seccomp_init(default)
        if self._rules == ffi.NULL:
            raise UnsupportedError("linux.seccomp.defaultAction", "is not known to this libseccomp, which is too old")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.seccomp_release(self._rules)

    def add_architecture(self, token: int) -> None:
        """Beside the native one, which is there from the beginning."""
        if token != native():
            _check(self._library.seccomp_arch_add(self._rules, token))

    def arrange_as_tree(self) -> None:
        """Many rules are found quicker by halving than one after the other."""
        _check(self._library.seccomp_attr_set(self._rules, OPTIMIZE, BINARY_TREE))

    def add(self, action: int, number: int, conditions: Sequence[Condition]) -> None:
        """All of the conditions must hold; at most one for each argument."""
        array = ffi.new("struct scmp_arg_cmp[]", list(conditions))
        _check(self._library.seccomp_rule_add_array(self._rules, action, number, len(conditions), array))

    def program(self) -> bytes:
        """An array of struct sock_filter. Older libraries export to files alone, so it is one in memory."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            _check(self._library.seccomp_export_bpf(self._rules, fd))
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
