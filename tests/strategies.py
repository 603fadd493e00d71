"""Hypothesis strategies for configurations: valid ones, with everything in them that a plan can honour.

What must fit together (mappings and the user namespace, a hostname and its namespace, offsets and theirs) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from ocirt.spec import (
    CPU,
    Capabilities,
    ConsoleSize,
    Device,
    DeviceRule,
    ExecCPUAffinity,
    Hook,
    Hooks,
    IDMapping,
    IntelRdt,
    IOPriority,
    Linux,
    Memory,
    MemoryPolicy,
    Mount,
    Namespace,
    NetDevice,
    Personality,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Scheduler,
    Seccomp,
    Spec,
    Syscall,
    SyscallArg,
    TimeOffset,
    User,
)
from ocirt.spec.known import CAPABILITIES, RLIMITS
from ocirt.spec.limits import RDMA, BlockIO, HugepageLimit, InterfacePriority, Network, ThrottleDevice, WeightDevice

T = TypeVar("T")

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")

ATTRIBUTE_OPTIONS = (
    *("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "relatime", "norelatime", "noatime", "atime"),
    *("strictatime", "nostrictatime", "nodiratime", "diratime", "nosymfollow", "symfollow", "defaults"),
    *("rro", "rrw", "rnosuid", "rsuid", "rnodev", "rdev", "rnoexec", "rexec", "rnoatime", "ratime", "rrelatime"),
)
LINK_OPTIONS = ("src-nofollow", "dest-nofollow", "copy-symlink")
FILESYSTEM_OPTIONS = ("sync", "async", "dirsync", "lazytime", "nolazytime", "silent", "loud", "iversion", "noiversion")
FILESYSTEMS = {
    "tmpfs": ("mode=755", "mode=1777", "size=64k", "nr_inodes=100", "huge=never", "tmpcopyup"),
    "proc": ("hidepid=2", "subset=pid"),
    "sysfs": (),
    "devpts": ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    "mqueue": (),
    "cgroup": (),
    "overlay": ("lowerdir=/a:/b", "upperdir=/u", "workdir=/w", "userxattr", "xino=auto"),
}

# Words rather than free text: a configuration has dozens, and hypothesis is slow at inventing letters.
_NAMES = ("a", "b", "etc", "x.y", "-n", "with space", "äß", "..a")
_PATHS = (
    "/a",
    "/a/b",
    "/a/b/c",
    "/dev/x",
    "/proc/kcore",
    "/sys/firmware",
    "/var/lib/ä",
    "/with space",
    "/x.y",
    "/etc/hosts",
)
_TEXTS = ("", "1", "word", "two words", "a=b", "ä\n", "\u2603")

_NAME = st.sampled_from(_NAMES)
_TEXT = st.sampled_from(_TEXTS)
_ID = st.sampled_from((0, 1, 5, 1000, 65534, 2**32 - 2))
_ENVIRONMENT = tuple(f"{name}={value}" for name in ("PATH", "HOME", "_x") for value in _TEXTS)
_LIMIT = st.sampled_from((0, 1, 1024, 2**63, 2**64 - 1))


def _some(elements: st.SearchStrategy[T], most: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(elements, max_size=most).map(tuple)


def _maybe(elements: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | elements


def _choice(names: Sequence[str], most: int = 4) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), unique=True, max_size=most).map(tuple) if names else st.just(())


def paths() -> st.SearchStrategy[str]:
    """Absolute paths."""
    return st.sampled_from(_PATHS)


def environments() -> st.SearchStrategy[tuple[str, ...]]:
    return _some(st.sampled_from(_ENVIRONMENT))


@st.composite
def rlimits(draw: st.DrawFn) -> tuple[Rlimit, ...]:
    """Each resource once, soft at most hard."""
    limits = []
    for kind in draw(_choice(RLIMITS, most=3)):
        soft, hard = sorted((draw(_LIMIT), draw(_LIMIT)))
        limits.append(Rlimit(kind, hard=hard, soft=soft))
    return tuple(limits)


_CAPABILITY_SETS = ((), ("CAP_KILL",), ("CAP_CHOWN", "CAP_SYS_ADMIN"), CAPABILITIES)


def capabilities() -> st.SearchStrategy[Capabilities]:
    names = st.sampled_from(_CAPABILITY_SETS)
    return st.builds(Capabilities, bounding=names, effective=names, inheritable=names, permitted=names, ambient=names)


def users() -> st.SearchStrategy[User]:
    return st.builds(User, uid=_ID, gid=_ID, umask=_maybe(st.integers(0, 0o777)), additional_gids=_some(_ID))


SCHEDULERS = (
    Scheduler("SCHED_OTHER", nice=-20),
    Scheduler("SCHED_BATCH", nice=19, flags=("SCHED_FLAG_RESET_ON_FORK",)),
    Scheduler("SCHED_RR", priority=99),
    Scheduler("SCHED_IDLE"),
    Scheduler("SCHED_DEADLINE", runtime=10**7, deadline=2 * 10**7, period=2**63),
)
IO_PRIORITIES = (IOPriority("IOPRIO_CLASS_BE", 7), IOPriority("IOPRIO_CLASS_IDLE"))
SELINUX_LABEL = "system_u:system_r:container_t:s0:c1,c2"
AFFINITIES = (ExecCPUAffinity("0"), ExecCPUAffinity(None, "0-1, 3"), ExecCPUAffinity("1", "65535"))
MEMORY_POLICIES = (
    MemoryPolicy("MPOL_LOCAL"),
    MemoryPolicy("MPOL_INTERLEAVE", "0-3,7", ("MPOL_F_STATIC_NODES",)),
    MemoryPolicy("MPOL_PREFERRED"),
)


def processes() -> st.SearchStrategy[Process]:
    """Valid processes, for ``create`` as for ``exec``."""
    return st.builds(
        Process,
        terminal=st.booleans(),
        console_size=st.sampled_from((None, ConsoleSize(24, 80), ConsoleSize(0, 0), ConsoleSize(65535, 1))),
        cwd=paths() | st.just("/"),
        env=environments(),
        args=st.builds(lambda program, rest: (program, *rest), st.sampled_from((*_NAMES, *_PATHS)), _some(_TEXT)),
        rlimits=rlimits(),
        capabilities=_maybe(capabilities()),
        no_new_privileges=st.booleans(),
        oom_score_adj=_maybe(st.integers(-1000, 1000)),
        user=users(),
        scheduler=st.sampled_from((None, None, *SCHEDULERS)),
        io_priority=st.sampled_from((None, None, *IO_PRIORITIES)),
        exec_cpu_affinity=st.sampled_from((None, None, *AFFINITIES)),
        apparmor_profile=st.sampled_from((None, None, "unconfined", "docker-default")),
        selinux_label=st.sampled_from((None, None, SELINUX_LABEL)),
    )


@st.composite
def id_mappings(draw: st.DrawFn) -> tuple[IDMapping, ...]:
    """One to three ranges that do not overlap on either side."""
    mappings = []
    container, host = draw(st.just(0) | st.integers(0, 1000)), draw(st.integers(0, 2**20))
    for size in draw(st.lists(st.integers(1, 70000), min_size=1, max_size=3)):
        mappings.append(IDMapping(container, host, size))
        container += size + draw(st.integers(0, 10))
        host += size + draw(st.integers(0, 10))
    return tuple(mappings)


@st.composite
def bind_mounts(draw: st.DrawFn) -> Mount:
    options = draw(_choice((*ATTRIBUTE_OPTIONS, *PROPAGATIONS, *LINK_OPTIONS)))
    mapped = draw(st.booleans())
    return Mount(
        draw(paths()),
        draw(st.sampled_from((None, "none", "bind"))),
        draw(st.sampled_from((*_NAMES, *_PATHS))),
        (
            draw(st.sampled_from(("bind", "rbind"))),
            *options,
            *([draw(st.sampled_from(("idmap", "ridmap")))] if mapped else []),
        ),
        draw(id_mappings()) if mapped else (),
        draw(id_mappings()) if mapped else (),
    )


@st.composite
def filesystem_mounts(draw: st.DrawFn) -> Mount:
    kind = draw(st.sampled_from(tuple(FILESYSTEMS)))
    own = draw(_choice(FILESYSTEMS[kind]))
    general = draw(_choice((*ATTRIBUTE_OPTIONS, *FILESYSTEM_OPTIONS, *PROPAGATIONS)))
    destination = "/proc" if kind == "proc" else draw(paths())
    mappings = draw(id_mappings()) if kind == "tmpfs" and draw(st.booleans()) else ()
    return Mount(destination, kind, draw(_maybe(_NAME)), draw(st.permutations(own + general)), mappings, mappings)


def mounts() -> st.SearchStrategy[tuple[Mount, ...]]:
    return _some(bind_mounts() | filesystem_mounts(), most=5)


@st.composite
def namespaces(draw: st.DrawFn) -> tuple[Namespace, ...]:
    """Any of the eight, in any order, new or joined."""
    order = draw(st.permutations(NAMESPACES))
    ways = draw(st.lists(st.sampled_from(("new", "new", "absent", "joined")), min_size=8, max_size=8))
    return tuple(
        Namespace(kind, f"/run/ns/{kind}" if way == "joined" else None)
        for kind, way in zip(order, ways, strict=True)
        if way != "absent"
    )


def devices() -> st.SearchStrategy[Device]:
    return st.sampled_from(
        (
            Device("c", "/dev/fuse", 10, 229),
            Device("c", "/dev/null", 1, 3, 0o600, 1, 2),
            Device("u", "/dev/deep/er", 1, 5, uid=1000),
            Device("b", "/dev/sda", 8, 0, 0o660, 0, 6),
            Device("p", "/run/pipe"),
            Device("p", "/dev/pipe", file_mode=0o644, gid=5),
        )
    )


_HOOKS = (
    Hook("/bin/true"),
    Hook("/bin/hook", args=("hook", "a b", "")),
    Hook("/h", args=("h",), env=("A=1", "B="), timeout=7),
)


def hooks() -> st.SearchStrategy[Hooks]:
    some = st.sampled_from(((), (), *((hook,) for hook in _HOOKS), _HOOKS))
    return st.builds(
        Hooks,
        prestart=some,
        create_runtime=some,
        create_container=some,
        start_container=some,
        poststart=some,
        poststop=some,
    )


def resources() -> st.SearchStrategy[Resources]:
    rules = (
        DeviceRule(False, access="rwm"),
        DeviceRule(True, "a"),
        DeviceRule(True, "c", 10, 229, "rw"),
        DeviceRule(False, "b", 8, -1, "m"),
    )
    return st.builds(
        Resources,
        devices=_some(st.sampled_from(rules)),
        memory=st.sampled_from((None, Memory(), Memory(limit=-1), Memory(limit=2**30, check_before_update=True))),
        cpu=st.sampled_from((None, CPU(shares=1024, cpus="0-3,7"), CPU(quota=-1, period=100000))),
        block_io=st.sampled_from(
            (
                None,
                BlockIO(weight=10, leaf_weight=1000, weight_device=[WeightDevice(8, 0, 500, 300)]),
                BlockIO(throttle_read_bps_device=[ThrottleDevice(8, 0, 0), ThrottleDevice(8, 16, 2**63)]),
                BlockIO(throttle_write_iops_device=[ThrottleDevice(8, 0)]),
            )
        ),
        hugepage_limits=st.sampled_from(((), (HugepageLimit("2MB", 0), HugepageLimit("1GB", 2**40)))),
        network=st.sampled_from((None, Network(0x100001), Network(None, [InterfacePriority("lo", 7)]))),
        pids=st.sampled_from((None, Pids(-1), Pids(0), Pids(100))),
        rdma=st.sampled_from(({}, {"mlx5_1": RDMA(3)}, {"a": RDMA(None, 0), "b": RDMA(1, 2)})),
        unified=st.sampled_from(({}, {"memory.high": "max"})),
    )


def net_devices() -> st.SearchStrategy[dict[str, NetDevice]]:
    return st.sampled_from(({}, {}, {"eth0": NetDevice()}, {"a.b-1": NetDevice("wan"), "eth0": NetDevice("eth%d")}))


def seccomps() -> st.SearchStrategy[Seccomp]:
    argument = SyscallArg(0, 2**64 - 1, 1, op="SCMP_CMP_MASKED_EQ")
    rules = (
        Syscall(("mkdir",), "SCMP_ACT_ERRNO"),
        Syscall(("clone", "clone3"), "SCMP_ACT_ERRNO", 38, (argument, SyscallArg(5, 0, op="SCMP_CMP_NE"))),
        Syscall(("ptrace", "no_such_call"), "SCMP_ACT_TRACE", 7),
        Syscall(("mount",), "SCMP_ACT_NOTIFY"),
    )
    flags = st.sampled_from((None, (), *((f"SECCOMP_FILTER_FLAG_{name}",) for name in ("LOG", "TSYNC", "SPEC_ALLOW"))))
    return st.builds(
        Seccomp,
        default_action=st.sampled_from(("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS")),
        architectures=_choice(("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64")),
        flags=flags,
        listener_path=st.just("/run/agent.sock"),
        syscalls=_some(st.sampled_from(rules), 2),
    )


@st.composite
def linuxes(draw: st.DrawFn) -> Linux:
    there = draw(namespaces())
    new = {namespace.type for namespace in there if namespace.path is None}
    mapped = "user" in new
    some: tuple[dict[str, TimeOffset], ...]
    some = ({}, {"boottime": TimeOffset(7)}, {"monotonic": TimeOffset(-1, 999_999_999), "boottime": TimeOffset()})
    offsets = st.sampled_from(some if "time" in new else ({},))
    return Linux(
        namespaces=there,
        uid_mappings=draw(id_mappings()) if mapped else (),
        gid_mappings=draw(id_mappings()) if mapped else (),
        time_offsets=draw(offsets),
        devices=draw(_some(devices())),
        cgroups_path=draw(_maybe(paths())),
        resources=draw(_maybe(resources())),
        intel_rdt=draw(
            st.sampled_from(
                (None, None, IntelRdt(clos_id="a"), IntelRdt(schemata=("L3:0=f",), mem_bw_schema="MB:0=50"))
            )
        ),
        net_devices=draw(net_devices()) if any(namespace.type == "network" for namespace in there) else {},
        sysctl=draw(st.sampled_from(({}, {"net.ipv4.ip_forward": "1"}, {"net/ipv4/x.y": "", "kernel.msgmax": "1"}))),
        seccomp=draw(_maybe(seccomps())),
        rootfs_propagation=draw(_maybe(st.sampled_from(PROPAGATIONS))),
        masked_paths=draw(_some(paths())),
        readonly_paths=draw(_some(paths())),
        mount_label=draw(st.sampled_from((None, None, "system_u:object_r:container_file_t:s0:c1,c2"))),
        personality=draw(st.sampled_from((None, None, Personality("LINUX"), Personality("LINUX32")))),
        memory_policy=draw(st.sampled_from((None, None, *MEMORY_POLICIES))),
    )


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Valid configurations."""
    linux = draw(linuxes())
    named = any(namespace.type == "uts" for namespace in linux.namespaces)
    return Spec(
        oci_version=draw(st.sampled_from(("1.0.0", "1.0.2-dev", "1.3.0"))),
        root=Root(draw(st.sampled_from((*_NAMES, *_PATHS))), draw(st.booleans())),
        mounts=draw(mounts()),
        process=draw(_maybe(processes())),
        hostname=draw(_maybe(_NAME)) if named else None,
        domainname=draw(_maybe(_NAME)) if named else None,
        linux=linux,
        hooks=draw(_maybe(hooks())),
        annotations=draw(st.sampled_from(({}, {"a": ""}, {"org.example.b/c": "ä\n", "a": "1"}))),
    )
