"""Which namespaces are created, which are joined, and in what order."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.host import Host
from ocirt.plan import Plan, Site, ops, plan_create
from ocirt.plan.context import NamespaceFile
from ocirt.plan.ops import CLONE_NEW, Purpose
from ocirt.spec import IDMapping, Linux, Namespace, NetDevice, Root, Spec, TimeOffset
from tests.plan.examples import ALONE, ROOT, WITH_SUBORDINATE_IDS
from tests.plan.strategies import SUBORDINATE

SITE = Site("c", "/bundle", "/rootfs")
EVERYBODY = (IDMapping(0, 100_000, 65_536),)
MYSELF = (IDMapping(0, 1000, 1),)


def planned(*namespaces: Namespace, host: Host = ROOT, mappings: tuple[IDMapping, ...] = (), **more: object) -> Plan:
    linux = Linux(namespaces=namespaces, uid_mappings=mappings, gid_mappings=mappings).evolve(**more)
    return plan_create(Spec(root=Root("rootfs"), linux=linux), host, SITE)


def created(plan: Plan) -> list[set[str]]:
    """What each Clone or Unshare makes."""
    return [
        {name for name, flag in CLONE_NEW.items() if op.flags & flag}
        for op in plan.ops
        if isinstance(op, (ops.Clone, ops.Unshare))
    ]


def test_a_network_namespace_is_made_by_the_child() -> None:
    """The kernel takes longest over it; meanwhile the caller goes on."""
    plan = planned(Namespace("network"), Namespace("mount"), Namespace("uts"), Namespace("pid"))
    assert created(plan) == [{"mount", "uts", "pid"}, {"network"}]


def test_what_belongs_to_a_user_namespace_is_made_with_it() -> None:
    plan = planned(Namespace("network"), Namespace("user"), Namespace("mount"), mappings=EVERYBODY)
    assert created(plan) == [{"network", "user", "mount"}]


@pytest.mark.covers("linux.timeOffsets.**")
def test_a_time_namespace_has_its_offsets_before_its_first_process() -> None:
    offsets = {"monotonic": TimeOffset(-5), "boottime": TimeOffset(7, 500)}
    plan = planned(Namespace("user"), Namespace("time"), Namespace("pid"), mappings=EVERYBODY, time_offsets=offsets)
    assert created(plan) == [{"user"}, {"time"}, {"pid"}]
    (write,) = (op for op in plan.ops if isinstance(op, ops.WriteProc))
    assert write.operands() == ((), ("self/timens_offsets", "1 -5 0\n7 7 500\n"))
    kinds = [type(op) for op in plan.ops]
    assert kinds.index(ops.Unshare) < kinds.index(ops.WriteProc) < len(kinds) - kinds[::-1].index(ops.Clone) - 1


def test_a_user_namespace_is_joined_last() -> None:
    """``namespaces.c`` tries everything before it, and what was refused once more after it."""
    plan = planned(Namespace("user", "/u"), Namespace("network", "/n"), Namespace("ipc", "/i"))
    assert tuple(entry for entry in plan.descriptors if isinstance(entry, NamespaceFile)) == (
        NamespaceFile("/n", "network", "linux.namespaces[1].path"),
        NamespaceFile("/i", "ipc", "linux.namespaces[2].path"),
        NamespaceFile("/u", "user", "linux.namespaces[0].path"),
    )
    (join,) = (op for op in plan.ops if isinstance(op, ops.JoinNamespaces))
    assert [flag for flag, _ in join.pairs] == [0x40000000, 0x8000000, 0x10000000]
    assert join.origins == ("linux.namespaces[1].path", "linux.namespaces[2].path", "linux.namespaces[0].path")


def test_loopback_is_brought_up_in_a_network_namespace_of_our_own_alone() -> None:
    assert ops.LoopbackUp(origin="linux.namespaces") in planned(Namespace("network")).ops
    assert not any(isinstance(op, ops.LoopbackUp) for op in planned(Namespace("network", "/n")).ops)


def test_nobody_becomes_a_root_that_is_not_mapped() -> None:
    for mappings, becomes in ((EVERYBODY, True), ((IDMapping(1, 100_000, 10),), False)):
        plan = planned(Namespace("user"), mappings=mappings)
        assert any(isinstance(op, ops.BecomeRoot) for op in plan.ops) is becomes


def test_groups_stay_where_the_kernel_does_not_let_go_of_them() -> None:
    for host, mappings, may in ((ALONE, MYSELF, False), (ROOT, EVERYBODY, True)):
        plan = planned(Namespace("user"), host=host, mappings=mappings)
        assert ops.BecomeRoot(may, origin="linux.uidMappings") in plan.ops


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/x", "net/ipv4/conf/eth0.1/x"),
        ("net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"),
    ],
)
def test_what_parts_the_names_of_a_sysctl_is_what_comes_first(key: str, path: str) -> None:
    plan = planned(Namespace("network"), sysctl={key: "1"})
    assert ops.WriteProc(f"sys/{path}", "1", origin=f'linux.sysctl["{key}"]') in plan.ops


@pytest.mark.parametrize("key", ["kernel.hostname", "vm.swappiness", "net/../kernel/core_pattern", "net.ipv4.x"])
def test_a_sysctl_of_the_whole_host_is_refused(key: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(Namespace("uts"), sysctl={key: "1"})
    assert caught.value.origin == f'linux.sysctl["{key}"]'


@pytest.mark.parametrize(
    ("key", "namespace", "words"),
    [
        ("kernel.hostname", "uts", 'is not allowed as it conflicts with the OCI "hostname" field'),
        ("kernel/hostname", "uts", 'is not allowed as it conflicts with the OCI "hostname" field'),
        ("kernel.hostname", "ipc", "is not in a separate kernel namespace"),
        ("kernel.domainname", "ipc", "is not allowed in the hosts uts namespace"),
        ("kernel.msgmax", "uts", "is not allowed in the hosts ipc namespace"),
        ("fs.mqueue.msg_max", "uts", "is not allowed in the hosts ipc namespace"),
        ("net.ipv4.ip_forward", "uts", "not allowed in host network namespace"),
        ("user.max_user_namespaces", "uts", "is not allowed in the hosts user namespace"),
        ("kernel.msgmax2", "ipc", "is not in a separate kernel namespace"),
        ("vm.swappiness", "ipc", "is not in a separate kernel namespace"),
    ],
)
def test_a_sysctl_is_refused_in_words_that_others_know(key: str, namespace: str, words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(Namespace(namespace), sysctl={key: "1"})
    assert caught.value.needs.startswith(f'sysctl "{key}" {words}')


def test_a_domain_name_may_be_a_sysctl() -> None:
    assert "sys/kernel/domainname 'x'" in str(planned(Namespace("uts"), sysctl={"kernel.domainname": "x"}))


def test_what_a_sysctl_belongs_to_must_not_be_the_callers_own() -> None:
    plan = planned(Namespace("network", "/n"), Namespace("uts", "/u"), sysctl={"net.ipv4.ip_forward": "1"})
    joined = {file.type: file.unless_own for file in plan.descriptors if isinstance(file, NamespaceFile)}
    origin, words = joined["network"] or ("", "")
    assert origin == 'linux.sysctl["net.ipv4.ip_forward"]'
    assert words.startswith('sysctl "net.ipv4.ip_forward" not allowed in host network namespace')
    assert joined["uts"] is None


@pytest.mark.parametrize(
    ("namespace", "host", "words"),
    [
        ("uts", ROOT, "unable to move network devices without a NET namespace"),
        ("network", Host(in_user_namespace=True), "network devices are not supported for rootless containers"),
    ],
)
def test_network_devices_need_a_network_of_the_containers(namespace: str, host: Host, words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        planned(Namespace(namespace), host=host, net_devices={"eth0": NetDevice()})
    assert caught.value.origin == "linux.netDevices"
    assert caught.value.needs.startswith(words)


def refused(host: Host, mappings: tuple[IDMapping, ...], *namespaces: Namespace) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        planned(*namespaces, host=host, mappings=mappings)
    return caught.value


def test_an_ordinary_user_needs_a_user_namespace() -> None:
    assert refused(ALONE, (), Namespace("mount")).origin == "linux.namespaces"


def test_a_namespace_that_the_kernel_does_not_have_is_refused() -> None:
    old = Host(namespaces=frozenset({"mount"}))
    assert refused(old, (), Namespace("mount"), Namespace("time")).origin == "linux.namespaces[1]"


def test_user_namespaces_may_be_forbidden() -> None:
    forbidden = Host(user_namespaces=False)
    error = refused(forbidden, EVERYBODY, Namespace("mount"), Namespace("user"))
    assert error.origin == "linux.namespaces[1]"
    assert "max_user_namespaces" in error.needs


@pytest.mark.parametrize(
    ("mappings", "place"),
    [
        ((IDMapping(0, 1001, 1),), 0),
        ((IDMapping(0, 1000, 1), IDMapping(1, SUBORDINATE.start - 1, 10)), 1),
        ((IDMapping(0, 1000, 1), IDMapping(1, SUBORDINATE.stop - 9, 10)), 1),
        ((IDMapping(0, 1000, 2),), 0),
        ((IDMapping(0, 0, 1),), 0),
    ],
)
def test_an_ordinary_user_maps_only_what_is_its_own(mappings: tuple[IDMapping, ...], place: int) -> None:
    assert refused(WITH_SUBORDINATE_IDS, mappings, Namespace("user")).origin == f"linux.uidMappings[{place}]"


def test_a_user_without_subordinate_ids_is_told_how_to_get_some() -> None:
    error = refused(ALONE, (IDMapping(0, 1000, 1), IDMapping(1, 100_000, 10)), Namespace("user"))
    assert error.origin == "linux.uidMappings[1]"
    assert "usermod --add-subuids" in error.needs


def test_cgroups_are_joined_by_the_process_that_the_host_knows() -> None:
    """A stage that the host did not start is not the one that it would move."""
    site = Site("c", "/bundle", "/rootfs", joins_cgroups=True)
    for joined in (Namespace("network", "/n"), Namespace("mount", "/m"), Namespace("time")):
        linux = Linux(namespaces=(joined,))
        plan = plan_create(Spec(root=Root("rootfs"), linux=linux), ROOT, site)
        kinds = [op.purpose if isinstance(op, ops.Sync) else type(op) for op in plan.ops]
        assert kinds.index(Purpose.JOINED) < kinds.index(ops.Clone)
