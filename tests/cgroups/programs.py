"""Device programs as others attach them, and what became of one."""

from __future__ import annotations

import errno
import os

from ocirt.cgroups import device_filter
from ocirt.cgroups.bpf import Program
from ocirt.errors import SetupError


def attach_beside(directory: int, program: Program, flags: int = device_filter.ALLOW_MULTI) -> None:
    """Without a look at what is there."""
    fd = device_filter._load(program.code)
    try:
        values = (directory, fd, device_filter.CGROUP_DEVICE, flags, 0)
        device_filter._Attributes(device_filter._ATTACH, *values).call("BPF_PROG_ATTACH")
    finally:
        os.close(fd)


def is_loaded(number: int) -> bool:
    """Whether the kernel still has this program."""
    try:
        os.close(device_filter._Attributes(device_filter._BY_NUMBER, number, 0, 0).call("BPF_PROG_GET_FD_BY_ID"))
    except SetupError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
