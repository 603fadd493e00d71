"""Properties of a systemd unit: limits as systemd names them, and what annotations say.

The limits are taken from the settings that are written to the cgroup's files (``v1``, ``v2``), so that whoever asks
systemd hears what the kernel does, and systemd restores the same values when it is reloaded. What systemd has no
property for, or this version of it not yet, is left to the files alone (systemd.resource-control(5)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ocirt.cgroups.gvariant import parse
from ocirt.cgroups.gvariant_types import Value, VariantError
from ocirt.errors import Problem, SpecError

if TYPE_CHECKING:
    from ocirt.cgroups.devices import DeviceWrite
    from ocirt.cgroups.settings import Setting

INFINITY: Final = 2**64 - 1
"""systemd's for no limit."""

DEFAULT_PERIOD: Final = 100_000
"""Of cpu.max, in microseconds."""

PERCENT: Final = 10_000
"""Microseconds a second; systemd keeps a quota as whole percents."""

ANNOTATION: Final = "org.systemd.property."


class Property(NamedTuple):
    """One property, as D-Bus carries it."""

    name: str
    signature: str
    value: Value


LATE: Final = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.idle")

Table = Mapping[str, tuple[int, Callable[[str], Iterator[Property]]]]
"""By file: the version of systemd that has such a property, and how a line of the file becomes one."""


def of_settings(settings: Iterable[Setting], version: int) -> tuple[Property, ...]:
    """Of limits. Where two say the same, the last one counts, as it does in the files."""
    found: dict[str, Property] = {}
    lists: dict[str, list[Value]] = {}
    for file, line in _lines(settings):
        since, convert = FILES.get(file, (0, _nothing))
        if since > version:
            continue
        for made in convert(line):
            if isinstance(made.value, list):  # one of many devices
                lists.setdefault(made.name, []).extend(made.value)
                made = made._replace(value=lists[made.name])
            found[made.name] = made
    if version < 242:
        found.pop("CPUQuotaPeriodUSec", None)
    return tuple(found.values())


def _lines(settings: Iterable[Setting]) -> Iterator[tuple[str, str]]:
    """Every file and line. Quota and period of version 1, which has two files for them, as version 2 has them;
    and being idle last, since it leaves no weight."""
    late: dict[str, str] = {}
    for setting in settings:
        if setting.file in LATE:
            late[setting.file] = setting.values[-1]
            continue
        known = setting if setting.file in FILES else setting.otherwise or setting
        for value in known.values:
            yield known.file, value
    if "cpu.idle" in late:
        yield "cpu.idle", late.pop("cpu.idle")
    if cfs := late:
        quota = cfs.get("cpu.cfs_quota_us", "0")
        yield "cpu.max", f"{quota if quota.isdigit() and quota != '0' else 'max'} {cfs.get('cpu.cfs_period_us', '')}"


def unset(limit: Property) -> Property:
    """The property as it is of a unit without that limit."""
    if limit.name == "OOMPolicy":
        return limit._replace(value="continue")
    if isinstance(limit.value, list):
        return limit._replace(value=[(device, INFINITY) for device, _ in map(_pair, limit.value)])
    return limit._replace(value=b"" if isinstance(limit.value, bytes) else INFINITY)


def _pair(entry: Value) -> tuple[Value, Value]:
    assert isinstance(entry, tuple)  # a(st)
    return entry[0], entry[1]


def _nothing(_: str) -> Iterator[Property]:
    return iter(())


def _limit(name: str, least: int = 0) -> Callable[[str], Iterator[Property]]:
    """A number, or none: ``max`` in version 2, -1 in version 1."""

    def convert(line: str) -> Iterator[Property]:
        number = INFINITY if line in ("max", "-1") else _number(line)
        if number is not None:
            yield Property(name, "t", max(number, least))

    return convert


def _number(text: str) -> int | None:
    """As the kernel reads it (memparse in lib/cmdline.c); what it cannot read, its file will refuse."""
    match = re.fullmatch(r"\s*(\d+)([KMGTPE]?)\s*", text, re.ASCII | re.IGNORECASE)
    if match is None:
        return None
    number = int(match[1]) << 10 * " KMGTPE".index(match[2].upper() or " ")
    return number if number < INFINITY else None


def _weight(name: str, lowest: int, highest: int) -> Callable[[str], Iterator[Property]]:
    def convert(line: str) -> Iterator[Property]:
        number = _number(line.removeprefix("default "))
        if number is not None and lowest <= number <= highest:
            yield Property(name, "t", number)

    return convert


def _idle(line: str) -> Iterator[Property]:
    if line.strip() == "1":
        yield Property("CPUWeight", "t", 0)


def _bandwidth(line: str) -> Iterator[Property]:
    quota, _, rest = line.strip().partition(" ")
    period = _number(rest) or DEFAULT_PERIOD
    if quota != "max" and not _number(quota):
        return
    yield Property("CPUQuotaPerSecUSec", "t", INFINITY if quota == "max" else quota_per_second(int(quota), period))
    if rest.strip():
        yield Property("CPUQuotaPeriodUSec", "t", period)


def quota_per_second(quota: int, period: int) -> int:
    """Rounded up to what systemd can keep: a container's own children may still have all that it was promised."""
    return -(-quota * 1_000_000 // (period * PERCENT)) * PERCENT


def _set(name: str) -> Callable[[str], Iterator[Property]]:
    def convert(line: str) -> Iterator[Property]:
        mask = bit_mask(line)
        if mask:
            yield Property(name, "ay", mask)

    return convert


def bit_mask(numbers: str) -> bytes:
    """``0-2,9`` as bytes, the lowest first; empty where it is no such list (or one with steps)."""
    mask = 0
    for part in numbers.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part, re.ASCII)
        if match is None:
            return b""
        for number in range(int(match[1]), int(match[2] or match[1]) + 1):
            mask |= 1 << number
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _io_weight(line: str) -> Iterator[Property]:
    device, _, weight = line.strip().rpartition(" ")
    number = _number(weight)
    if number is None or not 1 <= number <= 10_000:
        return
    if device in ("", "default"):
        yield Property("IOWeight", "t", number)
    else:
        yield Property("IODeviceWeight", "a(st)", [(f"/dev/block/{device}", number)])


