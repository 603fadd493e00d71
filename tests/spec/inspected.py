"""A document as ``docker inspect`` writes it, whose members tests change."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Final

from ocirt.spec import JSON, Device, Spec
from ocirt.spec.accounts import Accounts
from ocirt.spec.imported import Imported, Machine

ID: Final = "5f" * 32

PLAIN: Final[dict[str, JSON]] = {
    "Id": ID,
    "Created": "2026-01-01T00:00:00.0Z",
    "Path": "sleep",
    "Args": ["1000"],
    "State": {"Status": "running", "Running": True, "Pid": 4711, "ExitCode": 0},
    "Image": f"sha256:{ID}",
    "ResolvConfPath": "",
    "HostnamePath": "",
    "HostsPath": "",
    "LogPath": f"/var/lib/docker/containers/{ID}/{ID}-json.log",
    "Name": "/quiet",
    "RestartCount": 0,
    "Driver": "overlay2",
    "Platform": "linux",
    "MountLabel": "",
    "ProcessLabel": "",
    "AppArmorProfile": "",
    "ExecIDs": None,
    "HostConfig": {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "none", "Config": {}},
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": "host",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "UsernsMode": "",
        "Privileged": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": ["seccomp=unconfined"],
        "ShmSize": 67108864,
        "Runtime": "runc",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "Memory": 0,
        "MemorySwap": 0,
        "MemorySwappiness": None,
        "NanoCpus": 0,
        "CpuShares": 0,
        "BlkioWeight": 0,
        "OomKillDisable": False,
        "OomScoreAdj": 0,
        "PidsLimit": None,
        "Ulimits": None,
        "Devices": [],
        "MaskedPaths": ["/proc/kcore", "/sys/firmware"],
        "ReadonlyPaths": ["/proc/sys"],
    },
    "GraphDriver": {"Data": {"MergedDir": "/merged", "UpperDir": "/upper"}, "Name": "overlay2"},
    "Mounts": [],
    "Config": {
        "Hostname": "quiet",
        "Domainname": "",
        "User": "",
        "AttachStdin": False,
        "Tty": False,
        "Env": ["PATH=/bin"],
        "Cmd": ["sleep", "1000"],
        "Image": "busybox",
        "WorkingDir": "",
        "Entrypoint": None,
        "Labels": {},
    },
    "NetworkSettings": {"Bridge": "", "SandboxID": "x", "Networks": {"none": {"NetworkID": "y"}}, "Ports": {}},
}
"""Of a container with no network, no filter and no log: nothing of it is lost but what a root filesystem is."""

ROOT_NOTE: Final = "GraphDriver.Data.MergedDir"

DEVICES: Final = {
    "/dev/zram0": (Device("b", "/dev/zram0", 253, 0, file_mode=0o660, uid=0, gid=6),),
    "/dev/fuse": (Device("c", "/dev/fuse", 10, 229, file_mode=0o666, uid=0, gid=0),),
    "/dev/snd": (Device("c", "/dev/snd/seq", 116, 1), Device("c", "/dev/snd/timer", 116, 33)),
}
"""Of a machine that these tests imagine."""

PASSWD: Final = b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n"
GROUP: Final = b"root:x:0:\naudio:x:29:alice\nalice:x:1001:\n"


def machine(architecture: str = "x86_64") -> Machine:
    everything = tuple(node for nodes in DEVICES.values() for node in nodes)

    def devices(path: str) -> tuple[Device, ...]:
        return everything if path == "/dev" else DEVICES.get(path, ())

    return Machine(architecture, devices, lambda _: Accounts.of(PASSWD, GROUP))


def document(**changes: JSON) -> dict[str, JSON]:
    """The plain one with members changed: ``Config__User`` is one of ``Config``."""
    made = deepcopy(PLAIN)
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        place = made[outer] if inner else made
        assert isinstance(place, dict)
        place[inner or outer] = value
    return made


HERE: Final = machine()


def imported(known: Machine | None = HERE, /, **changes: JSON) -> Imported:
    """What comes of it, with what is known of a machine."""
    return Spec.from_docker_inspect(json.dumps([document(**changes)]), known)


def carried(**changes: JSON) -> Spec:
    """What comes of members that are carried over whole: there is nothing to tell of them."""
    found = imported(**changes)
    assert [note.path for note in found.notes] == [ROOT_NOTE]
    return found.spec


def noted(known: Machine | None = HERE, /, **changes: JSON) -> dict[str, str]:
    """What is told of these members, and what became of each."""
    notes = imported(known, **changes).notes
    assert all(note.why for note in notes)
    return {note.path: note.became for note in notes if note.path != ROOT_NOTE}
