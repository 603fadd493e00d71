"""Network devices of the host that move into a container (config-linux.md, Network Devices)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from attrs import frozen

from ocirt import Spec, netdevices
from ocirt.errors import HookError, SetupError, SpecError
from ocirt.spec import Hook, Hooks, IDMapping, NetDevice
from tests.support import Lab, document, linux, namespaces, said, shell

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip(8) (Debian: apt-get install iproute2)"),
]

V4 = "192.0.2.7/24"
V6 = "2001:db8::7/64"


def ip(*args: str) -> str:
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=True).stdout


@frozen
class Pair:
    """Two ends of a virtual cable, both on the host at first; the container gets ``name``."""

    name: str
    peer: str

    def exists(self) -> bool:
        return os.path.exists(f"/sys/class/net/{self.name}")


def plug(number: int) -> Iterator[Pair]:
    pair = Pair(f"oc{number}x{os.getpid() % 100000}", f"oc{number}y{os.getpid() % 100000}")
    done = subprocess.run(
        ["ip", "link", "add", pair.name, "type", "veth", "peer", "name", pair.peer], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("needs virtual cables (CONFIG_VETH)")
    yield pair
    subprocess.run(["ip", "link", "delete", pair.peer], capture_output=True, check=False)


@pytest.fixture
def pair() -> Iterator[Pair]:
    yield from plug(1)


@pytest.fixture
def other_pair() -> Iterator[Pair]:
    yield from plug(2)


def moving(script: str, devices: dict[str, NetDevice], **members: object) -> Spec:
    return shell(script, linux=linux(net_devices=devices, **members))


@pytest.mark.covers("linux.netDevices")
def test_a_device_moves_and_is_up_inside(lab: Lab, pair: Pair) -> None:
    spec = moving(f"cat /sys/class/net/{pair.name}/flags; ls /sys/class/net", {pair.name: NetDevice()})
    with lab.create(spec, stdout=PIPE) as container:
        assert not pair.exists()
        container.start()
        flags, *names = said(container).split()
    assert int(flags, 16) & 1
    assert names == sorted(["lo", pair.name])


def test_it_takes_its_permanent_global_addresses_along(lab: Lab, pair: Pair) -> None:
    ip("link", "set", pair.name, "up")
    ip("address", "add", V4, "dev", pair.name, "broadcast", "+", "label", f"{pair.name}:a", "noprefixroute")
    ip("address", "add", "192.0.2.8/24", "dev", pair.name, "valid_lft", "600", "preferred_lft", "600")
    ip("address", "add", "198.51.100.9/24", "dev", pair.name, "scope", "link")
    ip("address", "add", V6, "dev", pair.name, "nodad")
    shown = lab.output(moving("ip address show wan; ip route", {pair.name: NetDevice("wan")}))
    assert f"inet {V4} brd 192.0.2.255 scope global noprefixroute wan:a" in shown
    assert f"inet6 {V6} scope global" in shown
    assert "192.0.2.8" not in shown
    assert "198.51.100.9" not in shown
    assert "192.0.2.0/24" not in shown, "noprefixroute was not kept"


@pytest.mark.covers("linux.netDevices.*.name")
def test_it_can_be_renamed_to_a_name_that_the_host_uses(lab: Lab, pair: Pair, other_pair: Pair) -> None:
    devices = {pair.name: NetDevice(other_pair.name), other_pair.name: NetDevice("eth0")}
    shown = lab.output(moving("ls /sys/class/net", devices))
    assert shown.split() == sorted(["eth0", "lo", other_pair.name])


@pytest.mark.covers("linux.netDevices.*.name")
def test_a_template_is_filled_in_with_free_numbers(lab: Lab, pair: Pair, other_pair: Pair) -> None:
    devices = {pair.name: NetDevice("wan%d"), other_pair.name: NetDevice("wan%d")}
    assert lab.output(moving("ls /sys/class/net", devices)).split() == ["lo", "wan0", "wan1"]


def test_sysctls_and_hooks_find_it(lab: Lab, pair: Pair, tmp_path: Path) -> None:
    find = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')"
    script = f"{find}; nsenter -t $pid -n ip -o link show wan > {tmp_path}/seen"
    hooks = Hooks(create_runtime=(Hook("/bin/sh", ("sh", "-c", script)),))
    sysctl = {"net.ipv4.conf.wan.forwarding": "1"}
    spec = moving("cat /proc/sys/net/ipv4/conf/wan/forwarding", {pair.name: NetDevice("wan")}, sysctl=sysctl)
    assert lab.output(spec.evolve(hooks=hooks)) == "1\n"
    assert ": wan@" in (tmp_path / "seen").read_text()


def test_it_moves_into_a_user_namespaces_network(lab: Lab, pair: Pair) -> None:
    mappings = (IDMapping(0, 200000, 65536),)
    types = namespaces("pid", "network", "ipc", "uts", "mount", "user")
    ip("address", "add", V4, "dev", pair.name)
    spec = moving(
        "ip address show wan",
        {pair.name: NetDevice("wan")},
        namespaces=types,
        uid_mappings=mappings,
        gid_mappings=mappings,
    )
    assert f"inet {V4}" in lab.output(spec)


def test_it_moves_into_a_joined_network_namespace(lab: Lab, pair: Pair, other_pair: Pair) -> None:
    with lab.start(document("sleep", "600")) as other:
        types = namespaces("pid", "ipc", "uts", "mount", network=f"/proc/{other.pid}/ns/net")
        assert "wan" in lab.output(moving("ls /sys/class/net", {pair.name: NetDevice("wan")}, namespaces=types)).split()
        error = refused(lab, {other_pair.name: NetDevice("wan")}, namespaces=types)
        assert (error.errno, error.detail) == (errno.EEXIST, "wan")


def test_a_joined_network_may_belong_to_the_callers_user_namespace(lab: Lab, pair: Pair) -> None:
    """Where root of the container's own user namespace has no rights."""
    mappings = (IDMapping(0, 200000, 65536),)
    ip("address", "add", V4, "dev", pair.name)
    with lab.start(document("sleep", "600")) as other:
        types = namespaces("pid", "ipc", "uts", "mount", "user", network=f"/proc/{other.pid}/ns/net")
        spec = moving(
            "ip address show wan",
            {pair.name: NetDevice("wan")},
            namespaces=types,
            uid_mappings=mappings,
            gid_mappings=mappings,
        )
        own = tuple(mount for mount in spec.mounts if mount.type in ("proc", "tmpfs"))
        shown = lab.output(spec.evolve(mounts=own))
    assert f"inet {V4}" in shown
    assert "UP" in shown


