"""What becomes of each member of ``docker inspect``: its value in config.json, or a note with its path."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import OCIError, SpecError
from ocirt.spec import (
    CPU,
    JSON,
    BlockIO,
    Capabilities,
    ConsoleSize,
    Device,
    DeviceRule,
    Linux,
    Memory,
    Mount,
    Namespace,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Seccomp,
    Spec,
    Syscall,
    ThrottleDevice,
    User,
    WeightDevice,
)
from ocirt.spec.docker_security import DEFAULT
from ocirt.spec.known import CAPABILITIES
from tests.spec.inspected import ID, PLAIN, ROOT_NOTE, carried, document, imported, machine, noted

HEX = f"/var/lib/docker/containers/{ID}"
RULES = (DeviceRule(False, access="rwm"), DeviceRule(True, "c", 5, 1, "rwm"))
PRIVATE = ("mount", "network", "uts", "pid", "ipc")


def process(**changes: JSON) -> Process:
    found = carried(**changes).process
    assert found is not None
    return found


def linux(**changes: JSON) -> Linux:
    found = carried(**changes).linux
    assert found is not None
    return found


def resources(**changes: JSON) -> Resources:
    found = linux(**{f"HostConfig__{name}": value for name, value in changes.items()}).resources
    assert found is not None
    return found


def types(spec: Linux) -> tuple[str, ...]:
    return tuple(namespace.type for namespace in spec.namespaces)


def mount(spec: Spec, destination: str) -> Mount | None:
    (*_, found) = (None, *(mount for mount in spec.mounts if mount.destination == destination))
    return found


def problems(**changes: JSON) -> list[str]:
    with pytest.raises(SpecError) as caught:
        imported(**changes)
    assert caught.value.source == "docker inspect"
    return [problem.path for problem in caught.value.problems]


# The whole.


def test_a_plain_container_loses_nothing() -> None:
    spec = carried()
    assert spec.root == Root("/merged")
    assert spec.process == Process(
        cwd="/",
        args=("sleep", "1000"),
        env=("HOSTNAME=quiet", "PATH=/bin"),
        capabilities=Capabilities(bounding=_default(), effective=_default(), permitted=_default()),
        oom_score_adj=0,
    )
    assert (spec.hostname, spec.domainname, spec.annotations) == ("quiet", None, {})
    found = linux()
    assert types(found) == PRIVATE
    assert found.resources == Resources(devices=RULES)
    assert (found.masked_paths, found.readonly_paths) == (("/proc/kcore", "/sys/firmware"), ("/proc/sys",))
    assert spec.check() == ()


def _default() -> tuple[str, ...]:
    return tuple(name for name in CAPABILITIES if name in DEFAULT)


def test_an_array_of_one_or_the_object_itself() -> None:
    expected = carried()
    assert Spec.from_docker_inspect(json.dumps(PLAIN), machine()).spec == expected
    assert Spec.from_docker_inspect(json.dumps([PLAIN]).encode(), machine()).spec == expected
    assert Spec.from_docker_inspect(PLAIN, machine()).spec == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "1", "[1]", "{}", '{"Id": "x"}', f"[{json.dumps(PLAIN)}, {json.dumps(PLAIN)}]"),
        '{"RepoTags": ["image:latest"], "Config": {}}',
    ],
)
def test_what_is_no_container_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        Spec.from_docker_inspect(text)


def test_podmans_has_something_better() -> None:
    with pytest.raises(SpecError, match=r"OCIConfigPath: '/x/config\.json' is what podman made .* Spec\.from_engine"):
        imported(OCIConfigPath="/x/config.json")


def test_nothing_is_dropped_silently() -> None:
    """Members that nobody has heard of are told, wherever they are, if they say anything."""
    assert noted(
        Newcomer={"a": [1]},
        Silent={"a": 0, "b": [], "c": {"d": None}},
        HostConfig__NewLimit=7,
        Config__NewThing="x",
        Mounts=[{"Type": "bind", "Source": "/s", "Destination": "/d", "RW": True, "NewDetail": True}],
    ) == {
        "Newcomer": "left out",
        "HostConfig.NewLimit": "left out",
        "Config.NewThing": "left out",
        "Mounts[0].NewDetail": "left out",
    }


def test_a_note_says_where_what_and_why() -> None:
    (note,) = (note for note in imported(HostConfig__Links=["/db:/web/db"]).notes if note.path != ROOT_NOTE)
    assert str(note) == (
        "HostConfig.Links[0]: '/db:/web/db' is left out: "
        "Docker tells containers of each other, by variables and /etc/hosts"
    )


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"Path": 7}, "Path"),
        ({"Path": ""}, "Path"),
        ({"Path": "a\0b"}, "Path"),
        ({"Args": "1000"}, "Args"),
        ({"Args": ["1000", None]}, "Args[1]"),
        ({"HostConfig": []}, "HostConfig"),
        ({"HostConfig__Memory": "1g"}, "HostConfig.Memory"),
        ({"HostConfig__Memory": True}, "HostConfig.Memory"),
        ({"HostConfig__Memory": 1.5}, "HostConfig.Memory"),
        ({"HostConfig__Memory": 2**64}, "HostConfig.Memory"),
        ({"HostConfig__Privileged": 1}, "HostConfig.Privileged"),
        ({"HostConfig__CapAdd": ["NET_ADMINN"]}, "HostConfig.CapAdd[0]"),
        ({"HostConfig__Sysctls": {"a.b": 1}}, "HostConfig.Sysctls['a.b']"),
        ({"HostConfig__Ulimits": [{"Name": "files", "Hard": 1, "Soft": 1}]}, "HostConfig.Ulimits[0].Name"),
        ({"HostConfig__Ulimits": [7]}, "HostConfig.Ulimits[0]"),
        ({"HostConfig__DeviceCgroupRules": ["c 1:3"]}, "HostConfig.DeviceCgroupRules[0]"),
        (
            {"HostConfig__Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "x", "CgroupPermissions": "q"}]},
            "HostConfig.Devices[0].CgroupPermissions",
        ),
        ({"HostConfig__PidMode": "shared"}, "HostConfig.PidMode"),
        ({"HostConfig__CgroupnsMode": "other"}, "HostConfig.CgroupnsMode"),
        ({"HostConfig__SecurityOpt": ["seccomp={"]}, "HostConfig.SecurityOpt[0]"),
        ({"HostConfig__SecurityOpt": ["no-new-privileges=maybe", "seccomp=unconfined"]}, "HostConfig.SecurityOpt[0]"),
        ({"HostConfig__Binds": ["/a"]}, "HostConfig.Binds[0]"),
        ({"Mounts": [{"Type": "bind", "Source": "a", "Destination": "/d"}]}, "Mounts[0].Source"),
        ({"Mounts": [{"Type": "bind", "Source": "/a", "Destination": "d"}]}, "Mounts[0].Destination"),
        (
            {"Mounts": [{"Type": "bind", "Source": "/a", "Destination": "/d", "Propagation": "odd"}]},
            "Mounts[0].Propagation",
        ),
        ({"Config__Env": ["=x"]}, "Config.Env[0]"),
        ({"Config__User": "carol"}, "Config.User"),
        ({"Config__User": "4294967295"}, "Config.User"),
        ({"Config__Hostname": "x" * 65}, "hostname"),
        ({"Platform": "windows"}, "Platform"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(changes: dict[str, JSON], path: str) -> None:
    assert path in problems(**changes)


def test_all_problems_are_told_at_once_and_each_once() -> None:
    assert problems(Path=1, Args=[2], Config__User=3, HostConfig__SecurityOpt=[4]) == [
        *("HostConfig.SecurityOpt[0]", "Config.User", "Path", "Args[0]"),
    ]


WORDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


HOST, CONFIG = PLAIN["HostConfig"], PLAIN["Config"]
assert isinstance(HOST, dict)
assert isinstance(CONFIG, dict)
MEMBERS = [*PLAIN, *(f"HostConfig__{name}" for name in HOST), *(f"Config__{name}" for name in CONFIG)]


@given(name=st.sampled_from(MEMBERS), value=WORDS)
def test_whatever_stands_there_is_a_configuration_or_a_typed_error(name: str, value: JSON) -> None:
    try:
        found = Spec.from_docker_inspect(document(**{name: value}), machine())
    except OCIError:
        return
    assert found.spec.check() == ()


# The process.


def test_the_program_and_where_it_runs() -> None:
    assert process(Path="/init", Args=["-v", ""]).args == ("/init", "-v", "")
    assert process(Config__WorkingDir="/srv").cwd == "/srv"
    assert process(HostConfig__OomScoreAdj=-500).oom_score_adj == -500


@pytest.mark.parametrize(
    ("said", "tty", "env"),
    [
        (None, False, ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=quiet")),
        (
            ["A=1"],
            True,
            (
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOSTNAME=quiet",
                "TERM=xterm",
                "A=1",
            ),
        ),
        (["PATH=/x", "HOSTNAME=y", "TERM=z", "A=", "A=2"], True, ("PATH=/x", "HOSTNAME=y", "TERM=z", "A=2")),
        (["PATH=/x", "HOSTNAME"], False, ("PATH=/x",)),
    ],
)
def test_the_environment_is_what_the_daemon_makes_of_it(said: JSON, tty: bool, env: tuple[str, ...]) -> None:
    assert process(Config__Env=said, Config__Tty=tty).env == env


def test_a_terminal_and_its_size() -> None:
    assert process(Config__Tty=True, HostConfig__ConsoleSize=[24, 80]).console_size == ConsoleSize(24, 80)
    assert process(Config__Tty=False, HostConfig__ConsoleSize=[24, 80]).console_size is None


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", None, User(0, 0)),
        ("1000", None, User(1000, 1001, additional_gids=(29,))),
        ("7", ["5"], User(7, 0, additional_gids=(5,))),
        ("7:8", ["audio", "8", "5", "5"], User(7, 8, additional_gids=(29, 8, 5))),
        ("alice", None, User(1000, 1001, additional_gids=(29,))),
        ("alice:audio", ["5"], User(1000, 29, additional_gids=(5,))),
    ],
)
def test_users_are_those_of_the_root_filesystem(user: str, groups: JSON, expected: User) -> None:
    assert process(Config__User=user, HostConfig__GroupAdd=groups).user == expected


def test_without_its_files_only_numbers_are_known() -> None:
    found = imported(None, Config__User="7:8", HostConfig__GroupAdd=["5"])
    assert [note.path for note in found.notes] == [ROOT_NOTE]
    assert found.spec.process is not None
    assert found.spec.process.user == User(7, 8, additional_gids=(5,))
    assert noted(None, Config__User="7") == {"Config.User": "in group 0 alone"}
    assert noted(None, Config__User="alice", HostConfig__GroupAdd=["audio"]) == {
        "Config.User": "root, 0:0",
        "HostConfig.GroupAdd[0]": "left out",
    }


@pytest.mark.parametrize(
    ("added", "dropped", "expected"),
    [
        (None, None, set(DEFAULT)),
        (
            ["NET_ADMIN", "cap_sys_ptrace"],
            ["CHOWN"],
            set(DEFAULT) - {"CAP_CHOWN"} | {"CAP_NET_ADMIN", "CAP_SYS_PTRACE"},
        ),
        (["CHOWN"], ["ALL"], {"CAP_CHOWN"}),
        (["ALL"], ["CAP_SYS_ADMIN"], set(CAPABILITIES) - {"CAP_SYS_ADMIN"}),
        (None, ["all"], set()),
    ],
)
def test_capabilities_are_the_default_ones_with_changes(added: JSON, dropped: JSON, expected: set[str]) -> None:
    found = process(HostConfig__CapAdd=added, HostConfig__CapDrop=dropped).capabilities
    assert found is not None
    assert (set(found.bounding), found.inheritable, found.ambient) == (expected, (), ())
    assert found.bounding == found.effective == found.permitted


def test_only_root_has_them() -> None:
    found = process(Config__User="7:7").capabilities
    assert found == Capabilities(bounding=_default())


def test_resource_limits_and_infinity() -> None:
    limits: JSON = [{"Name": "nofile", "Soft": 99, "Hard": 100}, {"Name": "core", "Soft": -1, "Hard": -1}]
    assert process(HostConfig__Ulimits=limits).rlimits == (
        Rlimit("RLIMIT_NOFILE", hard=100, soft=99),
        Rlimit("RLIMIT_CORE", hard=2**64 - 1, soft=2**64 - 1),
    )


# Security options.


def test_security_options() -> None:
    base: list[JSON] = ["seccomp=unconfined"]
    assert process(HostConfig__SecurityOpt=[*base, "no-new-privileges"]).no_new_privileges
    assert process(HostConfig__SecurityOpt=[*base, "no-new-privileges:true"]).no_new_privileges
    assert not process(HostConfig__SecurityOpt=[*base, "no-new-privileges=false"]).no_new_privileges
    assert process(HostConfig__SecurityOpt=[*base, "apparmor=mine"]).apparmor_profile == "mine"
    assert process(HostConfig__SecurityOpt=[*base, "apparmor=unconfined"]).apparmor_profile is None
    assert process(AppArmorProfile="mine").apparmor_profile == "mine"
    assert process(HostConfig__SecurityOpt=[*base, "label=disable"]).selinux_label is None
    labels: dict[str, JSON] = {"ProcessLabel": "system_u:system_r:x", "MountLabel": "system_u:object_r:y"}
    options: list[JSON] = [*base, "label=level:s0:c1,c2"]
    assert process(HostConfig__SecurityOpt=options, **labels).selinux_label == "system_u:system_r:x"
    assert linux(HostConfig__SecurityOpt=options, **labels).mount_label == "system_u:object_r:y"
    unconfined = linux(HostConfig__SecurityOpt=[*base, "systempaths=unconfined"])
    assert (unconfined.masked_paths, unconfined.readonly_paths) == ((), ())


def test_security_options_that_need_the_daemon_are_told() -> None:
    assert noted(AppArmorProfile="docker-default") == {"AppArmorProfile": "left out"}
    assert noted(
        HostConfig__SecurityOpt=["seccomp=unconfined", "label=level:s0", "odd=1", "writable-cgroups=true"]
    ) == {
        "HostConfig.SecurityOpt[1]": "left out",
        "HostConfig.SecurityOpt[2]": "left out",
        "HostConfig.SecurityOpt[3]": "left out",
    }


@pytest.mark.parametrize("options", [None, [], ["seccomp=builtin"], ["no-new-privileges"]])
def test_dockers_own_filter_is_told_to_be_missing(options: JSON) -> None:
    (became,) = noted(HostConfig__SecurityOpt=options).values()
    assert became == "no filter"


PROFILE: dict[str, JSON] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "comment": "c", "args": []},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}, "errnoRet": 38},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"name": "old", "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
    ],
}


def _names_of(seccomp: Seccomp | None) -> list[str]:
    assert seccomp is not None
    return [name for rule in seccomp.syscalls for name in rule.names]


def test_a_profile_in_dockers_form_becomes_ocis() -> None:
    options: list[JSON] = [f"seccomp={json.dumps(PROFILE)}"]
    found = linux(HostConfig__SecurityOpt=options).seccomp
    assert found is not None
    assert (found.default_action, found.default_errno_ret) == ("SCMP_ACT_ERRNO", 1)
    assert found.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert _names_of(found) == ["read", "write", "clone", "arch_prctl", "ptrace"]
    assert found.syscalls[1] == Syscall(("clone",), "SCMP_ACT_ERRNO", 38)
    admin = linux(HostConfig__SecurityOpt=options, HostConfig__CapAdd=["SYS_ADMIN"]).seccomp
    assert _names_of(admin) == ["read", "write", "mount", "arch_prctl", "ptrace"]


def test_what_of_a_profile_depends_on_an_unknown_machine_is_told() -> None:
    told = noted(None, HostConfig__SecurityOpt=[f"seccomp={json.dumps(PROFILE)}"])
    assert list(told) == [
        *(f"HostConfig.SecurityOpt[0].seccomp.syscalls[{index}]" for index in (3, 4)),
        *(f"HostConfig.SecurityOpt[0].seccomp.archMap[{index}]" for index in (0, 1)),
    ]
    newer: dict[str, JSON] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.99"}}],
    }
    assert noted(HostConfig__SecurityOpt=[f"seccomp={json.dumps(newer)}"]) == {
        "HostConfig.SecurityOpt[0].seccomp.syscalls[0].includes.minKernel": "left out"
    }


def test_paths_are_hidden_as_said_or_as_old_daemons_did() -> None:
    assert linux(HostConfig__MaskedPaths=[], HostConfig__ReadonlyPaths=[]).masked_paths == ()
    old = linux(HostConfig__MaskedPaths=None, HostConfig__ReadonlyPaths=None)
    assert "/proc/kcore" in old.masked_paths
    assert "/proc/sys" in old.readonly_paths


def test_a_privileged_container() -> None:
    spec = carried(HostConfig__Privileged=True, HostConfig__SecurityOpt=None, HostConfig__MaskedPaths=None)
    assert spec.process is not None
    assert spec.linux is not None
    assert spec.process.capabilities is not None
    assert spec.process.capabilities.effective == CAPABILITIES
    assert (spec.linux.masked_paths, spec.linux.readonly_paths, spec.linux.seccomp) == ((), (), None)
    assert [node.path for node in spec.linux.devices] == ["/dev/zram0", "/dev/fuse", "/dev/snd/seq", "/dev/snd/timer"]
    assert spec.linux.resources is not None
    assert spec.linux.resources.devices == (DeviceRule(True, access="rwm"),)
    for destination in ("/sys", "/sys/fs/cgroup"):
        shown = mount(spec, destination)
        assert shown is not None
        assert "ro" not in shown.options
    assert noted(None, HostConfig__Privileged=True) == {"HostConfig.Privileged": "without them"}


# Limits.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Memory": 1 << 20}, Memory(limit=1 << 20)),
        ({"Memory": 1 << 20, "MemorySwap": 2 << 20}, Memory(limit=1 << 20, swap=2 << 20)),
        ({"Memory": 1 << 20, "MemorySwap": -1}, Memory(limit=1 << 20, swap=-1)),
        ({"MemoryReservation": 5, "MemorySwappiness": 0}, Memory(reservation=5, swappiness=0)),
        ({"MemorySwappiness": -1}, None),
        ({"KernelMemory": 5, "KernelMemoryTCP": 6}, Memory(kernel=5, kernel_tcp=6)),
        ({"OomKillDisable": True}, Memory(disable_oom_killer=True)),
        ({"Memory": 0, "MemorySwap": 0, "MemoryReservation": 0, "KernelMemory": 0}, None),
    ],
)
def test_memory(changes: dict[str, JSON], expected: Memory | None) -> None:
    assert resources(**changes).memory == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"NanoCpus": 1_500_000_000}, CPU(quota=150_000, period=100_000)),
        ({"CpuQuota": 5000, "CpuPeriod": 10000}, CPU(quota=5000, period=10000)),
        ({"CpuQuota": -1}, None),
        ({"CpuShares": 512, "CpusetCpus": "0-1", "CpusetMems": "0"}, CPU(shares=512, cpus="0-1", mems="0")),
        ({"CpuRealtimePeriod": 6, "CpuRealtimeRuntime": 5}, CPU(realtime_period=6, realtime_runtime=5)),
        ({"CpuShares": 0, "CpuQuota": 0, "CpuPeriod": 0, "CpusetCpus": ""}, None),
    ],
)
def test_cpus(changes: dict[str, JSON], expected: CPU | None) -> None:
    assert resources(**changes).cpu == expected


@pytest.mark.parametrize(("limit", "expected"), [(7, Pids(7)), (0, None), (-1, None), (None, None)])
def test_processes(limit: JSON, expected: Pids | None) -> None:
    assert resources(PidsLimit=limit).pids == expected


def test_block_devices() -> None:
    at: dict[str, JSON] = {"Path": "/dev/zram0", "Rate": 5}
    assert resources(
        BlkioWeight=300,
        BlkioWeightDevice=[{"Path": "/dev/zram0", "Weight": 200}],
        BlkioDeviceReadBps=[at],
        BlkioDeviceWriteBps=[at],
        BlkioDeviceReadIOps=[at],
        BlkioDeviceWriteIOps=[at],
    ).block_io == BlockIO(
        weight=300,
        weight_device=(WeightDevice(253, 0, weight=200),),
        throttle_read_bps_device=(ThrottleDevice(253, 0, 5),),
        throttle_write_bps_device=(ThrottleDevice(253, 0, 5),),
        throttle_read_iops_device=(ThrottleDevice(253, 0, 5),),
        throttle_write_iops_device=(ThrottleDevice(253, 0, 5),),
    )
    missing: list[JSON] = [{"Path": "/dev/none", "Rate": 5}]
    assert noted(HostConfig__BlkioDeviceReadBps=missing) == {"HostConfig.BlkioDeviceReadBps[0]": "left out"}
    assert noted(None, HostConfig__BlkioDeviceReadBps=missing) == {"HostConfig.BlkioDeviceReadBps[0]": "left out"}


def test_limits_for_windows_and_swap_without_memory_are_told() -> None:
    assert noted(HostConfig__CpuCount=2, HostConfig__IOMaximumIOps=3, HostConfig__MemorySwap=5) == {
        "HostConfig.CpuCount": "left out",
        "HostConfig.IOMaximumIOps": "left out",
        "HostConfig.MemorySwap": "left out",
    }


# Devices.


def test_devices_are_looked_up_and_allowed() -> None:
    devices: list[JSON] = [
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/other", "CgroupPermissions": "rw"},
        {"PathOnHost": "/dev/snd", "PathInContainer": "/dev/sound", "CgroupPermissions": "rwm"},
    ]
    found = linux(HostConfig__Devices=devices, HostConfig__DeviceCgroupRules=["c 42:* rmw", "a *:* m"])
    assert [(node.path, node.major, node.minor) for node in found.devices] == [
        ("/dev/other", 10, 229),
        ("/dev/sound/seq", 116, 1),
        ("/dev/sound/timer", 116, 33),
    ]
    assert found.resources is not None
    assert found.resources.devices == (
        *RULES,
        DeviceRule(True, "c", 10, 229, "rw"),
        DeviceRule(True, "c", 116, 1, "rwm"),
        DeviceRule(True, "c", 116, 33, "rwm"),
        DeviceRule(True, "c", 42, None, "rmw"),
        DeviceRule(True, "a", None, None, "m"),
    )


def test_devices_that_nobody_knows_are_told() -> None:
    device: list[JSON] = [{"PathOnHost": "/dev/none", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]
    assert noted(HostConfig__Devices=device) == {"HostConfig.Devices[0]": "left out"}
    assert noted(None, HostConfig__Devices=device) == {"HostConfig.Devices[0]": "left out"}
    request: list[JSON] = [{"Driver": "nvidia", "Count": -1}, {"Driver": "cdi"}]
    assert noted(HostConfig__DeviceRequests=request) == {
        "HostConfig.DeviceRequests[0]": "left out",
        "HostConfig.DeviceRequests[1]": "left out",
    }


# Namespaces and networks.


def shared(member: str, mode: str) -> dict[str, JSON]:
    return {f"HostConfig__{member}": mode, "NetworkSettings": {}}


@pytest.mark.parametrize(
    ("member", "mode", "missing"),
    [
        ("NetworkMode", "host", "network"),
        ("PidMode", "host", "pid"),
        ("IpcMode", "host", "ipc"),
        ("UTSMode", "host", "uts"),
    ],
)
def test_the_hosts_namespaces_are_no_namespaces(member: str, mode: str, missing: str) -> None:
    spec = carried(**shared(member, mode))
    assert spec.linux is not None
    assert types(spec.linux) == tuple(type_ for type_ in PRIVATE if type_ != missing)
    assert spec.hostname == (None if missing == "uts" else "quiet")
    assert ("net.ipv4.ip_unprivileged_port_start" in spec.linux.sysctl) == (missing != "network")


@pytest.mark.parametrize("member", ["NetworkMode", "PidMode", "IpcMode"])
def test_another_containers_namespaces_are_told(member: str) -> None:
    assert noted(**shared(member, f"container:{ID}")) == {f"HostConfig.{member}": "a namespace of its own"}
    spec = imported(**shared(member, f"container:{ID}")).spec
    assert spec.linux is not None
    assert spec.linux.namespaces == tuple(map(Namespace, PRIVATE))


def test_a_cgroup_namespace() -> None:
    assert types(linux(HostConfig__CgroupnsMode="private")) == (*PRIVATE, "cgroup")
    assert types(linux(HostConfig__CgroupnsMode="")) == PRIVATE


def test_networks_that_docker_connects_are_told() -> None:
    networks: dict[str, JSON] = {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "my net": {}}}
    assert noted(
        HostConfig__NetworkMode="default",
        NetworkSettings=networks,
        HostConfig__PortBindings={"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        HostConfig__PublishAllPorts=True,
        Config__MacAddress="02:00:00:00:00:01",
    ) == {
        "NetworkSettings.Networks.bridge": "left out",
        "NetworkSettings.Networks['my net']": "left out",
        "HostConfig.PortBindings['80/tcp']": "left out",
        "HostConfig.PublishAllPorts": "left out",
        "Config.MacAddress": "left out",
    }
    assert noted(HostConfig__NetworkMode="mine", NetworkSettings={}) == {"HostConfig.NetworkMode": "left out"}


def test_a_daemon_that_shifts_ids_is_told() -> None:
    told = noted(HostnamePath=f"/var/lib/docker/100000.100000/containers/{ID}/hostname")
    assert told["HostConfig.UsernsMode"] == "left out"
    told = noted(HostnamePath=f"/var/lib/docker/100000.100000/containers/{ID}/hostname", HostConfig__UsernsMode="host")
    assert "HostConfig.UsernsMode" not in told


def test_names_and_sysctls() -> None:
    spec = carried(Config__Hostname="h", Config__Domainname="d.example")
    assert (spec.hostname, spec.domainname) == ("h", "d.example")
    assert linux(HostConfig__Sysctls={"net.ipv4.ip_default_ttl": "77"}).sysctl == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
        "net.ipv4.ip_default_ttl": "77",
    }
    own = linux(HostConfig__Sysctls={"net.ipv4.ip_unprivileged_port_start": "1024"}).sysctl
    assert own["net.ipv4.ip_unprivileged_port_start"] == "1024"


# Mounts.


def bound(**details: JSON) -> dict[str, JSON]:
    base: dict[str, JSON] = {
        "Type": "bind",
        "Source": "/src",
        "Destination": "/dst",
        "Mode": "",
        "RW": True,
        "Propagation": "rprivate",
    }
    return {**base, **details}


@pytest.mark.parametrize(
    ("details", "host", "expected"),
    [
        ({}, {}, ("rbind", "rprivate")),
        ({"RW": False, "Mode": "ro,Z"}, {}, ("rbind", "rro", "rprivate")),
        ({"Propagation": ""}, {}, ("rbind",)),
        ({"RW": False}, {"BindOptions": {"NonRecursive": True}}, ("bind", "ro", "rprivate")),
        ({"RW": False}, {"BindOptions": {"ReadOnlyNonRecursive": True}}, ("rbind", "ro", "rprivate")),
    ],
)
def test_bind_mounts(details: dict[str, JSON], host: dict[str, JSON], expected: tuple[str, ...]) -> None:
    asked: list[JSON] = [{"Type": "bind", "Source": "/src", "Target": "/dst", **host}] if host else []
    spec = carried(Mounts=[bound(**details)], HostConfig__Mounts=asked)
    assert spec.mounts[-1] == Mount("/dst", "bind", "/src", expected)


@pytest.mark.parametrize(("word", "expected"), [("rshared", "shared"), ("slave", "rslave"), ("private", None)])
def test_propagation_needs_a_root_that_lets_it_through(word: str, expected: str | None) -> None:
    assert linux(Mounts=[bound(Propagation=word)]).rootfs_propagation == expected


def test_volumes_are_bound_and_told() -> None:
    volume = bound(Type="volume", Name="v", Source="/var/lib/docker/volumes/v/_data", Driver="local", Propagation="")
    changes: dict[str, JSON] = {"Mounts": [volume], "Config__Volumes": {"/dst": {}}, "HostConfig__Binds": ["v:/dst"]}
    assert noted(**changes) == {"Mounts[0]": "a bind mount of where it is"}
    assert imported(**changes).spec.mounts[-1] == Mount("/dst", "bind", "/var/lib/docker/volumes/v/_data", ("rbind",))


def test_a_temporary_filesystem_has_its_options_over_dockers_own() -> None:
    mounts: list[JSON] = [
        {
            "Type": "tmpfs",
            "Target": "/t",
            "ReadOnly": True,
            "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1770, "Options": [["exec"], ["nr_inodes", "5"]]},
        },
    ]
    spec = carried(HostConfig__Tmpfs={"/scratch": "size=1m,exec", "/plain": ""}, HostConfig__Mounts=mounts)
    default = ("nosuid", "noexec", "nodev", "rprivate")
    assert mount(spec, "/scratch") == Mount("/scratch", "tmpfs", "tmpfs", (*default, "size=1m", "exec"))
    assert mount(spec, "/plain") == Mount("/plain", "tmpfs", "tmpfs", default)
    assert mount(spec, "/t") == Mount(
        "/t", "tmpfs", "tmpfs", (*default, "ro", "mode=1770", "size=4096", "exec", "nr_inodes=5")
    )


def test_a_users_mounts_take_the_place_of_default_ones_the_outer_first() -> None:
    spec = carried(Mounts=[bound(Destination="/a/b"), bound(Destination="/dev/shm"), bound(Destination="/a")])
    assert [mount.destination for mount in spec.mounts][-3:] == ["/a", "/a/b", "/dev/shm"]
    assert [mount.destination for mount in spec.mounts].count("/dev/shm") == 1
    dev = carried(Mounts=[bound(Destination="/dev/")])
    assert [mount.destination for mount in dev.mounts] == ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("private", Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=4096"))),
        ("none", None),
        ("host", Mount("/dev/shm", "bind", "/dev/shm", ("rbind", "rprivate"))),
    ],
)
def test_shared_memory(mode: str, expected: Mount | None) -> None:
    assert mount(carried(HostConfig__IpcMode=mode, HostConfig__ShmSize=4096), "/dev/shm") == expected


def test_binds_that_are_nowhere_else_count_too() -> None:
    spec = carried(HostConfig__Binds=["/a:/x", "/b:/y:ro,rslave"])
    assert spec.mounts[-2:] == (
        Mount("/x", "bind", "/a", ("rbind", "rprivate")),
        Mount("/y", "bind", "/b", ("rbind", "rro", "rslave")),
    )
    assert noted(HostConfig__Binds=["volume:/x"]) == {"HostConfig.Binds[0]": "left out"}


def test_the_daemons_files_are_bound_and_told() -> None:
    files: dict[str, JSON] = {
        "ResolvConfPath": f"{HEX}/resolv.conf",
        "HostnamePath": f"{HEX}/hostname",
        "HostsPath": f"{HEX}/hosts",
        "HostConfig__Dns": ["192.0.2.1"],
        "HostConfig__ExtraHosts": ["h:192.0.2.2"],
        "HostConfig__ReadonlyRootfs": True,
    }
    assert noted(**files) == dict.fromkeys(("ResolvConfPath", "HostnamePath", "HostsPath"), "a bind mount")
    spec = imported(**files).spec
    assert spec.root.readonly
    assert mount(spec, "/etc/hosts") == Mount("/etc/hosts", "bind", f"{HEX}/hosts", ("rbind", "ro", "rprivate"))
    files["Mounts"] = [bound(Destination="/etc/hosts")]
    covered = imported(**files)
    assert [mount.source for mount in covered.spec.mounts if mount.destination == "/etc/hosts"] == ["/src"]


def test_names_that_the_daemon_has_not_written_yet_are_told() -> None:
    assert noted(
        HostConfig__Dns=["192.0.2.1"], HostConfig__DnsSearch=["x"], HostConfig__ExtraHosts=["h:192.0.2.2"]
    ) == {
        "HostConfig.Dns[0]": "left out",
        "HostConfig.DnsSearch[0]": "left out",
        "HostConfig.ExtraHosts[0]": "left out",
    }


def test_mounts_that_only_the_daemon_can_make_are_told() -> None:
    assert noted(Mounts=[bound(Type="npipe"), bound(Type="image", Destination="/i")]) == {
        "Mounts[0]": "left out",
        "Mounts[1]": "left out",
    }


# What a daemon does and a runtime does not.


@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("HostConfig__LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}, "HostConfig.LogConfig"),
        ("HostConfig__RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}, "HostConfig.RestartPolicy"),
        ("HostConfig__AutoRemove", True, "HostConfig.AutoRemove"),
        ("HostConfig__Init", True, "HostConfig.Init"),
        ("HostConfig__Runtime", "nvidia", "HostConfig.Runtime"),
        ("HostConfig__CgroupParent", "/x", "HostConfig.CgroupParent"),
        ("HostConfig__StorageOpt", {"size": "1G"}, "HostConfig.StorageOpt.size"),
        ("HostConfig__VolumeDriver", "nfs", "HostConfig.VolumeDriver"),
        ("HostConfig__Links", ["/a:/b/c"], "HostConfig.Links[0]"),
        ("Config__Healthcheck", {"Test": ["CMD", "true"], "Interval": 5}, "Config.Healthcheck"),
        ("Config__StopTimeout", 3, "Config.StopTimeout"),
    ],
)
def test_supervision_is_told(member: str, value: JSON, path: str) -> None:
    assert noted(**{member: value}) == {path: "left out"}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("HostConfig__LogConfig", {"Type": "none", "Config": None}),
        ("HostConfig__RestartPolicy", {"Name": "", "MaximumRetryCount": 0}),
        ("HostConfig__Init", False),
        ("HostConfig__Runtime", ""),
        ("Config__Healthcheck", {"Test": ["NONE"]}),
        ("Config__StopTimeout", None),
        ("HostConfig__Links", []),
    ],
)
def test_what_says_nothing_is_not_told(member: str, value: JSON) -> None:
    assert noted(**{member: value}) == {}


def test_labels_ports_and_the_stop_signal_are_annotations() -> None:
    spec = carried(
        Config__Labels={"a": "1"}, Config__StopSignal="SIGINT", Config__ExposedPorts={"80/tcp": {}, "53/udp": {}}
    )
    assert spec.annotations == {
        "a": "1",
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "53/udp,80/tcp",
    }
    assert carried(HostConfig__Annotations={"run.oci.x": "1"}).annotations == {"run.oci.x": "1"}
    assert noted(Config__Labels={"run.oci.x": "1", "": "2"}) == {
        "Config.Labels['run.oci.x']": "left out",
        "Config.Labels": "left out",
    }


def test_without_a_storage_drivers_path_the_root_is_a_bundles() -> None:
    found = imported(GraphDriver={"Data": None, "Name": "overlayfs"})
    assert found.spec.root == Root("rootfs")
    assert [(note.path, note.value) for note in found.notes] == [(ROOT_NOTE, None)]


def test_a_device_of_the_host_is_found_by_its_number() -> None:
    from ocirt import lookup

    found: Callable[[str], tuple[Device, ...]] = lookup.devices
    (null,) = found("/dev/null")
    assert (null.type, null.path, null.major, null.minor, null.file_mode) == ("c", "/dev/null", 1, 3, 0o666)
    assert found("/etc/passwd") == found("/no/such") == ()
    assert "/dev/null" in {node.path for node in found("/dev")}
