"""Install ID mappings in a new user namespace (user_namespaces(7), newuidmap(1)), also where they are all that is
wanted of it (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocirt.errors import SetupError
from ocirt.host import Host, trusted
from ocirt.launch import Launch, Prepared, launch
from ocirt.plan import Plan
from ocirt.plan.ops import CLONE_NEW, Clone, Purpose, Sync
from ocirt.wire import SyncRequested

if TYPE_CHECKING:
    from ocirt.plan.context import MappedUserNamespace
    from ocirt.spec import IDMapping, Linux

TIMEOUT = 10.0
"""Seconds that a set-user-ID helper may take."""


def install(pid: int, linux: Linux, host: Host) -> None:
    """Write both maps for the process that is alone in its new user namespace.

    :raises SetupError: at ``linux.uidMappings`` or ``linux.gidMappings``.
    """
    if not host.privileged and host.maps_itself(linux.gid_mappings, host.egid):
        # The kernel's price for a map without privilege: no group can be dropped, since that could grant access.
        _write(pid, "setgroups", "deny", "linux.gidMappings")
    _install(pid, "gid", linux.gid_mappings, host, host.egid)
    _install(pid, "uid", linux.uid_mappings, host, host.euid)


def _install(pid: int, kind: str, mappings: Sequence[IDMapping], host: Host, own: int) -> None:
    origin = f"linux.{kind}Mappings"
    if host.privileged or host.maps_itself(mappings, own):
        _write(pid, f"{kind}_map", _lines(mappings), origin)
        return
    numbers = [str(number) for entry in mappings for number in (entry.container_id, entry.host_id, entry.size)]
    import subprocess

    tool = trusted(f"new{kind}map") or f"new{kind}map"
    try:
        result = subprocess.run(
            [tool, str(pid), *numbers],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(origin, "WriteIDMaps", tool, getattr(error, "errno", 0) or 0, str(error)) from error
    if result.returncode:
        raise SetupError(origin, "WriteIDMaps", tool, 0, result.stderr.strip())


def namespace(wanted: MappedUserNamespace) -> int:
    """A user namespace as an open file, which alone keeps it in being.

    Somebody has to be born into it, and to be there while its maps are written; nobody stays.
    """
    plan = Plan((Clone(CLONE_NEW["user"], origin=wanted.origin), Sync(Purpose.ID_MAPS, origin=wanted.origin)))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        launched = launch(Prepared.of(plan), (), (null, null, null))
    finally:
        os.close(null)
    try:
        return _mapped(launched, wanted)
    finally:
        launched.abort()


def _mapped(launched: Launch, wanted: MappedUserNamespace) -> int:
    for event in launched.heard():
        if event == SyncRequested(Purpose.ID_MAPS, index=event.index):
            _write(launched.pid, "gid_map", _lines(wanted.gid_mappings), wanted.origin)
            _write(launched.pid, "uid_map", _lines(wanted.uid_mappings), wanted.origin)
            return os.open(f"/proc/{launched.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    raise launched.died()


def _lines(mappings: Sequence[IDMapping]) -> str:
    return "".join(f"{entry.container_id} {entry.host_id} {entry.size}\n" for entry in mappings)


def _write(pid: int, file: str, text: str, origin: str) -> None:
    try:
        fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(origin, "WriteIDMaps", f"write {file}", error.errno or 0, text.strip()) from error
