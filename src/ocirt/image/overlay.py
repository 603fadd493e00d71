"""An overlayfs to unpack a layer on, so that it is the kernel that says what the layer changes of those below.

The layer's directory is the upper one. What the archive deletes becomes a whiteout, a directory that it does not
mention keeps its owner and mode, and a hard link to a file further down is one: all as if the layers were unpacked
onto each other, since to the archive they are. The mount has no place in any mount namespace. It is there as long as
its descriptor is open, and the kernel closes that of a process that is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ocirt import idmap
from ocirt.errors import SetupError, UnsupportedError
from ocirt.host import Host
from ocirt.launch import Launch, Prepared, launch
from ocirt.plan import Plan
from ocirt.plan.ops import CLONE_NEW, Clone, Op, Purpose, Sync
from ocirt.plan.overlay import lower_directories
from ocirt.plan.tree_ops import PROPAGATION, RECURSIVE, OfferOverlay, SetPropagation
from ocirt.spec import IDMapping, Linux
from ocirt.wire import SyncRequested, TreeOffered

ORIGIN = "image"


@contextmanager
def merged(lowers: Sequence[str], upper: str = "", work: str = "") -> Iterator[int]:
    """``upper`` over ``lowers``, the top one first, as an open directory; without ``upper`` to be read alone.

    :raises UnsupportedError: overlayfs cannot be had here, or not on this file system.
    """
    if not upper and len(lowers) == 1:  # of which the kernel makes no overlayfs
        yield from _opened(lowers[0])
        return
    tree = _mounted(tuple(lowers), upper, work)
    try:
        yield from _opened(".", tree)
    finally:
        os.close(tree)  # which is the end of the mount


def _opened(path: str, directory: int | None = None) -> Iterator[int]:
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield root
    finally:
        os.close(root)


def _mounted(lowers: tuple[str, ...], upper: str, work: str) -> int:
    host = Host.probe()
    inside = not host.privileged
    given = lower_directories(host, lowers)
    offer = OfferOverlay(upper, work, given, inside or host.in_user_namespace, origin=ORIGIN)
    prepared = Prepared.of(Plan((*_surroundings(inside), offer)))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        launched = launch(prepared, (), (null, null, null))
    finally:
        os.close(null)
    try:
        return _offered(launched, host)
    except SetupError as error:
        raise UnsupportedError(upper or lowers[0], f"layers need an overlayfs, which is refused: {error}") from error
    finally:
        launched.abort()


def _surroundings(inside: bool) -> Iterator[Op]:
    """Mounts of our own, of which the host does not hear; an ordinary user has none without a user namespace."""
    yield Clone(CLONE_NEW["mount"] | (CLONE_NEW["user"] if inside else 0), origin=ORIGIN)
    if inside:
        yield Sync(Purpose.ID_MAPS, origin=ORIGIN)
    yield SetPropagation(PROPAGATION["private"] | RECURSIVE, origin=ORIGIN)


def own_mappings(host: Host) -> Linux:
    """An ordinary user has itself alone, who is root there."""
    return Linux(
        uid_mappings=(IDMapping(0, host.euid, 1),),
        gid_mappings=(IDMapping(0, host.egid, 1),),
    )


def _offered(launched: Launch, host: Host) -> int:
    for event in launched.heard():
        match event:
            case SyncRequested(Purpose.ID_MAPS):
                idmap.install(launched.pid, own_mappings(host), host)
                launched.go()
            case TreeOffered(fd):
                return fd
    raise launched.died()
