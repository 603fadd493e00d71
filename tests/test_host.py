"""What is found out of the machine and of the caller; what ``Host`` makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import host
from ocirt.host import Host
from ocirt.spec import IDMapping


def test_probe_tells_who_asks_and_on_which_kernel() -> None:
    found = Host.probe()
    major, minor = os.uname().release.split(".")[:2]
    assert found.kernel == (int(major), int(minor.partition("-")[0]))
    assert (found.euid, found.egid) == (os.geteuid(), os.getegid())
    assert {"pid", "mount", "network", "uts", "ipc", "user"} <= found.namespaces


def test_probe_looks_once() -> None:
    """Bundles keep their plans for as long as the host is the same object."""
    assert Host.probe() is Host.probe()


@pytest.mark.root
def test_root_is_privileged() -> None:
    found = Host.probe()
    assert found.privileged
    assert found.capabilities >> host.CAP_SYS_ADMIN & 1


def test_security_modules_are_those_that_are_at_work() -> None:
    """What securityfs lists, where it is mounted; what is not even there is not found."""
    found = Host.probe()
    modules = Path("/sys/kernel/security/lsm")
    if modules.exists():
        names = modules.read_text().split(",")
        assert found.apparmor is ("apparmor" in names)
        assert found.selinux <= ("selinux" in names)
    if not Path("/sys/module/apparmor").exists():
        assert not found.apparmor
    if not Path("/sys/fs/selinux").exists():
        assert not found.selinux


@pytest.mark.parametrize(
    ("machine", "rootless"),
    [
        (Host(), False),
        (Host(privileged=False, euid=1000), True),
        (Host(in_user_namespace=True), True),
    ],
    ids=["root", "ordinary user", "root of a user namespace"],
)
def test_rootless_is_whoever_lacks_rights_over_the_machine(machine: Host, rootless: bool) -> None:
    assert machine.rootless is rootless


@pytest.mark.parametrize(
    ("mappings", "itself"),
    [
        ((IDMapping(0, 1000, 1),), True),
        ((IDMapping(1000, 1000, 1),), True),
        ((IDMapping(0, 1001, 1),), False),
        ((IDMapping(0, 1000, 2),), False),
        ((IDMapping(0, 1000, 1), IDMapping(1, 100000, 65536)), False),
        ((), False),
    ],
)
def test_only_the_callers_own_id_alone_needs_no_help(mappings: tuple[IDMapping, ...], itself: bool) -> None:
    assert Host.maps_itself(mappings, 1000) is itself


def test_subordinate_ids_are_granted_by_name_and_by_number(tmp_path: Path) -> None:
    """subuid(5); what is no grant is passed over, as newuidmap does."""
    name = "root"
    file = tmp_path / "subuid"
    file.write_text(f"{name}:100000:65536\nsomebody:200000:65536\n0:300000:10\n{name}:x:1\n\n{name}\n")
    assert list(host._subordinate(str(file), 0)) == [range(100000, 165536), range(300000, 300010)]


def test_no_subordinate_ids_are_granted_by_no_file(tmp_path: Path) -> None:
    assert list(host._subordinate(str(tmp_path / "absent"), 0)) == []
