"""Bind mounts: where their sources are looked for, and whose IDs they show (config.md, Mounts).

A source is looked for at its mount's turn, so that it may lie below what earlier mounts have put into the container.
Where init could not see the host by then, the tree is taken beforehand.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from ocirt.errors import UnsupportedError
from ocirt.plan.context import Context, NamespaceFile
from ocirt.plan.ops import NO_FD, Fd, Op, Tolerance
from ocirt.plan.tree_ops import Attributes, BindMount, MapOwners, OpenTree
from ocirt.spec import IDMapping, Mount
from ocirt.spec.mapping_words import Triplet, parse_words
from ocirt.spec.options import SUPERBLOCK, WITHOUT_EFFECT, MountOptions


def bind(
    context: Context, index: int, target: str, options: MountOptions, attributes: Attributes, tolerance: int
) -> Iterator[Op]:
    """Mount number ``index``, which is one; its tree in a slot where more is done to it than to attach it."""
    mount, origin = context.document.mounts[index], f"mounts[{index}]"
    _check(mount, options, origin)
    source = posixpath.join(context.site.bundle, mount.source or "")
    nofollow = options.src_nofollow or options.copy_symlink
    mapping = mapped_ids(context, mount, options, origin)
    inside = _covered(context, index, source)
    fd = NO_FD
    if inside or (mapping is not None and context.sees_host):
        fd = context.slots.next_tree()
        yield OpenTree(
            fd, inside or source, options.recursive, nofollow, inside=bool(inside), origin=f"{origin}.source"
        )
    elif not context.sees_host:
        fd = context.slots.open_tree(source, options.recursive, f"{origin}.source", nofollow=nofollow)
    if mapping is not None:
        namespace, asked = mapping
        op = MapOwners(fd, namespace, options.idmap == "ridmap", origin=asked)
        if inside or context.sees_host:
            yield op
        else:
            context.slots.trees.append(op)
    tolerance |= Tolerance.KEEP_LINK if options.dest_nofollow else 0
    tolerance |= Tolerance.COPY_LINK if options.copy_symlink else 0
    yield BindMount(target, source, fd, options.recursive, attributes, tolerance, nofollow, origin=origin)


def source_fd(context: Context, path: str, recursive: bool, origin: str) -> Fd:
    """Nothing where init can open the path at its turn, or the slot of a tree taken beforehand."""
    return NO_FD if context.sees_host else context.slots.open_tree(path, recursive, origin)


def _check(mount: Mount, options: MountOptions, origin: str) -> None:
    """What is said of a filesystem cannot be said of one more view of it: it would change for everybody."""
    if options.data:
        raise UnsupportedError(
            f"{origin}.options",
            f"bind mounts cannot have any filesystem-specific options applied: {options.data[0][0]}",
        )
    for place, word in enumerate(mount.options):
        if word in SUPERBLOCK and word not in WITHOUT_EFFECT:
            raise UnsupportedError(
                f"{origin}.options[{place}]",
                f"bind mounts cannot have any filesystem-specific options applied: {word} belongs to the source's "
                f"filesystem; set it where that is mounted",
            )


def _covered(context: Context, index: int, source: str) -> str | None:
    """The container's own path of a source that lies on an earlier mount: the host's shows what is below it."""
    site = context.site
    source = posixpath.normpath(source)
    if site.scratch is not None or not source.startswith(f"{site.rootfs}/"):
        return None
    path = source[len(site.rootfs) :]
    for mount in context.document.mounts[:index]:
        above = posixpath.normpath("/" + mount.destination.lstrip("/"))
        if path == above or path.startswith(f"{above.rstrip('/')}/"):
            return path
    return None


def mapped_ids(context: Context, mount: Mount, options: MountOptions, origin: str) -> tuple[Fd, str] | None:
    """The user namespace whose IDs this mount shows, and the member that asked for it.

    The mount's own mappings are absolute, as runc and crun take them, but for those that an option says to be
    relative; without any, the container's user namespace is meant.
    """
    if mount.uid_mappings:
        asked = f"{origin}.uidMappings"
    elif options.idmap:
        place = next(index for index, word in enumerate(mount.options) if word.partition("=")[0] == options.idmap)
        asked = f"{origin}.options[{place}]"
    else:
        return None
    if context.host.rootless:
        raise UnsupportedError(asked, "id-mapped mounts are not supported for rootless containers")
    if mount.uid_mappings:
        return context.slots.mapped(mount.uid_mappings, mount.gid_mappings, asked), asked
    linux = context.linux
    if options.mapping_words is not None:
        words = parse_words(options.mapping_words)
        uids, gids = _absolute(words.uids, linux.uid_mappings, asked), _absolute(words.gids, linux.gid_mappings, asked)
        return context.slots.mapped(uids, gids, asked), asked
    if context.namespaces.creates("user"):
        return context.slots.mapped(linux.uid_mappings, linux.gid_mappings, asked), asked
    if context.namespaces.joins("user"):
        _, namespace = context.namespaces.by_type["user"]
        return context.slots.add(NamespaceFile(namespace.path or "", "user", asked)), asked
    raise UnsupportedError(
        asked, "no mapping to apply: give the mount uidMappings and gidMappings, or the container a user namespace"
    )


def _absolute(triplets: Sequence[Triplet], mappings: Sequence[IDMapping], asked: str) -> tuple[IDMapping, ...]:
    return tuple(_range(triplet, mappings, asked) for triplet in triplets)


def _range(triplet: Triplet, mappings: Sequence[IDMapping], asked: str) -> IDMapping:
    first, shown, size, relative = triplet
    if not relative:
        return IDMapping(first, shown, size)
    for entry in mappings:
        offset = shown - entry.container_id
        if offset >= 0 and offset + size <= entry.size:
            return IDMapping(first, entry.host_id + offset, size)
    raise UnsupportedError(
        asked, f"@{first}-{shown}-{size} is relative to the container's user namespace, which maps no such range in one"
    )
