"""runc's sentences, verbatim, for whatever goes wrong; beside them the member of config.json that it is about."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.support import eventually

pytestmark = pytest.mark.root

JSON = dict[str, object]
IN_INIT = "ocirt create failed: unable to start container process: error during container init: "
BIND = {"type": "bind", "options": ["bind"]}
ONE = [{"containerID": 0, "hostID": 0, "size": 1}]


def put(path: str, value: object) -> Callable[[JSON], None]:
    """``process.args`` and the like; ``mounts+`` adds to a list."""

    def change(document: JSON) -> None:
        *outer, last = path.split(".")
        place: object = document
        for name in outer:
            assert isinstance(place, dict)
            place = place.setdefault(name, {})
        assert isinstance(place, dict)
        if last.endswith("+"):
            place.setdefault(last[:-1], []).append(value)
        else:
            place[last] = value

    return change


def drop(path: str) -> Callable[[JSON], None]:
    def change(document: JSON) -> None:
        *outer, last = path.split(".")
        place = document
        for name in outer:
            inner = place[name]
            assert isinstance(inner, dict)
            place = inner
        del place[last]

    return change


def without(*types: str) -> Callable[[JSON], None]:
    """Without these namespaces, which are the host's then."""

    def change(document: JSON) -> None:
        linux = document["linux"]
        assert isinstance(linux, dict)
        linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] not in types]

    return change


def both(*changes: Callable[[JSON], None]) -> Callable[[JSON], None]:
    def change(document: JSON) -> None:
        for each in changes:
            each(document)

    return change


def scheduler(**members: object) -> Callable[[JSON], None]:
    return put("process.scheduler", members)


