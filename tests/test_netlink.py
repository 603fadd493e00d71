"""What is sent to the kernel has the form of netlink(7), and what comes back is read only where it is an answer."""

from __future__ import annotations

import socket
import struct

import pytest

from ocirt import netlink
from ocirt.netlink import Netlink, NetlinkError


def test_a_request_is_aligned_and_its_length_says_so() -> None:
    frame = netlink.encode(18, 5, 7, b"\0" * 16, {3: b"lo\0"})
    assert struct.unpack_from("=IHHII", frame) == (16 + 16 + 8, 18, 5, 7, 0)
    assert frame[32:] == struct.pack("=HH", 7, 3) + b"lo\0\0"


def test_attributes_come_back_as_they_were_put_in() -> None:
    values = {3: b"lo\0", 28: b"\1\0\0\0", 5: b""}
    frame = netlink.encode(18, 0, 1, b"\0" * 16, values)
    (message,) = netlink.decode(frame, 1)
    assert netlink.attributes_of(message.payload, 16) == values


def test_what_is_no_answer_to_the_request_is_not_read() -> None:
    frames = netlink.encode(16, 0, 1, b"old.", {}) + netlink.encode(16, 0, 2, b"new.", {})
    assert [message.payload for message in netlink.decode(frames, 2)] == [b"new."]


@pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\0" * 16, struct.pack("=IHHII", 8, 2, 0, 1, 0)])
def test_a_message_cut_short_is_none(data: bytes) -> None:
    assert list(netlink.decode(data, 1)) == []


def test_an_attribute_of_no_length_ends_the_reading() -> None:
    assert netlink.attributes_of(b"\0" * 8, 0) == {}


def test_a_value_too_long_for_its_length_field_is_refused() -> None:
    """Where the 16 bits wrap around, the rest is read as further attributes (CVE-2021-43784)."""
    with pytest.raises(ValueError, match="too long"):
        netlink.attribute(3, b"x" * 0x10000)


@pytest.fixture
def conversation() -> Netlink:
    return Netlink(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE))


def test_the_kernels_refusal_is_an_error_with_its_number(conversation: Netlink) -> None:
    with conversation.connection, pytest.raises(NetlinkError) as caught:
        conversation.ask(18, struct.pack("=BxHiII", 0, 0, 0, 0, 0), {3: b"no-such\0"})
    assert caught.value.errno == 19  # ENODEV


def test_a_dump_is_read_to_its_end(conversation: Netlink) -> None:
    with conversation.connection:
        links = conversation.ask(18, struct.pack("=BxHiII", 0, 0, 0, 0, 0), {}, netlink.NLM_F_DUMP)
        names = [netlink.attributes_of(link, 16)[3].rstrip(b"\0").decode() for link in links]
    assert sorted(names) == sorted(name for _, name in socket.if_nameindex())


def test_what_another_process_sends_is_no_answer(conversation: Netlink) -> None:
    """It may sit in the same network namespace, and have rights there."""
    with conversation.connection as ours, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as forger:
        ours.bind((0, 0))
        try:
            forger.sendto(netlink.encode(2, 0, 1, struct.pack("=i", -1), {}), ours.getsockname())
        except PermissionError:
            pytest.skip("needs CAP_NET_ADMIN")
        (link,) = conversation.ask(18, struct.pack("=BxHiII", 0, 0, 0, 0, 0), {3: b"lo\0"})
    assert netlink.attributes_of(link, 16)[3] == b"lo\0"
