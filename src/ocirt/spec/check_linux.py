"""The rules for ``linux`` (config-linux.md), seccomp and limits apart: ``check_limits.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ocirt.errors import Problem
from ocirt.spec import check_limits
from ocirt.spec.base import member, relation
from ocirt.spec.check_mounts import id_mappings
from ocirt.spec.check_process import NO_ID, cpu_list
from ocirt.spec.known import (
    MEMORY_FLAGS,
    MEMORY_MODES,
    NAMESPACES,
    PERSONALITIES,
    SECCOMP_ACTIONS,
    SECCOMP_ARCHITECTURES,
    SECCOMP_FLAGS,
    SECCOMP_OPERATORS,
    did_you_mean,
)
from ocirt.spec.options import PROPAGATION

if TYPE_CHECKING:
    from ocirt.spec.linux import Device, Linux, Namespace, NetDevice, TimeOffset
    from ocirt.spec.scheduling import IntelRdt, MemoryPolicy, Personality
    from ocirt.spec.seccomp import Seccomp, Syscall

CLOCKS: Final = ("monotonic", "boottime")
MAX_MAJOR: Final = 2**12 - 1
MAX_MINOR: Final = 2**20 - 1
GREATEST_RESULT: Final = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 65535}
"""seccomp(2): sixteen bits; of error numbers those below MAX_ERRNO, which the kernel takes and libseccomp does not."""
NO_CLASSES: Final = ("", ".", "..", "info", "mon_data", "mon_groups")
"""What else lies where resctrl has its classes."""
_INTERFACE: Final = re.compile(r"[^\s/:]{1,15}")


def linux(value: Linux) -> Iterator[Problem]:
    yield from _namespaces(value.namespaces)
    yield from id_mappings(value.uid_mappings, "linux.uidMappings")
    yield from id_mappings(value.gid_mappings, "linux.gidMappings")
    yield from _time_offsets(value.time_offsets)
    for index, device in enumerate(value.devices):
        yield from _device(device, f"linux.devices[{index}]")
    yield from _net_devices(value.net_devices)
    if value.resources is not None:
        yield from check_limits.resources(value.resources, "linux.resources")
    if value.intel_rdt is not None:
        yield from _intel_rdt(value.intel_rdt)
    if value.memory_policy is not None:
        yield from _memory_policy(value.memory_policy)
    yield from _sysctl(value.sysctl)
    if value.seccomp is not None:
        yield from _seccomp(value.seccomp)
    if value.rootfs_propagation is not None:
        yield from _name(value.rootfs_propagation, PROPAGATION, "linux.rootfsPropagation", "a mount propagation")
    yield from _absolute(value.masked_paths, "linux.maskedPaths")
    yield from _absolute(value.readonly_paths, "linux.readonlyPaths")
    if value.personality is not None:
        yield from _personality(value.personality)


def _name(name: str, known: Sequence[str] | frozenset[str], at: str, what: str) -> Iterator[Problem]:
    if name not in known:
        yield Problem(at, name, f"is not {what}{did_you_mean(name, known)}")


def _names(names: Sequence[str], known: Sequence[str], at: str, what: str) -> Iterator[Problem]:
    for index, name in enumerate(names):
        yield from _name(name, known, f"{at}[{index}]", what)


def _absolute(paths: Sequence[str], at: str) -> Iterator[Problem]:
    for index, path in enumerate(paths):
        if not path.startswith("/"):
            yield Problem(f"{at}[{index}]", path, "must be an absolute path")


def _namespaces(values: Sequence[Namespace]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for index, namespace in enumerate(values):
        at = f"linux.namespaces[{index}]"
        yield from _name(namespace.type, NAMESPACES, f"{at}.type", "a namespace")
        if namespace.type in seen:
            rule = f'is listed twice: malformed spec file: duplicated ns "{namespace.type}"'
            yield Problem(relation(f"{at}.type", seen[namespace.type]), namespace.type, rule)
        if namespace.path is not None and not namespace.path.startswith("/"):
            yield Problem(f"{at}.path", namespace.path, "must be an absolute path")
        seen.setdefault(namespace.type, f"{at}.type")


def _time_offsets(values: Mapping[str, TimeOffset]) -> Iterator[Problem]:
    for clock, offset in values.items():
        at = member("linux.timeOffsets", clock)
        yield from _name(clock, CLOCKS, at, "a clock of time namespaces")
        if offset.nanosecs > 999_999_999:
            yield Problem(f"{at}.nanosecs", offset.nanosecs, "is a second or more")


def _device(value: Device, at: str) -> Iterator[Problem]:
    if value.type not in ("c", "b", "u", "p"):
        yield Problem(f"{at}.type", value.type, "is not a valid device type: c, b, u or p")
    if not value.path.startswith("/"):
        yield Problem(f"{at}.path", value.path, "must be an absolute path")
    for name, number, most in (("major", value.major, MAX_MAJOR), ("minor", value.minor, MAX_MINOR)):
        if number is None:
            if value.type != "p":
                rule = f"is required for a device of type {value.type}"
                yield Problem(relation(f"{at}.{name}", f"{at}.type"), None, rule)
        elif not 0 <= number <= most:
            yield Problem(f"{at}.{name}", number, f"must be within 0 and {most}")
    if value.file_mode is not None and value.file_mode > 0o177777:
        yield Problem(f"{at}.fileMode", value.file_mode, "has more bits than a file mode")
    for name, owner in (("uid", value.uid), ("gid", value.gid)):
        if owner == NO_ID:
            yield Problem(f"{at}.{name}", owner, "is no ID but what the kernel takes for none")


def _net_devices(values: Mapping[str, NetDevice]) -> Iterator[Problem]:
    for name, device in values.items():
        at = member("linux.netDevices", name)
        if not _is_interface(name) or "%" in name:
            yield Problem(at, None, f'invalid network device name "{name}"')
        if device.name is not None and not _is_interface(device.name):
            yield Problem(f"{at}.name", device.name, f'is an invalid network device name "{device.name}"')
    seen: dict[str, str] = {}
    for name, device in values.items():
        new = device.name or name
        if new in seen and "%" not in new:
            here, there = (f"{member('linux.netDevices', key)}.name" for key in (name, seen[new]))
            yield Problem(relation(here, there), new, "is what two devices are to be called in the container")
        seen[new] = name


def _is_interface(name: str) -> bool:
    """What dev_valid_name() of the kernel takes; a single ``%d`` is a template, for the kernel to put a number in."""
    plain = "%" not in name.replace("%d", "", 1)
    return plain and _INTERFACE.fullmatch(name) is not None and len(_bytes(name)) <= 15 and name not in (".", "..")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _intel_rdt(value: IntelRdt) -> Iterator[Problem]:
    at = "linux.intelRdt"
    name = value.clos_id
    if name is not None and name != "/" and ("/" in name or name in NO_CLASSES):
        rule = f'must be the name of a class of resctrl: invalid intelRdt.ClosID "{name}"'
        yield Problem(f"{at}.closID", name, rule)
    lines = {f"schemata[{index}]": line for index, line in enumerate(value.schemata)}
    if value.l3_cache_schema is not None:
        lines["l3CacheSchema"] = value.l3_cache_schema
    if value.mem_bw_schema is not None:
        lines["memBwSchema"] = value.mem_bw_schema
        if not value.mem_bw_schema.startswith("MB:"):
            yield Problem(f"{at}.memBwSchema", value.mem_bw_schema, "must begin with MB:")
    for place, line in lines.items():
        if "\n" in line:
            yield Problem(f"{at}.{place}", line, "must be a single line")


def _memory_policy(value: MemoryPolicy) -> Iterator[Problem]:
    at = "linux.memoryPolicy"
    yield from _name(value.mode, MEMORY_MODES, f"{at}.mode", "a memory policy mode")
    yield from _names(value.flags, MEMORY_FLAGS, f"{at}.flags", "a memory policy flag")
    if value.nodes:
        yield from cpu_list(value.nodes, f"{at}.nodes")
        if value.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            rule = f"is refused: memory policy mode {value.mode} requires no nodes"
            yield Problem(relation(f"{at}.nodes", f"{at}.mode"), value.nodes, rule)
    elif value.mode in ("MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY"):
        rule = f"memory policy mode {value.mode} requires at least one node"
        yield Problem(relation(f"{at}.nodes", f"{at}.mode"), value.nodes, rule)


def _sysctl(values: Mapping[str, str]) -> Iterator[Problem]:
    """A key is a path below /proc/sys, parted by dots or slashes."""
    for key in values:
        if not all(part and part not in (".", "..") for part in sysctl_path(key).split("/")):
            yield Problem(member("linux.sysctl", key), None, f"{key!r} does not name a file below /proc/sys")


def sysctl_path(key: str) -> str:
    """sysctl.d(5): the first dot or slash says what parts the names; where it is a dot, a slash is a dot in a name."""
    dot, slash = key.find("."), key.find("/")
    return key.translate({ord("."): "/", ord("/"): "."}) if dot >= 0 and (slash < 0 or dot < slash) else key


def _personality(value: Personality) -> Iterator[Problem]:
    yield from _name(value.domain, PERSONALITIES, "linux.personality.domain", "a personality domain")
    if value.flags:
        yield Problem("linux.personality.flags", list(value.flags), "must be empty: no flag is defined yet")


def _seccomp(value: Seccomp) -> Iterator[Problem]:
    at = "linux.seccomp"
    if not value.default_action:
        if value.syscalls:
            yield Problem(f"{at}.defaultAction", None, "is required")
        return
    yield from _name(value.default_action, SECCOMP_ACTIONS, f"{at}.defaultAction", "a seccomp action")
    if value.default_action == "SCMP_ACT_NOTIFY":
        rule = "is refused: SCMP_ACT_NOTIFY cannot be used as default action"
        yield Problem(f"{at}.defaultAction", value.default_action, rule)
    number = relation(f"{at}.defaultErrnoRet", f"{at}.defaultAction")
    yield from _errno(value.default_action, value.default_errno_ret, number)
    yield from _names(value.architectures, SECCOMP_ARCHITECTURES, f"{at}.architectures", "a seccomp architecture")
    yield from _names(value.flags or (), SECCOMP_FLAGS, f"{at}.flags", "a seccomp flag")
    if value.listener_metadata is not None and value.listener_path is None:
        where = relation(f"{at}.listenerMetadata", f"{at}.listenerPath")
        yield Problem(where, value.listener_metadata, "must not be set without listenerPath")
    for index, syscall in enumerate(value.syscalls):
        yield from _syscall(syscall, f"{at}.syscalls[{index}]")


def _syscall(value: Syscall, at: str) -> Iterator[Problem]:
    if not value.names:
        yield Problem(f"{at}.names", None, "must name at least one system call")
    yield from _name(value.action, SECCOMP_ACTIONS, f"{at}.action", "a seccomp action")
    if value.action == "SCMP_ACT_NOTIFY" and "write" in value.names:
        place = value.names.index("write")
        rule = "is refused: SCMP_ACT_NOTIFY cannot be used for the write syscall"
        yield Problem(relation(f"{at}.names[{place}]", f"{at}.action"), "write", rule)
    yield from _errno(value.action, value.errno_ret, relation(f"{at}.errnoRet", f"{at}.action"))
    for index, arg in enumerate(value.args):
        if arg.index > 5:
            yield Problem(f"{at}.args[{index}].index", arg.index, "must be at most 5: system calls have six arguments")
        yield from _name(arg.op, SECCOMP_OPERATORS, f"{at}.args[{index}].op", "a seccomp operator")


def _errno(action: str, number: int | None, at: str) -> Iterator[Problem]:
    """config-linux.md: an error number for an action that returns none must be an error."""
    if number is not None and action in SECCOMP_ACTIONS and action not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        yield Problem(at, number, f"has no meaning for {action}")
    elif number is not None and number > GREATEST_RESULT.get(action, number):
        yield Problem(at, number, f"is more than {action} can return, which is {GREATEST_RESULT[action]}")
