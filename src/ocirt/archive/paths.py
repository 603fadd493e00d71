"""Paths of a container, from a root that is open: whatever its symlinks say, they lead nowhere else.

The kernel resolves a directory's path once (openat2(2), RESOLVE_IN_ROOT), and from then on only its descriptor counts.
The last part of a member's path is never resolved: it is made, linked, removed or looked at in its open directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final, TypeAlias

from ocirt._native import lib

NO_XDEV: Final = 0x01
NO_MAGICLINKS: Final = 0x02
NO_SYMLINKS: Final = 0x04
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10
"""RESOLVE_* of linux/openat2.h."""

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
WITHIN: Final = IN_ROOT | NO_MAGICLINKS | NO_XDEV
"""Everything below the root but what is mounted there: that is not the tree's."""
SINGLE: Final = BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV
"""For one part of a path, which is to be what it is, and not the directory above."""

LINKS_MAX: Final = 40
"""As the kernel's own limit, path_resolution(7)."""

OPEN_MAX: Final = 64
"""Directories that stay open, of the 1024 descriptors that a process has."""

PATHS_MAX: Final = 1000
"""By which they are known."""


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2).

    :raises OSError: with ``path``.
    """
    fd = lib.ocirt_openat2(directory, os.fsencode(path), flags, resolve)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd


def clean(path: str) -> str:
    """A member's path without ``.``, ``..`` and what else is idle, relative to the root: ``..`` ends there."""
    if path[:1] not in ("/", ".") and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class Directory:
    """An open directory of the tree, and what is to be restored of it once we are done with it."""

    __slots__ = ("fd", "key", "mode", "paths", "times")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.key = (status.st_dev, status.st_ino)
        self.times = (status.st_atime_ns, status.st_mtime_ns)
        """What an entry is made in, or removed from, keeps its times (a layer says the times of what it changes)."""
        self.mode: int | None = None
        """Where its own permissions would have kept us out."""
        self.paths: list[str] = []

    def close(self) -> None:
        try:
            if self.mode is not None:
                os.fchmod(self.fd, self.mode)
            os.utime(self.fd, ns=self.times)
        finally:
            os.close(self.fd)


Make: TypeAlias = Callable[[Directory, str, str], Directory]
"""Makes what is missing, by its name in its parent; its path is given too."""


