"""Directories that are there whole or not at all: made under another name, by one process at a time.

Whoever makes one holds flock(2) on it until it has its own name. The lock goes with the process, so one that nobody
holds was left by somebody who was killed: the next who wants to make it begins anew, and ``removed`` removes it.
Nothing takes it for what it would have become, since that has another name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define

from ocirt.archive.removal import remove_tree
from ocirt.errors import ImageError

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@define
class Making:
    """A directory in the making."""

    parent: int
    name: str
    """The one that it has meanwhile."""
    fd: int
    """It, open and locked."""
    path: str
    """Of it, for those who need one."""
    finished: bool = False

    def finish(self, name: str) -> None:
        """Give it this name, where nothing is, or an empty directory.

        :raises ImageError: somebody was faster.
        """
        try:
            os.rename(self.name, name, src_dir_fd=self.parent, dst_dir_fd=self.parent)
        except OSError as error:
            raise ImageError(name, f"cannot be put in its place: {error.strerror}") from error
        self.finished = True


@contextmanager
def making(directory: str, name: str, *, wait: bool) -> Iterator[Making]:
    """Make ``name`` in ``directory``, for its owner alone; without ``finish`` nothing of it stays.

    :raises ImageError: without ``wait``, somebody else is making it.
    """
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _locked(parent, name, wait, f"{directory}/{name}")
        try:
            made = Making(parent, name, fd, f"{directory}/{name}")
            try:
                _empty(fd)
                yield made
            finally:
                if not made.finished:
                    remove_tree(parent, name)
        finally:
            os.close(fd)
    finally:
        os.close(parent)


def _locked(parent: int, name: str, wait: bool, what: str) -> int:
    while True:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            fd = lock(parent, name, fcntl.LOCK_EX, wait=wait)
        except BlockingIOError as error:
            raise ImageError(what, "somebody else is at work there") from error
        if fd is not None:
            return fd


def lock(parent: int, name: str, kind: int, *, wait: bool = True) -> int | None:
    """The directory of this name, open and locked; ``None`` if there is none, or there was another at first.

    :raises BlockingIOError: somebody else holds it, and we do not wait.
    """
    try:
        fd = os.open(name, FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        if _is_still(parent, name, fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _is_still(parent: int, name: str, fd: int) -> bool:
    """While we waited, it may have been finished or given up."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def _empty(fd: int) -> None:
    for name in os.listdir(fd):
        remove_tree(fd, name)


def removed(parent: int, name: str) -> bool:
    """Remove a directory that nobody holds; ``False`` if somebody does, or did until now."""
    try:
        fd = lock(parent, name, fcntl.LOCK_EX, wait=False)
    except BlockingIOError:
        return False
    if fd is None:
        return False
    try:
        remove_tree(parent, name)
    finally:
        os.close(fd)
    return True
