"""A valid value, or several, for every member of config.json, and configurations made of them.

``tests.strategies`` draws what a plan can honour; here is all that the OCI documents list, so that a member which
nothing honours yet is found too. A member that is new in ``ocirt.spec`` needs a value here: tests say so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Final, TypeAlias, TypeVar

from ocirt.spec import JSON
from ocirt.spec.known import CAPABILITIES, SECCOMP_ACTIONS, SECCOMP_ARCHITECTURES, SECCOMP_OPERATORS

Object: TypeAlias = "dict[str, JSON]"
Value = TypeVar("Value", bound=JSON)

_TYPES: Final = ("mount", "uts", "ipc", "network", "pid", "cgroup", "time")
_MAPPING: Final[JSON] = [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
_TWO: Final[JSON] = [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 9, "hostID": 100_000, "size": 10}]


def _base(*namespaces: JSON, **linux: JSON) -> Object:
    others: list[JSON] = [{"type": kind} for kind in _TYPES if f"'{kind}'" not in str(namespaces)]
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"]},
        "linux": {"namespaces": [*others, *namespaces], **linux},
    }


PLAIN: Final = _base()
MAPPED: Final = _base({"type": "user"}, uidMappings=_MAPPING, gidMappings=_MAPPING)
JOINED: Final = _base({"type": "network", "path": "/run/netns/one"})
BASES: Final = (PLAIN, MAPPED, JOINED)
"""Each has what the values below may need: the namespaces of names, clocks and sysctls."""

_HOOKS: Final[tuple[JSON, ...]] = (
    [{"path": "/bin/true"}],
    [{"path": "/bin/hook", "args": ["hook", ""], "env": ["A=1", "B="], "timeout": 7}, {"path": "/h"}],
)

_MOUNTS: Final[tuple[JSON, ...]] = (
    [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "rprivate"]},
        {"destination": "/etc/hosts", "source": "hosts", "options": ["rbind", "ro"]},
    ],
    [{"destination": "data", "type": "bind", "source": "/srv", "options": ["bind", "rro", "noatime"]}],
    [
        {
            "destination": "/mapped",
            "source": "/srv",
            "options": ["bind", "idmap"],
            "uidMappings": _TWO,
            "gidMappings": _TWO,
        }
    ],
    [{"destination": "/var", "type": "tmpfs", "options": ["tmpcopyup", "size=64k"]}],
)

_PROCESS: Final[Mapping[str, tuple[JSON, ...]]] = {
    "terminal": (True, False),
    "consoleSize": ({"height": 24, "width": 80},),
    "cwd": ("/", "/work"),
    "env": (["PATH=/bin", "HOME=/root", "A="], ["TERM=xterm"]),
    "args": (["sh", "-c", ""], ["/bin/true"]),
    "commandLine": ("cmd",),
    "rlimits": (
        [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}, {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 0}],
        [{"type": "RLIMIT_NOFILE", "hard": 1023, "soft": 511}],
        [{"type": "RLIMIT_CPU", "hard": 1024, "soft": 512}],
    ),
    "apparmorProfile": ("profile",),
    "capabilities": (
        {name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        {"bounding": [*CAPABILITIES], "permitted": ["CAP_NET_RAW"]},
    ),
    "noNewPrivileges": (True, False),
    "oomScoreAdj": (100, -1000),
    "scheduler": (
        {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        {"policy": "SCHED_FIFO", "priority": 10},
        {"policy": "SCHED_RR", "priority": 10},
        {"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 20_000_000},
    ),
    "selinuxLabel": ("system_u:system_r:container_t:s0",),
    "ioPriority": ({"class": "IOPRIO_CLASS_BE", "priority": 3}, {"class": "IOPRIO_CLASS_IDLE"}),
    "execCPUAffinity": ({"initial": "0", "final": "0-1"}, {"final": "1"}),
    "user": (
        {"uid": 0, "gid": 0},
        {"uid": 1000, "gid": 1000, "umask": 0o77, "additionalGids": [5, 6]},
        {"uid": 0, "gid": 100},
    ),
}

_RESOURCES: Final[Mapping[str, tuple[JSON, ...]]] = {
    "devices": (
        [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
        [{"allow": True, "type": "b", "major": 8, "minor": -1}],
    ),
    "memory": (
        {
            "limit": 2**30,
            "reservation": 2**29,
            "swap": 2**31,
            "kernel": -1,
            "kernelTCP": 2**20,
            "swappiness": 60,
            "disableOOMKiller": True,
            "useHierarchy": True,
            "checkBeforeUpdate": True,
        },
        {"limit": -1, "swap": -1},
    ),
    "cpu": (
        {
            "shares": 1024,
            "quota": 50_000,
            "burst": 1000,
            "period": 100_000,
            "idle": 0,
            "realtimeRuntime": 950_000,
            "realtimePeriod": 1_000_000,
            "cpus": "0-1",
            "mems": "0",
        },
    ),
    "blockIO": (
        {
            "weight": 100,
            "leafWeight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            **{
                f"throttle{way}Device": [{"major": 8, "minor": 0, "rate": 600}]
                for way in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
            },
        },
    ),
    "hugepageLimits": ([{"pageSize": "2MB", "limit": 2**21}],),
    "network": ({"classID": 0x100001, "priorities": [{"name": "eth0", "priority": 500}]},),
    "pids": ({"limit": 100}, {"limit": -1}),
    "rdma": ({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}},),
    "unified": ({"memory.high": "max", "io.max": "259:0 rbps=2097152"},),
}

_RULES: Final[list[JSON]] = [
    {"names": ["clone"], "action": action, "args": [{"index": 0, "value": 1, "op": operator}]}
    for action, operator in zip(SECCOMP_ACTIONS, SECCOMP_OPERATORS, strict=False)
]
_SECCOMP: Final[tuple[JSON, ...]] = (
    {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": [*SECCOMP_ARCHITECTURES],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "one",
        "syscalls": [
            {"names": ["mkdir", "read"], "action": "SCMP_ACT_NOTIFY"},
            *_RULES,
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 22,
                "args": [{"index": 5, "value": 2**64 - 1, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}],
            },
        ],
    },
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GT"}]}
        ],
    },
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 255, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}],
            }
        ],
    },
)

_LINUX: Final[Mapping[str, tuple[JSON, ...]]] = {
    "timeOffsets": (
        {"monotonic": {"secs": -5, "nanosecs": 999_999_999}, "boottime": {"secs": 7}},
        {"monotonic": {"nanosecs": 1}},
    ),
    "devices": (
        [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 1, "gid": 2}],
        [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 228}, {"type": "p", "path": "/dev/pipe"}],
        [{"type": "c", "path": "/dev/other", "major": 11, "minor": 229}],
        [{"type": "b", "path": "/dev/fuse", "major": 10, "minor": 229}],
    ),
    "netDevices": ({"eth0": {"name": "inside"}, "eth1": {}},),
    "cgroupsPath": ("/one/two", "machine.slice:ocirt:one"),
    "intelRdt": (
        {
            "closID": "guaranteed",
            "schemata": ["L3:0=7f0"],
            "l3CacheSchema": "L3:0=7f0",
            "memBwSchema": "MB:0=20",
            "enableMonitoring": True,
        },
    ),
    "memoryPolicy": (
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        {"mode": "MPOL_PREFERRED", "nodes": "0-1"},
        {"mode": "MPOL_LOCAL"},
    ),
    "sysctl": ({"net.ipv4.ip_forward": "1"}, {"kernel.msgmax": "65536", "net/ipv4/conf/eth0.100/forwarding": "0"}),
    "seccomp": _SECCOMP,
    "rootfsPropagation": ("private", "rslave", "shared", "unbindable"),
    "maskedPaths": (["/proc/kcore", "/proc/keys"],),
    "readonlyPaths": (["/proc/sys"],),
    "mountLabel": ("system_u:object_r:container_file_t:s0:c715,c811",),
    "personality": ({"domain": "LINUX32", "flags": []}, {"domain": "LINUX"}),
}

VALUES: Final[Mapping[str, tuple[JSON, ...]]] = {
    "ociVersion": ("1.3.0", "1.0.2-dev"),
    "root.path": ("rootfs", "/srv/rootfs"),
    "root.readonly": (True, False),
    "mounts": _MOUNTS,
    "hostname": ("box",),
    "domainname": ("example.org",),
    "annotations": ({"org.example.key": "value", "empty": ""},),
    **{f"process.{name}": values for name, values in _PROCESS.items()},
    **{f"linux.{name}": values for name, values in _LINUX.items()},
    **{f"linux.resources.{name}": values for name, values in _RESOURCES.items()},
    **{
        f"hooks.{kind}": _HOOKS
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    },
}
"""By member: every one of these values is valid beside any of the others."""


def copied(value: Value) -> Value:
    """Not deepcopy, which leaves what is the same in two places the same."""
    made: Value = json.loads(json.dumps(value))
    return made


def put(document: Object, path: str, value: JSON) -> None:
    """Set the member at ``path``, and make the objects on the way to it."""
    *outer, name = path.split(".")
    place = document
    for part in outer:
        inner = place.setdefault(part, {})
        assert isinstance(inner, dict)
        place = inner
    place[name] = copied(value)


def random_document(random: Random) -> Object:
    """A valid configuration with some of everything."""
    document = copied(random.choice(BASES))
    share = random.choice((0.05, 0.2, 0.6))
    for path, values in VALUES.items():
        if random.random() < share:
            put(document, path, random.choice(values))
    return document
