"""Every rule that types cannot express: what breaks it is told at its path, what keeps it is not."""

from __future__ import annotations

import pytest

from ocirt.errors import Problem, SpecError
from ocirt.spec import (
    CPU,
    RDMA,
    BlockIO,
    Capabilities,
    ConsoleSize,
    Device,
    DeviceRule,
    ExecCPUAffinity,
    Hook,
    Hooks,
    HugepageLimit,
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
    WeightDevice,
)
from ocirt.spec.base import JSON, OCIObject, join
from ocirt.spec.known import CAPABILITIES
from ocirt.spec.options import KNOWN
from tests.strategies import LINK_OPTIONS

ONE = (IDMapping(0, 1000, 1),)
NEW_USER = Linux(namespaces=[Namespace("user")], uid_mappings=ONE, gid_mappings=ONE)


def spec(**members: object) -> Spec:
    return Spec(root=Root("rootfs")).evolve(**members)


def process(**members: object) -> Spec:
    return spec(process=Process(args=["sh"], cwd="/").evolve(**members))


def resources(**members: object) -> Spec:
    return spec(linux=Linux(resources=Resources().evolve(**members)))


def mount(type: str | None = "tmpfs", *options: str, **members: object) -> Spec:
    return spec(mounts=(Mount("/x", type, "src", options).evolve(**members),))


def linux(**members: object) -> Spec:
    return spec(linux=Linux().evolve(**members))


def broken(document: Spec) -> list[str]:
    return [problem.path for problem in document.check()]


def rule_of(document: Spec) -> str:
    (problem,) = document.check()
    return problem.rule


