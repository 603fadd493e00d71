"""What this ocirt can do on this kernel (features.md, features-linux.md).

The documents leave it open whether a runtime speaks of itself or of the machine. Here a thing is there if a container
could have it: this build honours it, and so does this kernel. The build honours every property of the specification.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import attrs
from attrs import Factory, frozen

from ocirt.errors import UnsupportedError
from ocirt.host import TRUSTED_PATH, Host
from ocirt.spec import Root, Spec
from ocirt.spec.config import Hooks
from ocirt.spec.known import (
    CAPABILITIES,
    MEMORY_FLAGS,
    MEMORY_MODES,
    SECCOMP_ACTIONS,
    SECCOMP_ARCHITECTURES,
    SECCOMP_FLAGS,
    SECCOMP_OPERATORS,
)
from ocirt.spec.options import KNOWN

if TYPE_CHECKING:
    from ocirt.spec import JSON

OLDEST: Final = "1.0.0"

SINCE: Final[Mapping[str, tuple[int, int]]] = {
    "nosymfollow": (5, 14),
    "rnosymfollow": (5, 14),
    "MPOL_PREFERRED_MANY": (5, 15),
    "MPOL_WEIGHTED_INTERLEAVE": (6, 9),
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": (5, 19),
}
"""Words that an older kernel than this does not know (mount_setattr(2), set_mempolicy(2), seccomp(2))."""

KERNEL_ACTIONS: Final = {
    **{name: name.removeprefix("SCMP_ACT_").lower() for name in SECCOMP_ACTIONS},
    "SCMP_ACT_KILL": "kill_thread",
    "SCMP_ACT_NOTIFY": "user_notif",
}
"""Their names in /proc/sys/kernel/seccomp/actions_avail (seccomp(2))."""

UNSAFE_ANNOTATIONS: Final = (
    "org.criu.config",
    "org.systemd.property.",
    "run.oci.keep_original_groups",
    "run.oci.pidfd_receiver",
    "run.oci.systemd.subgroup",
)
"""Those of a configuration by which it could do more than its members say; a dot at the end makes it a prefix."""


@frozen(kw_only=True)
class CgroupFeatures:
    """Which kinds of cgroups, and who makes them."""

    v1: bool
    v2: bool
    systemd: bool
    systemd_user: bool
    rdma: bool


@frozen(kw_only=True)
class SeccompFeatures:
    """What a filter may hold; of flags, those that can be named and those that the kernel has."""

    enabled: bool
    actions: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    known_flags: tuple[str, ...] = ()
    supported_flags: tuple[str, ...] = ()


@frozen
class Enabled:
    """Something that is there, or not."""

    enabled: bool


@frozen(kw_only=True)
class IntelRdtFeatures:
    """resctrl, with its members of version 1.3."""

    enabled: bool
    schemata: bool
    monitoring: bool


@frozen(kw_only=True)
class MemoryPolicyFeatures:
    """Modes and flags of set_mempolicy(2)."""

    modes: tuple[str, ...]
    flags: tuple[str, ...]


@frozen
class MountExtensions:
    """What mounts can do beyond their options."""

    idmap: Enabled


@frozen(kw_only=True)
class LinuxFeatures:
    """The Linux part (features-linux.md)."""

    namespaces: tuple[str, ...]
    capabilities: tuple[str, ...]
    cgroup: CgroupFeatures
    seccomp: SeccompFeatures
    apparmor: Enabled
    selinux: Enabled
    intel_rdt: IntelRdtFeatures
    memory_policy: MemoryPolicyFeatures
    mount_extensions: MountExtensions
    net_devices: Enabled


@frozen(kw_only=True)
class Features:
    """The whole (features.md). An empty tuple says that there is none."""

    oci_version_min: str = OLDEST
    oci_version_max: str
    hooks: tuple[str, ...]
    mount_options: tuple[str, ...]
    linux: LinuxFeatures
    annotations: Mapping[str, str] = Factory(dict)
    potentially_unsafe_config_annotations: tuple[str, ...] = UNSAFE_ANNOTATIONS

    def to_json(self) -> dict[str, JSON]:
        """As the document has it."""
        value = _to_json(self)
        assert isinstance(value, dict)
        return value


def features() -> Features:
    """What a configuration may ask of this ocirt, on this machine.

    :raises UnsupportedError: the kernel is too old for anything.
    """
    host = Host.probe()
    return Features(
        oci_version_max=Spec(root=Root("")).oci_version,
        hooks=tuple(_camel(member.name) for member in attrs.fields(Hooks) if member.name != "unknown"),
        mount_options=tuple(sorted(_known(KNOWN, host))),
        linux=LinuxFeatures(
            namespaces=tuple(sorted(host.namespaces)),
            capabilities=CAPABILITIES[: host.last_capability + 1],
            cgroup=cgroup_features(),
            seccomp=seccomp_features(host),
            apparmor=Enabled(_has_apparmor()),
            selinux=Enabled("selinuxfs" in _filesystems()),
            intel_rdt=_intel_rdt(),
            memory_policy=_memory_policy(host),
            mount_extensions=MountExtensions(Enabled(True)),
            net_devices=Enabled("network" in host.namespaces),
        ),
        annotations=_annotations(),
    )


def seccomp_features(host: Host) -> SeccompFeatures:
    """What libseccomp and the kernel have both; without either there is none."""
    from ocirt.seccomp import library

    available = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    try:
        library.native()
    except UnsupportedError:
        available = []
    if not available:
        return SeccompFeatures(enabled=False)
    return SeccompFeatures(
        enabled=True,
        actions=tuple(name for name in SECCOMP_ACTIONS if KERNEL_ACTIONS[name] in available),
        operators=SECCOMP_OPERATORS,
        archs=tuple(name for name in SECCOMP_ARCHITECTURES if library.architecture(name)),
        known_flags=SECCOMP_FLAGS,
        supported_flags=tuple(_known(SECCOMP_FLAGS, host)),
    )


def cgroup_features() -> CgroupFeatures:
    """By systemd only where it runs; a user's own one has cgroups to give where version 2 is alone."""
    from ocirt.cgroups import layout
    from ocirt.cgroups.units import has_systemd

    filesystems = _filesystems()
    systemd = has_systemd()
    return CgroupFeatures(
        v1="cgroup" in filesystems,
        v2="cgroup2" in filesystems,
        systemd=systemd,
        systemd_user=systemd and layout.probe().mode == "v2",
        rdma="rdma" in _controllers(),
    )


