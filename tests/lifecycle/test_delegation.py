"""A container divides its own cgroup, and an ordinary user has cgroups where somebody has given it one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from ocirt import Container, Spec
from ocirt.cgroups import layout
from ocirt.cgroups.units import has_systemd
from ocirt.preparation import CgroupManager
from ocirt.spec import IDMapping, Mount
from ocirt.spec.linux import Resources
from tests.support import Lab, linux, namespaces, process, said, shell

pytestmark = [
    pytest.mark.vm("systemd"),
    pytest.mark.root,
    pytest.mark.skipif(layout.probe().mode != "v2", reason="needs cgroup version 2 alone"),
]

TYPES = ("pid", "mount", "ipc", "uts", "network", "cgroup")
MAPPED = (IDMapping(0, 100_000, 1000),)

DIVIDE = "set -e; cd /sys/fs/cgroup; mkdir mine; echo 0 > mine/cgroup.procs; cat /proc/self/cgroup"


def spec(script: str, *, readonly: bool = False, uid: int = 7) -> Spec:
    base = shell(script)
    mounts = tuple(mount for mount in base.mounts if mount.destination != "/sys/fs/cgroup")
    view = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", *(("ro",) if readonly else ())))
    described = linux(
        namespaces=namespaces(*TYPES, "user"), uid_mappings=MAPPED, gid_mappings=MAPPED, resources=Resources()
    )
    program = process("sh", "-c", script)
    program = program.evolve(user=program.user.evolve(uid=uid, gid=uid))
    return base.evolve(mounts=(*mounts, view), linux=described, process=program)


@pytest.fixture(params=["cgroupfs", "systemd"])
def manager(request: pytest.FixtureRequest) -> CgroupManager:
    if request.param == "systemd" and not has_systemd():
        pytest.skip("systemd is not the init of this machine")
    return "systemd" if request.param == "systemd" else "cgroupfs"


def create(lab: Lab, document: Spec, manager: CgroupManager) -> Container:
    return Container.create(
        lab.new_id(),
        lab.bundle(document),
        root=lab.root,
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        cgroup_manager=manager,
    )


def place(container: Container) -> Path:
    return Path("/sys/fs/cgroup" + Path(f"/proc/{container.pid}/cgroup").read_text().strip().removeprefix("0::"))


def owners(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in [directory, *directory.iterdir()]}


def test_its_user_owns_what_the_kernel_names_and_nothing_else(lab: Lab, manager: CgroupManager) -> None:
    container = create(lab, spec("true"), manager)
    cgroup = place(container)
    found = owners(cgroup)
    delegated = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    assert {name for name, uid in found.items() if uid == 100_007} == {cgroup.name} | (delegated & found.keys())
    assert {uid for name, uid in found.items() if name not in delegated | {cgroup.name}} == {0}
    container.start()
    assert container.wait(60) == 0
    said(container)


def test_its_user_can_divide_it(lab: Lab, manager: CgroupManager) -> None:
    container = create(lab, spec(DIVIDE), manager)
    container.start()
    output = said(container)
    assert "0::/mine" in output, output
    container.delete()


def test_a_read_only_view_changes_no_owner(lab: Lab, manager: CgroupManager) -> None:
    container = create(lab, spec("true", readonly=True), manager)
    assert set(owners(place(container)).values()) == {0}
    container.start()
    said(container)
