"""What a file tree is: all that a layer can say of its files, read by descriptors and without following anything.

The tree is nobody's friend: a container had it. Each directory is opened beneath the root and without symbolic links
(openat2(2)), one at a time, so that its depth costs no descriptors. What is no regular file is never opened: a FIFO
would wait for a writer, and a device do whatever opening it does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from errno import ELOOP, ENODATA, ENOENT, ENOTDIR, ENOTSUP, EXDEV
from typing import Final, NamedTuple

from ocirt.archive import paths
from ocirt.archive.ownership import ROOTLESS_XATTR, Ownership
from ocirt.errors import ArchiveError

CHUNK: Final = 256 * 1024
"""Bytes of a file that are read at once."""

HOST_XATTRS: Final = frozenset(("security.selinux", "system.nfs4_acl", ROOTLESS_XATTR))
"""Of the host where a file lies, not of the file (umoci leaves them out too)."""

CAPABILITY_XATTR: Final = "security.capability"

OVERLAY_XATTRS: Final = ("trusted.overlay.", "user.overlay.")
"""What overlayfs notes about its own layers (the kernel's filesystems/overlayfs.rst)."""

MOUNTED: Final = "something is mounted there: unmount it, or leave its path out"

_FOUND: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""To look at something before it is opened, if it ever is."""


class Entry(NamedTuple):
    """One name in a tree, and what is said of it.

    Two entries with the same ``ino`` and ``ctime_ns`` at the same path have the same content: nobody but who sets the
    clock chooses the time of a change.
    """

    path: bytes
    """From the root, without a slash at its beginning; the root's is empty."""
    mode: int
    """With the type (inode(7))."""
    uid: int
    """The container's, as ``gid``."""
    gid: int
    size: int
    """Of a regular file, otherwise 0."""
    mtime_ns: int
    link: bytes
    """Where a symbolic link leads."""
    rdev: int
    """Which device it stands for; -1 if nobody knows."""
    xattrs: tuple[tuple[bytes, bytes], ...]
    """Sorted, without the host's own."""
    nlink: int
    ino: int
    """0 in a record of another tool, which keeps no inode numbers; its times are in seconds."""
    ctime_ns: int
    digest: bytes | None = None
    """SHA-256 of the content, where somebody has read it."""
    dev: int = 0

    @property
    def name(self) -> str:
        """The path for people."""
        return os.fsdecode(self.path) or "."

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)


def order(path: bytes) -> bytes:
    """What paths are sorted by: a directory, what is in it, and only then its neighbours.

    NUL is no byte of a name, and less than all others; as text, ``a.b`` would come between ``a`` and ``a/b``.
    """
    return path.replace(b"/", b"\0")


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def is_below(path: bytes, roots: Collection[bytes]) -> bool:
    """Whether ``path`` is one of these or beneath one."""
    while path not in roots:
        if not path:
            return False
        path = parent(path)
    return True


def no_overlay_xattrs(name: str) -> bool:
    """Whether an attribute belongs into a layer."""
    return name not in HOST_XATTRS and not name.startswith(OVERLAY_XATTRS)


def no_host_xattrs(name: str) -> bool:
    """The same, with what overlayfs says."""
    return name not in HOST_XATTRS


class Walk:
    """A tree's entries: the root, and each directory before what is in it, in ``order``.

    :raises ArchiveError: it changed meanwhile, or something is mounted in it, and not ``masked``: what lies below a
        mount point nobody can see, and what is mounted there is not the tree's.
    """

    def __init__(
        self,
        root: int,
        ownership: Ownership,
        *,
        masked: Collection[bytes] = (),
        across_mounts: bool = False,
        xattrs: Callable[[str], bool] = no_overlay_xattrs,
    ) -> None:
        self._root = root
        self._ownership = ownership
        self._masked = frozenset(masked)
        self._across_mounts = across_mounts
        self._wanted_xattr = xattrs
        self._owners: dict[tuple[int, int, bytes | None], tuple[int, int]] = {}

    def __iter__(self) -> Iterator[Entry]:
        found = self._entry(b"", os.fstat(self._root), b"/proc/self/fd/%d" % self._root, -1)
        yield found
        pending = [iter(self._listed(found))]
        while pending:
            entry = next(pending[-1], None)
            if entry is None:
                pending.pop()
                continue
            yield entry
            if stat.S_ISDIR(entry.mode):
                pending.append(iter(self._listed(entry)))

    def _listed(self, directory: Entry) -> list[Entry]:
        """What is in a directory, sorted."""
        prefix = directory.path + b"/" if directory.path else b""
        try:
            with opened(self._root, directory, across_mounts=self._across_mounts) as fd:
                here = b"/proc/self/fd/%d/" % fd
                names = sorted(os.listdir(here))
                if self._masked:
                    names = [name for name in names if prefix + name not in self._masked]
                return [
                    self._entry(
                        prefix + name, os.stat(name, dir_fd=fd, follow_symlinks=False), here + name, fd, name=name
                    )
                    for name in names
                ]
        except FileNotFoundError as error:
            raise changed(directory.path) from error
        except OSError as error:
            raise unreadable(directory.path, error) from error

    def _entry(self, path: bytes, status: os.stat_result, where: bytes, fd: int, *, name: bytes = b"") -> Entry:
        mode = status.st_mode
        xattrs, owner_xattr = self._xattrs(path, where)
        kind = stat.S_IFMT(mode)
        link = os.readlink(name, dir_fd=fd) if kind == stat.S_IFLNK else b""
        key = status.st_uid, status.st_gid, owner_xattr
        owner = self._owners.get(key)
        if owner is None:
            owner = self._ownership.container_ids(status, owner_xattr, os.fsdecode(path))
            self._owners[key] = owner
        return Entry(
            path,
            mode,
            owner[0],
            owner[1],
            status.st_size if kind == stat.S_IFREG else 0,
            status.st_mtime_ns,
            link,
            status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
            xattrs,
            status.st_nlink if kind != stat.S_IFDIR else 1,
            status.st_ino,
            status.st_ctime_ns,
            None,
            status.st_dev,
        )

    def _of_any_host(self, capabilities: bytes) -> bytes:
        """Capabilities of a file as they are where IDs are not mapped.

        The kernel notes with them whose root gave them, by its host ID (capabilities(7), File capability versioning).
        """
        if len(capabilities) != 24 or capabilities[3] != 3:
            return capabilities
        root_id = int.from_bytes(capabilities[20:], "little")
        if root_id != self._ownership.host_ids(0, 0)[0]:
            return capabilities
        return capabilities[:3] + b"\2" + capabilities[4:20]

    def _xattrs(self, path: bytes, where: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], bytes | None]:
        """A file's attributes, and the one that holds its owner. No attribute's reading opens the file."""
        follow = not path  # the root is a descriptor: the last component of its path leads to it
        try:
            names = os.listxattr(where, follow_symlinks=follow)
        except OSError as error:
            if error.errno == ENOTSUP:
                return (), None
            raise
        if not names:
            return (), None
        kept: list[tuple[bytes, bytes]] = []
        owner = None
        for name in sorted(names):
            if name != ROOTLESS_XATTR and not self._wanted_xattr(name):
                continue
            try:
                value = os.getxattr(where, name, follow_symlinks=follow)
            except OSError as error:
                if error.errno == ENODATA:
                    raise changed(path) from error
                raise
            if name == ROOTLESS_XATTR:
                owner = value
                continue
            if name == CAPABILITY_XATTR:
                value = self._of_any_host(value)
            kept.append((os.fsencode(name), value))
        return tuple(kept), owner