def _intel_rdt() -> IntelRdtFeatures:
    """The kernel has the filesystem only where the processor has something to control."""
    there = "resctrl" in _filesystems()
    return IntelRdtFeatures(enabled=there, schemata=there, monitoring=there)


def _memory_policy(host: Host) -> MemoryPolicyFeatures:
    return MemoryPolicyFeatures(modes=tuple(_known(MEMORY_MODES, host)), flags=MEMORY_FLAGS)


def _annotations() -> dict[str, str]:
    """Docker asks for checkpoints by runc's name for them; whether CRIU works here is only known once it is used."""
    import shutil
    from importlib import metadata

    criu = shutil.which("criu") or shutil.which("criu", path=TRUSTED_PATH)
    found = {"org.opencontainers.runc.checkpoint.enabled": "true" if criu else "false"}
    with contextlib.suppress(metadata.PackageNotFoundError):  # it runs from its sources
        found["org.ocirt.version"] = metadata.version("ocirt")
    return found


def _known(names: Iterable[str], host: Host) -> Iterator[str]:
    return (name for name in names if host.kernel >= SINCE.get(name, (0, 0)))


def _has_apparmor() -> bool:
    return _read("/sys/module/apparmor/parameters/enabled").startswith("Y")


def _filesystems() -> frozenset[str]:
    """proc_filesystems(5)"""
    return frozenset(line.split()[-1] for line in _read("/proc/filesystems").splitlines() if line.split())


def _controllers() -> frozenset[str]:
    """Of either version (cgroups(7))."""
    lines = [line.split() for line in _read("/proc/cgroups").splitlines() if not line.startswith("#")]
    return frozenset(line[0] for line in lines if line[-1:] == ["1"])


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _to_json(value: object) -> JSON:
    match value:
        case str() | bool():
            return value
        case tuple():
            return [_to_json(item) for item in value]
        case Mapping():
            return {str(key): _to_json(item) for key, item in value.items()}
    kind = type(value)
    assert attrs.has(kind)
    return {_camel(member.name): _to_json(getattr(value, member.name)) for member in attrs.fields(kind)}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