def test_a_number_that_is_taken_inside_is_no_obstacle(lab: Lab, pair: Pair) -> None:
    number = Path(f"/sys/class/net/{pair.name}/ifindex").read_text().strip()
    with lab.start(document("sleep", "600")) as other:
        inside = ("nsenter", "-t", str(other.pid), "-n", "ip", "link", "add", "taken", "index", number)
        subprocess.run([*inside, "type", "veth", "peer", "name", "taken2"], check=True, capture_output=True)
        types = namespaces("pid", "ipc", "uts", "mount", network=f"/proc/{other.pid}/ns/net")
        shown = lab.output(moving("ls /sys/class/net", {pair.name: NetDevice("wan")}, namespaces=types))
    assert shown.split() == ["lo", "taken", "taken2", "wan"]


def refused(lab: Lab, devices: dict[str, NetDevice], **members: object) -> SetupError:
    with pytest.raises(SetupError) as caught:
        lab.create(moving("true", devices, **members))
    assert not os.path.exists(lab.root / lab.ids[-1])
    return caught.value


@pytest.mark.covers("linux.netDevices")
def test_one_that_is_missing_is_an_error_and_the_others_stay(lab: Lab, pair: Pair) -> None:
    before = ip("-o", "link", "show", pair.name)
    error = refused(lab, {pair.name: NetDevice(), "no-such-device": NetDevice()})
    assert (error.origin, error.errno) == ('linux.netDevices["no-such-device"]', errno.ENODEV)
    assert ip("-o", "link", "show", pair.name) == before


def test_a_name_that_is_taken_inside_is_an_error_and_nothing_has_moved(lab: Lab, pair: Pair, other_pair: Pair) -> None:
    ip("address", "add", V4, "dev", pair.name)
    before = ip("address", "show", pair.name)
    error = refused(lab, {pair.name: NetDevice(), other_pair.name: NetDevice("lo")})
    assert (error.origin, error.errno) == (f'linux.netDevices["{other_pair.name}"]', errno.EEXIST)
    assert ip("address", "show", pair.name) == before


def test_one_that_cannot_move_is_an_error_and_as_it_was(lab: Lab) -> None:
    error = refused(lab, {"lo": NetDevice("lo1")})
    assert (error.origin, error.errno) == ('linux.netDevices["lo"]', errno.EINVAL)
    assert int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1


def test_a_socket_that_got_lost_on_its_way_is_told() -> None:
    """The kernel drops it where the caller is at its limit of descriptors, and says so by a flag alone."""
    with pytest.raises(OSError, match="Too many open files"):
        netdevices.move({"eth0": NetDevice()}, -1)


def test_the_callers_own_network_is_no_place_to_move_to(lab: Lab, pair: Pair) -> None:
    types = namespaces("pid", "ipc", "uts", "mount", network="/proc/self/ns/net")
    error = refused(lab, {pair.name: NetDevice("wan")}, namespaces=types)
    assert "unable to move network devices into the namespace they are in" in str(error)
    assert pair.exists()


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ({"a/b": NetDevice()}, 'invalid network device name "a/b"'),
        ({"eth%d": NetDevice()}, 'invalid network device name "eth%d"'),
        ({"eth0": NetDevice("%d%d")}, 'invalid network device name "%d%d"'),
        ({"a": NetDevice("x"), "b": NetDevice("x")}, "two devices"),
    ],
)
def test_what_breaks_a_rule_is_refused(lab: Lab, devices: dict[str, NetDevice], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        lab.create(moving("true", devices))
    assert words in str(caught.value)


def test_a_hook_that_fails_after_the_move_leaves_nothing_of_the_container(lab: Lab, pair: Pair) -> None:
    """A virtual device ends with the container's network; only a physical one returns by itself."""
    spec = moving("true", {pair.name: NetDevice()}).evolve(hooks=Hooks(prestart=(Hook("/bin/false"),)))
    with pytest.raises(HookError):
        lab.create(spec)
    assert lab.remains() == []
