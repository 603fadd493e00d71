"""Limits and devices of ``docker inspect`` (moby, daemon/daemon_unix.go): 0 is no limit, and neither is -1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from ocirt.spec.config import Rlimit
from ocirt.spec.docker_json import Part
from ocirt.spec.imported import Machine
from ocirt.spec.known import RLIMITS
from ocirt.spec.limits import CPU, BlockIO, Memory, Pids, ThrottleDevice, WeightDevice
from ocirt.spec.linux import Device, DeviceRule, Resources

INFINITY: Final = 2**64 - 1
PERIOD: Final = 100_000
"""Microseconds; ``NanoCpus`` are shares of them."""

RULE: Final = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})", re.ASCII)

UNKNOWN_DEVICE: Final = "which device it is only the host knows; say Machine(devices=…), or ocirt.lookup.here()"

DEFAULT_RULES: Final = (DeviceRule(allow=False, access="rwm"), DeviceRule(True, "c", 5, 1, "rwm"))
"""The devices that every container has ocirt allows by itself (config-linux.md, Default Devices). Docker has the
system's console among them (moby, oci/defaults.go)."""

OF_WINDOWS: Final = ("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth")


def resources(host: Part, devices: Devices, machine: Machine) -> Resources:
    for name in OF_WINDOWS:
        host.leave(name, "is for Windows")
    pids = host.positive("PidsLimit")
    return Resources(
        devices=devices.rules,
        memory=_memory(host),
        cpu=_cpu(host),
        pids=None if pids is None else Pids(pids),
        block_io=_block_io(host, machine),
    )


def rlimits(host: Part) -> tuple[Rlimit, ...]:
    made = []
    for part in host.parts("Ulimits"):
        name = f"RLIMIT_{part.text('Name').upper()}"
        if name not in RLIMITS:
            part.found.wrong(part.at("Name"), part.text("Name"), "is no resource limit")
        hard, soft = (_rlimit(part.integer(side)) for side in ("Hard", "Soft"))
        made.append(Rlimit(name, hard=hard, soft=soft))
    return tuple(made)


def _rlimit(value: int) -> int:
    return INFINITY if value < 0 else value


def _memory(host: Part) -> Memory | None:
    """``MemorySwap`` counts both together, as OCI's ``swap``; the daemon fills it in when nobody has."""
    limit, swap = host.positive("Memory"), host.integer("MemorySwap")
    swappiness = host.integer("MemorySwappiness") if "MemorySwappiness" in host else -1
    made = Memory(
        limit=limit,
        reservation=host.positive("MemoryReservation"),
        swap=swap if swap and (limit is not None or swap == -1) else None,
        kernel=host.positive("KernelMemory"),
        kernel_tcp=host.positive("KernelMemoryTCP"),
        swappiness=swappiness if swappiness >= 0 else None,
        disable_oom_killer=host.boolean("OomKillDisable"),
    )
    if swap > 0 and limit is None:
        host.found.note(host.at("MemorySwap"), swap, "it counts memory too, of which there is no limit")
    return made if made != Memory() else None


def _cpu(host: Part) -> CPU | None:
    quota = host.positive("CpuQuota")
    period = host.positive("CpuPeriod")
    if nano := host.positive("NanoCpus"):
        period = PERIOD
        quota = nano * period // 10**9
    made = CPU(
        shares=host.positive("CpuShares"),
        quota=quota,
        period=period,
        realtime_runtime=host.positive("CpuRealtimeRuntime"),
        realtime_period=host.positive("CpuRealtimePeriod"),
        cpus=host.text("CpusetCpus") or None,
        mems=host.text("CpusetMems") or None,
    )
    return made if made != CPU() else None


def _block_io(host: Part, machine: Machine) -> BlockIO | None:
    def throttles(name: str) -> tuple[ThrottleDevice, ...]:
        return tuple(
            ThrottleDevice(*numbers, rate=max(0, part.integer("Rate")))
            for part in host.parts(name)
            for numbers in _numbers(part, machine)
        )

    weights = tuple(
        WeightDevice(*numbers, weight=part.integer("Weight"))
        for part in host.parts("BlkioWeightDevice")
        for numbers in _numbers(part, machine)
    )
    made = BlockIO(
        weight=host.positive("BlkioWeight"),
        weight_device=weights,
        throttle_read_bps_device=throttles("BlkioDeviceReadBps"),
        throttle_write_bps_device=throttles("BlkioDeviceWriteBps"),
        throttle_read_iops_device=throttles("BlkioDeviceReadIOps"),
        throttle_write_iops_device=throttles("BlkioDeviceWriteIOps"),
    )
    return made if made != BlockIO() else None


def _numbers(part: Part, machine: Machine) -> Iterator[tuple[int, int]]:
    """Major and minor of the block device at ``Path``."""
    path = part.text("Path")
    part.known("Rate", "Weight")
    for node in machine.devices(path) if machine.devices is not None else ():
        if node.type == "b" and node.major is not None and node.minor is not None:
            yield node.major, node.minor
            return
    why = UNKNOWN_DEVICE if machine.devices is None else "there is no such block device here"
    part.found.note(part.path, path, why)


@frozen
class Devices:
    """The nodes in the container, and what of them may be used."""

    nodes: tuple[Device, ...]
    rules: tuple[DeviceRule, ...]

    @classmethod
    def of(cls, host: Part, machine: Machine) -> Devices:
        host.leave("DeviceRequests", "a driver of the daemon's (nvidia, cdi) finds these devices and mounts")
        found = [made for part in host.parts("Devices") for made in _mapped(part, machine)]
        extra = tuple(_rules(host))
        if not host.boolean("Privileged"):
            return cls(tuple(node for node, _ in found), (*DEFAULT_RULES, *(rule for _, rule in found), *extra))
        if machine.devices is None:
            host.found.note(host.at("Privileged"), True, f"of all devices, {UNKNOWN_DEVICE}", became="without them")
        all_nodes = {node.path: node for node in (machine.devices("/dev") if machine.devices is not None else ())}
        all_nodes.update((node.path, node) for node, _ in found)
        return cls(tuple(all_nodes.values()), (DeviceRule(allow=True, access="rwm"),))


def _mapped(part: Part, machine: Machine) -> Iterator[tuple[Device, DeviceRule]]:
    """A device, or all in a directory, under another path."""
    outside, inside = part.text("PathOnHost"), part.text("PathInContainer")
    access = part.text("CgroupPermissions") or "rwm"
    if not set(access) <= set("rwm"):
        part.found.wrong(part.at("CgroupPermissions"), access, "must be some of the letters rwm")
    if not inside.startswith("/"):
        part.found.wrong(part.at("PathInContainer"), inside, "must be an absolute path")
    if machine.devices is None:
        part.found.note(part.path, outside, UNKNOWN_DEVICE)
        return
    nodes = machine.devices(outside)
    if not nodes:
        part.found.note(part.path, outside, "there is no such device here")
    for node in nodes:
        path = inside + node.path.removeprefix(outside) if node.path.startswith(outside) else inside
        yield node.evolve(path=path), DeviceRule(True, node.type, node.major, node.minor, access)


def _rules(host: Part) -> Iterator[DeviceRule]:
    for place, text in host.numbered("DeviceCgroupRules"):
        match = RULE.fullmatch(text)
        if match is None:
            host.found.wrong(place, text, "must have the form 'TYPE MAJOR:MINOR ACCESS', as in 'c 42:* rwm'")
            continue
        major, minor = (None if number == "*" else int(number) for number in match.group(2, 3))
        yield DeviceRule(True, match[1], major, minor, match[4])
