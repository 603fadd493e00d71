"""What a configuration from elsewhere asks of a machine: who is in a root filesystem, and which devices there are.

The files of a root filesystem are an image's, perhaps an attacker's. They are looked at before they are opened, for a
FIFO would keep us waiting and a device might do something; and nobody's /etc/passwd is larger than a mebibyte.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import Final

from ocirt.archive.paths import WITHIN, openat2
from ocirt.spec import Device
from ocirt.spec.accounts import AccountError, Accounts
from ocirt.spec.imported import Machine

MOST: Final = 1 << 20

NO_DEVICES: Final = frozenset(("pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"))
"""Names in a /dev whose nodes belong to this host's mounts and terminals, not to its hardware."""


def here(rootfs: str | None = None) -> Machine:
    """This machine; users are those of ``rootfs``, or of whatever root filesystem a document names."""
    return Machine(
        architecture=os.uname().machine,
        devices=devices,
        accounts=_accounts_below if rootfs is None else lambda _: _accounts_below(rootfs),
    )


def accounts(rootfs: int) -> Accounts:
    """The users and groups of an open directory, read when somebody first needs them: it must stay open."""
    return Accounts(partial(_content, rootfs))


def _accounts_below(rootfs: str) -> Accounts:
    return Accounts(partial(_content_below, rootfs))


def _content_below(rootfs: str, path: str) -> bytes:
    try:
        root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AccountError(f"cannot be looked up: {rootfs}: {error.strerror}") from error
    try:
        return _content(root, path)
    finally:
        os.close(root)


def _content(root: int, path: str) -> bytes:
    """:raises AccountError: there is something else than a file of sensible size."""
    try:
        found = openat2(root, path, os.O_PATH | os.O_CLOEXEC, WITHIN)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise AccountError(f"cannot be looked up: {path} in the root filesystem: {error.strerror}") from error
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST:
            what = "has more than 1 MiB" if stat.S_ISREG(status.st_mode) else "is no ordinary file"
            raise AccountError(f"cannot be looked up: {path} in the root filesystem {what}")
        with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
            return _read(file.fileno(), path)
    except OSError as error:
        raise AccountError(f"cannot be looked up: {path} in the root filesystem: {error.strerror}") from error
    finally:
        os.close(found)


def _read(fd: int, path: str) -> bytes:
    """It may have grown since its size was asked."""
    data = b""
    while chunk := os.read(fd, MOST + 1 - len(data)):
        data += chunk
        if len(data) > MOST:
            raise AccountError(f"cannot be looked up: {path} in the root filesystem has more than 1 MiB")
    return data


def devices(path: str) -> tuple[Device, ...]:
    """The device node that ``path`` leads to, or those in the directory; none where there is nothing of the kind."""
    resolved = os.path.realpath(path)
    try:
        status = os.stat(resolved)
    except OSError:
        return ()
    if not stat.S_ISDIR(status.st_mode):
        found = _node(path, status)
        return () if found is None else (found,)
    return tuple(node for node in _nodes(resolved, path))


def _nodes(directory: str, shown: str) -> Iterator[Device]:
    """Without links, which lead to nodes that are found anyway."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in NO_DEVICES or entry.is_symlink():
                continue
            name = os.path.join(shown, entry.name)
            if entry.is_dir(follow_symlinks=False):
                yield from _nodes(entry.path, name)
            elif (node := _node(name, entry.stat(follow_symlinks=False))) is not None:
                yield node


def _node(path: str, status: os.stat_result) -> Device | None:
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = stat.S_IMODE(status.st_mode)
    return Device(kind, path, major, minor, file_mode=mode, uid=status.st_uid, gid=status.st_gid)