@contextmanager
def opened(root: int, entry: Entry, *, across_mounts: bool = False) -> Iterator[int]:
    """An entry of the tree, if it still is what it was: a directory, or a regular file to be read.

    It is looked at before it is opened for good. An ordinary user's own may be closed to their owner (``chmod 000``):
    they are open for this long.
    """
    with ExitStack() as after:
        fd = _beneath(root, entry.path, across_mounts)
        after.callback(os.close, fd)
        status = os.fstat(fd)
        found = status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)
        if found != (entry.dev, entry.ino, stat.S_IFMT(entry.mode)):
            raise changed(entry.path)
        needed = 0o500 if entry.is_directory else 0o400
        if status.st_mode & needed != needed and status.st_uid == os.geteuid() != 0:
            after.enter_context(_permitted(fd, needed))
        try:
            reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(entry.path, error) from error
        after.callback(os.close, reader)
        yield reader


def contents(root: int, entry: Entry, *, across_mounts: bool = False) -> Iterator[bytes]:
    """What a regular file holds, piece by piece: exactly its size.

    :raises ArchiveError: it is no longer what it was, or became so while it was read.
    """
    with opened(root, entry, across_mounts=across_mounts) as fd:
        before = os.fstat(fd)
        same = before.st_ctime_ns == entry.ctime_ns or not entry.mode & stat.S_IRUSR  # ``opened`` changed its mode
        if not same or (before.st_size, before.st_mtime_ns) != (entry.size, entry.mtime_ns):
            raise changed(entry.path)
        left = entry.size
        while left:
            data = os.read(fd, min(left, CHUNK))
            if not data:
                raise changed(entry.path)
            left -= len(data)
            yield data
        after = os.fstat(fd)
        if (after.st_size, after.st_ctime_ns) != (before.st_size, before.st_ctime_ns):
            raise changed(entry.path)


def _beneath(root: int, path: bytes, across_mounts: bool) -> int:
    """An O_PATH descriptor of what is there, by directories that are none of a symbolic link's or another mount."""
    resolve = paths.SINGLE & ~paths.NO_XDEV if across_mounts else paths.SINGLE
    try:
        try:
            return paths.openat2(root, os.fsdecode(path) or ".", _FOUND, resolve)
        except PermissionError:
            return _step_by_step(root, path, resolve)
    except OSError as error:
        if error.errno == EXDEV:
            raise ArchiveError(os.fsdecode(path), MOUNTED) from error
        if error.errno in (ENOENT, ENOTDIR, ELOOP):
            raise changed(path) from error
        raise unreadable(path, error) from error


def _step_by_step(root: int, path: bytes, resolve: int) -> int:
    """The same through directories of ours that are closed to us, each opened up for one step."""
    fd = os.dup(root)
    try:
        for name in path.split(b"/"):
            inside = _step(fd, os.fsdecode(name), resolve)
            os.close(fd)
            fd = inside
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(fd: int, name: str, resolve: int) -> int:
    try:
        return paths.openat2(fd, name, _FOUND, resolve)
    except PermissionError:
        if os.fstat(fd).st_uid != os.geteuid():
            raise
    with _permitted(fd, 0o100):
        return paths.openat2(fd, name, _FOUND, resolve)


@contextmanager
def _permitted(fd: int, bits: int) -> Iterator[None]:
    """A file of ours with more permissions for its owner. chmod(2) takes what O_PATH found only by its link."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    os.chmod(f"/proc/self/fd/{fd}", mode | bits)
    try:
        yield
    finally:
        os.chmod(f"/proc/self/fd/{fd}", mode)


def unreadable(path: bytes, error: OSError) -> ArchiveError:
    return ArchiveError(os.fsdecode(path) or ".", f"cannot be read: {error.strerror}")


def changed(path: bytes) -> ArchiveError:
    return ArchiveError(os.fsdecode(path) or ".", "changed while it was read: stop what uses the tree, and try again")
