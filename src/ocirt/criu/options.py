"""What may be said of a checkpoint, in the words of runc's command line, and what follows from it for CRIU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypedDict

from ocirt.criu.messages import Field, Option
from ocirt.criu.program import Criu, make_directory, open_directory
from ocirt.errors import BundleError, UnsupportedError
from ocirt.host import Host

Path = str | os.PathLike[str]
CgroupsMode = Literal["soft", "full", "strict", "ignore"]
NetworkLock = Literal["iptables", "nftables", "skip"]

DESCRIPTORS: Final = "descriptors.json"
"""In an image, as runc has it: what the standard streams were."""

CGROUPS_MODES: Final[Mapping[str, int]] = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
NETWORK_LOCKS: Final[Mapping[str, int]] = {"iptables": 1, "nftables": 2, "skip": 3}
SKIP_SINCE: Final = 31900
CLONE_NEWNET: Final = 0x40000000
CAP_CHECKPOINT_RESTORE: Final = 40
LOG_LEVEL: Final = 4

CONFIG: Final = "/etc/criu/runc.conf"
CONFIG_ANNOTATION: Final = "org.criu.config"


class Common(TypedDict, total=False):
    """Said of checkpoint and restore alike."""

    work_path: Path | None
    tcp_established: bool
    ext_unix_sk: bool
    shell_job: bool
    file_locks: bool
    manage_cgroups_mode: CgroupsMode | None
    empty_network: bool
    auto_dedup: bool
    lazy_pages: bool
    network_lock: NetworkLock | None
    criu: Path | None


SWITCHES: Final[Mapping[str, Option]] = {
    "leave_running": Option.LEAVE_RUNNING,
    "tcp_established": Option.TCP_ESTABLISHED,
    "tcp_skip_in_flight": Option.TCP_SKIP_IN_FLIGHT,
    "tcp_close": Option.TCP_CLOSE,
    "link_remap": Option.LINK_REMAP,
    "ext_unix_sk": Option.EXT_UNIX_SK,
    "shell_job": Option.SHELL_JOB,
    "file_locks": Option.FILE_LOCKS,
    "auto_dedup": Option.AUTO_DEDUP,
    "lazy_pages": Option.LAZY_PAGES,
}


def common(options: Mapping[str, object], criu: Criu) -> Iterator[Field]:
    """What goes to CRIU as it is.

    :raises UnsupportedError: a mode that it does not know.
    """
    for name, option in SWITCHES.items():
        if options.get(name):
            yield option, True
    mode = options.get("manage_cgroups_mode") or ""
    if mode not in CGROUPS_MODES:
        raise UnsupportedError("manage_cgroups_mode", "invalid manage-cgroups-mode value")
    yield Option.MANAGE_CGROUPS, True
    yield Option.MANAGE_CGROUPS_MODE, CGROUPS_MODES[str(mode)]
    if options.get("empty_network"):
        yield Option.EMPTY_NS, CLONE_NEWNET
    lock = options.get("network_lock")
    if lock is not None:
        if lock not in NETWORK_LOCKS:
            raise UnsupportedError("network_lock", "one of iptables, nftables and skip")
        if lock == "skip":
            criu.need_version(SKIP_SINCE, "network_lock")
        yield Option.NETWORK_LOCK, NETWORK_LOCKS[str(lock)]
    yield Option.LOG_LEVEL, LOG_LEVEL
    yield Option.NOTIFY_SCRIPTS, True
    yield Option.ORPHAN_PTS_MASTER, True


def config_file(annotations: Mapping[str, str]) -> Iterator[Field]:
    """A file of options for CRIU that go before ours (criu(8), Configuration files).

    :raises BundleError: config.json names one that is not there, which CRIU would pass over in silence.
    """
    wanted = annotations.get(CONFIG_ANNOTATION)
    if wanted is None and os.path.exists(CONFIG):
        yield Option.CONFIG_FILE, CONFIG
    if wanted:
        if not os.path.isfile(wanted):
            raise BundleError(f"annotations[{CONFIG_ANNOTATION}]", wanted, "is no file")
        yield Option.CONFIG_FILE, wanted


def check_privileges(operation: str) -> None:
    """:raises UnsupportedError: the kernel would not let CRIU do its work."""
    host = Host.probe()
    if not host.privileged and not host.capabilities >> CAP_CHECKPOINT_RESTORE & 1:
        raise UnsupportedError(
            operation, "CRIU needs root, or CAP_CHECKPOINT_RESTORE where a rootless container is concerned"
        )
    if host.in_user_namespace:
        raise UnsupportedError(operation, "CRIU does not work in a user namespace: it needs the host's root")


def places(
    images: str, work: Path | None, log: str, stack: contextlib.ExitStack, root: str = ""
) -> tuple[list[Field], str]:
    """Where CRIU reads or writes, and the path of its log there.

    :param root: as CRIU's mount namespace has it, because CRIU mounts something in the one that it works in.
    """
    fields: list[Field] = [(Option.IMAGES_DIR_FD, open_directory(root + images, stack)), (Option.LOG_FILE, log)]
    if work:
        directory = make_directory(os.path.abspath(work))
        fields.append((Option.WORK_DIR_FD, open_directory(root + directory, stack)))
        return fields, os.path.join(directory, log)
    return fields, os.path.join(images, log)
