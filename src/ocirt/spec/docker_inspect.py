"""``docker inspect CONTAINER`` as a configuration, and a report of what does not go into one.

The daemon makes its configurations of the same values (moby, daemon/oci_linux.go), and what it makes of them is the
measure here. It adds what is nowhere in the JSON: its own filter of system calls, addresses, links, its init, the
supervision of a container's life. All of that is told, and so is every member that nobody here has heard of.

Here is the order of the parts. ``docker_json`` takes the document apart, ``docker_limits``, ``docker_mounts`` and
``docker_security`` know what belongs to these nouns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ocirt.errors import Problem, SpecError
from ocirt.spec import docker_limits, docker_mounts, docker_security
from ocirt.spec.base import JSON
from ocirt.spec.config import ConsoleSize, Process, Root, Spec
from ocirt.spec.docker_json import Findings, Part
from ocirt.spec.imported import Imported, Machine, safe_annotations
from ocirt.spec.linux import Linux, Namespace
from ocirt.spec.text import NotJSON, parse

SOURCE: Final = "docker inspect"
PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

OF_A_LIFE: Final = (
    *("Id", "Created", "State", "Image", "ImageManifestDescriptor", "Name", "RestartCount", "Driver", "ExecIDs"),
    *("LogPath", "SizeRw", "SizeRootFs", "Node", "Storage"),
)
"""What became of one container: not how one is made."""

OF_THE_CLIENT: Final = ("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce")
"""Who is connected to the streams; with ocirt that is its caller's choice each time."""

OF_THE_IMAGE: Final = ("Image", "Cmd", "Entrypoint", "OnBuild", "Shell", "ArgsEscaped")
"""Path and Args are what came of it."""

STOP_SIGNAL: Final = "org.opencontainers.image.stopSignal"
EXPOSED_PORTS: Final = "org.opencontainers.image.exposedPorts"

REMAPPED: Final = re.compile(r"/(\d+)\.(\d+)/(?:containers|overlay2|fuse-overlayfs|vfs|btrfs|zfs)/", re.ASCII)
"""The directory of a daemon with ``userns-remap``, named by the IDs of root."""


def convert(source: str | bytes | Mapping[str, JSON], machine: Machine) -> Imported:
    """:raises SpecError: it is no such document, or no container could be made as it says; all problems at once."""
    found = Findings()
    document = Part(_container(source, found), "", found)
    if "OCIConfigPath" in document:
        rule = "is what podman made for its runtime: Spec.from_engine reads it, and nothing of it is lost"
        raise SpecError([Problem("OCIConfigPath", document.text("OCIConfigPath"), rule)], SOURCE)
    if found.problems or "HostConfig" not in document or "Config" not in document:
        found.wrong("HostConfig", None, "is missing: is this what docker inspect says of a container?")
        raise SpecError(found.problems, SOURCE)
    spec = _spec(document, machine)
    document.leave_rest()
    problems = found.distinct() or spec.check()
    if problems:
        raise SpecError(problems, SOURCE)
    return Imported(spec, tuple(found.notes))


def _container(source: str | bytes | Mapping[str, JSON], found: Findings) -> JSON:
    """The one object: docker prints an array of them."""
    if isinstance(source, Mapping):
        return dict(source)
    try:
        value, doubles = parse(source)
    except NotJSON as error:
        raise SpecError([Problem("", None, f"is not JSON: {error}")], SOURCE) from error
    found.problems += doubles
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise SpecError([Problem("", None, f"holds {len(value)} containers, and a configuration is for one")], SOURCE)
    return value[0]


def _spec(document: Part, machine: Machine) -> Spec:
    host, config = document.part("HostConfig"), document.part("Config")
    document.known(*OF_A_LIFE)
    if (platform := document.text("Platform")) not in ("", "linux"):
        document.found.wrong("Platform", platform, "is not linux")
    root = _root(document, host)
    spaces, network = _namespaces(document, host, config)
    mounts, propagation = docker_mounts.mounts(document, host, config)
    masked, readonly = docker_security.paths(host)
    devices = docker_limits.Devices.of(host, machine)
    own_uts = any(space.type == "uts" for space in spaces)
    hostname, domainname = config.text("Hostname"), config.text("Domainname")
    process = _process(document, host, config, machine, root.path, hostname if own_uts else "")
    linux = Linux(
        namespaces=spaces,
        devices=devices.nodes,
        resources=docker_limits.resources(host, devices, machine),
        sysctl={**network, **host.words("Sysctls")},
        seccomp=docker_security.seccomp(host, process.capabilities, machine),
        rootfs_propagation=propagation,
        masked_paths=masked,
        readonly_paths=readonly,
        mount_label=document.text("MountLabel") or None,
    )
    annotations = _annotations(host, config)
    _supervision(host, config)
    return Spec(
        root=root,
        mounts=mounts,
        process=process,
        hostname=(hostname or None) if own_uts else None,
        domainname=(domainname or None) if own_uts else None,
        linux=linux,
        annotations=annotations,
    )