BREACHES: list[tuple[Spec, list[str]]] = [
    (spec(oci_version=""), ["ociVersion"]),
    (spec(oci_version="1.3"), ["ociVersion"]),
    (spec(oci_version="v1.3.0"), ["ociVersion"]),
    (spec(oci_version="1.03.0"), ["ociVersion"]),
    (spec(oci_version="2.0.0"), ["ociVersion"]),
    (spec(root=Root("")), ["root.path"]),
    (spec(annotations={"": "x"}), ["annotations"]),
    # process
    (process(cwd=""), ["process.cwd"]),
    (process(cwd="tmp"), ["process.cwd"]),
    (process(args=()), ["process.args"]),
    (process(args=("", "x")), ["process.args[0]"]),
    (process(env=("A=1", "B", "=C")), ["process.env[1]", "process.env[2]"]),
    (process(user=User(2**32 - 1, 2**32 - 1)), ["process.user.uid", "process.user.gid"]),
    (process(user=User(additional_gids=[5, 2**32 - 1])), ["process.user.additionalGids[1]"]),
    (process(user=User(umask=0o1000)), ["process.user.umask"]),
    (process(terminal=True, console_size=ConsoleSize(65536, 1)), ["process.consoleSize.height"]),
    (process(oom_score_adj=1001), ["process.oomScoreAdj"]),
    (process(rlimits=[Rlimit("RLIMIT_NOFILES", 1, 1)]), ["process.rlimits[0].type"]),
    (process(rlimits=[Rlimit("RLIMIT_CPU", 1, 1), Rlimit("RLIMIT_CPU", 2, 2)]), ["process.rlimits[1].type"]),
    (process(rlimits=[Rlimit("RLIMIT_CPU", hard=1, soft=2)]), ["process.rlimits[0].soft"]),
    (process(capabilities=Capabilities(ambient=["CAP_KILL", "KILL"])), ["process.capabilities.ambient[1]"]),
    (process(scheduler=Scheduler("SCHED_NORMAL")), ["process.scheduler.policy"]),
    (process(scheduler=Scheduler("SCHED_OTHER", nice=20)), ["process.scheduler.nice"]),
    (process(scheduler=Scheduler("")), ["process.scheduler.policy"]),
    (process(scheduler=Scheduler("SCHED_FIFO", nice=1, priority=1)), ["process.scheduler.nice"]),
    (process(scheduler=Scheduler("SCHED_FIFO")), ["process.scheduler.priority"]),
    (process(scheduler=Scheduler("SCHED_OTHER", priority=1)), ["process.scheduler.priority"]),
    (process(scheduler=Scheduler("SCHED_FIFO", priority=100)), ["process.scheduler.priority"]),
    (process(scheduler=Scheduler("SCHED_RR", priority=1, deadline=1)), ["process.scheduler.deadline"]),
    (process(scheduler=Scheduler("SCHED_DEADLINE", runtime=1023, deadline=1023)), ["process.scheduler.runtime"]),
    (process(scheduler=Scheduler("SCHED_DEADLINE", runtime=2048, deadline=2047)), ["process.scheduler.deadline"]),
    (
        process(scheduler=Scheduler("SCHED_DEADLINE", runtime=2048, deadline=2048, period=2047)),
        ["process.scheduler.period"],
    ),
    (process(scheduler=Scheduler("SCHED_OTHER", flags=["SCHED_FLAG_X"])), ["process.scheduler.flags[0]"]),
    (process(io_priority=IOPriority("RT", 8)), ["process.ioPriority.class", "process.ioPriority.priority"]),
    (
        process(exec_cpu_affinity=ExecCPUAffinity("0-", "3-1")),
        ["process.execCPUAffinity.initial", "process.execCPUAffinity.final"],
    ),
    (
        process(exec_cpu_affinity=ExecCPUAffinity("65536", f"0-{'9' * 5000}")),
        ["process.execCPUAffinity.initial", "process.execCPUAffinity.final"],
    ),
    # mounts
    (mount(destination=""), ["mounts[0].destination"]),
    (mount(None), ["mounts[0].type"]),
    (mount("none"), ["mounts[0].type"]),
    (mount("bind"), ["mounts[0].type"]),
    (mount(None, "rbind", source=None), ["mounts[0].source"]),
    (mount(None, "bind", "mode=755"), ["mounts[0].options[1]"]),
    (mount("proc", "tmpcopyup"), ["mounts[0].options[0]"]),
    (mount("tmpfs", "nosuid", "noexce"), ["mounts[0].options[1]"]),
    (mount(None, "bind", "idmap", uid_mappings=ONE), ["mounts[0].gidMappings", "mounts[0].options[1]"]),
    (mount(None, "bind", gid_mappings=ONE), ["mounts[0].uidMappings"]),
    (mount(None, "bind", "ridmap"), ["mounts[0].options[1]"]),
    # hooks
    (spec(hooks=Hooks(prestart=[Hook("bin/x")])), ["hooks.prestart[0].path"]),
    (spec(hooks=Hooks(create_runtime=[Hook("/x", timeout=0)])), ["hooks.createRuntime[0].timeout"]),
    (spec(hooks=Hooks(create_container=[Hook("/x"), Hook("")])), ["hooks.createContainer[1].path"]),
    (spec(hooks=Hooks(start_container=[Hook("/x", env=["A"])])), ["hooks.startContainer[0].env[0]"]),
    (spec(hooks=Hooks(poststart=[Hook("/x", timeout=-1)])), ["hooks.poststart[0].timeout"]),
    (spec(hooks=Hooks(poststop=[Hook("x")])), ["hooks.poststop[0].path"]),
    # namespaces and what needs them
    (linux(namespaces=[Namespace("net")]), ["linux.namespaces[0].type"]),
    (linux(namespaces=[Namespace("pid"), Namespace("pid")]), ["linux.namespaces[1].type"]),
    (linux(namespaces=[Namespace("pid", "proc/1/ns/pid")]), ["linux.namespaces[0].path"]),
    (linux(namespaces=[Namespace("pid", "")]), ["linux.namespaces[0].path"]),
    (linux(namespaces=[Namespace("user")]), ["linux.uidMappings", "linux.gidMappings"]),
    (linux(uid_mappings=ONE), ["linux.uidMappings"]),
    (spec(hostname="h"), ["hostname"]),
    (spec(domainname="d", linux=Linux(namespaces=[Namespace("pid")])), ["domainname"]),
    (spec(hostname="ä" * 33, linux=Linux(namespaces=[Namespace("uts")])), ["hostname"]),
    (linux(time_offsets={"boottime": TimeOffset(1)}), ["linux.timeOffsets"]),
    (linux(time_offsets={"boottime": TimeOffset(1)}, namespaces=[Namespace("time", "/x")]), ["linux.timeOffsets"]),
    (
        linux(
            time_offsets={"boottme": TimeOffset(), "monotonic": TimeOffset(0, 10**9)}, namespaces=[Namespace("time")]
        ),
        ["linux.timeOffsets.boottme", "linux.timeOffsets.monotonic.nanosecs"],
    ),
    # ID mappings
    (spec(linux=NEW_USER.evolve(uid_mappings=(IDMapping(0, 0, 0),))), ["linux.uidMappings[0].size"]),
    (spec(linux=NEW_USER.evolve(gid_mappings=(IDMapping(1, 0, 2**32 - 1),))), ["linux.gidMappings[0].containerID"]),
    (
        spec(linux=NEW_USER.evolve(uid_mappings=(IDMapping(5, 0, 5), IDMapping(0, 100, 6)))),
        ["linux.uidMappings[0].containerID"],
    ),
    (
        spec(linux=NEW_USER.evolve(uid_mappings=(IDMapping(0, 10, 5), IDMapping(5, 14, 5)))),
        ["linux.uidMappings[1].hostID"],
    ),
    (
        spec(linux=NEW_USER.evolve(uid_mappings=tuple(IDMapping(n, n, 1) for n in range(341)))),
        ["linux.uidMappings"],
    ),
    # the rest of linux
    (linux(devices=[Device("x", "/dev/x", 1, 1)]), ["linux.devices[0].type"]),
    (linux(devices=[Device("c", "dev/x", 1, 1)]), ["linux.devices[0].path"]),
    (linux(devices=[Device("b", "/dev/x")]), ["linux.devices[0].major", "linux.devices[0].minor"]),
    (linux(devices=[Device("c", "/dev/x", -1, 2**20)]), ["linux.devices[0].major", "linux.devices[0].minor"]),
    (
        linux(devices=[Device("p", "/dev/x", file_mode=0o200000, uid=2**32 - 1)]),
        ["linux.devices[0].fileMode", "linux.devices[0].uid"],
    ),
    (
        linux(net_devices={"e/0": NetDevice(), "eth0": NetDevice("a" * 16)}),
        ["linux.netDevices['e/0']", "linux.netDevices.eth0.name"],
    ),
    (
        linux(sysctl={"net..x": "1", "/etc": "1", "a/../b": ""}),
        ["linux.sysctl['net..x']", "linux.sysctl['/etc']", "linux.sysctl['a/../b']"],
    ),
    (linux(rootfs_propagation="slaves"), ["linux.rootfsPropagation"]),
    (
        linux(
            namespaces=[Namespace("network")],
            net_devices={"eth%d": NetDevice(), "a": NetDevice("x%"), "b": NetDevice("%d%d"), "c": NetDevice("ä" * 8)},
        ),
        ["linux.netDevices['eth%d']", *(f"linux.netDevices.{name}.name" for name in "abc")],
    ),
    (
        linux(namespaces=[Namespace("network")], net_devices={"a": NetDevice("b"), "b": NetDevice()}),
        ["linux.netDevices.b.name"],
    ),
    (linux(masked_paths=["/a", "b"], readonly_paths=[""]), ["linux.maskedPaths[1]", "linux.readonlyPaths[0]"]),
    (linux(personality=Personality("LINUX64", ["X"])), ["linux.personality.domain", "linux.personality.flags"]),
    (
        linux(intel_rdt=IntelRdt(clos_id="a/b", mem_bw_schema="L3:0=1", schemata=["a\nb"])),
        ["linux.intelRdt.closID", "linux.intelRdt.memBwSchema", "linux.intelRdt.schemata[0]"],
    ),
    (linux(intel_rdt=IntelRdt(clos_id="mon_groups")), ["linux.intelRdt.closID"]),
    (linux(memory_policy=MemoryPolicy("MPOL_BIND")), ["linux.memoryPolicy.nodes"]),
    (linux(memory_policy=MemoryPolicy("MPOL_LOCAL", "0")), ["linux.memoryPolicy.nodes"]),
    (linux(memory_policy=MemoryPolicy("BIND", "0", ["X"])), ["linux.memoryPolicy.mode", "linux.memoryPolicy.flags[0]"]),
    (linux(seccomp=Seccomp("ALLOW")), ["linux.seccomp.defaultAction"]),
    (linux(seccomp=Seccomp("SCMP_ACT_NOTIFY")), ["linux.seccomp.defaultAction"]),
    (linux(seccomp=Seccomp("SCMP_ACT_ALLOW", 1)), ["linux.seccomp.defaultErrnoRet"]),
    (
        linux(seccomp=Seccomp("SCMP_ACT_ALLOW", architectures=["X86"], flags=["LOG"])),
        ["linux.seccomp.architectures[0]", "linux.seccomp.flags[0]"],
    ),
    (linux(seccomp=Seccomp("SCMP_ACT_ALLOW", listener_metadata="m")), ["linux.seccomp.listenerMetadata"]),
    (
        linux(
            seccomp=Seccomp(
                "SCMP_ACT_ALLOW",
                syscalls=[
                    Syscall((), "SCMP_ACT_LOG", 1),
                    Syscall(("read", "write"), "SCMP_ACT_NOTIFY"),
                    Syscall(("read",), "SCMP_ACT_ERRNO", 1, [SyscallArg(6, 0, op="EQ")]),
                ],
            )
        ),
        [
            "linux.seccomp.syscalls[0].names",
            "linux.seccomp.syscalls[0].errnoRet",
            "linux.seccomp.syscalls[1].names[1]",
            "linux.seccomp.syscalls[2].args[0].index",
            "linux.seccomp.syscalls[2].args[0].op",
        ],
    ),
    # resources
    (
        resources(devices=(DeviceRule(True, "d", -2, 0, ""),)),
        ["linux.resources.devices[0].type", "linux.resources.devices[0].access", "linux.resources.devices[0].major"],
    ),
    (resources(memory=Memory(limit=-2)), ["linux.resources.memory.limit"]),
    (resources(memory=Memory(limit=2, swap=1)), ["linux.resources.memory.swap"]),
    (resources(memory=Memory(swappiness=101)), ["linux.resources.memory.swappiness"]),
    (
        resources(cpu=CPU(cpus="a", mems="1,", idle=2)),
        ["linux.resources.cpu.cpus", "linux.resources.cpu.mems", "linux.resources.cpu.idle"],
    ),
    (
        resources(block_io=BlockIO(weight=9, weight_device=[WeightDevice(8, 0)])),
        ["linux.resources.blockIO.weightDevice[0]", "linux.resources.blockIO.weight"],
    ),
    (resources(pids=Pids(-2)), ["linux.resources.pids.limit"]),
    (resources(hugepage_limits=(HugepageLimit("64kB", 1),)), ["linux.resources.hugepageLimits[0].pageSize"]),
    (resources(rdma={"mlx5_1": RDMA()}), ["linux.resources.rdma.mlx5_1"]),
    (
        resources(unified={"memory": "1", "a/b.c": "1"}),
        ["linux.resources.unified.memory", "linux.resources.unified['a/b.c']"],
    ),
]


