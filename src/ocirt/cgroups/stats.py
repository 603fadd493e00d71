"""What a container uses, as values: what ``accounts`` reads and ``Container.stats`` gives.

Units stand in the names: ``_bytes``, ``_seconds``, ``_percent``, and ``_count`` for all that is counted. ``None`` is
what this layout, kernel or container does not tell; of a limit it also means that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class PressureLine:
    """How much of the time somebody waited: averages over ten seconds, a minute and five; and in all."""

    average_10s_percent: float
    average_60s_percent: float
    average_300s_percent: float
    total_seconds: float


@frozen
class Pressure:
    """Pressure stall information (the kernel's accounting/psi.rst)."""

    some: PressureLine | None = None
    """Some of the processes waited."""
    full: PressureLine | None = None
    """All of them did."""


@frozen
class Charge:
    """What is charged for one kind of memory."""

    usage_bytes: int | None = None
    limit_bytes: int | None = None
    peak_bytes: int | None = None
    failures_count: int | None = None
    """How often the limit was hit, whether or not something could be freed then."""


@frozen
class MemoryStats:
    """The memory controller: page cache and the kernel's own memory are part of the usage."""

    usage_bytes: int | None = None
    limit_bytes: int | None = None
    peak_bytes: int | None = None
    """Version 2 tells since Linux 5.19."""
    failures_count: int | None = None
    cache_bytes: int | None = None
    swap: Charge = Charge()
    """Memory and swap together, which is how ``linux.resources.memory.swap`` counts."""
    kernel: Charge = Charge()
    kernel_tcp: Charge = Charge()
    oom_kills_count: int | None = None
    """Processes that the kernel's OOM killer has ended."""
    raw: Mapping[str, int] = field(factory=dict)
    """The file ``memory.stat``, in the kernel's words and units."""
    pressure: Pressure | None = None


@frozen
class CPUStats:
    usage_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    per_cpu_seconds: tuple[float, ...] | None = None
    """Version 1 alone tells, as for the next two."""
    per_cpu_user_seconds: tuple[float, ...] | None = None
    per_cpu_system_seconds: tuple[float, ...] | None = None
    periods_count: int | None = None
    """Periods of the quota that have passed; and what it did in them."""
    throttled_periods_count: int | None = None
    throttled_seconds: float | None = None
    pressure: Pressure | None = None


@frozen
class CpusetStats:
    """Where processes and their memory may be; but for the effective ones, as it was set."""

    cpus: tuple[int, ...] | None = None
    mems: tuple[int, ...] | None = None
    effective_cpus: tuple[int, ...] | None = None
    effective_mems: tuple[int, ...] | None = None
    flags: Mapping[str, int] = field(factory=dict)
    """What else version 1 has there (cpuset(7)), without the leading ``cpuset.``: 1 is on; two are numbers."""


@frozen
class PidsStats:
    """Threads count as well."""

    current_count: int | None = None
    limit_count: int | None = None


@frozen
class BlockIOCount:
    """One block device and one kind of operation (``Read``, ``Write``, …; empty where the kernel tells none apart)."""

    major: int
    minor: int
    operation: str
    value: int


@frozen
class BlockIOTime:
    major: int
    minor: int
    operation: str
    seconds: float


@frozen
class BlockIOStats:
    """Version 2 has the first two alone, and of version 1 most kernels as well: the others are a scheduler's (BFQ)."""

    transferred_bytes: tuple[BlockIOCount, ...] = ()
    operations_count: tuple[BlockIOCount, ...] = ()
    queued_count: tuple[BlockIOCount, ...] = ()
    merged_count: tuple[BlockIOCount, ...] = ()
    sectors_count: tuple[BlockIOCount, ...] = ()
    service_seconds: tuple[BlockIOTime, ...] = ()
    wait_seconds: tuple[BlockIOTime, ...] = ()
    disk_seconds: tuple[BlockIOTime, ...] = ()
    pressure: Pressure | None = None


@frozen
class RDMAStats:
    """One device."""

    handles_count: int | None = None
    handles_limit_count: int | None = None
    objects_count: int | None = None
    objects_limit_count: int | None = None


@frozen
class NetworkStats:
    """One interface of the container's network namespace (proc_pid_net(5), ``dev``)."""

    name: str
    received_bytes: int
    received_packets_count: int
    received_errors_count: int
    received_dropped_count: int
    sent_bytes: int
    sent_packets_count: int
    sent_errors_count: int
    sent_dropped_count: int


@frozen
class RDTDomain:
    """One cache, or the memory bandwidth behind it (the kernel's filesystems/resctrl.rst)."""

    name: str
    cache_bytes: int | None = None
    bandwidth_bytes: int | None = None
    """Since it was first watched."""
    local_bandwidth_bytes: int | None = None


@frozen
class RDTStats:
    """The container's class of resctrl."""

    schemata: tuple[str, ...] = ()
    """A line for each resource."""
    root_schemata: tuple[str, ...] = ()
    """Of the class that everybody is in who is in no other."""
    limits: Mapping[str, Mapping[str, str]] = field(factory=dict)
    """What the hardware can do, by resource and by file of ``info``: ``limits["L3"]["cbm_mask"]``."""
    domains: tuple[RDTDomain, ...] = ()


@frozen
class Stats:
    """What a container used until now; of a container without a cgroup of its own only the network is known."""

    time_seconds: float
    """When this was read, since the epoch."""
    memory: MemoryStats = MemoryStats()
    cpu: CPUStats = CPUStats()
    cpuset: CpusetStats = CpusetStats()
    pids: PidsStats = PidsStats()
    block_io: BlockIOStats = BlockIOStats()
    hugepages: Mapping[str, Charge] = field(factory=dict)
    """By the size of pages, as in ``2MB``."""
    rdma: Mapping[str, RDMAStats] = field(factory=dict)
    """By device."""
    network: tuple[NetworkStats, ...] = ()
    """Empty once init has ended."""
    rdt: RDTStats | None = None
