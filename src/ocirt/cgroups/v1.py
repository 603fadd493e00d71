"""Limits of config.json as files of cgroup version 1 (Documentation/admin-guide/cgroup-v1 of the kernel).

Most members of ``linux.resources`` are named after these files. A limit of 0 is no limit at all where the kernel
could not mean anything by it; engines write it for "unset".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import settings
from ocirt.cgroups.settings import RESOURCES, Setting
from ocirt.spec.base import member

if TYPE_CHECKING:
    from ocirt.spec.limits import BlockIO, ThrottleDevice
    from ocirt.spec.linux import Resources

Convert = Callable[["Resources", bool], Iterator[Setting]]
"""One controller's settings; the second argument is whether what cannot be honoured is an error."""

UNSET: Final = 2**64 - 1
"""-1 as engines write it where the schema has an unsigned number."""


def _cpuset(resources: Resources, _: bool) -> Iterator[Setting]:
    cpu = resources.cpu
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)) if cpu else ():
        if value:
            yield Setting("cpuset", f"cpuset.{name}", (value,), f"{RESOURCES}.cpu.{name}")


def _memory(resources: Resources, strict: bool) -> Iterator[Setting]:
    memory = resources.memory
    if memory is None:
        return
    at = f"{RESOURCES}.memory"
    if memory.use_hierarchy:  # the only way there is since Linux 5.11, and the file may go one day
        yield Setting("memory", "memory.use_hierarchy", ("1",), f"{at}.useHierarchy", optional=True)
    if memory.limit:
        yield Setting("memory", "memory.limit_in_bytes", (str(memory.limit),), f"{at}.limit")
    if memory.swap:
        yield Setting("memory", "memory.memsw.limit_in_bytes", (str(memory.swap),), f"{at}.swap")
    elif memory.limit == -1:  # an unlimited amount of memory would be held by the old limit of memory and swap
        yield Setting("memory", "memory.memsw.limit_in_bytes", ("-1",), f"{at}.limit", optional=True)
    if strict and memory.kernel:  # no kernel since 5.16 takes it, as it will tell
        yield Setting("memory", "memory.kmem.limit_in_bytes", (str(memory.kernel),), f"{at}.kernel")
    if strict and memory.kernel_tcp:
        yield Setting("memory", "memory.kmem.tcp.limit_in_bytes", (str(memory.kernel_tcp),), f"{at}.kernelTCP")
    if memory.reservation:
        yield Setting("memory", "memory.soft_limit_in_bytes", (str(memory.reservation),), f"{at}.reservation")
    if memory.disable_oom_killer:
        yield Setting("memory", "memory.oom_control", ("1",), f"{at}.disableOOMKiller")
    if memory.swappiness is not None and memory.swappiness != UNSET:
        yield Setting("memory", "memory.swappiness", (str(memory.swappiness),), f"{at}.swappiness")


def _cpu(resources: Resources, _: bool) -> Iterator[Setting]:
    """Each file may depend on what stands in another one; ``limits`` sees to the order."""
    cpu = resources.cpu
    if cpu is None:
        return
    at = f"{RESOURCES}.cpu"
    if cpu.shares:
        yield Setting("cpu", "cpu.shares", (str(cpu.shares),), f"{at}.shares")
    if cpu.period:
        yield Setting("cpu", "cpu.cfs_period_us", (str(cpu.period),), f"{at}.period")
    if cpu.burst is not None:
        yield Setting("cpu", "cpu.cfs_burst_us", (str(cpu.burst),), f"{at}.burst", cpu.burst == 0)
    if cpu.quota:
        yield Setting("cpu", "cpu.cfs_quota_us", (str(cpu.quota),), f"{at}.quota")
    if cpu.idle is not None:
        yield Setting("cpu", "cpu.idle", (str(cpu.idle),), f"{at}.idle", cpu.idle == 0)
    if cpu.realtime_period:
        yield Setting("cpu", "cpu.rt_period_us", (str(cpu.realtime_period),), f"{at}.realtimePeriod")
    if cpu.realtime_runtime is not None:
        runtime = cpu.realtime_runtime
        yield Setting("cpu", "cpu.rt_runtime_us", (str(runtime),), f"{at}.realtimeRuntime", runtime == 0)


