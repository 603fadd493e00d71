"""Unpacked layers, each once, for all images and bundles that have it.

A layer is kept under its ChainID (config.md, Layer ChainID), as containerd does, and not under its DiffID. What an
archive makes depends on the layers below: a directory that it only passes through keeps their owner and mode, a path
in it may lead through their symlinks, a hard link to one of their files needs that file. Images that share a layer
without sharing what is below it are rare, and merely take more room.

Each layer is a directory below ``layers``: ``diff`` is its tree in overlayfs' form, ``layer.json`` says what it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from secrets import token_hex
from typing import Final

from attrs import define, frozen

from ocirt.archive.extraction import ExtractLimits, extract
from ocirt.archive.ownership import Ownership
from ocirt.archive.paths import sync
from ocirt.archive.removal import remove_tree
from ocirt.image import making, overlay
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest
from ocirt.image.image import prepare_root
from ocirt.image.supply import Layer, Supply

UNFINISHED: Final = ".new"
DEAD: Final = ".old"
"""What the names of layers end with that are being made, or removed."""

TREE: Final = "diff"
WORK: Final = "work"
ABOUT: Final = "layer.json"


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """What each layer is called together with all that are below it."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


@define
class Held(Closing):
    """Layers that nobody removes until they are let go of: the trees, the top one first."""

    trees: tuple[str, ...]
    _fds: list[int]

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


@frozen
class Layers:
    """All that are kept in ``directory``."""

    directory: str
    ownership: Ownership

    def tree(self, chain_id: Digest) -> str:
        """Where the tree of such a layer is."""
        return f"{self.directory}/{_name(chain_id)}/{TREE}"

    def hold(self, chain: Sequence[Digest]) -> Held | None:
        """These layers, from the bottom up; ``None`` if one is missing."""
        fds: list[int] = []
        try:
            for chain_id in chain:
                fd = self._lock(chain_id)
                if fd is None:
                    return None
                fds.append(fd)
            held = Held(tuple(map(self.tree, reversed(chain))), fds)
            fds = []
        finally:
            for fd in fds:
                os.close(fd)
        return held

    def provide(self, chain: Sequence[Digest], layers: Sequence[Layer], supply: Supply, limits: ExtractLimits) -> Held:
        """The same, with those made that are missing: each by one process, for which the others wait."""
        fds: list[int] = []
        try:
            for number, chain_id in enumerate(chain):
                while (fd := self._lock(chain_id)) is None:
                    self._make(chain[: number + 1], layers[number], supply, limits)
                fds.append(fd)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Held(tuple(map(self.tree, reversed(chain))), fds)

    def missing(self, chain: Sequence[Digest]) -> tuple[int, ...]:
        """The places of those that are not there now."""
        return tuple(number for number, chain_id in enumerate(chain) if not os.path.isdir(self.tree(chain_id)))

    def prune(self, used: Callable[[], Collection[str]]) -> tuple[str, ...]:
        """Remove what nobody uses or holds, and what was left half made or half removed; the layers' names.

        :param used: the names of those that are used. What it says holds for a layer that is locked: whoever used it
            did so under a lock, and has said so before letting go.
        """
        parent = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = os.listdir(parent)
            for name in names:
                if name.endswith((UNFINISHED, DEAD)):
                    making.removed(parent, name)
            in_use = used()
            idle = [name for name in names if not name.endswith((UNFINISHED, DEAD)) and name not in in_use]
            return tuple(name for name in sorted(idle) if _pruned(parent, name, used))
        finally:
            os.close(parent)

    def _lock(self, chain_id: Digest) -> int | None:
        """A shared lock on a layer that is there; asked again if it was removed while we waited for it."""
        parent = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return making.lock(parent, _name(chain_id), fcntl.LOCK_SH)
        finally:
            os.close(parent)

    def _make(self, chain: Sequence[Digest], layer: Layer, supply: Supply, limits: ExtractLimits) -> None:
        name = _name(chain[-1])
        with making.making(self.directory, f"{name}{UNFINISHED}", wait=True) as made:
            if os.path.isdir(f"{self.directory}/{name}"):
                return  # by whom we waited for
            os.mkdir(TREE, 0o755, dir_fd=made.fd)
            tree = f"{made.path}/{TREE}"
            with supply.open(layer) as stream, self._below(chain[:-1], made, tree) as root:
                extract(stream, root, ownership=self.ownership, needs_end=False, limits=limits)
            if len(chain) > 1:
                remove_tree(made.fd, WORK)
            with open(f"{made.path}/{ABOUT}", "x", encoding="utf-8") as file:
                json.dump({"chainID": str(chain[-1]), "diffID": str(layer.diff_id)}, file)
            sync(made.fd)  # for whoever finds the name after a power failure too
            made.finish(name)

    @contextmanager
    def _below(self, lower: Sequence[Digest], made: making.Making, tree: str) -> Iterator[int]:
        """Where to unpack: the lowest layer's own tree, or an overlayfs of those below and the new one."""
        root = os.open(tree, making.FLAGS)
        try:
            if not lower:
                prepare_root(root, self.ownership)
                yield root
                return
            lowers = tuple(map(self.tree, reversed(lower)))
            copy_root(lowers[0], root)
            os.mkdir(WORK, 0o700, dir_fd=made.fd)
            with overlay.merged(lowers, tree, f"{made.path}/{WORK}") as merged:
                yield merged
        finally:
            os.close(root)


def copy_root(lower: str, upper: int) -> None:
    """An overlayfs' root is its upper directory: what nobody says of it is as in the one below."""
    status = os.stat(lower)
    if os.geteuid() == 0:
        os.fchown(upper, status.st_uid, status.st_gid)
    os.fchmod(upper, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(lower):
        if not name.startswith(("trusted.overlay.", "user.overlay.", "security.selinux")):
            os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))


def _name(chain_id: Digest) -> str:
    """A name of a directory: the digits, which all are of one length here."""
    if chain_id.algorithm != "sha256":
        return f"{chain_id.algorithm}-{chain_id.hex}"
    return chain_id.hex


def _pruned(parent: int, name: str, used: Callable[[], Collection[str]]) -> bool:
    """Under another name first: what a killed process leaves half removed must not look whole."""
    try:
        fd = making.lock(parent, name, fcntl.LOCK_EX, wait=False)
    except BlockingIOError:
        return False
    if fd is None:
        return False
    try:
        if name in used():
            return False
        dead = f"{name}-{token_hex(4)}{DEAD}"
        os.rename(name, dead, src_dir_fd=parent, dst_dir_fd=parent)
        remove_tree(parent, dead)
    finally:
        os.close(fd)
    return True
