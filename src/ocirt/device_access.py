"""Why a container may, or may not, use a device: ``explain_device`` asks the program that the kernel would run."""

from __future__ import annotations

import os
import posixpath
import stat

from attrs import frozen

from ocirt.cgroups import bpf
from ocirt.cgroups.devices import ORIGIN, device_list
from ocirt.plan.devices import DEFAULTS
from ocirt.spec import Device, Linux, Resources, Spec

DeviceNumbers = tuple[str, int, int]
"""``c`` or ``b``, the major and the minor number."""


@frozen
class DeviceAccess:
    """What becomes of one access; as a string, the reason."""

    device: DeviceNumbers
    access: str
    """Made of ``r``, ``w`` and ``m`` (mknod(2))."""
    allowed: bool
    origins: tuple[str, ...]
    """The rules that decide, as ``linux.resources.devices[3]``; the list as a whole stands for what it says of defaults
    and of devices without a rule."""

    def __str__(self) -> str:
        rules = [origin for origin in self.origins if origin != ORIGIN]
        reasons = [f"{'allowed' if self.allowed else 'denied'} by {' and '.join(rules)}"] if rules else []
        if ORIGIN in self.origins:
            reasons.append("allowed as a default device" if self.allowed else "no rule allows it")
        return ", ".join(reasons)


def explain_device(document: Spec, device: str | os.PathLike[str] | DeviceNumbers, access: str = "rw") -> DeviceAccess:
    """Whether the rules of ``linux.resources.devices`` let a container use a device, and which of them decides.

    A path is that of a device in ``linux.devices``, of a default device, or else of this host. Rules alone are asked:
    file permissions and the rules of cgroups above may deny more.

    :raises ValueError: that is no access, or no device that rules are about.
    :raises SpecError: a rule is wrong.
    """
    if not access or not set(access) <= bpf.ACCESS.keys():
        raise ValueError(f"an access is made of r, w and m: {access!r}")
    numbers = device if isinstance(device, tuple) else _numbers(document, os.fspath(device))
    type_, major, minor = numbers
    if type_ not in bpf.TYPES or not (0 <= major < 2**32 and 0 <= minor < 2**32):
        raise ValueError(f"rules are about devices of type b or c and their two numbers: {numbers}")
    resources = (document.linux or Linux()).resources or Resources()
    program = bpf.assemble(device_list(resources.devices))
    parts = {letter: bpf.run(program.code, type_, letter, major, minor) for letter in access}
    allowed = all(verdict for verdict, _ in parts.values())
    origins = {program.exits[place]: True for verdict, place in parts.values() if verdict == allowed}
    return DeviceAccess(numbers, access, allowed, tuple(origins))


def _numbers(document: Spec, path: str) -> DeviceNumbers:
    """What a container would find at the path."""
    linux = document.linux or Linux()
    for device in (*reversed(linux.devices), *DEFAULTS):
        if posixpath.normpath(device.path) == posixpath.normpath(path):
            return _listed(device)
    found = os.stat(path)
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        raise ValueError(f"{path} is not a device")
    return kind, os.major(found.st_rdev), os.minor(found.st_rdev)


def _listed(device: Device) -> DeviceNumbers:
    return {"u": "c"}.get(device.type, device.type), device.major or 0, device.minor or 0