IO_MAX: Final = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}


def _io_max(line: str) -> Iterator[Property]:
    device, *limits = line.split()
    for limit in limits:
        key, _, text = limit.partition("=")
        number = INFINITY if text == "max" else _number(text)
        if key in IO_MAX and number is not None:
            yield Property(IO_MAX[key], "a(st)", [(f"/dev/block/{device}", number)])


def _oom_group(line: str) -> Iterator[Property]:
    yield Property("OOMPolicy", "s", "kill" if line.strip() == "1" else "continue")


FILES: Final[Table] = {
    "cpu.idle": (252, _idle),
    "cpu.max": (213, _bandwidth),
    "cpu.shares": (0, _weight("CPUShares", 2, 262_144)),
    "cpu.weight": (232, _weight("CPUWeight", 1, 10_000)),
    "cpuset.cpus": (244, _set("AllowedCPUs")),
    "cpuset.mems": (244, _set("AllowedMemoryNodes")),
    "blkio.weight": (0, _weight("BlockIOWeight", 10, 1000)),
    "io.weight": (230, _io_weight),
    "io.max": (230, _io_max),
    "memory.limit_in_bytes": (231, _limit("MemoryMax", 1)),
    "memory.max": (231, _limit("MemoryMax", 1)),
    "memory.high": (231, _limit("MemoryHigh", 1)),
    "memory.low": (231, _limit("MemoryLow")),
    "memory.min": (240, _limit("MemoryMin")),
    "memory.swap.max": (232, _limit("MemorySwapMax")),
    "memory.zswap.max": (253, _limit("MemoryZSwapMax")),
    "memory.oom.group": (253, _oom_group),
    "pids.max": (227, _limit("TasksMax", 1)),
}


def of_devices(writes: Sequence[DeviceWrite], groups: Mapping[tuple[str, int], str]) -> tuple[Property, ...]:
    """The device list of version 1, which systemd writes anew whenever it is reloaded.

    :param groups: the names of major numbers in /proc/devices, by which systemd knows a whole one of them.
    """
    allowed: dict[tuple[str, str], str] = {}
    strict = False
    for write in writes:
        for rule in write.rules:
            kind, _, rest = rule.partition(" ")
            if kind == "a":
                strict = write.file == "devices.deny"
                allowed.clear()
                continue
            numbers, _, access = rest.partition(" ")
            had = allowed.get((kind, numbers), "")
            granted = set(had) | set(access) if write.file == "devices.allow" else set(had) - set(access)
            allowed[kind, numbers] = "".join(letter for letter in "rwm" if letter in granted)
    if not strict:
        return (Property("DevicePolicy", "s", "auto"),)
    entries: list[Value] = [
        (name, access)
        for (kind, numbers), access in allowed.items()
        if access and (name := _node(kind, numbers, groups))
    ]
    return (Property("DevicePolicy", "s", "strict"), Property("DeviceAllow", "a(ss)", entries))


def _node(kind: str, numbers: str, groups: Mapping[tuple[str, int], str]) -> str | None:
    """A device as systemd names it; it cannot name all of a minor number."""
    name = {"c": "char", "b": "block"}[kind]
    major, _, minor = numbers.partition(":")
    if major == "*":
        return f"{name}-*" if minor == "*" else None
    if minor != "*":
        return f"/dev/{name}/{major}:{minor}"
    group = groups.get((kind, int(major)))
    return f"{name}-{group}" if group else None


def device_groups(proc_devices: str) -> dict[tuple[str, int], str]:
    """What /proc/devices says."""
    groups: dict[tuple[str, int], str] = {}
    kind = "c"
    for line in proc_devices.splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdigit():
            groups.setdefault((kind, int(number)), name)
        elif number == "Block":
            kind = "b"
    return groups


def of_annotations(annotations: Mapping[str, str]) -> tuple[Property, ...]:
    """``org.systemd.property.NAME`` with a value in GLib's text format; seconds become what D-Bus has for them.

    :raises SpecError: every one that is wrong.
    """
    made: list[Property] = []
    problems: list[Problem] = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        try:
            made.append(_annotated(key, key.removeprefix(ANNOTATION), text))
        except VariantError as error:
            problems.append(Problem(f'annotations["{key}"]', None, str(error)))
    if problems:
        raise SpecError(problems)
    return tuple(made)


def _annotated(key: str, name: str, text: str) -> Property:
    if len(name) < 3:
        raise VariantError(f"annotation {key} name incorrect: too short")
    if not (name.isascii() and name.isalpha()):
        raise VariantError(f"annotation {key} name incorrect: contains non-alphabetic character")
    try:
        signature, value = parse(text)
        if re.search("[a-z]Sec$", name):
            return Property(f"{name.removesuffix('Sec')}USec", "t", _microseconds(value))
    except VariantError as error:
        raise VariantError(f"annotation {key}={text} value parse error: {error}") from error
    return Property(name, signature, value)


def _microseconds(seconds: Value) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise VariantError("not a number of seconds")
    if seconds == float("inf"):
        return INFINITY
    if not 0 <= seconds < INFINITY / 1_000_000:
        raise VariantError("not a length of time")
    return int(seconds * 1_000_000)
