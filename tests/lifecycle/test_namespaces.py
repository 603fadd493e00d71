"""The container's namespaces (config-linux.md, Namespaces): new ones, others' ones, the caller's."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import pytest

from ocirt import Container, Spec
from ocirt.errors import SetupError
from ocirt.spec import IDMapping, Mount, Process, Root, TimeOffset, User
from tests.support import Lab, document, linux, namespaces, process, shell

pytestmark = pytest.mark.root

FILES = {
    "pid": "pid_for_children",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "user": "user",
    "time": "time",
}
"""Types of config.json, and their files below /proc/PID/ns."""

ALL = tuple(FILES)
MAPPINGS = (IDMapping(0, 200000, 65536),)
SLEEP = process("sleep", "600")


def bare(*types: str, program: Process = SLEEP, joined: Mapping[str, str] = MappingProxyType({})) -> Spec:
    """These namespaces, those at the paths, and nothing that would need another one."""
    private = "mount" in types or "mount" in joined
    mappings = {"uid_mappings": MAPPINGS, "gid_mappings": MAPPINGS} if "user" in types else {}
    return Spec(
        process=program,
        root=Root("rootfs", readonly=private),
        mounts=(Mount("/dev", "tmpfs", "tmpfs"), Mount("/tmp", "tmpfs", "tmpfs")) if private else (),
        linux=linux(namespaces=namespaces(*types, **joined), masked_paths=(), readonly_paths=(), **mappings),
    )


def of(pid: int | str) -> dict[str, str]:
    return {type_: os.readlink(f"/proc/{pid}/ns/{name}") for type_, name in FILES.items()}


def paths(container: Container, *types: str) -> dict[str, str]:
    return {type_: f"/proc/{container.pid}/ns/{FILES[type_]}" for type_ in types}


def differences(container: Container) -> set[str]:
    """In which namespaces it is not where we are."""
    return {type_ for type_, name in of(container.pid).items() if name != of("self")[type_]}


@pytest.fixture
def other(lab: Lab) -> Iterator[Container]:
    """A running container with a namespace of every kind."""
    with lab.start(bare(*ALL)) as container:
        yield container


@pytest.fixture
def other_of_ours(lab: Lab) -> Iterator[Container]:
    """A running container with all namespaces but a user namespace."""
    with lab.start(bare(*(name for name in ALL if name != "user"))) as container:
        yield container


@pytest.mark.covers("linux", "linux.namespaces", "linux.namespaces[].type")
@pytest.mark.parametrize("types", [(), *((name,) for name in ALL), *itertools.combinations(ALL, 7), ALL])
def test_what_is_listed_is_new_and_the_rest_is_the_callers(lab: Lab, types: tuple[str, ...]) -> None:
    with lab.create(bare(*types)) as container:
        assert differences(container) == set(types)
        container.start()
        assert differences(container) == set(types)


@pytest.mark.covers("linux.namespaces[].path")
@pytest.mark.parametrize("type_", [name for name in ALL if name != "user"])
def test_a_namespace_with_a_path_is_joined(lab: Lab, other_of_ours: Container, type_: str) -> None:
    with lab.start(bare(joined=paths(other_of_ours, type_))) as container:
        assert of(container.pid)[type_] == of(other_of_ours.pid)[type_]
        assert differences(container) == {type_}


@pytest.mark.parametrize("type_", [name for name in ALL if name not in ("user", "mount")])
def test_a_namespace_with_a_path_is_joined_beside_new_ones(lab: Lab, other_of_ours: Container, type_: str) -> None:
    new = [name for name in ALL if name not in (type_, "user")]
    with lab.start(bare(*new, joined=paths(other_of_ours, type_))) as container:
        inside, theirs = of(container.pid), of(other_of_ours.pid)
        assert {name for name in ALL if inside[name] == theirs[name]} == {type_, "user"}
        assert differences(container) == {type_, *new}


@pytest.mark.covers("linux.namespaces[].path")
def test_a_user_namespace_is_joined_with_what_it_owns(lab: Lab, other: Container) -> None:
    with lab.start(bare(joined=paths(other, *ALL))) as container:
        assert of(container.pid) == of(other.pid)


def test_a_user_namespace_is_joined_alone(lab: Lab, other: Container) -> None:
    with lab.start(bare("mount", joined=paths(other, "user"))) as container:
        assert differences(container) == {"mount", "user"}
        assert of(container.pid)["user"] == of(other.pid)["user"]


def test_a_foreign_network_goes_with_a_new_user_namespace(lab: Lab, other_of_ours: Container) -> None:
    """The network belongs to the caller's user namespace, so it has to be entered first."""
    with lab.start(bare("mount", "user", joined=paths(other_of_ours, "network"))) as container:
        assert differences(container) == {"mount", "user", "network"}
        assert of(container.pid)["network"] == of(other_of_ours.pid)["network"]