@pytest.mark.parametrize(
    ("document", "paths"), BREACHES, ids=lambda value: ",".join(value) if isinstance(value, list) else ""
)
def test_a_breach_is_told_where_it_is(document: Spec, paths: list[str]) -> None:
    assert broken(document) == paths


@pytest.mark.parametrize(
    "document",
    [
        spec(),
        spec(oci_version="1.0.0-rc1"),
        spec(oci_version="1.99.0"),
        spec(oci_version="1.3.0+dev.1-x"),
        spec(hostname=""),
        process(cwd="/"),
        process(env=("A=", "A=b=c", "LINES=1\n2")),
        process(console_size=ConsoleSize(2**40, 0)),
        process(rlimits=[Rlimit("RLIMIT_NOFILE", 2**64 - 1, 0), Rlimit("RLIMIT_AS", 1, 1)]),
        process(capabilities=Capabilities(bounding=CAPABILITIES)),
        process(capabilities=Capabilities(bounding=["CAP_FUTURE_THING"])),
        process(scheduler=Scheduler("SCHED_BATCH", nice=19)),
        process(scheduler=Scheduler("SCHED_FIFO", priority=99)),
        process(scheduler=Scheduler("SCHED_DEADLINE", runtime=1024, deadline=1024)),
        process(scheduler=Scheduler("SCHED_DEADLINE", runtime=1024, deadline=2048, period=4096)),
        process(scheduler=Scheduler("SCHED_DEADLINE", flags=["SCHED_FLAG_KEEP_PARAMS"])),
        process(scheduler=Scheduler("SCHED_RR", flags=["SCHED_FLAG_KEEP_POLICY"])),
        process(exec_cpu_affinity=ExecCPUAffinity("65535", "00000000")),
        process(exec_cpu_affinity=ExecCPUAffinity("0-3, 7", "")),
        mount(destination="relative"),
        mount("bind", "rbind", "ro", "rro", "rprivate"),
        mount(None, "remount", "ro"),
        mount(None, "bind", "idmap", uid_mappings=ONE, gid_mappings=ONE),
        mount(None, "bind", "idmap").evolve(linux=NEW_USER),
        mount("tmpfs", "tmpcopyup"),
        linux(namespaces=[Namespace("user", "/proc/1/ns/user")]),
        linux(namespaces=[Namespace("time")], time_offsets={"monotonic": TimeOffset(-5, 999_999_999)}),
        linux(devices=[Device("c", "/dev/x", 1, 3, 0o20666), Device("p", "/dev/y")]),
        linux(net_devices={"eth0": NetDevice("eth%d"), "a.b-c": NetDevice()}),
        linux(sysctl={"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.100/forwarding": "0"}),
        linux(rootfs_propagation="rslave"),
        linux(intel_rdt=IntelRdt(clos_id="/", mem_bw_schema="MB:0=20", l3_cache_schema="L3:0=f")),
        linux(memory_policy=MemoryPolicy("MPOL_LOCAL")),
        linux(seccomp=Seccomp("SCMP_ACT_ERRNO", 38, listener_path="/s", listener_metadata="m", flags=())),
        resources(devices=(DeviceRule(False), DeviceRule(True, "c", -1, 0, "mrw"))),
        resources(memory=Memory(limit=-1, swap=-1, swappiness=2**64 - 1)),
        resources(memory=Memory(limit=5, swap=5)),
        resources(unified={"cgroup.max.depth": "1"}),
        spec(linux=NEW_USER.evolve(uid_mappings=(IDMapping(0, 0, 2**32 - 1),))),
        spec(linux=NEW_USER.evolve(uid_mappings=tuple(IDMapping(n, n, 1) for n in range(340)))),
    ],
)
def test_what_keeps_the_rules_is_not_told(document: Spec) -> None:
    assert document.check() == ()


