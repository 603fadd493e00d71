"""Mounts of ``docker inspect``: the daemon's default ones, and over them whatever a user has asked for.

``Mounts`` is the truth of binds and volumes, since the daemon has resolved ``Binds`` and ``VolumesFrom`` there;
``HostConfig.Mounts`` has details of them, and ``HostConfig.Tmpfs`` is nowhere else.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from ocirt.spec.config import Mount
from ocirt.spec.docker_json import Part
from ocirt.spec.options import PROPAGATION

SHM_SIZE: Final = 64 * 1024 * 1024
QUIET: Final = ("nosuid", "noexec", "nodev")

WITHOUT_RO: Final = frozenset(("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"))
"""What stays writable on a read-only root filesystem."""

FILES: Final[Mapping[str, str]] = {
    "ResolvConfPath": "/etc/resolv.conf",
    "HostnamePath": "/etc/hostname",
    "HostsPath": "/etc/hosts",
}

IN_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "ResolvConfPath": ("Dns", "DnsOptions", "DnsSearch"),
    "HostsPath": ("ExtraHosts",),
}
"""What the daemon has written into its files, where there are some."""


def mounts(document: Part, host: Part, config: Part) -> tuple[tuple[Mount, ...], str | None]:
    """All in order, and ``linux.rootfsPropagation``, which lets events of mounts through."""
    asked = list(_asked(document, host))
    config.part("Volumes").names()
    _binds(host, asked)
    host.leave("VolumeDriver", "the volumes are where Mounts says")
    host.known("VolumesFrom")  # resolved in Mounts
    taken = {mount.destination for mount in asked}
    asked += _files(document, host, taken)
    if host.text("IpcMode") == "host" and "/dev/shm" not in taken:
        asked.append(Mount("/dev/shm", "bind", "/dev/shm", ("rbind", "rprivate")))
    asked.sort(key=lambda mount: _depth(mount.destination))
    taken = {mount.destination for mount in asked}
    defaults = [mount for mount in _defaults(host) if not _is_covered(mount.destination, taken)]
    return (*defaults, *asked), _propagation(asked)


def _depth(path: str) -> int:
    return len([name for name in path.split("/") if name])


def _is_covered(destination: str, taken: set[str]) -> bool:
    return destination in taken or ("/dev" in taken and destination.startswith("/dev/"))


def _defaults(host: Part) -> Iterator[Mount]:
    """moby, oci/defaults.go; in order of OCI's own examples, which show cgroups last."""
    privileged = host.boolean("Privileged")
    readonly = host.boolean("ReadonlyRootfs")
    kernels = () if privileged else ("ro",)
    yield Mount("/proc", "proc", "proc", QUIET)
    yield Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k"))
    yield Mount(
        "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    )
    sys = kernels or (("ro",) if readonly and not privileged else ())
    yield Mount("/sys", "sysfs", "sysfs", (*QUIET, *sys))
    yield Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*kernels, *QUIET))
    yield Mount("/dev/mqueue", "mqueue", "mqueue", QUIET)
    size = host.positive("ShmSize") or SHM_SIZE
    if host.text("IpcMode") != "none":
        yield Mount("/dev/shm", "tmpfs", "shm", (*QUIET, "mode=1777", f"size={size}"))


@frozen
class Details:
    """What ``HostConfig.Mounts`` says of one that ``Mounts`` does not."""

    recursive: bool = True
    readonly_below: bool = True
    """Read-only reaches the mounts below, which Docker does since 25.0 unless it is told not to."""
    tmpfs: tuple[str, ...] = ()


def _asked(document: Part, host: Part) -> Iterator[Mount]:
    details = dict(_details(host))
    seen: set[str] = set()
    for part in document.parts("Mounts"):
        type_, target = part.text("Type"), _destination(part, "Destination")
        part.known("Name", "Driver", "Mode")  # the mode is in the members beside it
        writable, propagation, source = part.boolean("RW"), part.text("Propagation"), part.text("Source")
        seen.add(target)
        found = details.get(target, Details())
        if type_ == "tmpfs":
            yield _tmpfs(target, found.tmpfs, writable)
        elif type_ in ("bind", "volume"):
            yield _bind(part, target, source, writable, propagation, found)
            if type_ == "volume":
                part.found.note(part.path, part.text("Name"), _VOLUME, became="a bind mount of where it is")
        else:
            part.found.note(part.path, type_, "only the daemon can mount this")
    for target, found in details.items():
        if target not in seen and found.tmpfs:
            yield _tmpfs(target, found.tmpfs, "ro" not in found.tmpfs)
    for target, options in host.words("Tmpfs").items():
        yield _tmpfs(target, tuple(filter(None, options.split(","))), writable=True)