def test_a_foreign_network_goes_with_another_containers_user_namespace(
    lab: Lab, other: Container, other_of_ours: Container
) -> None:
    """One is owned by the user namespace that is joined, the other is not."""
    where = {**paths(other, "user", "ipc"), **paths(other_of_ours, "network")}
    with lab.start(bare("mount", joined=where)) as container:
        inside = of(container.pid)
        assert (inside["user"], inside["ipc"]) == (of(other.pid)["user"], of(other.pid)["ipc"])
        assert inside["network"] == of(other_of_ours.pid)["network"]


def test_joining_a_pid_namespace_makes_a_process_in_it(lab: Lab, other_of_ours: Container) -> None:
    with lab.start(bare("mount", joined=paths(other_of_ours, "pid"))) as container:
        with open(f"/proc/{container.pid}/status", encoding="utf-8") as file:
            inner = next(line for line in file if line.startswith("NSpid")).split()[1:]
        assert len(inner) == 2
        assert int(inner[1]) > 1


def test_what_was_joined_outlives_the_container(lab: Lab, other_of_ours: Container) -> None:
    with lab.start(bare(joined=paths(other_of_ours, "pid", "network", "mount"))):
        pass
    assert other_of_ours.status == "running"


@pytest.mark.covers("linux.namespaces[].path")
def test_a_file_that_is_no_namespace_is_refused(lab: Lab) -> None:
    with pytest.raises(SetupError) as caught:
        lab.create(bare("mount", joined={"network": "/etc/hostname"}))
    assert caught.value.origin == "linux.namespaces[1].path"
    assert lab.remains() == []


def test_a_namespace_of_another_type_is_refused(lab: Lab) -> None:
    with pytest.raises(SetupError, match="is not a network namespace") as caught:
        lab.create(bare("mount", joined={"network": "/proc/self/ns/ipc"}))
    assert caught.value.origin == "linux.namespaces[1].path"


def test_a_namespace_that_is_not_there_is_refused(lab: Lab) -> None:
    with pytest.raises(SetupError) as caught:
        lab.create(bare("mount", joined={"network": "/proc/self/ns/nothing"}))
    assert (caught.value.origin, caught.value.call) == ("linux.namespaces[1].path", "open")


def test_without_a_mount_namespace_the_rootfs_is_the_root_directory(lab: Lab) -> None:
    listing = process("ls", "/")
    assert lab.output(bare("pid", "uts", program=listing)).split() == "bin dev etc proc root sys tmp".split()


@pytest.mark.covers("linux.timeOffsets", "linux.timeOffsets.*.secs")
def test_clocks_are_shifted_by_the_time_offsets(lab: Lab) -> None:
    spec = shell("read seconds rest < /proc/uptime; echo $seconds")
    offsets = {"monotonic": TimeOffset(1000), "boottime": TimeOffset(10_000_000, 5)}
    types = ("pid", "mount", "ipc", "uts", "network", "time")
    inside = lab.output(spec.evolve(linux=linux(namespaces=namespaces(*types), time_offsets=offsets)))
    assert float(inside) > 10_000_000


@pytest.mark.covers("linux.uidMappings.**", "linux.gidMappings.**")
def test_ids_are_mapped(lab: Lab) -> None:
    spec = shell("cat /proc/self/uid_map /proc/self/gid_map; id -u")
    members = linux(
        namespaces=namespaces(*ALL),
        uid_mappings=(IDMapping(0, 200000, 1000), IDMapping(1000, 300000, 64536)),
        gid_mappings=MAPPINGS,
    )
    words = lab.output(spec.evolve(linux=members)).split()
    assert words == "0 200000 1000 1000 300000 64536 0 200000 65536 0".split()


@pytest.mark.covers("linux.uidMappings", "linux.gidMappings")
def test_a_mapped_user_owns_what_it_makes_on_the_host(own_lab: Lab) -> None:
    program = process("sh", "-c", "touch /tmp/mine && id -u && id -G", user=User(uid=7, gid=8))
    spec = bare(*ALL, program=program)
    assert own_lab.output(spec.evolve(root=Root("rootfs"), mounts=spec.mounts[:1])) == "7\n8\n"
    info = (own_lab.rootfs / "tmp/mine").stat()
    assert (info.st_uid, info.st_gid) == (200007, 200008)


def test_a_new_network_has_a_loopback_that_is_up(lab: Lab) -> None:
    assert "UP" in lab.output(document("ip", "link", "show", "lo"))
    assert lab.output(document("ls", "/sys/class/net")).split() == ["lo"]


@pytest.mark.covers("hostname", "domainname")
def test_host_name_and_domain_name_are_set_inside_alone(lab: Lab) -> None:
    before = os.uname()
    spec = shell("hostname; cat /proc/sys/kernel/domainname").evolve(hostname="in.side", domainname="example.org")
    assert lab.output(spec) == "in.side\nexample.org\n"
    assert os.uname() == before


@pytest.mark.covers("linux.sysctl")
def test_a_sysctl_is_set_inside_alone(lab: Lab) -> None:
    spec = document("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced")
    sysctls = {"net.ipv4.ip_unprivileged_port_start": "77", "kernel/shm_rmid_forced": "1"}
    assert lab.output(spec.evolve(linux=linux(sysctl=sysctls))) == "77\n1\n"
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
        assert file.read() != "77\n"