def _root(document: Part, host: Part) -> Root:
    """The daemon's own mount, which is there while its container runs, or the name that every bundle has for it."""
    driver = document.part("GraphDriver")
    driver.known("Name", "Data")
    data = driver.part("Data")
    merged = data.text("MergedDir")
    data.names()
    remedy = "make one of `docker export` and put its path into root.path"
    if merged:
        why = f"it is Docker's own, there only while its container runs and shared with it; {remedy}"
        document.found.note(data.at("MergedDir"), merged, why, became="root.path")
    else:
        why = f"no path of a root filesystem is told; {remedy}"
        document.found.note("GraphDriver.Data.MergedDir", None, why, became="root.path 'rootfs'")
    return Root(merged or "rootfs", readonly=host.boolean("ReadonlyRootfs"))


def _process(document: Part, host: Part, config: Part, machine: Machine, root: str, hostname: str) -> Process:
    terminal = config.boolean("Tty")
    capabilities = docker_security.Capabilities.of(host)
    user = docker_security.user(host, config, machine, root)
    no_new_privileges, apparmor = docker_security.options(document, host)
    config.known(*OF_THE_CLIENT, *OF_THE_IMAGE)
    path = document.text("Path")
    if document.raw("Path") in (None, ""):
        document.found.wrong("Path", None, "is missing: which program runs in it?")
    return Process(
        terminal=terminal,
        console_size=_console(host) if terminal else None,
        cwd=config.text("WorkingDir") or "/",
        env=_environment(config, hostname, terminal),
        args=(path, *document.texts("Args")),
        rlimits=docker_limits.rlimits(host),
        apparmor_profile=apparmor,
        capabilities=capabilities.for_user(user.uid),
        no_new_privileges=no_new_privileges,
        oom_score_adj=host.integer("OomScoreAdj"),
        selinux_label=document.text("ProcessLabel") or None,
        user=user,
    )


def _console(host: Part) -> ConsoleSize | None:
    size = host.raw("ConsoleSize")
    if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and 0 < side < 2**16 for side in size):
        height, width = size
        assert isinstance(height, int)
        assert isinstance(width, int)
        return ConsoleSize(height, width)
    return None


def _environment(config: Part, hostname: str, terminal: bool) -> tuple[str, ...]:
    """What the daemon adds (CreateDaemonEnvironment), unless it is said; a name alone takes a variable away."""
    own = [PATH, *([f"HOSTNAME={hostname}"] if hostname else []), *(["TERM=xterm"] if terminal else [])]
    said: dict[str, str | None] = {}
    for place, entry in config.numbered("Env"):
        name, equals, _ = entry.partition("=")
        if not name:
            config.found.wrong(place, entry, "must have the form NAME=value")
        said.pop(name, None)
        said[name] = entry if equals else None
    entries = [entry for entry in own if entry.partition("=")[0] not in said]
    return (*entries, *(entry for entry in said.values() if entry is not None))


def _namespaces(document: Part, host: Part, config: Part) -> tuple[tuple[Namespace, ...], dict[str, str]]:
    """Those of its own, and the settings that come with a network of its own.

    Another container's namespaces are known by the pid of somebody who is not in this document.
    """
    own = [Namespace("mount")]
    own_network = _network(document, host, config)
    if own_network:
        own.append(Namespace("network"))
    for member, type_ in (("UTSMode", "uts"), ("PidMode", "pid"), ("IpcMode", "ipc")):
        if _is_own(host, member):
            own.append(Namespace(type_))
    mode = host.text("CgroupnsMode")
    if mode == "private":
        own.append(Namespace("cgroup"))
    elif mode not in ("", "host"):
        host.found.wrong(host.at("CgroupnsMode"), mode, "must be private or host")
    _user_namespace(document, host)
    # Docker's own, since 20.10: ping and low ports without capabilities.
    settings = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    return tuple(own), settings if own_network and not _joins(host, "NetworkMode") else {}


MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "UTSMode": ("", "private"),
    "PidMode": ("", "private"),
    "IpcMode": ("", "private", "shareable", "none"),
}


def _is_own(host: Part, member: str) -> bool:
    mode = host.text(member)
    if mode == "host":
        return False
    if _joins(host, member):
        host.leave(member, _OTHERS, became="a namespace of its own")
    elif mode not in MODES[member]:
        host.found.wrong(host.at(member), mode, "is no mode of a namespace")
    return True


_OTHERS: Final = "another container's is known by its process, which is told elsewhere; put its path into the namespace"


def _joins(host: Part, member: str) -> bool:
    return host.text(member).startswith("container:")


def _network(document: Part, host: Part, config: Part) -> bool:
    """Whether it has a network of its own; Docker puts devices into it, we only the loopback device."""
    mode = host.text("NetworkMode")
    settings = document.part("NetworkSettings")
    networks = settings.part("Networks")
    settings.names()
    why = "only Docker connects to it; there is a loopback device alone"
    for name in networks.names():
        inner = networks.part(name)
        inner.names()
        if name not in ("none", "host"):
            document.found.note(networks.at(name), None, why)
    for member, reason in (
        ("PortBindings", "Docker forwards ports; there is a loopback device alone"),
        ("PublishAllPorts", "Docker forwards ports; there is a loopback device alone"),
        ("Links", "Docker tells containers of each other, by variables and /etc/hosts"),
    ):
        host.leave(member, reason)
    config.leave("MacAddress", "there is no device that would have it")
    if config.boolean("NetworkDisabled"):
        return True
    if mode == "host":
        return False
    if mode.startswith("container:"):
        host.leave("NetworkMode", _OTHERS, became="a namespace of its own")
    elif mode not in ("", "none") and not networks.names():
        host.leave("NetworkMode", why)
    return True


def _user_namespace(document: Part, host: Part) -> None:
    if (mode := host.text("UsernsMode")) not in ("", "host"):
        host.found.wrong(host.at("UsernsMode"), mode, "must be host or empty")
    remapped = REMAPPED.search(document.text("HostnamePath"))
    if remapped is not None and not mode:
        why = (
            f"this daemon shifts IDs, and root is {remapped[1]}:{remapped[2]} for the host; how many it shifts is not "
            "told. Add a user namespace and linux.uidMappings"
        )
        host.found.note(host.at("UsernsMode"), None, why)


def _annotations(host: Part, config: Part) -> dict[str, str]:
    """Labels are told to no runtime by Docker, its annotations are."""
    labels, notes = safe_annotations(config.words("Labels"), config.at("Labels"))
    config.found.notes += notes
    ports = ",".join(sorted(config.part("ExposedPorts").names()))
    stop = config.text("StopSignal")
    made = {**({STOP_SIGNAL: stop} if stop else {}), **({EXPOSED_PORTS: ports} if ports else {})}
    if "" in labels:
        config.found.note(config.at("Labels"), labels.pop(""), "an annotation needs a key that is not empty")
    return {**made, **labels, **host.words("Annotations")}


def _supervision(host: Part, config: Part) -> None:
    """What the daemon does while a container lives, and nobody does for ours."""
    host.known("ContainerIDFile", "Isolation", "ConsoleSize", "Cgroup")
    log = host.part("LogConfig")
    if log.text("Type") not in ("", "none"):
        host.found.note(log.path, log.text("Type"), "what is written goes to the caller's streams")
    log.words("Config")
    restart = host.part("RestartPolicy")
    if restart.text("Name") not in ("", "no"):
        host.found.note(restart.path, restart.text("Name"), "nobody starts it again once it has ended")
    restart.integer("MaximumRetryCount")
    health = config.part("Healthcheck")
    if health.texts("Test") not in ((), ("NONE",)):
        host.found.note(health.path, list(health.texts("Test")), "nobody asks whether it is well")
    health.names()
    config.leave("StopTimeout", "nobody stops it but its user")
    host.leave("AutoRemove", "whether it is deleted at its end says who runs it")
    if host.boolean("Init"):
        host.leave("Init", "docker-init is the daemon's; the program is process 1 itself")
    if host.text("Runtime") not in ("", "runc", "ocirt", "io.containerd.runc.v2"):
        host.leave("Runtime", "the container is run by ocirt")
    host.leave("CgroupParent", "ocirt names a cgroup by the container; linux.cgroupsPath may say otherwise")
    host.leave("StorageOpt", "a size of the root filesystem is the storage driver's to keep")