# What is wrong, what runc says of it, and where we say it is.
CONFIGURATIONS = [
    (drop("root"), "root must be specified", "root: is required"),
    (put("root.path", "nope"), "invalid rootfs: ", "root.path: "),
    (put("process.cwd", ""), "Cwd property must not be empty", "process.cwd"),
    (put("process.cwd", "x"), "Cwd must be an absolute path", "process.cwd"),
    (put("process.args", []), "args must not be empty", "process.args"),
    (
        put("process.rlimits", [{"type": "RLIMIT_X", "hard": 1, "soft": 1}]),
        "wrong rlimit value: RLIMIT_X",
        "rlimits[0]",
    ),
    (
        put("mounts+", {"destination": "/a\0b", "type": "tmpfs"}),
        "mount field contains null byte",
        "mounts[7].destination",
    ),
    (put("linux.namespaces+", {"type": "foo"}), 'namespace "foo" does not exist', "linux.namespaces[5].type"),
    (put("linux.namespaces+", {"type": "pid"}), 'malformed spec file: duplicated ns "pid"', "linux.namespaces[5].type"),
    (
        put("linux.namespaces+", {"type": "user"}),
        "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        "linux.uidMappings",
    ),
    (
        put("linux.uidMappings", ONE),
        "user namespace mappings specified, but user namespace isn't enabled in the config",
        "linux.uidMappings",
    ),
    (without("uts"), "unable to set hostname without a private UTS namespace", "hostname"),
    (without("mount"), "unable to restrict sys entries without a private MNT namespace", "mounts"),
    (
        both(without("network"), put("linux.netDevices", {"x": {}})),
        "unable to move network devices without a NET namespace",
        "linux.netDevices",
    ),
    (put("linux.netDevices", {"a/b": {}}), 'invalid network device name "a/b"', "linux.netDevices"),
    (
        put("mounts+", {**BIND, "destination": "/x", "source": "/tmp", "uidMappings": ONE}),
        "id-mapped mounts must have both uid and gid mappings specified",
        "mounts[7].gidMappings",
    ),
    (
        put("mounts+", {"destination": "/x", "type": "bind", "source": "/tmp", "options": ["bind", "a=b"]}),
        "bind mounts cannot have any filesystem-specific options applied",
        "mounts[7].options[1]",
    ),
    (put("linux.rootfsPropagation", "foo"), "rootfsPropagation=foo is not supported", "linux.rootfsPropagation"),
    (
        put("linux.resources.memory", {"limit": 1 << 24, "swap": 1 << 20}),
        "memory+swap limit should be >= memory limit",
        "linux.resources.memory.swap",
    ),
    (
        put("linux.resources.unified", {"memory/max": "1"}),
        "must be a file name (no slashes)",
        "linux.resources.unified",
    ),
    (put("linux.resources.unified", {"x": "1"}), "must be in the form CONTROLLER.PARAMETER", "linux.resources.unified"),
    (scheduler(policy=""), "scheduler policy is required", "process.scheduler.policy"),
    (
        scheduler(policy="SCHED_OTHER", nice=99),
        "invalid scheduler.nice: 99 when scheduler.policy is SCHED_OTHER",
        "process.scheduler.nice",
    ),
    (
        scheduler(policy="SCHED_OTHER", priority=3),
        "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
        "process.scheduler.priority",
    ),
    (
        scheduler(policy="SCHED_OTHER", runtime=3),
        "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
        "process.scheduler.runtime",
    ),
    (
        put("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 9}),
        "invalid ioPriority.Priority: 9",
        "process.ioPriority.priority",
    ),
    (
        put("process.ioPriority", {"class": "X", "priority": 1}),
        'invalid ioPriority.Class: "X"',
        "process.ioPriority.class",
    ),
    (
        put("linux.sysctl", {"kernel.panic": "1"}),
        'sysctl "kernel.panic" is not in a separate kernel namespace',
        "linux.sysctl",
    ),
    (
        both(
            put("linux.namespaces+", {"type": "user"}),
            put("linux.uidMappings", ONE),
            put("linux.gidMappings", ONE),
            put("process.user", {"uid": 5, "gid": 0}),
        ),
        "cannot setuid to unmapped uid 5 in user namespace",
        "process.user.uid",
    ),
    (
        put("mounts+", {**BIND, "destination": "/x", "source": "/nope"}),
        f'{IN_INIT}error mounting "/nope" to rootfs at "/x": ',
        "mounts[7]: BindMount /nope: open_tree: no such file or directory (ENOENT)",
    ),
    (
        put("mounts+", {**BIND, "destination": "/etc/file", "source": "/tmp"}),
        f'{IN_INIT}error mounting "/tmp" to rootfs at "/etc/file": ',
        "not a directory",  # by which docker knows what to suggest
    ),
    (
        put("mounts+", {**BIND, "destination": "/tmp", "source": "/etc/passwd"}),
        f'{IN_INIT}error mounting "/etc/passwd" to rootfs at "/tmp": ',
        "not a directory",
    ),
    (
        put("mounts+", {"destination": "/x", "type": "nofs", "source": "none"}),
        f'{IN_INIT}error mounting "none" to rootfs at "/x": ',
        "mounts[7]: MountFilesystem nofs: fsopen: no such device (ENODEV)",
    ),
    (
        put("mounts+", {"destination": "/link", "type": "proc", "source": "proc"}),
        'filesystem "proc" must be mounted on ordinary directory',
        "mounts[7]",
    ),
    (
        put(
            "hooks", {"prestart": [{"path": "/bin/true"}, {"path": "/bin/sh", "args": ["sh", "-c", "echo x; exit 3"]}]}
        ),
        f"{IN_INIT}error running prestart hook #1: /bin/sh: exited with 3, output: x",
        "",
    ),
    (
        put("hooks", {"createRuntime": [{"path": "/nope"}]}),
        f"{IN_INIT}error running createRuntime hook #0: /nope: ",
        "no such file or directory",
    ),
    (
        put("hooks", {"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "99"], "timeout": 1}]}),
        "hook ran past specified timeout of 1.0s",
        "createContainer hook #0",
    ),
    (
        put("process.args", ["nosuch"]),
        'ocirt create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH',
        "",
    ),
    (put("process.args", ["/nosuch"]), 'exec: "/nosuch": stat /nosuch: no such file or directory', ""),
    (put("process.args", ["/etc/file"]), 'exec: "/etc/file": permission denied', ""),
    (put("process.args", ["/etc"]), 'exec: "/etc": is a directory', ""),
    (
        both(
            put("process.noNewPrivileges", False),  # or the filter comes last, at the start
            put("linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
            put("linux.seccomp.listenerPath", "/nope"),
            put("linux.seccomp.syscalls", [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]),
        ),
        "failed to connect with seccomp agent specified in the seccomp profile",
        "linux.seccomp.listenerPath",
    ),
    (
        put("linux.resources.cpu", {"cpus": "4000"}),
        "unable to apply cgroup configuration: ",
        "linux.resources.cpu.cpus",
    ),
]


@pytest.mark.parametrize(("change", "runc", "ours"), CONFIGURATIONS, ids=[str(row[1])[:60] for row in CONFIGURATIONS])
def test_a_configuration_that_cannot_be_had(
    commands: Commands, change: Callable[[JSON], None], runc: str, ours: str
) -> None:
    commands.configure(["sleep", "1000"])
    (commands.bundle / "rootfs/etc/file").write_text("")
    (commands.bundle / "rootfs/link").symlink_to("proc")
    config = commands.bundle / "config.json"
    document = json.loads(config.read_text())
    change(document)
    config.write_text(json.dumps(document))
    done = commands.tried("--log-format", "json", "create", commands.id)
    assert done.returncode == 1
    message = json.loads(done.stderr)["msg"]
    assert message.startswith("ocirt create failed: ")
    assert runc in message
    assert ours in message
    assert not commands.root.exists() or list(commands.root.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"), [("null", "config cannot be null"), ("{", "is not JSON"), ("", "is not JSON")]
)
def test_a_configuration_that_is_none(commands: Commands, text: str, message: str) -> None:
    (commands.bundle / "config.json").write_text(text)
    assert message in commands.tried("create", commands.id).stderr


def test_an_id_is_taken_once(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("create", commands.id)
    message = 'msg="ocirt create failed: container with given ID already exists"'
    assert message in commands.tried("create", commands.id).stderr


def test_a_cgroup_that_others_are_in_is_not_taken(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    config = commands.bundle / "config.json"
    document = json.loads(config.read_text())
    document["linux"]["cgroupsPath"] = f"/{commands.id}"
    config.write_text(json.dumps(document))
    commands.detached("create", commands.id)
    refused = commands.tried("create", f"{commands.id}-other").stderr
    assert "container's cgroup is not empty: 1 process(es) found" in refused


# In each status, what every operation that it does not allow says.
REFUSED = {
    "created": {
        "resume": "container not paused",
    },
    "running": {
        "start": "cannot start an already running container",
        "resume": "container not paused",
        "delete": "cannot delete container ID that is not stopped: running",
    },
    "paused": {
        "start": "cannot start a container in the paused state",
        "pause": "container not running",
        "exec": "exec failed: cannot exec in a paused container (use --ignore-paused to override)",
        "delete": "cannot delete container ID that is not stopped: paused",
    },
    "stopped": {
        "start": "cannot start a container that has stopped",
        "kill": "container not running",
        "pause": "container not running",
        "resume": "container not paused",
        "update": "container not running",
        "exec": "exec failed: cannot exec in a stopped container",
        "events": "container with id ID is not running",
    },
}


def wait_for(commands: Commands, status: str) -> None:
    eventually(lambda: commands.state(commands.id)["status"] == status, f"it is {status}")


def test_what_a_status_does_not_allow(commands: Commands) -> None:
    commands.configure(["sleep", "1000"])
    more = {"exec": ["true"], "update": []}
    flags = {"update": ["--pids-limit", "9"]}
    commands.detached("create", commands.id)
    for status, ways in {
        "created": [],
        "running": ["start"],
        "paused": ["pause"],
        "stopped": ["resume", "kill"],
    }.items():
        for way in ways:
            commands.run(way, commands.id, *(["KILL"] if way == "kill" else []))
        wait_for(commands, status)
        for operation, message in REFUSED[status].items():
            words = (operation, *flags.get(operation, ()), commands.id, *more.get(operation, ()))
            done = commands.tried(*words)
            assert f'msg="{message.replace("ID", commands.id)}"' in done.stderr, words
            assert done.returncode == (255 if operation == "exec" else 1), words
        assert commands.state(commands.id)["status"] == status
    assert commands.run("kill", "--all", commands.id, "9") == ""  # that nobody is left is what it is for


def test_a_process_that_has_just_ended_is_not_running(commands: Commands) -> None:
    """containerd and CRI-O take these words for an end; any others for a failure."""
    commands.configure(["sleep", "1000"])
    commands.detached("run", "-d", commands.id)
    pid = commands.state(commands.id)["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "container not running" in commands.tried("kill", commands.id, "TERM").stderr, "it is told")


def test_descriptors_that_are_not_there(commands: Commands) -> None:
    commands.configure(["true"])
    message = "unable to stat preserved-fd 0 (of 1): bad file descriptor"
    assert message in commands.tried("run", "--preserve-fds", "1", commands.id).stderr
    assert message in commands.tried("--log", "log", "run", "--preserve-fds", "1", commands.id).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("exec", "-u", "x", "ID", "true"), "exec failed: bad uid: "),
        (("exec", "-u", "1:x", "ID", "true"), "exec failed: bad gid: "),
        (("exec", "ID"), "exec failed: exec args cannot be empty"),
        (("exec", "-g", "x", "ID", "true"), r"invalid value \"x\" for flag -g: parse error"),
        (("events", "--interval", "0", "ID"), "duration interval must be greater than 0"),
        (("update", "--cpu-quota", "x", "ID"), r"invalid value for cpu-quota: \"x\" is not a whole number"),
        (("update", "--l3-cache-schema", "L3:0=f", "ID"), "updating a non-existent Intel RDT configuration"),
        (("ps", "ID", "-o", "comm"), "couldn't find PID field in ps output"),
        (("kill", "ID", "FOO"), r"unknown signal \"FOO\""),
    ],
)
def test_what_cannot_be_asked_of_a_container(commands: Commands, words: tuple[str, ...], message: str) -> None:
    commands.configure(["sleep", "1000"])
    commands.detached("run", "-d", commands.id)
    done = commands.tried(*(commands.id if word == "ID" else word for word in words))
    assert done.returncode != 0
    assert message in done.stderr
    assert commands.state(commands.id)["status"] == "running"


def test_the_caller_of_a_failed_start_is_told(commands: Commands, tmp_path: Path) -> None:
    """runc leaves it to the container's standard error, in the same words; its start succeeds."""
    script = commands.bundle / "rootfs/bin/script"
    script.write_text("#!/nowhere\n")
    script.chmod(0o755)
    commands.configure(["/bin/script"])
    commands.detached("create", commands.id)
    done = commands.tried("start", commands.id)
    assert (done.returncode, 'msg="exec /bin/script: no such file or directory"' in done.stderr) == (1, True)
