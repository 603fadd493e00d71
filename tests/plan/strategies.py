"""Hypothesis strategies for what a plan is made from besides the configuration, and for the three together."""

from __future__ import annotations

import struct
from typing import NamedTuple

from attrs import evolve
from hypothesis import strategies as st

from ocirt.cgroups.mounts import CgroupMountEntry
from ocirt.host import Host
from ocirt.plan import Site
from ocirt.spec import IDMapping, Linux, Mount, Namespace, Process, Spec
from tests.strategies import paths, processes, specs

ORDINARY = 1000
"""The uid and gid of ordinary users here."""

SUBORDINATE = range(100_000, 165_536)


def roots() -> st.SearchStrategy[Host]:
    """Root of a machine or of a user namespace, with all capabilities or just enough."""
    return st.builds(
        Host,
        capabilities=st.sampled_from(((1 << 41) - 1, 1 << 21, 0xA80425FB | 1 << 21)),
        last_capability=st.sampled_from((38, 40)),
        in_user_namespace=st.booleans(),
        apparmor=st.booleans(),
        selinux=st.booleans(),
    )


def ordinary_users() -> st.SearchStrategy[Host]:
    """An ordinary user, with subordinate IDs or with none."""
    alone = Host(euid=ORDINARY, egid=ORDINARY, privileged=False, capabilities=0)
    granted = Host(
        euid=ORDINARY,
        egid=ORDINARY,
        privileged=False,
        capabilities=0,
        subordinate_uids=(SUBORDINATE,),
        subordinate_gids=(SUBORDINATE,),
        has_newuidmap=True,
    )
    return st.sampled_from((alone, granted))


def hosts() -> st.SearchStrategy[Host]:
    return roots() | ordinary_users()


CGROUP_MOUNTS = (
    (),
    (CgroupMountEntry("", "cgroup2", (), "/sys/fs/cgroup/ocirt/c", ()),),
    (
        CgroupMountEntry("memory", "cgroup", ("memory",), "/sys/fs/cgroup/memory/ocirt/c", ()),
        CgroupMountEntry(
            "cpu,cpuacct", "cgroup", ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct/ocirt/c", ("cpu", "cpuacct")
        ),
        CgroupMountEntry("unified", "cgroup2", (), "/sys/fs/cgroup/unified/ocirt/c", ()),
    ),
)


def sites() -> st.SearchStrategy[Site]:
    """Places on a host of any cgroup layout."""
    return st.builds(
        Site,
        container_id=st.just("c"),
        bundle=st.just("/bundle"),
        rootfs=paths(),
        scratch=st.none() | st.just("/run/ocirt/c/scratch"),
        streams=st.integers(0, 7),
        shown=st.sampled_from(((), ("bin", "usr"))),
        joins_cgroups=st.booleans(),
        cgroup_mounts=st.sampled_from(CGROUP_MOUNTS),
        own_cgroup=st.booleans(),
        keyring=st.booleans(),
        filter=st.just(FILTER),
        kept=st.sampled_from(((), (3, 4, 700), tuple(range(5, 105)))),
        activated=st.integers(0, 2),
        full_views=st.none() | st.sampled_from(((), ("/proc", "/sys"))),
        notify=st.none() | st.just("/run/ocirt/c/notify"),
    )


FILTER = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
"""A program of one instruction: whatever it is, it is allowed."""


class Case(NamedTuple):
    """What ``plan_create`` takes."""

    document: Spec
    host: Host
    site: Site


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A valid configuration, any host and any site: not every one of them can be honoured."""
    return Case(draw(specs()), draw(hosts()), draw(sites()))


@st.composite
def honoured(draw: st.DrawFn) -> Case:
    """A configuration that the host can honour: drawn with all of OCI in it, and what must not be is taken out."""
    host = draw(hosts())
    document = within_its_namespaces(draw(specs()), mounts=draw(st.integers(0, 3)) > 0)
    if host.rootless and document.linux is not None:
        document = document.evolve(linux=document.linux.evolve(net_devices={}))
    document = for_ordinary_user(document, host) if not host.privileged else with_mapped_user(document)
    document = without_filesystems_of_others(document, host)
    site = fitting(draw(sites()), document)
    return Case(labelled(document, host, site), host, site)


def fitting(site: Site, document: Spec) -> Site:
    """One that has nothing that this configuration rules out."""
    linux = document.linux or Linux()
    if not any(namespace.type == "mount" for namespace in linux.namespaces):
        site = evolve(site, notify=None)
    if (linux.rootfs_propagation or "").endswith("private"):
        site = evolve(site, full_views=None)
    return site


def labelled(document: Spec, host: Host, site: Site) -> Spec:
    """With the labels that the host's security modules know."""
    linux = document.linux or Linux()
    if not host.selinux or site.scratch is not None:
        document = document.evolve(linux=linux.evolve(mount_label=None))
    process = document.process
    return document if process is None else document.evolve(process=labelled_process(process, host))