def _pids(resources: Resources, _: bool) -> Iterator[Setting]:
    if resources.pids is not None:
        limit = resources.pids.limit
        yield Setting("pids", "pids.max", ("max" if limit == -1 else str(limit),), f"{RESOURCES}.pids.limit")


def _blkio(resources: Resources, _: bool) -> Iterator[Setting]:
    """The names of CFQ's files and, since Linux 5.0 has it no more, of BFQ's, which knows no leaves."""
    block_io = resources.block_io
    if block_io is None:
        return
    at = f"{RESOURCES}.blockIO"
    if block_io.weight:
        yield _weight("weight", (str(block_io.weight),), f"{at}.weight")
    if block_io.leaf_weight:
        yield Setting("blkio", "blkio.leaf_weight", (str(block_io.leaf_weight),), f"{at}.leafWeight")
    for index, device in enumerate(block_io.weight_device):
        number, place = f"{device.major}:{device.minor}", f"{at}.weightDevice[{index}]"
        if device.weight:
            yield _weight("weight_device", (f"{number} {device.weight}",), f"{place}.weight")
        if device.leaf_weight:
            values = (f"{number} {device.leaf_weight}",)
            yield Setting("blkio", "blkio.leaf_weight_device", values, f"{place}.leafWeight")
    for name, what, devices in throttles(block_io):
        for index, limited in enumerate(devices):
            values = (f"{limited.major}:{limited.minor} {limited.rate or 0}",)
            yield Setting("blkio", f"blkio.throttle.{what}_device", values, f"{at}.{name}[{index}].rate")


def _weight(name: str, values: tuple[str, ...], origin: str) -> Setting:
    bfq = Setting("blkio", f"blkio.bfq.{name}", values, origin)
    return Setting("blkio", f"blkio.{name}", values, origin, otherwise=bfq)


def throttles(block_io: BlockIO) -> Iterator[tuple[str, str, Iterable[ThrottleDevice]]]:
    """Each list of rates with its member's name and version 1's word for it."""
    yield "throttleReadBpsDevice", "read_bps", block_io.throttle_read_bps_device
    yield "throttleWriteBpsDevice", "write_bps", block_io.throttle_write_bps_device
    yield "throttleReadIOPSDevice", "read_iops", block_io.throttle_read_iops_device
    yield "throttleWriteIOPSDevice", "write_iops", block_io.throttle_write_iops_device


def _hugetlb(resources: Resources, _: bool) -> Iterator[Setting]:
    """What is used, and what is reserved, since a fault beyond a limit on use alone is a SIGBUS."""
    for index, limit in enumerate(resources.hugepage_limits):
        origin, size = f"{RESOURCES}.hugepageLimits[{index}].limit", settings.page_size(limit.page_size)
        values = (str(limit.limit),)
        yield Setting("hugetlb", f"hugetlb.{size}.limit_in_bytes", values, origin)
        yield Setting("hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes", values, origin, optional=True)


def _net_cls(resources: Resources, _: bool) -> Iterator[Setting]:
    number = resources.network.class_id if resources.network else None
    if number is not None:
        yield Setting("net_cls", "net_cls.classid", (str(number),), f"{RESOURCES}.network.classID", number == 0)


def _net_prio(resources: Resources, _: bool) -> Iterator[Setting]:
    for index, entry in enumerate(resources.network.priorities if resources.network else ()):
        origin = f"{RESOURCES}.network.priorities[{index}]"
        yield Setting("net_prio", "net_prio.ifpriomap", (f"{entry.name} {entry.priority}",), origin)


def _rdma(resources: Resources, _: bool) -> Iterator[Setting]:
    for device, limits in resources.rdma.items():
        origin = member(f"{RESOURCES}.rdma", device)
        yield from settings.rdma(origin, device, limits.hca_handles, limits.hca_objects)


CONTROLLERS: Final[Mapping[str, Convert]] = {
    "cpuset": _cpuset,  # nobody may join before
    "memory": _memory,
    "cpu": _cpu,
    "pids": _pids,
    "blkio": _blkio,
    "hugetlb": _hugetlb,
    "net_cls": _net_cls,
    "net_prio": _net_prio,
    "rdma": _rdma,
}
"""In the order of application."""