@pytest.mark.parametrize(
    ("document", "question"),
    [
        (process(capabilities=Capabilities(bounding=["CAP_SYS_ADMN"])), "did you mean CAP_SYS_ADMIN?"),
        (process(capabilities=Capabilities(permitted=["net_raw"])), "did you mean CAP_NET_RAW?"),
        (process(rlimits=[Rlimit("NOFILE", 1, 1)]), "did you mean RLIMIT_NOFILE?"),
        (linux(namespaces=[Namespace("mnt")]), "did you mean mount?"),
        (linux(rootfs_propagation="privat"), "did you mean private?"),
        (linux(seccomp=Seccomp("SCMP_ACT_ALOW")), "did you mean SCMP_ACT_ALLOW?"),
        (mount("tmpfs", "nosiud"), "did you mean nosuid?"),
        (mount(None, "bind", "nosuidd"), "did you mean nosuid?"),
        (mount(None, "bind", "rr"), "did you mean "),
    ],
)
def test_a_misspelt_name_is_asked_about(document: Spec, question: str) -> None:
    assert f"; {question}" in rule_of(document)


@pytest.mark.parametrize(
    "option",
    [
        *("mode=755", "size=1m", "newinstance", "ptmxmode=0666", "hidepid=2", "lowerdir=/a:/b", "acl", "noacl"),
        *("xino=auto", "userxattr", "nouuid", "i_version", "discard", "nodelalloc", "barrier=0", "volatile"),
        *("inode64", "usrquota", "posixacl", "nobarrier", "metacopy=on", "subset=pid", "gid=5", "nr_inodes=0"),
        *("noquota", "user_xattr", "noload", "nodatacow", "compress=zstd", "degraded", "none", "name=systemd"),
    ],
)
def test_options_of_filesystems_are_theirs(option: str) -> None:
    assert mount("ext4", option).check() == ()