def labelled_process(process: Process, host: Host) -> Process:
    changes: dict[str, object] = {}
    if not host.apparmor:
        changes["apparmor_profile"] = None
    if not host.selinux:
        changes["selinux_label"] = None
    return process.evolve(**changes)


def within_its_namespaces(document: Spec, *, mounts: bool) -> Spec:
    """With a mount namespace, or without all that needs one; and with sysctls of its own namespaces alone."""
    linux = document.linux or Linux()
    types = {namespace.type for namespace in linux.namespaces}
    owned = {key: value for key, value in linux.sysctl.items() if _owner(key) in types}
    linux = linux.evolve(sysctl=owned)
    document = document.evolve(linux=linux)
    if not mounts:
        return without_mounts(document)
    if any(namespace.type == "mount" for namespace in linux.namespaces):
        return document
    namespaces = (*linux.namespaces, Namespace("mount"))
    return document.evolve(linux=linux.evolve(namespaces=namespaces))


def _owner(sysctl: str) -> str:
    return "network" if sysctl.startswith("net") else "ipc"


def _without_id_mappings(mount: Mount) -> Mount:
    """An ordinary user has no right to a filesystem's IDs."""
    options = tuple(option for option in mount.options if option not in ("idmap", "ridmap"))
    return mount.evolve(options=options, uid_mappings=(), gid_mappings=())


def _in_user_namespace(mount: Mount, mapped: range) -> Mount:
    """Without groups that the namespace has not; and sysfs read-only, since its network namespace may be the host's."""
    options = tuple(
        option for option in mount.options if not option.startswith("gid=") or int(option.partition("=")[2]) in mapped
    )
    if mount.type == "sysfs":
        options = (*options, "ro")
    if "bind" not in options and "rbind" not in options:
        return mount.evolve(options=options, uid_mappings=(), gid_mappings=())
    return mount.evolve(options=options)


def without_mounts(document: Spec) -> Spec:
    """In the caller's own mount namespace."""
    linux = document.linux or Linux()
    process = document.process
    return document.evolve(
        root=document.root.evolve(readonly=False),
        mounts=(),
        process=process and process.evolve(terminal=False, console_size=None),
        linux=linux.evolve(
            namespaces=tuple(namespace for namespace in linux.namespaces if namespace.type != "mount"),
            devices=(),
            masked_paths=(),
            readonly_paths=(),
            rootfs_propagation=None,
        ),
    )


def with_mapped_user(document: Spec) -> Spec:
    """Where a user namespace is created, the process is its root, and root is mapped."""
    linux = document.linux
    if linux is None or not linux.uid_mappings:
        return document
    everyone = (IDMapping(0, 200_000, 65_536),)
    linux = linux.evolve(uid_mappings=everyone, gid_mappings=everyone)
    return _as(document.evolve(linux=linux), 0, ())


def without_filesystems_of_others(document: Spec, host: Host) -> Spec:
    """Mounts as a user namespace, or its absence, allows them."""
    linux = document.linux or Linux()
    mounts = document.mounts
    if host.rootless:
        mounts = tuple(map(_without_id_mappings, mounts))
    if any(namespace.type == "user" for namespace in linux.namespaces):
        mapped = range(linux.gid_mappings[0].size) if linux.gid_mappings else range(65_536)
        mounts = tuple(_in_user_namespace(mount, mapped) for mount in mounts)
    return document.evolve(mounts=mounts)


def for_ordinary_user(document: Spec, host: Host) -> Spec:
    """The same in a user namespace of the user's own, with the mappings that are to be had."""
    linux = document.linux or Linux()
    others = tuple(namespace for namespace in linux.namespaces if namespace.type != "user")
    mappings: tuple[IDMapping, ...] = (IDMapping(0, ORDINARY, 1),)
    if host.has_newuidmap:
        mappings = (*mappings, IDMapping(1, SUBORDINATE.start, len(SUBORDINATE)))
    linux = linux.evolve(namespaces=(*others, Namespace("user")), uid_mappings=mappings, gid_mappings=mappings)
    return _as(document.evolve(linux=linux), 0, ())


def _as(document: Spec, uid: int, groups: tuple[int, ...]) -> Spec:
    process = document.process
    if process is None:
        return document
    return document.evolve(process=process.evolve(user=process.user.evolve(uid=uid, gid=uid, additional_gids=groups)))


@st.composite
def executions(draw: st.DrawFn) -> tuple[Process, Case]:
    """One more process, and the container that it runs in."""
    case = draw(honoured())
    process = draw(processes())
    user = process.user.evolve(uid=0, gid=0, additional_gids=())
    return labelled_process(process.evolve(user=user), case.host), case
