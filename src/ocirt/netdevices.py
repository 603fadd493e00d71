"""Move network devices of the host into a container (config-linux.md, Network Devices).

The host does it, in one request each, which moves and renames: where the kernel refuses, the device is as it was.
What a move loses, the addresses, is put back in the container's namespace through a socket that init opened there.

A device is never moved back. When the container's namespace ends, the kernel returns physical ones and removes virtual
ones, as config-linux.md says.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ocirt.errors import SetupError
from ocirt.netlink import NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, Netlink, NetlinkError, attributes_of

if TYPE_CHECKING:
    from ocirt.spec import NetDevice

RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22

IFLA_IFNAME: Final = 3
IFLA_NET_NS_FD: Final = 28
IFLA_NEW_IFINDEX: Final = 49
IFF_UP: Final = 1

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_LABEL: Final = 3
IFA_BROADCAST: Final = 4
IFA_FLAGS: Final = 8
IFA_RT_PRIORITY: Final = 9
KEPT_ATTRIBUTES: Final = (IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY)

IFA_F_PERMANENT: Final = 0x80
KEPT_FLAGS: Final = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
"""nodad, home, mngtmpaddr, noprefixroute, autojoin: what somebody has asked for; the other flags are the kernel's."""

RT_SCOPE_UNIVERSE: Final = 0
AF_UNSPEC: Final = 0

LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, which flags to change."""
ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""

SIOCGSKNS: Final = 0x894C
"""The network namespace of a socket (include/uapi/linux/sockios.h)."""

LABEL_SIZE: Final = 15


class Address(NamedTuple):
    """One that the device takes along."""

    family: int
    prefix: int
    flags: int
    attributes: Mapping[int, bytes]
    label: bytes


class Device(NamedTuple):
    """A device of the host, and what it is to be called in the container."""

    origin: str
    old: str
    new: str
    number: int
    addresses: tuple[Address, ...]


def move(wanted: Mapping[str, NetDevice], inside: int) -> None:
    """Move them, where ``inside`` is a netlink socket of the container's network namespace, and is closed at the end.

    Each is looked for, and its new name looked up, before the first is touched.

    :raises SetupError: at ``linux.netDevices["NAME"]``.
    """
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE, _received(inside)) as there,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as outside,
    ):
        host, container = Netlink(outside), Netlink(there)
        namespace = fcntl.ioctl(there.fileno(), SIOCGSKNS)
        try:
            _check_foreign(namespace, next(iter(wanted)))
            _check_rights(container, next(iter(wanted)))
            devices = [_find(host, name, device.name or name) for name, device in wanted.items()]
            for device in devices:
                _check_free(container, device)
            for device in devices:
                _hand_over(host, container, device, namespace)
        finally:
            os.close(namespace)


def _received(fd: int) -> int:
    """recvmsg(2) drops a descriptor that a process at its limit has no number for."""
    if fd < 0:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fd


def _check_foreign(namespace: int, first: str) -> None:
    """Somebody's path may lead to where we are."""
    if os.path.samestat(os.fstat(namespace), os.stat("/proc/thread-self/ns/net")):
        raise SetupError(
            _origin(first),
            "MoveNetDevice",
            "",
            0,
            first,
            "unable to move network devices into the namespace they are in",
        )


def _check_rights(container: Netlink, first: str) -> None:
    """A request that changes nothing, of the loopback device, which is the first one everywhere."""
    try:
        container.ask(RTM_NEWLINK, LINK.pack(AF_UNSPEC, 0, 1, 0, 0), {})
    except NetlinkError as error:
        raise _failed(
            _origin(first), first, "RTM_NEWLINK", error, "the network namespace belongs to another user namespace"
        ) from error


def _find(host: Netlink, old: str, new: str) -> Device:
    try:
        (payload,) = host.ask(RTM_GETLINK, LINK.pack(AF_UNSPEC, 0, 0, 0, 0), {IFLA_IFNAME: _text(old)})
        index = LINK.unpack_from(payload)[2]
        return Device(_origin(old), old, new, index, _addresses(host, index))
    except NetlinkError as error:
        raise _failed(_origin(old), old, "RTM_GETLINK", error, "there is no such device here") from error


