"""This host's own files as a container's root filesystem: what of them is shown, and what of that is hidden again.

What is shown is a list, so that a directory nobody has thought of stays private. The names are those of installed
software and its configuration; data, homes, sockets and logs are elsewhere (hier(7)).
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from ocirt.bundle import appearing
from ocirt.spec import Mount, Root, Spec

SHOWN: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "gnu")
"""Names at the top of the host's root; the last two are where NixOS and Guix keep all software."""

CONFIGURATION: Final = "/etc"
FRESH: Final = (("home", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777))
"""What every program expects to find besides, with its mode (hier(7))."""

ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@functools.cache
def secrets() -> tuple[str, ...]:
    """Configuration that not every user of this host may read: password hashes, private keys.

    A container's root would be able to where the caller is root. Looked up once in the life of a process, since it
    takes some milliseconds; the paths hide whatever they lead to by then.
    """
    return tuple(sorted(_closed(CONFIGURATION)))


def _closed(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                continue
            if not mode & stat.S_IROTH:
                yield entry.path
            elif stat.S_ISDIR(mode):
                yield from _closed(entry.path)


def submounts(table: str | None = None) -> tuple[Mount, ...]:
    """What overlayfs leaves out: other filesystems that are mounted on or below what is shown, to be bound read-only.

    :param table: in the form of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)), which it is by default.
    """
    if table is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            table = file.read()
    found: list[str] = []
    for path in sorted(set(_mount_points(table))):
        if not any(path == outer or path.startswith(f"{outer}/") for outer in found):
            found.append(path)
    return tuple(Mount(path, "none", path, ("rbind", "rro", "nosuid", "nodev")) for path in found)


def full_views(table: str | None = None) -> tuple[str, ...]:
    """Where all of procfs or sysfs is mounted, the last first, as it may lie on others."""
    if table is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            table = file.read()
    found: list[str] = []
    for line in table.splitlines():
        fields = line.split(" ")
        type_ = fields[fields.index("-") + 1]
        if type_ in ("proc", "sysfs") and fields[3] == "/":
            found.append(_unescaped(fields[4]))
    return tuple(reversed(found))


def _unescaped(path: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), path)


def _mount_points(table: str) -> Iterator[str]:
    for line in table.splitlines():
        point = line.split(" ", 5)[4]
        if point.split("/", 2)[1] in SHOWN:
            yield _unescaped(point)


def make_bundle(path: str, document: Spec, args: Sequence[str]) -> None:
    """A bundle whose root filesystem is empty but for the places where the host's directories are bound.

    The directories below may have mounts of their own, and so whole trees are bound, which makes ``submounts``
    superfluous.
    """
    process = document.process
    assert process is not None
    with appearing(path) as place:
        bound = tuple(_rootfs(os.path.join(place, "rootfs")))
        shown = tuple(Mount(name, "none", name, ("rbind", "rro", "rnosuid", "rnodev")) for name in bound)
        own = tuple(mount for mount in document.mounts if not mount.options or mount.options[0] != "rbind")
        made = document.evolve(root=Root("rootfs"), mounts=(*shown, *own), process=process.evolve(args=args))
        made.dump(os.path.join(place, "config.json"))


def _rootfs(rootfs: str) -> Iterator[str]:
    """Make it; gives the directories of the host that are to be bound. Links of a merged /usr are made again."""
    os.mkdir(rootfs, 0o755)
    for name, mode in FRESH:
        os.mkdir(f"{rootfs}/{name}")
        os.chmod(f"{rootfs}/{name}", mode)
    for name in SHOWN:
        source = f"/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), f"{rootfs}/{name}")
        elif os.path.isdir(source):
            os.mkdir(f"{rootfs}/{name}", 0o755)
            yield source
