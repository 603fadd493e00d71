"""Install ID mappings in a new user namespace (user_namespaces(7), newuidmap(1))."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ocirt.errors import SetupError
from ocirt.host import TRUSTED_PATH, Host

if TYPE_CHECKING:
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
        text = "".join(f"{entry.container_id} {entry.host_id} {entry.size}\n" for entry in mappings)
        _write(pid, f"{kind}_map", text, origin)
        return
    numbers = [str(number) for entry in mappings for number in (entry.container_id, entry.host_id, entry.size)]
    tool = shutil.which(f"new{kind}map", path=TRUSTED_PATH) or f"new{kind}map"
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


def _write(pid: int, file: str, text: str, origin: str) -> None:
    try:
        fd = os.open(f"/proc/{pid}/{file}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(origin, "WriteIDMaps", f"write {file}", error.errno or 0, text.strip()) from error
