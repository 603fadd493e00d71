"""What config.json says of Linux: ``linux`` (config-linux.md).

The classes behind its rarer members are in ``limits.py``, ``seccomp.py`` and ``scheduling.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from ocirt.spec.base import Int64, OCIObject, UInt32, strings

if TYPE_CHECKING:
    from ocirt.spec.limits import CPU, RDMA, BlockIO, HugepageLimit, Memory, Network, Pids
    from ocirt.spec.scheduling import IntelRdt, MemoryPolicy, Personality
    from ocirt.spec.seccomp import Seccomp


@frozen(repr=False)
class Namespace(OCIObject):
    """A namespace to be created, or to be joined at ``path`` (config-linux.md, Namespaces)."""

    type: str
    path: str | None = None


@frozen(repr=False)
class IDMapping(OCIObject):
    """Container IDs and the host IDs they stand for (config-linux.md, User namespace mappings)."""

    container_id: UInt32
    host_id: UInt32
    size: UInt32


@frozen(repr=False)
class TimeOffset(OCIObject):
    """What is added to a clock in the container's time namespace, see time_namespaces(7)."""

    secs: Int64 = 0
    nanosecs: UInt32 = 0


@frozen(repr=False)
class Device(OCIObject):
    """A device node that must exist in the container (config-linux.md, Devices)."""

    type: str
    path: str
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: UInt32 | None = None
    uid: UInt32 | None = None
    gid: UInt32 | None = None


@frozen(repr=False)
class NetDevice(OCIObject):
    """A network device of the host to be moved into the container, perhaps under a new name."""

    name: str | None = None


@frozen(repr=False)
class DeviceRule(OCIObject):
    """Allow or deny one kind of access to some devices; an absent number or type means all of them."""

    allow: bool
    type: str | None = None
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str | None = None


@frozen(repr=False, kw_only=True)
class Resources(OCIObject):
    """All limits, one member a controller; ``unified`` names files of cgroup v2."""

    devices: tuple[DeviceRule, ...] = field(default=(), converter=tuple[DeviceRule, ...])
    memory: Memory | None = None
    cpu: CPU | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = field(default=(), converter=tuple["HugepageLimit", ...])
    network: Network | None = None
    pids: Pids | None = None
    rdma: Mapping[str, RDMA] = field(factory=dict, hash=False)
    unified: Mapping[str, str] = field(factory=dict, hash=False)


@frozen(repr=False, kw_only=True)
class Linux(OCIObject):
    """The whole of ``linux``."""

    namespaces: tuple[Namespace, ...] = field(default=(), converter=tuple[Namespace, ...])
    uid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    gid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    time_offsets: Mapping[str, TimeOffset] = field(factory=dict, hash=False)
    devices: tuple[Device, ...] = field(default=(), converter=tuple[Device, ...])
    net_devices: Mapping[str, NetDevice] = field(factory=dict, hash=False)
    cgroups_path: str | None = None
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: Mapping[str, str] = field(factory=dict, hash=False)
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = field(default=(), converter=strings)
    readonly_paths: tuple[str, ...] = field(default=(), converter=strings)
    mount_label: str | None = None
    personality: Personality | None = None
