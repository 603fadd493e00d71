"""ID maps are written as configured, by whoever may, and a refusal names the member that asked for them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import idmap
from ocirt.errors import SetupError
from ocirt.host import Host
from ocirt.spec import IDMapping, Linux

pytestmark = pytest.mark.root

UIDS = (IDMapping(0, 100000, 1000), IDMapping(5000, 300000, 2))
GIDS = (IDMapping(0, 200000, 65536),)


@pytest.fixture
def pid() -> Iterator[int]:
    """A process in a user namespace that has no maps yet."""
    process = subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo there; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    with process:
        yield process.pid


def table(pid: int, name: str) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in Path(f"/proc/{pid}/{name}").read_text().splitlines()]


def test_root_writes_all_of_both_maps(pid: int) -> None:
    idmap.install(pid, Linux(uid_mappings=UIDS, gid_mappings=GIDS), Host.probe())
    assert table(pid, "uid_map") == [[0, 100000, 1000], [5000, 300000, 2]]
    assert table(pid, "gid_map") == [[0, 200000, 65536]]
    assert Path(f"/proc/{pid}/setgroups").read_text() == "allow\n"


def test_who_maps_nothing_but_itself_gives_up_groups(pid: int) -> None:
    """Else the kernel would not take an ordinary user's map of groups (user_namespaces(7))."""
    own = Linux(uid_mappings=(IDMapping(0, 0, 1),), gid_mappings=(IDMapping(0, 0, 1),))
    idmap.install(pid, own, Host(privileged=False))
    assert table(pid, "uid_map") == [[0, 0, 1]]
    assert Path(f"/proc/{pid}/setgroups").read_text() == "deny\n"


def test_a_map_that_the_kernel_refuses_names_its_member(pid: int) -> None:
    """Ranges that overlap."""
    overlapping = (IDMapping(0, 100000, 10), IDMapping(5, 200000, 10))
    with pytest.raises(SetupError) as caught:
        idmap.install(pid, Linux(uid_mappings=overlapping, gid_mappings=GIDS), Host.probe())
    assert (caught.value.origin, caught.value.call) == ("linux.uidMappings", "write uid_map")


def test_a_second_map_is_refused(pid: int) -> None:
    wanted = Linux(uid_mappings=UIDS, gid_mappings=GIDS)
    idmap.install(pid, wanted, Host.probe())
    with pytest.raises(SetupError, match="gidMappings"):
        idmap.install(pid, wanted, Host.probe())


def test_a_process_that_is_gone_is_told() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(SetupError) as caught:
        idmap.install(process.pid, Linux(uid_mappings=UIDS, gid_mappings=GIDS), Host.probe())
    assert caught.value.origin == "linux.gidMappings"
