"""The commands that hold a running container, let it go on, and change its limits."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from ocirt.cli.parse import Parsed, UsageError

if TYPE_CHECKING:
    from ocirt.cli import Call
    from ocirt.container import Container
    from ocirt.spec import JSON, Resources

MEMORY: Final = {
    "memory": "limit",
    "memory-reservation": "reservation",
    "memory-swap": "swap",
    "kernel-memory": "kernel",
    "kernel-memory-tcp": "kernelTCP",
}
CPU: Final = {
    "cpu-period": "period",
    "cpu-quota": "quota",
    "cpu-burst": "burst",
    "cpu-share": "shares",
    "cpu-rt-period": "realtimePeriod",
    "cpu-rt-runtime": "realtimeRuntime",
    "cpu-idle": "idle",
}
CPUSETS: Final = {"cpuset-cpus": "cpus", "cpuset-mems": "mems"}


def pause(call: Call) -> int:
    _load(call).pause()
    return 0


def resume(call: Call) -> int:
    _load(call).resume()
    return 0


def update(call: Call) -> int:
    """A document goes before the flags, except those for what it cannot hold (as runc)."""
    options = call.options
    given = _document(options.text("resources")) if options.given("resources") else _flags(options)
    _load(call).update(
        _resources(given),
        l3_cache_schema=options.text("l3-cache-schema") or None,
        mem_bw_schema=options.text("mem-bw-schema") or None,
        strict_resources=not call.settings.on("ignore-v1-limits"),
    )
    return 0


def _load(call: Call) -> Container:
    from ocirt.container import Container

    return Container.load(call.container_id, root=call.root)


def _document(name: str) -> JSON:
    """``linux.resources`` as a file, or ``-`` for our input; null means what Go makes of it, nothing."""
    if name == "-":
        text = sys.stdin.buffer.read()
    else:
        with open(name, "rb") as file:
            text = file.read()
    try:
        value: JSON = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--resources {name}: is not JSON: {error}") from error
    return _without_nulls(value)


def _without_nulls(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _flags(options: Parsed) -> JSON:
    memory: dict[str, JSON] = {member: _size(options, name) for name, member in MEMORY.items() if options.text(name)}
    cpu: dict[str, JSON] = {member: _number(options, name) for name, member in CPU.items() if options.text(name)}
    cpu |= {member: options.text(name) for name, member in CPUSETS.items() if options.text(name)}
    value: dict[str, JSON] = {"memory": memory, "cpu": cpu}
    if options.text("pids-limit"):
        value["pids"] = {"limit": options.number("pids-limit")}
    if options.text("blkio-weight"):
        value["blockIO"] = {"weight": options.number("blkio-weight")}
    return {name: member for name, member in value.items() if member}


def _number(options: Parsed, name: str) -> int:
    try:
        return int(options.text(name))
    except ValueError:
        raise UsageError(f'invalid value for {name}: "{options.text(name)}" is not a whole number') from None


def _size(options: Parsed, name: str) -> int:
    from ocirt.limits import byte_count

    try:
        return byte_count(options.text(name))
    except ValueError as error:
        raise UsageError(f"invalid value for {name}: {error}") from error


def _resources(value: JSON) -> Resources | None:
    """In a document around it, so that problems have their usual paths."""
    from ocirt.spec import Spec

    spec = Spec.from_json({"ociVersion": "1.0.0", "root": {"path": "/"}, "linux": {"resources": value}})
    return spec.linux.resources if spec.linux is not None else None