class Tree:
    """The directories below ``root``, an open one, of which the last used stay open.

    ``careful`` is for ordinary users, whose own files' permissions hold for them: a directory that they cannot work in
    is opened up meanwhile.
    """

    def __init__(self, root: int, *, careful: bool = False) -> None:
        self.careful = careful
        self._by_path: dict[str, Directory] = {}
        self._by_key: dict[tuple[int, int], Directory] = {}
        self._dropped: list[Directory] = []
        self._held: list[Directory] = []
        self._last_path = ""
        self._last: Directory | None = None
        self.root = self._new(openat2(root, ".", DIRECTORY, SINGLE))

    def directory(self, path: str, make: Make | None = None) -> Directory:
        """The directory at a clean path, open until ``tidy``. ``make`` makes a missing one.

        :raises FileNotFoundError: it is missing, and is not to be made.
        :raises NotADirectoryError: something else stands there, or on the way.
        """
        found = self._last if path == self._last_path else None
        if found is None:
            found = self.root if not path else self._by_path.get(path)
            if found is None:
                found = self._enter(path, make)
            elif path:
                self._by_key[found.key] = self._by_key.pop(found.key)
            self._last_path, self._last = path, found
        self._held.append(found)
        return found

    def child(self, parent: Directory, name: str, path: str) -> Directory:
        """The directory ``name`` in ``parent``, which is no symlink; ``path`` is its own."""
        fd, mode = self._open(parent.fd, name)
        found = self.register(path, fd)
        if found.mode is None:
            found.mode = mode
        return found

    def leads_to_a_directory(self, path: str) -> bool:
        """Whether something here, perhaps at the end of symlinks, is a directory."""
        try:
            os.close(openat2(self.root.fd, path, os.O_PATH | os.O_DIRECTORY, WITHIN))
        except OSError:
            return False
        return True

    def register(self, path: str, fd: int) -> Directory:
        """Keep an open directory. If it is open already, there is only one of it, or its times would be lost."""
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        found = self.root if key == self.root.key else self._by_key.get(key)
        if found is not None and _same(found.fd, status):
            os.close(fd)
        else:
            if found is not None and found is not self.root:
                self._dropped.append(self._by_key.pop(key))
            found = self._new(fd, status)
            self._by_key[key] = found
            self._evict()
        self._know(path, found)
        return found

    def _know(self, path: str, directory: Directory) -> None:
        """By symlinks, a directory has as many paths as somebody likes."""
        if len(self._by_path) >= PATHS_MAX:
            for known in self._by_path.values():
                known.paths.clear()
            self._by_path.clear()
        if directory is not self.root and self._by_path.get(path) is not directory:
            directory.paths.append(path)
            self._by_path[path] = directory

    def forget(self) -> None:
        """Something was removed that paths may have led through: look all of them up anew.

        What is open stays so until ``tidy``, since somebody is at work in it.
        """
        self._dropped += self._by_key.values()
        self._by_key.clear()
        self._by_path.clear()
        self._last = None

    def tidy(self) -> None:
        """Nobody works in any directory now."""
        self._held.clear()
        while self._dropped:
            self._dropped.pop().close()

    def close(self) -> None:
        """Restore all that is to be restored, in directories that are still open."""
        self.forget()
        self.tidy()
        os.utime(self.root.fd, ns=self.root.times)
        if self.root.mode is not None:
            os.fchmod(self.root.fd, self.root.mode)

    def abandon(self) -> None:
        """Close all, without a look at what it means for them."""
        self.forget()
        for directory in (*self._dropped, self.root):
            os.close(directory.fd)
        self._dropped.clear()

    def _new(self, fd: int, status: os.stat_result | None = None) -> Directory:
        status = status or os.fstat(fd)
        made = Directory(fd, status)
        if self.careful and status.st_mode & 0o700 != 0o700:
            made.mode = stat.S_IMODE(status.st_mode)
            os.fchmod(fd, made.mode | 0o700)
        return made

    def _evict(self) -> None:
        """Close the one that was not used for longest, unless it is in use."""
        if len(self._by_key) <= OPEN_MAX:
            return
        oldest = next(found for found in self._by_key.values() if all(found is not held for held in self._held))
        if oldest is self._last:
            self._last = None
        del self._by_key[oldest.key]
        for path in oldest.paths:
            self._by_path.pop(path, None)
        oldest.close()

    def _enter(self, path: str, make: Make | None) -> Directory:
        try:
            fd = openat2(self.root.fd, path, DIRECTORY, WITHIN)
        except FileNotFoundError:
            if make is None:
                raise
        except PermissionError:
            if not self.careful:
                raise
        else:
            return self.register(path, fd)
        found = self._walk(path, make)
        self._know(path, found)
        return found

    def _walk(self, path: str, make: Make | None) -> Directory:
        """For what the kernel cannot do on the way: make directories, and open up those that are closed.

        ``at`` is a directory that was reached, ``todo`` what is left of the path, the next part last.
        """
        todo = path.split("/")[::-1]
        at, here, links = "", self.root, 0
        while todo:
            at, here = self._farthest(at, here, todo)
            if not todo:
                break
            name = todo[-1]
            try:
                here = self.child(here, name, _joined(at, name))
                at = _joined(at, todo.pop())
            except FileNotFoundError:
                if make is None:
                    raise
                at, here = _make_all(at, here, todo, make)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                links += 1
                target = _target(here, todo.pop(), links)
                todo += target.split("/")[::-1]
                if target.startswith("/"):
                    at, here = "", self.root
        return here

    def _farthest(self, at: str, here: Directory, todo: list[str]) -> tuple[str, Directory]:
        """As far as the kernel gets, which is found by halving; so much of ``todo`` is done then."""
        low, high, there = 0, len(todo), at
        while low < high:
            middle = (low + high + 1) // 2
            path = _joined(at, "/".join(todo[: -middle - 1 : -1]))
            try:
                fd = openat2(self.root.fd, path or ".", DIRECTORY, WITHIN)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                    raise
                high = middle - 1
            else:
                low, there, here = middle, path, self.register(path, fd)
        del todo[len(todo) - low :]
        return there, here

    def _open(self, parent: int, name: str) -> tuple[int, int | None]:
        try:
            return openat2(parent, name, DIRECTORY, SINGLE), None
        except PermissionError:
            if not self.careful:
                raise
        mode = open_up(parent, name)
        return openat2(parent, name, DIRECTORY, SINGLE), mode


def _same(fd: int, status: os.stat_result) -> bool:
    """Whether that is the inode's status. An overlayfs of several file systems may have its number twice."""
    mine = os.fstat(fd)
    return (mine.st_ctime_ns, mine.st_mtime_ns, mine.st_mode) == (
        status.st_ctime_ns,
        status.st_mtime_ns,
        status.st_mode,
    )


def _joined(at: str, more: str) -> str:
    return f"{at}/{more}" if at else more.lstrip("/")


def _make_all(at: str, here: Directory, todo: list[str], make: Make) -> tuple[str, Directory]:
    """The next part, and what follows: in a new directory nothing can be there yet."""
    while todo and todo[-1] not in ("", ".", ".."):
        name = todo.pop()
        at = _joined(at, name)
        here = make(here, name, at)
    return at, here


def open_up(parent: int, name: str) -> int:
    """Let the owner of a directory into it; its mode before. chmod(2) would follow symlinks, so by descriptor."""
    fd = openat2(parent, name, os.O_PATH | os.O_DIRECTORY, SINGLE)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(f"/proc/self/fd/{fd}", mode | 0o700)
    finally:
        os.close(fd)
    return mode


def _target(parent: Directory, name: str, links: int) -> str:
    """What a symlink on the way says; what is no symlink is the error that it was."""
    status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    if links > LINKS_MAX:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return os.readlink(name, dir_fd=parent.fd)
