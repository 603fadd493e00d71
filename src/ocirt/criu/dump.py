"""Write a container's processes to files (a checkpoint).

What they have of the host's is named instead of written: bind mounts, namespaces that were joined, pipes that lead out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
from collections.abc import Iterator
from typing import Final

from ocirt.criu import external
from ocirt.criu.messages import Field, Option, Request
from ocirt.criu.options import (
    DESCRIPTORS,
    Common,
    Path,
    check_privileges,
    common,
    config_file,
    places,
)
from ocirt.criu.program import Conversation, Criu, Notification, make_directory
from ocirt.errors import UnsupportedError
from ocirt.seccomp import notifies, profile_of
from ocirt.spec import Linux, Spec
from ocirt.state import Record

LOG: Final = "dump.log"
EXTERNAL_NAMESPACES: Final = {"network": ("net", "extRootNetNS", 31100), "pid": ("pid", "extRootPidNS", 31500)}
"""Those that can be named instead of written: CRIU's word, runc's name for it, and CRIU's first such version."""

FREEZE_V2_SINCE: Final = 31400
MEM_TRACK: Final = 1
LAZY_PAGES: Final = 2


class DumpOptions(Common, total=False):
    """What ``Container.checkpoint`` takes besides the path."""

    leave_running: bool
    pre_dump: bool
    parent_path: Path | None
    tcp_skip_in_flight: bool
    link_remap: bool
    page_server: tuple[str, int] | None
    status_fd: int | None


def dump(record: Record, document: Spec, path: str, options: DumpOptions) -> None:
    """:raises UnsupportedError: CRIU, the kernel or the caller cannot do that.

    :raises CriuError: it failed, and the processes go on as they were.
    """
    check_privileges("checkpoint")
    profile = profile_of(document.linux)
    if profile is not None and notifies(profile):
        raise UnsupportedError("linux.seccomp", "an agent's filter (SCMP_ACT_NOTIFY) cannot be written by CRIU")
    criu = Criu.find(options.get("criu"))
    version = criu.version()
    with contextlib.ExitStack() as stack:
        fields = [*common(options, criu), *config_file(document.annotations), *_iteration(path, options, criu)]
        fields += _lazily(options, criu)
        make_directory(path)
        where, log = places(path, options.get("work_path"), LOG, stack)
        fields += [*where, (Option.PID, record.pid)]
        fields += _freezer(record, version)
        fields += _namespaces(document.linux or Linux(), version)
        if not options.get("pre_dump"):
            told = external.at_dump(document, record.bundle, record.cgroup, record.pid)
            fields += [(Option.EXTERNAL, entry) for entry in told]
            _write_descriptors(path, record)
        request = Request.PRE_DUMP if options.get("pre_dump") else Request.DUMP
        conversation = stack.enter_context(Conversation.begin([criu.path]))
        conversation.log = log
        conversation.ask(request, [(2, fields)], _Ready(options.get("status_fd")))
    _show_to_root(path, document.linux or Linux())


def _show_to_root(path: str, linux: Linux) -> None:
    """To be restored, root of the container's user namespace has to read the image; it may not change it."""
    creates = any(entry.type == "user" and not entry.path for entry in linux.namespaces)
    group = next((entry.host_id for entry in linux.gid_mappings if entry.container_id == 0), None)
    if not creates or group is None:
        return
    for name in os.listdir(path):
        file = os.path.join(path, name)
        if name.endswith(".img") and not os.path.islink(file):
            os.chown(file, -1, group)
            os.chmod(file, 0o640)
    os.chown(path, -1, group)
    os.chmod(path, 0o710)


class _Ready:
    """Tells whoever waits for a page server that it is one (--status-fd)."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def __call__(self, notification: Notification) -> None:
        if notification.script == "status-ready" and self._fd is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(self._fd, b"\0")
            os.close(self._fd)
            self._fd = None


def _iteration(path: str, options: DumpOptions, criu: Criu) -> Iterator[Field]:
    """One of several dumps, each with what has changed since the one before."""
    if options.get("pre_dump"):
        criu.need_feature(MEM_TRACK, "MemTrack", "pre_dump")
    parent = options.get("parent_path")
    if not parent:
        return
    relative = os.fspath(parent)
    if os.path.isabs(relative):
        raise UnsupportedError("parent_path", f"{relative} must be relative to the image path, as CRIU keeps it so")
    if not os.path.isdir(_below(path, relative)):
        raise UnsupportedError("parent_path", f"{relative} is no directory, seen from {path}")
    yield Option.PARENT_IMG, relative
    yield Option.TRACK_MEM, True


def _below(path: str, relative: str) -> str:
    """Also where ``path`` is yet to be made."""
    return os.path.join(path, relative) if os.path.isdir(path) else os.path.normpath(os.path.join(path, relative))


def _lazily(options: DumpOptions, criu: Criu) -> Iterator[Field]:
    """Memory that is sent when the restored container asks for it, or to another machine."""
    status = options.get("status_fd")
    if status is not None:
        try:
            mode = fcntl.fcntl(status, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError as error:
            raise UnsupportedError("status_fd", f"invalid --status-fd argument {status}: {error.strerror}") from error
        if mode == os.O_RDONLY:
            raise UnsupportedError("status_fd", f"invalid --status-fd argument {status}: not writable")
    if options.get("lazy_pages"):
        criu.need_feature(LAZY_PAGES, "LazyPages", "lazy_pages")
    if (server := options.get("page_server")) is not None:
        yield Option.PS, [(1, server[0]), (2, server[1])]


def _freezer(record: Record, version: int) -> Iterator[Field]:
    """Without one CRIU stops one process after the other, and a quick one may escape it."""
    file, _, _ = record.cgroup.freezer()
    if file is not None and (version >= FREEZE_V2_SINCE or file.endswith("freezer.state")):
        yield Option.FREEZE_CGROUP, posixpath.dirname(file)


def _namespaces(linux: Linux, version: int) -> Iterator[Field]:
    for index, namespace in enumerate(linux.namespaces):
        if not namespace.path or namespace.type not in EXTERNAL_NAMESPACES:
            continue
        word, name, since = EXTERNAL_NAMESPACES[namespace.type]
        if version < since:
            raise UnsupportedError(
                f"linux.namespaces[{index}]", f"criu lacks support for external {namespace.type} namespace"
            )
        yield Option.EXTERNAL, f"{word}[{os.stat(namespace.path).st_ino}]:{name}"


def _write_descriptors(path: str, record: Record) -> None:
    """What the streams are: whoever restores puts its own pipes in the place of those that led out of the container."""
    fd = os.open(os.path.join(path, DESCRIPTORS), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(descriptors(record)).encode())
    finally:
        os.close(fd)


def descriptors(record: Record) -> list[str]:
    """Of init's streams, what readlink(2) says of those that are open; a pipe within the container is none of them."""
    inside = _ends(set(record.cgroup.processes()) | {record.pid})
    found = []
    for number in range(3):
        try:
            target = os.readlink(f"/proc/{record.pid}/fd/{number}")
        except OSError:
            target = "closed"
        found.append("internal" if target.startswith("pipe:") and len(inside.get(target, ())) > 1 else target)
    return found


def _ends(pids: set[int]) -> dict[str, set[str]]:
    """Which ends of which pipes these processes hold."""
    found: dict[str, set[str]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{name}")
                    if target.startswith("pipe:"):
                        found.setdefault(target, set()).add(_direction(pid, name))
    return found


def _direction(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
        flags = next(line.split()[1] for line in file if line.startswith("flags:"))
    return "write" if int(flags, 8) & os.O_ACCMODE else "read"