@pytest.mark.parametrize("option", sorted(KNOWN - {"bind", "rbind", "idmap", "ridmap", "tmpcopyup", *LINK_OPTIONS}))
def test_our_options_are_good_on_binds_and_filesystems(option: str) -> None:
    assert mount("ext4", option).check() == ()
    assert mount(None, "bind", option).check() == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (process(cwd="x"), "Cwd must be an absolute path"),
        (process(args=()), "args must not be empty"),
        (process(rlimits=[Rlimit("X", 1, 1)]), "wrong rlimit value: X"),
        (mount(None, "bind", "size=1"), "bind mounts cannot have any filesystem-specific options applied"),
        (mount(None, "bind", gid_mappings=ONE), "id-mapped mounts must have both uid and gid mappings specified"),
        (linux(uid_mappings=ONE), "user namespace mappings specified, but user namespace isn't enabled in the config"),
        (linux(namespaces=[Namespace("ipc")] * 2), 'malformed spec file: duplicated ns "ipc"'),
        (spec(hostname="h"), "unable to set hostname without a private UTS namespace"),
        (process(scheduler=Scheduler("")), "scheduler policy is required"),
        (
            process(scheduler=Scheduler("SCHED_IDLE", nice=1)),
            "invalid scheduler.nice: 1 when scheduler.policy is SCHED_IDLE",
        ),
        (
            process(scheduler=Scheduler("SCHED_BATCH", priority=1)),
            "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        ),
        (
            process(scheduler=Scheduler("SCHED_OTHER", period=1)),
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        ),
        (process(io_priority=IOPriority("IOPRIO_CLASS_RT", 8)), "invalid ioPriority.Priority: 8"),
        (process(io_priority=IOPriority("IOPRIO_CLASS_X")), 'invalid ioPriority.Class: "IOPRIO_CLASS_X"'),
        (resources(memory=Memory(limit=2, swap=1)), "memory+swap limit should be >= memory limit"),
    ],
)
def test_engines_find_the_words_they_look_for(document: Spec, words: str) -> None:
    assert words in rule_of(document)


