"""Limits on what a container uses: the members of ``linux.resources`` (config-linux.md, Control groups).

Loaded when the first of them is needed: an attrs class costs half a millisecond to make, and few containers
have all limits.
"""

from __future__ import annotations

from attrs import field, frozen

from ocirt.spec.base import Int64, OCIObject, UInt16, UInt32, UInt64


@frozen(repr=False, kw_only=True)
class Memory(OCIObject):
    """Limits in bytes; -1 is unlimited, and ``swap`` counts memory and swap together."""

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = None
    swappiness: UInt64 | None = None
    disable_oom_killer: bool = False
    use_hierarchy: bool = False
    check_before_update: bool = False


@frozen(repr=False, kw_only=True)
class CPU(OCIObject):
    """Shares, bandwidth in microseconds, and which CPUs and memory nodes."""

    shares: UInt64 | None = None
    quota: Int64 | None = None
    burst: UInt64 | None = None
    period: UInt64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: UInt64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: Int64 | None = None


@frozen(repr=False)
class WeightDevice(OCIObject):
    """The weight of one block device."""

    major: Int64
    minor: Int64
    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None


@frozen(repr=False)
class ThrottleDevice(OCIObject):
    """The greatest rate of one block device, in bytes or operations a second."""

    major: Int64
    minor: Int64
    rate: UInt64 | None = None


@frozen(repr=False, kw_only=True)
class BlockIO(OCIObject):
    """Weights and rates of block devices."""

    weight: UInt16 | None = None
    leaf_weight: UInt16 | None = None
    weight_device: tuple[WeightDevice, ...] = field(default=(), converter=tuple[WeightDevice, ...])
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = field(default=(), converter=tuple[ThrottleDevice, ...])
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = field(default=(), converter=tuple[ThrottleDevice, ...])
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = field(default=(), converter=tuple[ThrottleDevice, ...])
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = field(default=(), converter=tuple[ThrottleDevice, ...])


@frozen(repr=False)
class HugepageLimit(OCIObject):
    """How many bytes of huge pages of one size."""

    page_size: str
    limit: UInt64


@frozen(repr=False)
class InterfacePriority(OCIObject):
    """The priority of what leaves by one interface."""

    name: str
    priority: UInt32


@frozen(repr=False)
class Network(OCIObject):
    """The class of the container's packets and their priorities (cgroup v1)."""

    class_id: UInt32 | None = None
    priorities: tuple[InterfacePriority, ...] = field(default=(), converter=tuple[InterfacePriority, ...])


@frozen(repr=False)
class Pids(OCIObject):
    """How many tasks; -1 is unlimited."""

    limit: Int64


@frozen(repr=False)
class RDMA(OCIObject):
    """Limits of one RDMA device."""

    hca_handles: UInt32 | None = None
    hca_objects: UInt32 | None = None