_VOLUME: Final = "it stays Docker's, and is gone when Docker removes it"


def _destination(part: Part, name: str) -> str:
    path = part.text(name)
    if not path.startswith("/"):
        part.found.wrong(part.at(name), path, "must be an absolute path")
    return posixpath.normpath("/" + path.lstrip("/"))


def _bind(part: Part, target: str, source: str, writable: bool, propagation: str, details: Details) -> Mount:
    if not source.startswith("/"):
        part.found.wrong(part.at("Source"), source, "must be an absolute path")
    if propagation and propagation not in PROPAGATION:
        part.found.wrong(part.at("Propagation"), propagation, "is no propagation of mounts")
    access = () if writable else ("rro",) if details.recursive and details.readonly_below else ("ro",)
    words = (*access, *((propagation,) if propagation else ()))
    return Mount(target, "bind", source, ("rbind" if details.recursive else "bind", *words))


def _tmpfs(target: str, options: tuple[str, ...], writable: bool) -> Mount:
    """Options that are given go before the default ones, which they may undo; nothing is sent out of the container."""
    access = () if writable or "ro" in options else ("ro",)
    return Mount(
        posixpath.normpath("/" + target.lstrip("/")), "tmpfs", "tmpfs", (*QUIET, "rprivate", *options, *access)
    )


def _details(host: Part) -> Iterator[tuple[str, Details]]:
    for part in host.parts("Mounts"):
        part.known("Type", "Source", "Consistency", "ReadOnly")
        bind, volume, tmpfs = part.part("BindOptions"), part.part("VolumeOptions"), part.part("TmpfsOptions")
        part.part("ImageOptions").names()
        part.part("ClusterOptions").names()
        bind.known("Propagation", "CreateMountpoint", "ReadOnlyForceRecursive")
        volume.names()
        volume.part("Labels").names()
        volume.part("DriverConfig").names()
        yield (
            _destination(part, "Target"),
            Details(
                recursive=not bind.boolean("NonRecursive"),
                readonly_below=not bind.boolean("ReadOnlyNonRecursive"),
                tmpfs=tuple(_tmpfs_options(part, tmpfs)) if part.text("Type") == "tmpfs" else (),
            ),
        )


def _tmpfs_options(part: Part, tmpfs: Part) -> Iterator[str]:
    mode, size = tmpfs.integer("Mode"), tmpfs.positive("SizeBytes")
    if part.boolean("ReadOnly"):
        yield "ro"
    if mode > 0:
        yield f"mode={mode & 0o7777:o}"
    if size is not None:
        yield f"size={size}"
    options = tmpfs.raw("Options")
    for index, option in enumerate(options if isinstance(options, list) else []):
        words = [word for word in option if isinstance(word, str)] if isinstance(option, list) else []
        if not words or len(words) > 2:
            tmpfs.found.wrong(f"{tmpfs.at('Options')}[{index}]", option, "must be a name, or a name and a value")
            continue
        yield "=".join(words)


def _binds(host: Part, asked: list[Mount]) -> None:
    """Those that ``Mounts`` has not taken in: somebody has written this document."""
    known = {mount.destination for mount in asked}
    for place, text in host.numbered("Binds"):
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        words = [word for word in mode.split(",") if word]
        if not target.startswith("/"):
            host.found.wrong(place, text, "must have the form SOURCE:DESTINATION or SOURCE:DESTINATION:MODE")
        elif posixpath.normpath(target) in known:
            continue
        elif not source.startswith("/"):
            host.found.note(place, text, "where Docker keeps this volume is not told in Mounts")
        else:
            propagation = next((word for word in words if word in PROPAGATION), "rprivate")
            access = ("rro",) if "ro" in words else ()
            asked.append(Mount(posixpath.normpath(target), "bind", source, ("rbind", *access, propagation)))


def _files(document: Part, host: Part, taken: set[str]) -> Iterator[Mount]:
    """Three files that the daemon keeps for each container, once it has been started."""
    access = ("ro",) if host.boolean("ReadonlyRootfs") else ()
    for name, target in FILES.items():
        source = document.text(name)
        if source and target not in taken:
            document.found.note(name, source, "it is Docker's own file, gone with its container", became="a bind mount")
            yield Mount(target, "bind", source, ("rbind", *access, "rprivate"))
        for member in IN_FILES.get(name, ()):
            if source:
                host.known(member)
            else:
                host.leave(member, f"Docker writes it into {target}, and has not yet")


def _propagation(asked: list[Mount]) -> str | None:
    words = {option for mount in asked for option in mount.options}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} else None
