"""Device nodes and links of /dev (config-linux.md, Devices, Default Devices, Default Filesystems)."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from ocirt import Spec
from ocirt.errors import SetupError
from ocirt.spec import Capabilities, Device, DeviceRule, IDMapping, Mount, Resources, Root
from tests.support import Lab, document, linux, namespaces, process, shell

pytestmark = pytest.mark.root

ALLOWED = Resources(devices=(DeviceRule(allow=True, access="rwm"),))


def test_the_default_devices_are_there(lab: Lab) -> None:
    names = "null zero full random urandom tty"
    shown = lab.output(shell(f"cd /dev; stat -c '%n %F %t:%T %a %u:%g' {names}"))
    assert shown.splitlines() == [
        "null character special file 1:3 666 0:0",
        "zero character special file 1:5 666 0:0",
        "full character special file 1:7 666 0:0",
        "random character special file 1:8 666 0:0",
        "urandom character special file 1:9 666 0:0",
        "tty character special file 5:0 666 0:0",
    ]


def test_the_default_devices_can_be_used(lab: Lab) -> None:
    script = "head -c3 /dev/zero | wc -c; head -c3 /dev/urandom | wc -c; echo x > /dev/null; echo x 2>&1 > /dev/full"
    assert lab.output(shell(script)).splitlines() == ["3", "3", "sh: write error: No space left on device"]


def test_the_default_links_are_there(lab: Lab) -> None:
    shown = lab.output(shell("cd /dev; for name in fd stdin stdout stderr core ptmx; do readlink $name; done"))
    assert shown.split() == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "/proc/kcore",
        "pts/ptmx",
    ]


def test_there_is_nothing_else_in_dev(lab: Lab) -> None:
    shown = lab.output(shell("ls /dev")).split()
    assert set(shown) == set(
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    )


@pytest.mark.covers("linux.devices.**")
def test_listed_devices_are_made_with_type_mode_and_owner(lab: Lab) -> None:
    devices = (
        Device("c", "/dev/char", 1, 3, 0o640, 7, 8),
        Device("u", "/dev/unbuffered", 1, 5),
        Device("b", "/dev/below/block", 7, 200, 0o600),
        Device("p", "/tmp/fifo", file_mode=0o622),
    )
    script = "stat -c '%F %t:%T %a %u:%g' /dev/char /dev/unbuffered /dev/below/block /tmp/fifo"
    spec = shell(script).evolve(linux=linux(devices=devices, resources=ALLOWED))
    shown = lab.output(spec.evolve(mounts=(*spec.mounts, Mount("/tmp", "tmpfs", "tmpfs"))))
    assert shown.splitlines() == [
        "character special file 1:3 640 7:8",
        "character special file 1:5 666 0:0",
        "block special file 7:c8 600 0:0",
        "fifo 0:0 622 0:0",
    ]


def test_a_listed_device_takes_the_place_of_a_default(lab: Lab) -> None:
    own = linux(devices=(Device("c", "/dev/null", 1, 3, 0o600, 5, 6),))
    assert lab.output(shell("stat -c '%a %u:%g' /dev/null").evolve(linux=own)) == "600 5:6\n"


def test_a_node_that_is_there_already_and_is_that_device_is_kept(own_lab: Lab) -> None:
    os.mknod(own_lab.rootfs / "tmp/kept", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    spec = shell("stat -c '%a' /tmp/kept").evolve(
        root=Root("rootfs"), linux=linux(devices=(Device("c", "/tmp/kept", 1, 3, 0o666),))
    )
    assert own_lab.output(spec) == "600\n"


@pytest.mark.covers("linux.devices[].path")
@pytest.mark.parametrize("found", ["file", "another device", "symlink to the device"])
def test_something_else_at_the_path_of_a_device_is_an_error(own_lab: Lab, found: str) -> None:
    path = own_lab.rootfs / "tmp/device"
    if found == "file":
        path.touch()
    elif found == "another device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(SetupError) as caught:
        own_lab.create(shell("true").evolve(linux=linux(devices=(Device("c", "/tmp/device", 1, 3),))))
    assert (caught.value.origin, caught.value.operation) == ("linux.devices[0]", "MakeDevice")
    assert own_lab.remains() == []


@pytest.mark.covers("linux.devices")
def test_in_a_user_namespace_devices_are_the_hosts_by_bind_mount(lab: Lab) -> None:
    mappings = (IDMapping(0, 200000, 65536),)
    types = ("pid", "network", "ipc", "uts", "mount", "user")
    members = linux(namespaces=namespaces(*types), uid_mappings=mappings, gid_mappings=mappings)
    shown = lab.output(shell("stat -c '%t:%T %u' /dev/null; echo x > /dev/null && echo fine").evolve(linux=members))
    assert shown == "1:3 65534\nfine\n"


def in_user_namespace(spec: Spec, *devices: Device) -> Spec:
    mappings = (IDMapping(0, 200000, 65536),)
    types = ("pid", "network", "ipc", "uts", "mount", "user")
    members = linux(
        namespaces=namespaces(*types), uid_mappings=mappings, gid_mappings=mappings, devices=devices, resources=ALLOWED
    )
    return spec.evolve(linux=members)


def test_a_listed_device_in_a_user_namespace_is_the_hosts_and_a_fifo_is_made(lab: Lab) -> None:
    devices = (Device("c", "/dev/loop-control", 10, 237), Device("p", "/dev/below/fifo", file_mode=0o640, uid=5))
    printed = lab.output(
        in_user_namespace(shell("cd /dev; stat -c '%F %t:%T' loop-control; stat -c '%F %a %u' below/fifo"), *devices)
    )
    assert printed.splitlines() == ["character special file a:ed", "fifo 640 5"]


def test_a_node_of_the_host_that_is_another_device_is_not_shown(lab: Lab) -> None:
    with pytest.raises(SetupError, match="another device") as caught:
        lab.create(in_user_namespace(shell("true"), Device("c", "/dev/zero", 10, 229)))
    assert (caught.value.origin, caught.value.operation) == ("linux.devices[0]", "BindDevice")
    assert lab.remains() == []


@pytest.mark.parametrize("found", ["file", "link"])
def test_something_else_at_its_path_is_an_error_in_a_user_namespace_too(own_lab: Lab, found: str) -> None:
    place = own_lab.rootfs / "dev/zero"
    if found == "file":
        place.write_text("something")
    else:
        place.symlink_to("/etc/file")
    for path in (own_lab.rootfs, *own_lab.rootfs.rglob("*")):
        os.chown(path, 200_000, 200_000, follow_symlinks=False)
    spec = in_user_namespace(shell("true"), Device("c", "/dev/zero", 1, 5))
    spec = spec.evolve(mounts=tuple(mount for mount in spec.mounts if not mount.destination.startswith("/dev")))
    with pytest.raises(SetupError, match="something else at that path") as caught:
        own_lab.create(spec)
    assert (caught.value.origin, caught.value.operation) == ("linux.devices[0]", "BindDevice")


def test_a_bind_mount_on_dev_is_left_as_it_is(lab: Lab) -> None:
    directory = lab.directory / "dev"
    directory.mkdir()
    (directory / "mine").touch()
    spec = shell("ls /dev").evolve(mounts=(Mount("/dev", None, str(directory), ("bind",)),))
    assert lab.output(spec) == "mine\n"
    assert os.listdir(directory) == ["mine"]


@pytest.mark.covers("linux.resources", "linux.resources.devices", "linux.resources.devices[].allow")
def test_the_default_rules_let_nobody_use_another_device(lab: Lab) -> None:
    """The device list of runc's default configuration: all denied but the defaults, and mknod(2)."""
    may = ("CAP_MKNOD",)
    program = process(
        "sh",
        "-c",
        "mknod /tmp/loops c 10 237 && exec 3< /tmp/loops",
        capabilities=Capabilities(bounding=may, effective=may, permitted=may),
    )
    spec = document().evolve(process=program, mounts=(*document().mounts, Mount("/tmp", "tmpfs", "tmpfs")))
    assert lab.output(spec) == "sh: can't open /tmp/loops: Operation not permitted\n"


@pytest.mark.covers("linux.resources.devices.**")
def test_devices_that_are_allowed_can_be_used(lab: Lab) -> None:
    devices = (Device("c", "/dev/loop-control", 10, 237),)
    spec = shell("exec 3< /dev/loop-control && echo opened")
    assert "Operation not permitted" in lab.output(spec.evolve(linux=linux(devices=devices)))
    assert lab.output(spec.evolve(linux=linux(devices=devices, resources=ALLOWED))) == "opened\n"


def test_a_stream_that_is_the_hosts_null_device_becomes_the_containers(lab: Lab) -> None:
    script = "chown 7 /proc/self/fd/0 /dev/null; chmod 600 /proc/self/fd/0; stat -L -c '%t:%T %u %a' /proc/self/fd/0"
    before = os.stat("/dev/null")
    with lab.start(shell(script), stdin=subprocess.DEVNULL) as container:
        assert container.process is not None
        container.process.communicate(timeout=60)
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
