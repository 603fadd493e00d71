"""config.json as frozen values: the OCI runtime specification 1.3.0, its Linux part whole.

Read the files in this order::

    base.py        what every object has in common
    config.py      Spec, Root, Mount, Process, User, Hooks, …        (config.md)
    linux.py       Linux, Namespace, IDMapping, Device, Resources, … (config-linux.md)
    limits.py      Memory, CPU, BlockIO, Pids, …                     (config-linux.md, Control groups)
    seccomp.py     Seccomp, Syscall, SyscallArg                      (config-linux.md, Seccomp)
    scheduling.py  Scheduler, IOPriority, MemoryPolicy, …
    options.py     the table of mount options
    default.py     what ``runc spec`` writes
    text.py        JSON text to JSON values, strictly
    convert.py     JSON values to objects and back
    check.py       the rules, and in check_process, check_mounts, check_linux and check_limits more of them
    known.py       the names that the rules know, and "did you mean"
    imported.py    a configuration made of somebody else's, and the notes of what it lacks
    accounts.py    passwd(5) and group(5) of a root filesystem, and whom ``alice:audio`` means there
    docker_inspect.py, and docker_json, docker_limits, docker_mounts, docker_security, docker_profile
    engine.py      a config.json that an engine made, without the engine

``limits``, ``seccomp`` and ``scheduling`` are loaded when a name of theirs is first used, ``convert`` and ``check``
when something is first loaded, dumped or checked, cattrs when somebody asks for ``convert.CONVERTER``, and what
others' configurations need when there is one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ocirt.spec.base import JSON, OCIObject
from ocirt.spec.config import (
    Capabilities,
    ConsoleSize,
    Hook,
    Hooks,
    Mount,
    Process,
    Rlimit,
    Root,
    Spec,
    User,
)
from ocirt.spec.linux import (
    Device,
    DeviceRule,
    IDMapping,
    Linux,
    Namespace,
    NetDevice,
    Resources,
    TimeOffset,
)

if TYPE_CHECKING:
    from ocirt.spec.limits import (
        CPU,
        RDMA,
        BlockIO,
        HugepageLimit,
        InterfacePriority,
        Memory,
        Network,
        Pids,
        ThrottleDevice,
        WeightDevice,
    )
    from ocirt.spec.scheduling import (
        ExecCPUAffinity,
        IntelRdt,
        IOPriority,
        MemoryPolicy,
        Personality,
        Scheduler,
    )
    from ocirt.spec.seccomp import Seccomp, Syscall, SyscallArg

__all__ = [
    "CPU",
    "JSON",
    "RDMA",
    "BlockIO",
    "Capabilities",
    "ConsoleSize",
    "Device",
    "DeviceRule",
    "ExecCPUAffinity",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IDMapping",
    "IOPriority",
    "IntelRdt",
    "InterfacePriority",
    "Linux",
    "Memory",
    "MemoryPolicy",
    "Mount",
    "Namespace",
    "NetDevice",
    "Network",
    "OCIObject",
    "Personality",
    "Pids",
    "Process",
    "Resources",
    "Rlimit",
    "Root",
    "Scheduler",
    "Seccomp",
    "Spec",
    "Syscall",
    "SyscallArg",
    "ThrottleDevice",
    "TimeOffset",
    "User",
    "WeightDevice",
]

_LAZY = {
    **dict.fromkeys(("BlockIO", "CPU", "HugepageLimit", "InterfacePriority", "Memory", "Network"), "limits"),
    **dict.fromkeys(("Pids", "RDMA", "ThrottleDevice", "WeightDevice"), "limits"),
    **dict.fromkeys(("ExecCPUAffinity", "IOPriority", "IntelRdt"), "scheduling"),
    **dict.fromkeys(("MemoryPolicy", "Personality", "Scheduler"), "scheduling"),
    **dict.fromkeys(("Seccomp", "Syscall", "SyscallArg"), "seccomp"),
}


def __getattr__(name: str) -> object:
    """Load the module of a rarer class (PEP 562), and keep the class for the next time."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value
