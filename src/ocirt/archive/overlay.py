"""Whiteouts as overlayfs has them: a device 0:0, or an attribute of a directory (its documentation in Linux).

Ordinary users may make that one device (since Linux 5.8), and mount with an attribute that is theirs to set (5.11).
"""

from __future__ import annotations

import os
import stat
from typing import Final

from ocirt.archive.headers import Member
from ocirt.archive.limits import Budget
from ocirt.archive.paths import Directory, Tree
from ocirt.archive.removal import Key, remove

DEVICE: Final = os.makedev(0, 0)


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == DEVICE


class Overlay:
    """What a layer hides of those below it."""

    def __init__(self, tree: Tree, budget: Budget, *, userxattr: bool) -> None:
        self._tree = tree
        self._attribute = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
        self._opaques: set[str] = set()
        self._devices = 0
        self._budget = budget
        self.opaque_root = False

    def hide(self, member: Member, directory: Directory, path: str, target: str | None) -> None:
        """``target`` in the directory of this path, or all of it."""
        if target is None:
            self.make_opaque(directory, path)
            return
        try:
            os.mknod(target, stat.S_IFCHR, DEVICE, dir_fd=directory.fd)
        except FileExistsError:
            # This layer's own. As a directory it would show what a lower layer has in it.
            if stat.S_ISDIR(os.stat(target, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                below = f"{path}/{target}" if path else target
                self.make_opaque(self._tree.child(directory, target, below), below)
            return
        os.utime(target, ns=(member.atime, member.mtime), dir_fd=directory.fd, follow_symlinks=False)
        self._devices += 1

    def make_opaque(self, directory: Directory, path: str) -> None:
        """Nothing of lower layers is to be seen in it."""
        if directory is self._tree.root:
            self.opaque_root = True
        os.setxattr(directory.fd, self._attribute, b"y")
        if path not in self._opaques:
            self._budget.take_memory(path)
            self._opaques.add(path)

    def drop_idle(self) -> None:
        """Below an opaque directory there is nothing to hide, and overlayfs would list the whiteouts themselves."""
        done: str | None = None
        for path in sorted(self._opaques, key=lambda path: path.split("/")) if self._devices else ():
            if done is not None and (not done or f"{path}/".startswith(f"{done}/")):
                continue
            try:
                directory = self._tree.directory(path)
            except (FileNotFoundError, NotADirectoryError):
                continue  # something else came later
            if self._attribute in os.listxattr(directory.fd):
                self._drop_below(directory)
                done = path
            self._tree.tidy()

    def _drop_below(self, directory: Directory) -> None:
        with os.scandir(directory.fd) as found:
            names = [entry.name for entry in found]
        for name in names:
            remove(directory.fd, name, _stays)


def _stays(directory: int, _: Key, name: str) -> bool:
    return not is_whiteout(os.stat(name, dir_fd=directory, follow_symlinks=False))
