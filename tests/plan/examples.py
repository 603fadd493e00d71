"""Containers whose whole plan is worth reading; ``golden/NAME.plan`` holds each of them.

``python -m tests.plan.examples`` writes the files anew: then read what changed, with ``git diff``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import evolve

from ocirt.host import Host
from ocirt.plan import Plan, Site, plan_create, plan_exec
from ocirt.spec import (
    Capabilities,
    ConsoleSize,
    Device,
    ExecCPUAffinity,
    Hook,
    Hooks,
    IDMapping,
    IOPriority,
    Linux,
    MemoryPolicy,
    Mount,
    Namespace,
    NetDevice,
    Personality,
    Process,
    Scheduler,
    Seccomp,
    Spec,
    Syscall,
    TimeOffset,
    User,
)
from tests.plan.strategies import CGROUP_MOUNTS, FILTER, ORDINARY, SUBORDINATE

GOLDEN = Path(__file__).parent / "golden"

ROOT = Host()
ALONE = Host(euid=ORDINARY, egid=ORDINARY, privileged=False, capabilities=0)
WITH_SUBORDINATE_IDS = Host(
    euid=ORDINARY,
    egid=ORDINARY,
    privileged=False,
    capabilities=0,
    subordinate_uids=(SUBORDINATE,),
    subordinate_gids=(SUBORDINATE,),
    has_newuidmap=True,
)
SITE = Site("demo", "/bundle", "/bundle/rootfs", joins_cgroups=True, cgroup_mounts=CGROUP_MOUNTS[2])


def process(document: Spec, **changes: object) -> Spec:
    assert document.process is not None
    return document.evolve(process=document.process.evolve(**changes))


def linux(document: Spec, **changes: object) -> Spec:
    return document.evolve(linux=(document.linux or Linux()).evolve(**changes))


def with_namespaces(document: Spec, *more: Namespace) -> Spec:
    """With these in place of those of the same types."""
    types = {namespace.type for namespace in more}
    kept = [namespace for namespace in (document.linux or Linux()).namespaces if namespace.type not in types]
    return linux(document, namespaces=(*kept, *more))


DEFAULT = process(Spec.default(), terminal=False)
"""What ``runc spec`` writes, but for the terminal."""


def default() -> Plan:
    return plan_create(DEFAULT, ROOT, SITE)


def rootless() -> Plan:
    document = process(Spec.default(rootless=True, uid=ORDINARY, gid=ORDINARY), terminal=False)
    return plan_create(document, ALONE, Site("demo", "/bundle", "/bundle/rootfs", own_cgroup=False))


def rootless_with_subordinate_ids() -> Plan:
    mappings = (IDMapping(0, ORDINARY, 1), IDMapping(1, SUBORDINATE.start, 65_535))
    document = Spec.default(rootless=True, uid=ORDINARY, gid=ORDINARY)
    document = linux(document, uid_mappings=mappings, gid_mappings=mappings)
    document = process(document, terminal=False, user=User(1000, 1000, additional_gids=(5, 44)))
    return plan_create(document, WITH_SUBORDINATE_IDS, Site("demo", "/bundle", "/bundle/rootfs"))


def user_namespace() -> Plan:
    mappings = (IDMapping(0, 100_000, 65_536),)
    document = with_namespaces(DEFAULT, Namespace("user"), Namespace("cgroup"))
    data = Mount("/data", source="data", options=("rbind", "ro", "rprivate"))
    document = document.evolve(mounts=(*document.mounts, data))
    document = linux(document, uid_mappings=mappings, gid_mappings=mappings)
    return plan_create(document, ROOT, SITE)


def time_namespace() -> Plan:
    mappings = (IDMapping(0, 100_000, 65_536),)
    document = with_namespaces(DEFAULT, Namespace("user"), Namespace("time"))
    offsets = {"boottime": TimeOffset(86_400), "monotonic": TimeOffset(3_600, 500_000_000)}
    document = linux(document, uid_mappings=mappings, gid_mappings=mappings, time_offsets=offsets)
    return plan_create(process(document, oom_score_adj=100), ROOT, SITE)


def joined_namespaces() -> Plan:
    """A second container of a pod."""
    joined = (Namespace(type_, f"/proc/42/ns/{file}") for type_, file in (("network", "net"), ("ipc", "ipc")))
    return plan_create(with_namespaces(DEFAULT, *joined), ROOT, SITE)


def joined_mount_namespace() -> Plan:
    document = with_namespaces(DEFAULT, Namespace("mount", "/proc/42/ns/mnt"), Namespace("pid", "/proc/42/ns/pid"))
    return plan_create(document, ROOT, SITE)


def network_devices() -> Plan:
    document = linux(DEFAULT, net_devices={"eth1": NetDevice(), "eth2": NetDevice("wan%d")})
    document = linux(document, sysctl={"net/ipv4/conf/eth1/forwarding": "1"})
    return plan_create(document, ROOT, SITE)


def no_namespaces() -> Plan:
    """A program in another root directory, and no more."""
    document = Spec(root=DEFAULT.root.evolve(readonly=False), process=Process(cwd="/srv", args=("/bin/true",)))
    return plan_create(document, ROOT, Site("demo", "/bundle", "/bundle/rootfs"))


def terminal() -> Plan:
    return plan_create(process(DEFAULT, terminal=True, console_size=ConsoleSize(24, 80)), ROOT, SITE)


def hooks() -> Plan:
    every = Hooks(
        prestart=(Hook("/hooks/prestart"),),
        create_runtime=(Hook("/hooks/createRuntime"),),
        create_container=(Hook("/hooks/createContainer", ("createContainer", "-v"), ("A=1",), timeout=2),),
        start_container=(Hook("/hooks/startContainer"),),
        poststart=(Hook("/hooks/poststart"),),
        poststop=(Hook("/hooks/poststop"),),
    )
    return plan_create(DEFAULT.evolve(hooks=every), ROOT, SITE)


def everything() -> Plan:
    """What the others do not ask for."""
    document = process(
        DEFAULT,
        user=User(1000, 1000, umask=0o077, additional_gids=(5, 44)),
        cwd="/srv/work",
        env=("PATH=/bin", "HOME=/srv"),
        args=("server", "--port=80"),
        capabilities=Capabilities(bounding=("CAP_NET_BIND_SERVICE",), ambient=("CAP_NET_BIND_SERVICE",)),
        no_new_privileges=False,
        oom_score_adj=-500,
    )
    mounts = (
        Mount("/tmp", "tmpfs", "tmpfs", ("ro", "nodev", "size=64k", "sync")),
        Mount("/data", None, "/srv/data", ("bind", "ro", "noatime", "rnosuid")),
        Mount("/proc/uptime", None, "/var/lib/lxcfs/proc/uptime", ("bind",)),
        Mount("/tmp", options=("remount", "noexec")),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid")),
    )
    document = document.evolve(mounts=(*document.mounts, *mounts), domainname="example.org")
    document = linux(
        document,
        devices=(Device("c", "/dev/fuse", 10, 229, 0o660, 0, 44), Device("p", "/run/fifo")),
        sysctl={"net.ipv4.ip_forward": "1", "kernel/msgmax": "65536"},
        rootfs_propagation="rshared",
    )
    return plan_create(document, ROOT, SITE)


def scheduled_and_labelled() -> Plan:
    """On a machine with every security module."""
    document = process(
        DEFAULT,
        scheduler=Scheduler("SCHED_DEADLINE", flags=("SCHED_FLAG_RECLAIM",), runtime=10**7, deadline=3 * 10**7),
        io_priority=IOPriority("IOPRIO_CLASS_BE", 7),
        exec_cpu_affinity=ExecCPUAffinity("0", "0-1"),
        apparmor_profile="docker-default",
        selinux_label="system_u:system_r:container_t:s0:c1,c2",
    )
    document = linux(
        document,
        personality=Personality("LINUX32"),
        memory_policy=MemoryPolicy("MPOL_BIND", "0,2-3", ("MPOL_F_STATIC_NODES",)),
        mount_label="system_u:object_r:container_file_t:s0:c1,c2",
    )
    return plan_create(document, Host(apparmor=True, selinux=True), SITE)


def mounts() -> Plan:
    """With owners mapped, content copied, links not followed, and a source on an earlier mount."""
    tenth = (IDMapping(0, 1000, 10),)
    more = (
        Mount("/data", None, "/srv/data", ("rbind", "ridmap", "rro"), tenth, tenth),
        Mount("/scratch", "tmpfs", "tmpfs", ("size=1m", "iversion", "lazytime"), tenth, tenth),
        Mount("/var/lib/x", "tmpfs", "tmpfs", ("tmpcopyup", "nosuid", "ro")),
        Mount("/etc/resolv.conf", None, "/run/resolv.conf", ("bind", "src-nofollow", "dest-nofollow")),
        Mount("/again", None, "/bundle/rootfs/scratch/below", ("bind", "idmap"), tenth, tenth),
    )
    return plan_create(DEFAULT.evolve(mounts=(*DEFAULT.mounts, *more)), ROOT, SITE)


def system_calls() -> Plan:
    """Filtered, and some of them left to an agent."""
    rules = (Syscall(("mkdir", "mkdirat"), "SCMP_ACT_NOTIFY"), Syscall(("ptrace",), "SCMP_ACT_ERRNO", 38))
    profile = Seccomp("SCMP_ACT_ALLOW", listener_path="/run/agent.sock", syscalls=rules)
    return plan_create(linux(DEFAULT, seccomp=profile), ROOT, evolve(SITE, filter=FILTER))


def execution_with_privileges() -> Plan:
    document = linux(DEFAULT, seccomp=Seccomp("SCMP_ACT_LOG", flags=("SECCOMP_FILTER_FLAG_LOG",)))
    site = Site("demo", "/bundle", "/proc/42/root", filter=FILTER)
    return plan_exec(Process(cwd="/", args=("id",)), document, ROOT, site)


def throw_away_layer() -> Plan:
    """``ocirt.run()`` on this host's own files."""
    site = Site("demo", "/bundle", "/", "/run/ocirt/demo/scratch", streams=0b110, shown=("bin", "usr"))
    return plan_create(DEFAULT, ROOT, site)


