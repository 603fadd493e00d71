"""The rules for ``linux.resources`` (config-linux.md, Control groups); what the kernel takes, it says itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ocirt.errors import Problem
from ocirt.spec.base import member, relation
from ocirt.spec.check_process import cpu_list

if TYPE_CHECKING:
    from ocirt.spec.limits import CPU, BlockIO, Memory
    from ocirt.spec.linux import DeviceRule, Resources

UNSET: Final = 2**64 - 1
"""-1 as engines write it where the schema has an unsigned number."""

_PAGE_SIZE: Final = re.compile(r"[1-9][0-9]*[KMG]B", re.ASCII)


def resources(value: Resources, at: str) -> Iterator[Problem]:
    for index, device in enumerate(value.devices):
        yield from _device_rule(device, f"{at}.devices[{index}]")
    if value.memory is not None:
        yield from _memory(value.memory, f"{at}.memory")
    if value.cpu is not None:
        yield from _cpu(value.cpu, f"{at}.cpu")
    if value.block_io is not None:
        yield from _block_io(value.block_io, f"{at}.blockIO")
    if value.pids is not None and value.pids.limit < -1:
        yield Problem(f"{at}.pids.limit", value.pids.limit, "must be a number of tasks, or -1 for unlimited")
    for index, limit in enumerate(value.hugepage_limits):
        if not _PAGE_SIZE.fullmatch(limit.page_size):
            rule = "is not a page size such as 64KB, 2MB or 1GB"
            yield Problem(f"{at}.hugepageLimits[{index}].pageSize", limit.page_size, rule)
    for name, limits in value.rdma.items():
        if limits.hca_handles is None and limits.hca_objects is None:
            yield Problem(member(f"{at}.rdma", name), None, "must have hcaHandles or hcaObjects")
    yield from _unified(value, f"{at}.unified")


def _device_rule(value: DeviceRule, at: str) -> Iterator[Problem]:
    if value.type is not None and value.type not in ("a", "b", "c"):
        yield Problem(f"{at}.type", value.type, "is an invalid cgroup device type: must be a, b or c")
    if value.access is not None and (not value.access or set(value.access) - set("rwm")):
        yield Problem(f"{at}.access", value.access, "must be made of r, w and m")
    for name, number in (("major", value.major), ("minor", value.minor)):
        if number is not None and number < -1:
            yield Problem(f"{at}.{name}", number, "must be a device number, or -1 for all")


def _memory(value: Memory, at: str) -> Iterator[Problem]:
    amounts = (
        ("limit", value.limit),
        ("reservation", value.reservation),
        ("swap", value.swap),
        ("kernel", value.kernel),
        ("kernelTCP", value.kernel_tcp),
    )
    for name, amount in amounts:
        if amount is not None and amount < -1:
            yield Problem(f"{at}.{name}", amount, "must be a number of bytes, or -1 for unlimited")
    if value.swappiness is not None and 100 < value.swappiness < UNSET:
        yield Problem(f"{at}.swappiness", value.swappiness, "must be within 0 and 100")
    if value.swap is not None and value.swap > 0 and value.limit is not None and value.swap < value.limit:
        rule = "is below the limit: memory+swap limit should be >= memory limit"
        yield Problem(relation(f"{at}.swap", f"{at}.limit"), value.swap, rule)


def _cpu(value: CPU, at: str) -> Iterator[Problem]:
    for name, cpus in (("cpus", value.cpus), ("mems", value.mems)):
        if cpus:
            yield from cpu_list(cpus, f"{at}.{name}")
    if value.idle is not None and value.idle not in (0, 1):
        yield Problem(f"{at}.idle", value.idle, "must be 0 or 1")


def _block_io(value: BlockIO, at: str) -> Iterator[Problem]:
    weights = [("weight", value.weight), ("leafWeight", value.leaf_weight)]
    for index, device in enumerate(value.weight_device):
        if device.weight is None and device.leaf_weight is None:
            yield Problem(f"{at}.weightDevice[{index}]", None, "must have weight or leafWeight")
        weights.append((f"weightDevice[{index}].weight", device.weight))
        weights.append((f"weightDevice[{index}].leafWeight", device.leaf_weight))
    for name, weight in weights:
        if weight and not 10 <= weight <= 1000:
            yield Problem(f"{at}.{name}", weight, "must be within 10 and 1000")


def _unified(value: Resources, at: str) -> Iterator[Problem]:
    """Keys are names of files in a directory of cgroup v2."""
    for key in value.unified:
        if "/" in key:
            rule = f"unified resource {key!r} must be a file name (no slashes)"
            yield Problem(member(at, key), None, rule)
        elif "." not in key.strip("."):
            rule = f"unified resource {key!r} must be in the form CONTROLLER.PARAMETER"
            yield Problem(member(at, key), None, rule)
