"""Device nodes and the links of ``/dev`` (config-linux.md, Devices, Default Devices, Default Filesystems)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ocirt.plan.binds import source_fd
from ocirt.plan.context import Context
from ocirt.plan.ops import Op
from ocirt.plan.tree_ops import BindDevice, MakeDevice, MakeSymlink, OpenTerminal
from ocirt.spec import Device
from ocirt.spec.options import parse_options

TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
"""S_IFMT bits (inode(7)); ``u``, an unbuffered character device, is one like any other on Linux."""

DEFAULTS = tuple(
    Device("c", f"/dev/{name}", major, minor, 0o666)
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)

LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/core": "/proc/kcore",
}


def devices(context: Context) -> Iterator[Op]:
    """The defaults, unless config.json lists the same path, then its own; nothing where /dev is somebody else's."""
    if not context.namespaces.has("mount") or _brings_its_own(context):
        return
    listed = {posixpath.normpath(device.path) for device in context.linux.devices}
    for device in DEFAULTS:
        if device.path not in listed:
            yield _device(context, device, "linux.devices")
    for index, device in enumerate(context.linux.devices):
        if posixpath.normpath(device.path) != "/dev/ptmx":
            yield _device(context, device, f"linux.devices[{index}]")
    if any(posixpath.normpath(mount.destination) == "/proc" for mount in context.document.mounts):
        for path, destination in LINKS.items():
            yield MakeSymlink(path, destination)
    yield MakeSymlink("/dev/ptmx", "pts/ptmx", replace=True)


def _brings_its_own(context: Context) -> bool:
    """A bind mount on /dev has its devices, and making more would change its source."""
    return any(
        posixpath.normpath(mount.destination) == "/dev" and parse_options(mount.options).bind
        for mount in context.document.mounts
    )


def _device(context: Context, device: Device, origin: str) -> Op:
    if device.type != "p" and not context.may_make_devices:
        fd = source_fd(context, device.path, recursive=False, origin=origin)
        return BindDevice(device.path, TYPES[device.type], device.major or 0, device.minor or 0, fd, origin=origin)
    mode = TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)
    return MakeDevice(
        device.path, mode, device.major or 0, device.minor or 0, device.uid or 0, device.gid or 0, origin=origin
    )


def terminal(context: Context, *, console: bool) -> Iterator[Op]:
    process = context.process
    if process is None or not process.terminal:
        return
    size = process.console_size
    rows, columns = (size.height, size.width) if size else (0, 0)
    yield OpenTerminal(rows, columns, process.user.uid, console, origin="process.terminal")
