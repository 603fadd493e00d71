"""Limits of config.json as files of cgroup version 2 (Documentation/admin-guide/cgroup-v2.rst of the kernel).

The members of ``linux.resources`` are named after version 1, so their values are converted: with runc's formulas,
since a container should get the same share of a machine from either runtime. What has no counterpart is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import settings, v1
from ocirt.cgroups.settings import CORE, RESOURCES, Controllers, Setting, refuse_on_v2
from ocirt.errors import UnsupportedError
from ocirt.spec.base import member

if TYPE_CHECKING:
    from ocirt.spec.limits import CPU, BlockIO, Memory
    from ocirt.spec.linux import Resources

DEFAULT_PERIOD: Final = 100_000
"""Microseconds, the kernel's own."""

_RATES: Final = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}


def weight_of_shares(shares: int) -> int:
    """``cpu.weight`` for ``cpu.shares``: a curve through (2, 1), (1024, 100) and (262144, 10000).

    A straight line would give version 1's default a weight of 39 rather than version 2's default of 100.
    """
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    bits = math.log2(shares)
    return math.ceil(10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """From the range 10 … 1000 of version 1 to 1 … 10000."""
    return 1 + (weight - 10) * 9999 // 990


def swap_max(limit: int, swap: int) -> int:
    """``memory.swap.max``, -1 for unlimited and 0 for none, of limits of memory and of memory with swap.

    :raises UnsupportedError: there is no amount that says the same.
    """
    origin = f"{RESOURCES}.memory.swap"
    if limit == -1 or swap == -1:
        return swap or -1
    if limit == 0:
        raise UnsupportedError(origin, "unable to set swap limit without memory limit")
    if swap < limit:
        raise UnsupportedError(origin, "memory+swap limit should be >= memory limit")
    return swap - limit


def _pids(resources: Resources, strict: bool) -> Iterator[Setting]:
    """The same file."""
    return v1.CONTROLLERS["pids"](resources, strict)


def _memory(resources: Resources, strict: bool) -> Iterator[Setting]:
    memory = resources.memory
    if memory is None:
        return
    at = f"{RESOURCES}.memory"
    _refuse_in_memory(memory, at, strict)
    limit, swap = memory.limit or 0, memory.swap or 0
    checked = "memory.current" if memory.check_before_update else ""
    if swap or limit == -1:
        text = _amount(swap_max(limit, swap))
        origin = f"{at}.swap" if swap else f"{at}.limit"
        above = checked if limit == -1 and swap > 0 else ""  # otherwise the limit of memory is the lower one
        yield Setting("memory", "memory.swap.max", (text,), origin, text in ("max", "0"), above=above)
    if limit:
        above = checked if limit > 0 else ""
        yield Setting("memory", "memory.max", (_amount(limit),), f"{at}.limit", above=above)
    if memory.reservation:
        yield Setting("memory", "memory.low", (_amount(memory.reservation),), f"{at}.reservation")


def _amount(number: int) -> str:
    return "max" if number == -1 else str(number)


def _refuse_in_memory(memory: Memory, at: str, strict: bool) -> None:
    """``useHierarchy`` is no question there, and what engines write for "unset" asks for nothing."""
    members = {
        "kernel": memory.kernel not in (None, -1, 0),
        "kernelTCP": memory.kernel_tcp not in (None, -1, 0),
        "swappiness": memory.swappiness not in (None, v1.UNSET, 0),
        "disableOOMKiller": memory.disable_oom_killer,
    }
    for name, wanted in members.items():
        if wanted:
            refuse_on_v2(f"{at}.{name}", strict=strict)


def _io(resources: Resources, strict: bool) -> Iterator[Setting]:
    block_io = resources.block_io
    if block_io is None:
        return
    at = f"{RESOURCES}.blockIO"
    if block_io.leaf_weight:
        refuse_on_v2(f"{at}.leafWeight", strict=strict)
    if block_io.weight:
        yield _weight("", block_io.weight, f"{at}.weight")
    for index, device in enumerate(block_io.weight_device):
        place = f"{at}.weightDevice[{index}]"
        if device.leaf_weight:
            refuse_on_v2(f"{place}.leafWeight", strict=strict)
        if device.weight:
            yield _weight(f"{device.major}:{device.minor} ", device.weight, f"{place}.weight")
    yield from _io_max(block_io, at)


def _weight(device: str, weight: int, origin: str) -> Setting:
    """BFQ has version 1's range, what there is without it version 2's."""
    plain = Setting("io", "io.weight", (f"{device}{io_weight(weight)}",), origin)
    return Setting("io", "io.bfq.weight", (f"{device}{weight}",), origin, otherwise=plain)


def _io_max(block_io: BlockIO, at: str) -> Iterator[Setting]:
    for name, what, devices in v1.throttles(block_io):
        for index, limited in enumerate(devices):
            value = f"{limited.major}:{limited.minor} {_RATES[what]}={limited.rate or 'max'}"
            yield Setting("io", "io.max", (value,), f"{at}.{name}[{index}].rate")


def _cpu(resources: Resources, strict: bool) -> Iterator[Setting]:
    cpu = resources.cpu
    if cpu is None:
        return
    at = f"{RESOURCES}.cpu"
    if cpu.realtime_runtime:
        refuse_on_v2(f"{at}.realtimeRuntime", strict=strict)
    if cpu.realtime_period:
        refuse_on_v2(f"{at}.realtimePeriod", strict=strict)
    if cpu.idle is not None:  # before the weight, which an idle cgroup cannot have
        yield Setting("cpu", "cpu.idle", (str(cpu.idle),), f"{at}.idle", cpu.idle == 0)
    if cpu.shares:
        yield Setting("cpu", "cpu.weight", (str(weight_of_shares(cpu.shares)),), f"{at}.shares")
    if cpu.burst is not None:
        yield Setting("cpu", "cpu.max.burst", (str(cpu.burst),), f"{at}.burst", cpu.burst == 0)
    if cpu.quota or cpu.period:
        origin = f"{at}.quota" if cpu.quota else f"{at}.period"
        yield Setting("cpu", "cpu.max", (_bandwidth(cpu),), origin)


def _bandwidth(cpu: CPU) -> str:
    quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
    return f"{quota} {cpu.period or DEFAULT_PERIOD}"


def _cpuset(resources: Resources, strict: bool) -> Iterator[Setting]:
    """The same files."""
    return v1.CONTROLLERS["cpuset"](resources, strict)


def _hugetlb(resources: Resources, _: bool) -> Iterator[Setting]:
    for index, limit in enumerate(resources.hugepage_limits):
        origin, size = f"{RESOURCES}.hugepageLimits[{index}].limit", settings.page_size(limit.page_size)
        values = (str(limit.limit),)
        yield Setting("hugetlb", f"hugetlb.{size}.max", values, origin)
        yield Setting("hugetlb", f"hugetlb.{size}.rsvd.max", values, origin, optional=True)


def _rdma(resources: Resources, strict: bool) -> Iterator[Setting]:
    return v1.CONTROLLERS["rdma"](resources, strict)


CONTROLLERS: Final[Mapping[str, v1.Convert]] = {
    "pids": _pids,
    "memory": _memory,
    "io": _io,
    "cpu": _cpu,
    "cpuset": _cpuset,
    "hugetlb": _hugetlb,
    "rdma": _rdma,
}
"""In the order of application; ``unified`` comes after them all, and has the last word."""


def refuse_network(resources: Resources, *, strict: bool) -> None:
    """Version 2 has no controllers for it: there one would filter by cgroup."""
    network = resources.network
    if network is None:
        return
    if network.class_id:
        refuse_on_v2(f"{RESOURCES}.network.classID", strict=strict)
    if network.priorities:
        refuse_on_v2(f"{RESOURCES}.network.priorities", strict=strict)


def unified(resources: Resources, controllers: Controllers) -> Iterator[Setting]:
    """Files by their names. The kernel takes one line at a time.

    :raises UnsupportedError: no such controller is there.
    """
    for key, text in resources.unified.items():
        origin = member(f"{RESOURCES}.unified", key)
        if not controllers.unified:
            raise UnsupportedError(origin, "invalid configuration: cannot use unified on cgroup v1")
        controller = key.partition(".")[0]
        if controller != CORE and controller not in controllers.v2:
            rule = f'unified resource "{key}" can\'t be set: controller "{controller}" not available'
            raise UnsupportedError(origin, rule)
        lines = tuple(line for line in text.split("\n") if line)
        yield Setting(
            controller, key, lines or ("\n",), origin, version=2
        )  # an empty write(2) would not reach the file
