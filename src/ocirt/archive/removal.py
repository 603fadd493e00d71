"""Removing trees that somebody hostile may have filled.

No symlink is followed and no mount entered, and neither depth nor missing permissions are in the way: one directory is
open at a time, by its name in the one above, and ``..`` is believed only if it leads back to where we were.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeAlias

from ocirt.archive.paths import DIRECTORY, SINGLE, open_up, openat2

Key: TypeAlias = tuple[int, int]
Keep: TypeAlias = Callable[[int, Key, str], bool]
"""Whether what has this name is to stay, in the directory that is open, and is of this device and inode."""


def remove_tree(directory: int, name: str) -> None:
    """Remove ``name`` in an open directory, and all that is below it. What is not there is removed already.

    :raises OSError: something is mounted there, or belongs to somebody else.
    """
    if name in ("", ".", "..") or "/" in name:
        raise ValueError(f"{name!r} is no name of an entry")
    remove(directory, name)


def remove(directory: int, name: str, keep: Keep | None = None) -> None:
    """The same, but for what ``keep`` wants to stay, and the directories that lead to it."""
    try:
        if keep is None:
            os.unlink(name, dir_fd=directory)
            return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    removal = _Removal(directory, name, keep)
    try:
        removal.run()
    finally:
        removal.close()


class _Level:
    """A directory on the way down, and what is still to be looked at in it."""

    __slots__ = ("entries", "key", "mode", "name", "times")

    def __init__(self, fd: int, name: str, entries: list[str], mode: int | None = None) -> None:
        status = os.fstat(fd)
        self.name = name
        self.entries = entries
        self.key = (status.st_dev, status.st_ino)
        self.times = (status.st_atime_ns, status.st_mtime_ns)
        self.mode = mode


class _Removal:
    def __init__(self, directory: int, name: str, keep: Keep | None) -> None:
        self._keep = keep
        self._fd = os.dup(directory)
        self._levels = [_Level(directory, "", [name])]

    def run(self) -> None:
        while len(self._levels) > 1 or self._levels[0].entries:
            if self._levels[-1].entries:
                self._next()
            else:
                self._leave()

    def close(self) -> None:
        os.close(self._fd)

    def _next(self) -> None:
        """One entry of the innermost directory: gone, or entered."""
        level = self._levels[-1]
        name = level.entries.pop()
        if self._keeps(level.key, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
                self._enter(name)
            return
        try:
            os.unlink(name, dir_fd=self._fd)
        except IsADirectoryError:
            self._enter(name)

    def _enter(self, name: str) -> None:
        mode = None
        try:
            fd = openat2(self._fd, name, DIRECTORY, SINGLE)
        except PermissionError:
            mode = open_up(self._fd, name)
            fd = openat2(self._fd, name, DIRECTORY, SINGLE)
        os.close(self._fd)
        self._fd = fd
        before = stat.S_IMODE(os.fstat(fd).st_mode)
        if before & 0o700 != 0o700 and os.geteuid() != 0:
            mode = before
            os.fchmod(fd, before | 0o700)
        with os.scandir(fd) as found:
            entries = [entry.name for entry in found]
        self._levels.append(_Level(fd, name, entries, mode))

    def _leave(self) -> None:
        """Go up, and remove where we were, unless it or something in it is to stay."""
        level = self._levels.pop()
        above = self._levels[-1].key
        inside, self._fd = self._fd, os.open("..", DIRECTORY, dir_fd=self._fd)
        try:
            status = os.fstat(self._fd)
            if (status.st_dev, status.st_ino) != above:
                raise OSError(errno.ESTALE, "somebody moved it meanwhile", level.name)
            if self._keeps(above, level.name) or not self._removed(level.name):
                if level.mode is not None:
                    os.fchmod(inside, level.mode)
                os.utime(inside, ns=level.times)
        finally:
            os.close(inside)

    def _removed(self, name: str) -> bool:
        try:
            os.rmdir(name, dir_fd=self._fd)
        except OSError as error:
            if self._keep is None or error.errno != errno.ENOTEMPTY:
                raise
            return False
        return True

    def _keeps(self, parent: Key, name: str) -> bool:
        return self._keep is not None and self._keep(self._fd, parent, name)