def passed_descriptors() -> Plan:
    """A socket that it is started for, one more file, and a service manager that is told."""
    return plan_create(DEFAULT, ROOT, evolve(SITE, kept=(3, 700), activated=1, notify="/run/ocirt/demo/notify"))


def without_pivot() -> Plan:
    """In an initramfs; the host shows all of procfs in two places."""
    return plan_create(DEFAULT, ROOT, evolve(SITE, full_views=("/srv/chroot/proc", "/sys", "/proc")))


def execution() -> Plan:
    program = Process(cwd="/", args=("ps",), env=("PATH=/bin",), terminal=True, console_size=ConsoleSize(24, 80))
    return plan_exec(program, DEFAULT, ROOT, Site("demo", "/bundle", "/proc/42/root", joins_cgroups=True))


def execution_in_user_namespace() -> Plan:
    mappings = (IDMapping(0, 100_000, 65_536),)
    document = with_namespaces(DEFAULT, Namespace("user"))
    document = linux(document, uid_mappings=mappings, gid_mappings=mappings)
    site = Site("demo", "/bundle", "/proc/42/root", kept=(5,))
    return plan_exec(Process(cwd="/", args=("id",)), document, ROOT, site)


EXAMPLES: Mapping[str, Callable[[], Plan]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        default,
        rootless,
        rootless_with_subordinate_ids,
        user_namespace,
        time_namespace,
        joined_namespaces,
        joined_mount_namespace,
        network_devices,
        no_namespaces,
        terminal,
        hooks,
        everything,
        scheduled_and_labelled,
        mounts,
        system_calls,
        throw_away_layer,
        passed_descriptors,
        without_pivot,
        execution,
        execution_in_user_namespace,
        execution_with_privileges,
    )
}

if __name__ == "__main__":
    for name, example in EXAMPLES.items():
        (GOLDEN / f"{name}.plan").write_text(str(example()))