def _addresses(host: Netlink, index: int) -> tuple[Address, ...]:
    """The permanent, global ones: all others come from a protocol or from the kernel, which will make them anew."""
    found = []
    for payload in host.ask(RTM_GETADDR, ADDRESS.pack(AF_UNSPEC, 0, 0, 0, 0), {}, NLM_F_DUMP):
        family, prefix, low_flags, scope, of = ADDRESS.unpack_from(payload)
        attributes = attributes_of(payload, ADDRESS.size)
        flags = int.from_bytes(attributes[IFA_FLAGS], "little") if IFA_FLAGS in attributes else low_flags
        if of == index and scope == RT_SCOPE_UNIVERSE and flags & IFA_F_PERMANENT:
            kept: dict[int, bytes] = {number: attributes[number] for number in KEPT_ATTRIBUTES if number in attributes}
            label = attributes.get(IFA_LABEL, b"").rstrip(b"\0")
            found.append(Address(family, prefix, flags & KEPT_FLAGS, kept, label))
    return tuple(found)


def _check_free(container: Netlink, device: Device) -> None:
    """The kernel would find out too, but after other devices have moved. A template it fills in by itself."""
    if "%d" in device.new or _index(container, device.new) is None:
        return
    raise SetupError(
        device.origin, "MoveNetDevice", "RTM_GETLINK", errno.EEXIST, device.new, "the container's network has that name"
    )


def _index(container: Netlink, name: str) -> int | None:
    try:
        (payload,) = container.ask(RTM_GETLINK, LINK.pack(AF_UNSPEC, 0, 0, 0, 0), {IFLA_IFNAME: _text(name)})
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return int(LINK.unpack_from(payload)[2])


def _name(container: Netlink, index: int) -> bytes | None:
    try:
        (payload,) = container.ask(RTM_GETLINK, LINK.pack(AF_UNSPEC, 0, index, 0, 0), {})
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return attributes_of(payload, LINK.size)[IFLA_IFNAME].rstrip(b"\0")


def _hand_over(host: Netlink, container: Netlink, device: Device, namespace: int) -> None:
    """By number from here on: the kernel may fill in a template's name, and our number is one that nobody has there."""
    index = device.number
    while _name(container, index) is not None:
        index += 1
    attributes = {
        IFLA_NET_NS_FD: namespace.to_bytes(4, "little"),
        IFLA_IFNAME: _text(device.new),
        IFLA_NEW_IFINDEX: index.to_bytes(4, "little"),  # since Linux 5.13; before, the old one is kept where it is free
    }
    call = "RTM_NEWLINK"
    try:
        host.ask(RTM_NEWLINK, LINK.pack(AF_UNSPEC, 0, device.number, 0, 0), attributes)
        name = _name(container, index) or b""
        call = "RTM_NEWADDR"
        for address in device.addresses:
            _add(container, index, address, _label(address.label, device.old.encode(), name))
        call = "RTM_NEWLINK"
        container.ask(RTM_NEWLINK, LINK.pack(AF_UNSPEC, 0, index, IFF_UP, IFF_UP), {})
    except NetlinkError as error:
        raise _failed(device.origin, device.old, call, error, "") from error


def _add(container: Netlink, index: int, address: Address, label: bytes) -> None:
    body = ADDRESS.pack(address.family, address.prefix, address.flags & 0xFF, RT_SCOPE_UNIVERSE, index)
    attributes = {**address.attributes, IFA_FLAGS: address.flags.to_bytes(4, "little")}
    if label:
        attributes[IFA_LABEL] = label + b"\0"
    container.ask(RTM_NEWADDR, body, attributes, NLM_F_CREATE | NLM_F_REPLACE)


def _label(label: bytes, old: bytes, new: bytes) -> bytes:
    """ip-address(8): a label begins with its device's name, and has as many letters at most; nothing says just that."""
    if label in (b"", old):
        return b""
    if label.startswith(old + b":"):
        return (new + label.removeprefix(old))[:LABEL_SIZE]
    return label


def _text(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"\0"


def _origin(name: str) -> str:
    return f'linux.netDevices["{name}"]'


def _failed(origin: str, name: str, call: str, error: NetlinkError, otherwise: str) -> SetupError:
    return SetupError(origin, "MoveNetDevice", call, error.errno or 0, name, error.words or otherwise)
