"""Device lists where version 2 of cgroups enforces them: by a program that lives as long as the container."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from ocirt import Spec
from ocirt.cgroups import device_filter, devices, layout
from ocirt.cgroups.bpf import Program, assemble
from ocirt.errors import SetupError, UnsupportedError
from ocirt.spec import Device, DeviceRule, Resources
from tests import layouts
from tests.cgroups.programs import attach_beside, is_loaded
from tests.support import SECONDS, Lab, eventually, linux, said, shell

HERE = layout.here()
MOUNT = next((hierarchy.mountpoint for hierarchy in HERE.layout.hierarchies if hierarchy.version == 2), "")

pytestmark = [pytest.mark.root, pytest.mark.systemd_too]
needs_programs = pytest.mark.skipif(
    devices.means(HERE.layout, rootless=False) != "program", reason="version 1 has the device lists here"
)

DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, access="rwm")
LOOP = DeviceRule(True, "c", 10, 237, "rw")
TRY = "for device in null loop-control; do { exec 3<> /dev/$device; } 2>&1 && echo $device; done"
BOTH = "null\nloop-control\n"
REFUSED = "null\nsh: can't create /dev/loop-control: Operation not permitted\n"


def trying(*rules: DeviceRule, cgroups_path: str | None = None) -> Spec:
    """Something that tells which of two devices it can open."""
    device = Device("c", "/dev/loop-control", 10, 237)
    members = linux(devices=(device,), resources=Resources(devices=rules), cgroups_path=cgroups_path)
    return shell(TRY).evolve(linux=members)


def program(*rules: DeviceRule) -> Program:
    return assemble(devices.device_list(rules))


def filters(lab: Lab) -> tuple[int, ...]:
    """The programs of a container's cgroup."""
    (path,) = [path for path in lab.cgroups() if path.startswith(MOUNT)]
    return attached(path)


def attached(path: str) -> tuple[int, ...]:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return device_filter.attached(fd)
    finally:
        os.close(fd)


@pytest.fixture
def parent(lab: Lab) -> Iterator[str]:
    """A version 2 cgroup for the cgroups of a lab's containers, at a path that is none of systemd's."""
    lab.manager = "cgroupfs"
    path = f"{MOUNT}/ocirt-test-parent-{os.getpid()}"
    os.mkdir(path)
    yield path
    lab.sweep()
    os.rmdir(path)


def attach_at(path: str, program: Program, flags: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        attach_beside(fd, program, flags)
    finally:
        os.close(fd)


@pytest.mark.slow
@pytest.mark.parametrize("name", layouts.SCRIPTS)
def test_devices_are_allowed_and_denied_on_other_layouts_too(name: str) -> None:
    """Those of this file, and the tests that run on each machine."""
    here = Path(__file__)
    paths = (here, here.parent / "test_devices.py")
    shown = layouts.run_tests(name, *map(str, paths), "-k", "not other_layouts")
    assert "version 1 has the device lists" not in shown


@pytest.mark.covers("linux.resources.devices.**")
@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ((), REFUSED),
        ((DENY_ALL,), REFUSED),
        ((DENY_ALL, LOOP), BOTH),
        ((DENY_ALL, LOOP.evolve(access="r")), REFUSED),
        ((ALLOW_ALL,), BOTH),
        ((ALLOW_ALL, LOOP.evolve(allow=False)), REFUSED),
        ((LOOP, DENY_ALL), REFUSED),
        ((DENY_ALL, LOOP.evolve(minor=None, access="w"), LOOP.evolve(major=None, access="r")), BOTH),
        ((DENY_ALL, *(LOOP.evolve(major=number, minor=number) for number in range(1000)), LOOP), BOTH),
    ],
)
def test_what_the_rules_allow_can_be_opened_and_nothing_else(
    lab: Lab, rules: tuple[DeviceRule, ...], outcome: str
) -> None:
    assert lab.output(trying(*rules)) == outcome


@needs_programs
def test_a_part_of_what_is_allowed_can_be_denied(lab: Lab) -> None:
    """Version 1 would not do it, and is not asked to."""
    assert lab.output(trying(DENY_ALL, LOOP.evolve(minor=None), LOOP.evolve(allow=False))) == REFUSED


def test_an_executed_process_is_filtered_as_well(lab: Lab) -> None:
    with lab.start(shell("sleep 100").evolve(linux=trying(DENY_ALL).linux)) as container:
        process = container.exec(["sh", "-c", TRY], stdout=PIPE)
        output, _ = process.communicate(timeout=SECONDS)
        assert output is not None
        assert output.decode() == REFUSED


@needs_programs
def test_the_filter_is_there_with_the_container_and_gone_after_it(lab: Lab) -> None:
    container = lab.create(trying(DENY_ALL))
    (number,) = filters(lab)
    container.start()
    assert filters(lab) == (number,)
    container.wait(SECONDS)
    container.delete()
    eventually(lambda: not is_loaded(number), "the program is gone")


@needs_programs
def test_where_everything_is_allowed_there_is_no_filter(lab: Lab) -> None:
    with lab.create(trying(ALLOW_ALL)):
        assert filters(lab) == ()


@needs_programs
def test_a_filter_that_a_cgroup_had_before_is_replaced(lab: Lab, parent: str) -> None:
    path = f"{parent}/container"
    os.mkdir(path)
    attach_at(path, program(DENY_ALL), device_filter.ALLOW_MULTI)
    with lab.create(trying(DENY_ALL, LOOP, cgroups_path=path.removeprefix(MOUNT)), stdout=PIPE) as container:
        assert len(attached(path)) == 1
        container.start()
        assert said(container) == BOTH


@needs_programs
def test_where_no_filter_may_be_attached_nothing_is_left(lab: Lab, parent: str) -> None:
    attach_at(parent, program(DENY_ALL), 0)
    with pytest.raises(SetupError, match="BPF_F_ALLOW_MULTI") as caught:
        lab.create(trying(DENY_ALL, LOOP, cgroups_path=f"{parent.removeprefix(MOUNT)}/container"))
    assert (caught.value.origin, caught.value.errno) == ("linux.resources.devices", errno.EPERM)
    assert lab.remains() == []


@needs_programs
def test_a_list_that_makes_too_long_a_program_is_refused(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match="instructions") as caught:
        lab.create(trying(*(LOOP.evolve(major=number, minor=number) for number in range(5000))))
    assert caught.value.origin == "linux.resources.devices"
    assert lab.remains() == []
