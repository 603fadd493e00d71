"""A configuration of our own making, for a program that brings none: on this host's own files or any rootfs."""

from __future__ import annotations

from typing import Final, Literal

from attrs import frozen

from ocirt import host_files
from ocirt.host import TRUSTED_PATH, Host
from ocirt.spec import Capabilities, IDMapping, Linux, Mount, Namespace, Process, Root, Spec, User
from ocirt.spec.default import CAPABILITIES, MASKED_PATHS, READONLY_PATHS

Network = Literal["none", "host"]

ENVIRONMENT: Final = (f"PATH={TRUSTED_PATH}", "LANG=C.UTF-8")
"""Nothing of the caller's, which may hold keys; UTF-8, since that is how ``text`` reads what comes out."""

ISOLATED: Final = ("pid", "ipc", "uts", "mount", "cgroup")
HOSTNAME: Final = "ocirt"
GRANTED: Final = Capabilities(bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES)
"""Three, and none of them for whom root becomes later: no inheritable, no ambient ones."""

MOUNTS: Final = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
    Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777")),
)
"""No /sys: it tells of the host's hardware, and hardly a program needs it."""


@frozen
class Surroundings:
    """What decides such a configuration besides the caller's wishes."""

    network: Network
    namespaces: frozenset[str]
    """Those that this kernel has."""
    mapped: tuple[int, int] | None
    """An ordinary caller's uid and gid, the only ones there will be."""
    mounts: tuple[Mount, ...] = ()
    masked: tuple[str, ...] = ()

    @classmethod
    def here(cls, network: Network, *, whole: bool) -> Surroundings:
        """Of this machine and caller; ``whole`` is a rootfs that is shown as it is, else it is the host's files."""
        host = Host.probe()
        mapped = None if host.privileged else (host.euid, host.egid)
        if whole:
            return cls(network, host.namespaces, mapped)
        # In a user namespace nobody can read others' secrets, and whole trees of mounts are shown.
        if mapped or host.in_user_namespace:
            return cls(network, host.namespaces, mapped)
        return cls(network, host.namespaces, mapped, host_files.submounts(), host_files.secrets())

    def document(self, user: User) -> Spec:
        """The configuration, with a process that lacks its arguments."""
        wanted = [*ISOLATED, *(("network",) if self.network == "none" else ()), *(("user",) if self.mapped else ())]
        uid, gid = self.mapped or (0, 0)
        return Spec(
            root=Root("."),
            process=Process(cwd="/", env=ENVIRONMENT, user=user, capabilities=GRANTED, no_new_privileges=True),
            hostname=HOSTNAME,
            mounts=(*self.mounts, *MOUNTS),
            linux=Linux(
                namespaces=tuple(Namespace(type_) for type_ in wanted if type_ in self.namespaces),
                uid_mappings=(IDMapping(user.uid, uid, 1),) if self.mapped else (),
                gid_mappings=(IDMapping(user.gid, gid, 1),) if self.mapped else (),
                masked_paths=(*MASKED_PATHS, *self.masked),
                readonly_paths=READONLY_PATHS,
            ),
        )