@pytest.mark.parametrize(
    ("document", "only"),
    [
        ({"rlimits": [{"type": "RLIMIT_CPU", "soft": 5}]}, "process.rlimits[0].hard"),
        ({"user": {"uid": "x", "gid": 0}, "env": []}, "process.user.uid"),
        ({"scheduler": {"policy": 1, "nice": 5, "runtime": 1}}, "process.scheduler.policy"),
    ],
)
def test_nothing_is_told_of_what_a_wrong_type_touches(document: dict[str, JSON], only: str) -> None:
    whole: JSON = {
        "ociVersion": "1.0.0",
        "root": {"path": "r"},
        "process": {"cwd": "/", "args": ["sh"], **document},
    }
    with pytest.raises(SpecError) as caught:
        Spec.from_json(whole)
    assert [problem.path for problem in caught.value.problems] == [only]


def test_broken_namespaces_say_nothing_of_what_needs_them() -> None:
    whole: JSON = {
        "ociVersion": "1.0.0",
        "root": {"path": "r"},
        "hostname": "h",
        "linux": {"namespaces": [{"type": 7}], "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]},
    }
    with pytest.raises(SpecError) as caught:
        Spec.from_json(whole)
    assert caught.value.problems == (Problem("linux.namespaces[0].type", 7, "must be a string"),)


def test_paths_join() -> None:
    assert join("mounts[3]", "options[1]") == "mounts[3].options[1]"
    assert join("mounts", "[3]") == "mounts[3]"
    assert join("", "root") == "root"


def test_a_document_in_python_has_the_same_rules() -> None:
    value: OCIObject = spec()
    assert isinstance(value, Spec)
    assert Process(args=(), cwd="x").check() == (
        Problem("cwd", "x", "is relative: Cwd must be an absolute path"),
        Problem("args", None, "args must not be empty"),
    )
