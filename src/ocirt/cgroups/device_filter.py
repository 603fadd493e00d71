"""The program that filters a version 2 cgroup's use of devices: loaded, attached, replaced (bpf(2)).

The cgroup is never without one meanwhile: a new program is attached before, or in the same call as, the old one goes.
It needs no detaching, for it ends with its cgroup; every cgroup below is filtered by it as well.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ocirt._native import ffi, lib
from ocirt.cgroups.bpf import INSTRUCTION, Program
from ocirt.cgroups.devices import ORIGIN
from ocirt.errors import SetupError

if TYPE_CHECKING:
    from cffi import FFI

    from ocirt.cgroups.files import Cgroup

COMMANDS = {
    "BPF_PROG_LOAD": 5,
    "BPF_PROG_ATTACH": 8,
    "BPF_PROG_DETACH": 9,
    "BPF_PROG_GET_FD_BY_ID": 13,
    "BPF_PROG_QUERY": 16,
}
"""enum bpf_cmd of linux/bpf.h, as all numbers here."""

PROG_TYPE_CGROUP_DEVICE, CGROUP_DEVICE = 15, 6
"""The type of the program, and of what it is attached as."""

ALLOW_MULTI, REPLACE = 1 << 1, 1 << 2
"""BPF_F_*: beside programs of cgroups above and below; in another's place."""

MOST_ATTACHED = 64
"""BPF_CGROUP_MAX_PROGS"""

LICENSE, NAME = b"Apache-2.0", b"ocirt_devices"
"""Who may call which of the kernel's functions, of which the program calls none; and what bpftool(8) shows."""

_ATTRIBUTES_SIZE = 128
"""More than any of the members below; what a kernel does not know has to be zero, and what it writes back has room."""
_LOAD = struct.Struct("=IIQQIIQII16s")
_ATTACH = struct.Struct("=IIIII")
_QUERY = struct.Struct("=IIIIQI")
_BY_NUMBER = struct.Struct("=III")

_LOG_SIZE = 1 << 20

HINTS = {
    errno.EPERM: "it takes CAP_SYS_ADMIN, or CAP_BPF and CAP_NET_ADMIN, outside any user namespace; and no program "
    "on the cgroups above, or on this one, that was attached without BPF_F_ALLOW_MULTI",
    errno.ENOSYS: "the kernel needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF",
    errno.EINVAL: "the kernel needs CONFIG_CGROUP_BPF",
}


def attach_to(cgroup: Cgroup, program: Program) -> None:
    """Let the program filter what a container does with devices, if it has a version 2 cgroup of its own."""
    directory = cgroup.open_v2()
    if directory is not None:
        try:
            attach(directory, program)
        finally:
            os.close(directory)


def attach(directory: int, program: Program) -> None:
    """Let the program filter what an open cgroup directory and all below it do with devices, and no other one.

    A caller without the right to do so is no reason to fail where the program would allow everything.
    """
    try:
        old = attached(directory)
        if program.everything and not old:
            return
        _replace(directory, program, old)
    except SetupError as error:
        if not (program.everything and error.errno == errno.EPERM):
            raise


def attached(directory: int) -> tuple[int, ...]:
    """The numbers of the programs of this cgroup itself."""
    numbers = ffi.new("uint32_t[]", MOST_ATTACHED)
    attributes = _Attributes(_QUERY, directory, CGROUP_DEVICE, 0, 0, _address(numbers), MOST_ATTACHED)
    attributes.call("BPF_PROG_QUERY")
    *_, count = attributes.values()
    return tuple(numbers[index] for index in range(count))


def _replace(directory: int, program: Program, old: tuple[int, ...]) -> None:
    with ExitStack() as stack:
        others = list(_opened(old, stack))
        new = _load(program.code)
        stack.callback(os.close, new)
        if len(others) == 1:
            flags = ALLOW_MULTI | REPLACE
            _Attributes(_ATTACH, directory, new, CGROUP_DEVICE, flags, others[0]).call("BPF_PROG_ATTACH")
            return
        _Attributes(_ATTACH, directory, new, CGROUP_DEVICE, ALLOW_MULTI, 0).call("BPF_PROG_ATTACH")
        for other in others:
            _Attributes(_ATTACH, directory, other, CGROUP_DEVICE, 0, 0).call("BPF_PROG_DETACH")


def _opened(numbers: Iterable[int], stack: ExitStack) -> Iterator[int]:
    for number in numbers:
        fd = _Attributes(_BY_NUMBER, number, 0, 0).call("BPF_PROG_GET_FD_BY_ID")
        stack.callback(os.close, fd)
        yield fd


def _load(code: bytes) -> int:
    """A descriptor of the program. Only one that is refused is loaded a second time, to hear why."""
    instructions, license = ffi.from_buffer(code), ffi.new("char[]", LICENSE)
    values = (PROG_TYPE_CGROUP_DEVICE, len(code) // INSTRUCTION.size, _address(instructions), _address(license))
    try:
        return _Attributes(_LOAD, *values, 0, 0, 0, 0, 0, NAME).call("BPF_PROG_LOAD")
    except SetupError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
        refusal = error
    log = ffi.new("char[]", _LOG_SIZE)
    with suppress(SetupError):  # the same again, or that the log is longer than there is room
        return _Attributes(_LOAD, *values, 1, _LOG_SIZE, _address(log), 0, 0, NAME).call("BPF_PROG_LOAD")
    if words := _last_words(log):
        refusal.detail, refusal.hint = words, ""
    raise refusal


def _last_words(log: FFI.CData) -> str:
    """What the verifier said last; statistics follow what it complains of."""
    text = ffi.string(log)
    lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
    said = [line for line in lines if not line.startswith(("processed ", "verification time", "stack depth"))]
    return said[-1] if said else ""


class _Attributes:
    """A union bpf_attr, of which one member is used."""

    def __init__(self, member: struct.Struct, *values: int | bytes) -> None:
        self._member = member
        self._bytes = ffi.new("char[]", _ATTRIBUTES_SIZE)
        member.pack_into(ffi.buffer(self._bytes), 0, *values)

    def call(self, command: str) -> int:
        """bpf(2)."""
        result = lib.ocirt_bpf(COMMANDS[command], self._bytes, _ATTRIBUTES_SIZE)
        if result < 0:
            error = OSError(-result, os.strerror(-result))
            raise SetupError(ORIGIN, "AllowDevices", f"bpf({command})", -result, "", HINTS.get(-result, "")) from error
        return result

    def values(self) -> tuple[int, ...]:
        """As the kernel left them."""
        return self._member.unpack_from(ffi.buffer(self._bytes))


def _address(data: FFI.CData) -> int:
    return int(ffi.cast("uintptr_t", data))
