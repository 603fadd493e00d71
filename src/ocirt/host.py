"""What the kernel and the caller can do, as a value: the planning functions ask it and never the system."""

from __future__ import annotations

import functools
import os
import pwd
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from ocirt.spec import IDMapping

CAP_SYS_ADMIN = 21
KERNEL_FLOOR = (5, 12)
"""mount_setattr(2) is the youngest of the calls that ocirt cannot do without."""

NAMESPACE_FILES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
"""Types of OCI and their names below ``/proc/PID/ns`` (namespaces(7))."""

TRUSTED_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def trusted(tool: str) -> str | None:
    """A program's path, wherever the caller's PATH leads."""
    paths = (f"{directory}/{tool}" for directory in TRUSTED_PATH.split(":"))
    return next((path for path in paths if os.access(path, os.X_OK)), None)


@frozen
class Host:
    """The kernel and the calling user."""

    kernel: tuple[int, int] = KERNEL_FLOOR
    euid: int = 0
    egid: int = 0
    privileged: bool = True
    """CAP_SYS_ADMIN is at hand, so no user namespace is needed."""
    capabilities: int = (1 << 41) - 1
    """Those that the caller can hand on (bit N is capability N)."""
    last_capability: int = 40
    in_user_namespace: bool = False
    namespaces: frozenset[str] = frozenset(NAMESPACE_FILES)
    """The types that this kernel has."""
    user_namespaces: bool = True
    """The caller may create one."""
    subordinate_uids: tuple[range, ...] = ()
    subordinate_gids: tuple[range, ...] = ()
    has_newuidmap: bool = False
    setgroups: bool = True
    """setgroups(2) is open in the caller's user namespace, and so may be in those below."""
    apparmor: bool = False
    selinux: bool = False

    @property
    def rootless(self) -> bool:
        """What belongs to the machine as a whole, such as its cgroups, is not the caller's."""
        return not self.privileged or self.in_user_namespace

    @staticmethod
    def probe() -> Host:
        """This machine and this user.

        :raises UnsupportedError: the kernel is too old.
        """
        return _probe(os.geteuid(), os.getegid())

    @staticmethod
    def maps_itself(mappings: Sequence[IDMapping], own: int) -> bool:
        """Just the one mapping that every user may write without help (user_namespaces(7))."""
        return len(mappings) == 1 and mappings[0].size == 1 and mappings[0].host_id == own


@functools.cache
def _probe(euid: int, egid: int) -> Host:
    release = os.uname().release.split(".")
    kernel = (int(release[0]), int("".join(char for char in release[1] if char.isdigit())))
    if kernel < KERNEL_FLOOR:
        raise UnsupportedError("host", f"Linux {kernel[0]}.{kernel[1]} is too old: ocirt needs 5.12 or later")
    capabilities = _effective_capabilities()
    privileged = bool(capabilities >> CAP_SYS_ADMIN & 1)
    return Host(
        kernel,
        euid,
        egid,
        privileged,
        capabilities,
        int(_read("/proc/sys/kernel/cap_last_cap") or 40),
        _read("/proc/self/uid_map").split() != ["0", "0", "4294967295"],
        frozenset(type_ for type_, name in NAMESPACE_FILES.items() if os.path.lexists(f"/proc/self/ns/{name}")),
        _may_create_user_namespaces(privileged),
        tuple(_subordinate("/etc/subuid", euid)),
        tuple(_subordinate("/etc/subgid", euid)),
        all(map(trusted, ("newuidmap", "newgidmap"))),
        _read("/proc/self/setgroups").strip() != "deny",
        _read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        _has_selinux(),
    )


def _has_selinux() -> bool:
    """As libselinux finds out; ``kernel`` is everybody's label as long as no policy is loaded."""
    label = _read("/proc/thread-self/attr/current").rstrip("\0\n")
    return os.path.exists("/sys/fs/selinux/enforce") and label not in ("", "kernel")


def _effective_capabilities() -> int:
    for line in _read("/proc/thread-self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _may_create_user_namespaces(privileged: bool) -> bool:
    """One sysctl of the kernel, one that Debian and Arch add for ordinary users."""
    if int(_read("/proc/sys/user/max_user_namespaces") or 0) == 0:
        return False
    return privileged or _read("/proc/sys/kernel/unprivileged_userns_clone").strip() != "0"


def _subordinate(path: str, uid: int) -> Iterator[range]:
    """subuid(5): ``name-or-number:first:count``."""
    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    for line in _read(path).splitlines():
        name, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if name in names and first.isdigit() and count.isdigit():
            yield range(int(first), int(first) + int(count))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
