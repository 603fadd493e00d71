"""Device nodes and the links of ``/dev``."""

from __future__ import annotations

import pytest

from ocirt.host import Host
from ocirt.plan import Plan, Site, plan_create
from ocirt.plan.tree_ops import BindDevice, MakeDevice, MakeSymlink
from ocirt.spec import Device, IDMapping, Linux, Mount, Namespace, Root, Spec
from tests.plan.examples import ROOT

DEFAULTS = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]
PROC = Mount("/proc", "proc")


def planned(*devices: Device, mounts: tuple[Mount, ...] = (PROC,), host: Host = ROOT, user: bool = False) -> Plan:
    mappings = (IDMapping(0, 100_000, 65_536),) if user else ()
    namespaces = (Namespace("mount"), *((Namespace("user"),) if user else ()))
    linux = Linux(namespaces=namespaces, devices=devices, uid_mappings=mappings, gid_mappings=mappings)
    return plan_create(Spec(root=Root("rootfs"), mounts=mounts, linux=linux), host, Site("c", "/bundle", "/rootfs"))


def made(plan: Plan) -> list[MakeDevice]:
    return [op for op in plan.ops if isinstance(op, MakeDevice)]


def links(plan: Plan) -> list[str]:
    return [op.path for op in plan.ops if isinstance(op, MakeSymlink)]


def test_the_default_devices_are_made() -> None:
    assert [op.path for op in made(planned())] == DEFAULTS
    assert {op.mode for op in made(planned())} == {0o020666}


def test_a_listed_device_takes_the_place_of_a_default_one() -> None:
    ops = made(planned(Device("c", "/dev//null", 1, 3, 0o600, 7, 8)))
    assert [op.path for op in ops] == [*DEFAULTS[1:], "/dev//null"]
    assert ops[-1] == MakeDevice("/dev//null", 0o020600, 1, 3, 7, 8, origin="linux.devices[0]")


@pytest.mark.covers("linux.devices[].type", "linux.devices[].fileMode")
@pytest.mark.parametrize(("type_", "mode"), [("c", 0o020666), ("u", 0o020666), ("b", 0o060666), ("p", 0o010666)])
def test_types_become_modes(type_: str, mode: int) -> None:
    assert made(planned(Device(type_, "/dev/x", 1, 2)))[-1].mode == mode


@pytest.mark.parametrize(
    ("host", "user"),
    [(ROOT, True), (Host(in_user_namespace=True), False), (Host(capabilities=ROOT.capabilities & ~(1 << 27)), False)],
)
def test_where_no_device_can_be_made_the_hosts_are_bound(host: Host, user: bool) -> None:
    plan = planned(Device("p", "/dev/fifo"), host=host, user=user)
    assert [op.path for op in made(plan)] == ["/dev/fifo"]
    bound = [op for op in plan.ops if isinstance(op, BindDevice)]
    assert [op.path for op in bound] == DEFAULTS
    assert (bound[0].type, bound[0].major, bound[0].minor) == (0o020000, 1, 3)


def test_links_need_a_proc_to_lead_to() -> None:
    assert links(planned()) == ["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/core", "/dev/ptmx"]
    assert links(planned(mounts=())) == ["/dev/ptmx"]


def test_a_bound_dev_brings_its_own() -> None:
    """To make more would change its source."""
    plan = planned(mounts=(PROC, Mount("/dev/", None, "/dev", ("rbind",))))
    assert made(plan) == []
    assert links(plan) == []


def test_ptmx_is_always_the_containers_own() -> None:
    plan = planned(Device("c", "/dev/ptmx", 5, 2))
    assert [op.path for op in made(plan)] == DEFAULTS
    assert MakeSymlink("/dev/ptmx", "pts/ptmx", replace=True) in plan.ops
