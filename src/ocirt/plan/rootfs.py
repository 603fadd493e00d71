"""The container's file tree, from nothing to the point where it is ``/``.

Everything is done while the host's tree is still in view: what must be the host's, like /dev/null for masking, cannot
be confused with what an image put in its place.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from ocirt.errors import UnsupportedError
from ocirt.plan import binds, devices, hooks, mounts
from ocirt.plan.context import Context, RootDirectory
from ocirt.plan.namespaces import settle_cgroups
from ocirt.plan.ops import Op
from ocirt.plan.overlay import lower_directories
from ocirt.plan.tree_ops import (
    PROPAGATION,
    RECURSIVE,
    AttachRootfs,
    Attributes,
    ChangeRoot,
    CoverRoot,
    MakeDirectory,
    MaskPath,
    OverlayRootfs,
    PivotRoot,
    ReadonlyPath,
    SelectRootfs,
    SetMountAttributes,
    SetPropagation,
    propagation_flag,
)
from ocirt.spec.options import RDONLY

FRESH_DIRECTORIES = (
    ("/home", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
)


def check(context: Context) -> None:
    """Without a mount namespace every mount would be the host's."""
    if context.namespaces.has("mount"):
        _check_propagation(context)
        return
    linux, document = context.linux, context.document
    asked = (
        ("mounts", bool(document.mounts)),
        ("root.readonly", document.root.readonly),
        ("linux.maskedPaths", bool(linux.masked_paths)),
        ("linux.readonlyPaths", bool(linux.readonly_paths)),
        ("linux.devices", bool(linux.devices)),
        ("linux.rootfsPropagation", bool(linux.rootfs_propagation)),
        ("NOTIFY_SOCKET", context.site.notify is not None),
        ("process.terminal", document.process is not None and document.process.terminal),
    )
    for origin, wanted in asked:
        if wanted:
            raise UnsupportedError(origin, 'needs a mount namespace: add {"type": "mount"} to linux.namespaces')


def _check_propagation(context: Context) -> None:
    """The host's tree stays in the container's namespace then, and must hear of what the host unmounts."""
    wanted = context.linux.rootfs_propagation or ""
    if context.site.full_views is not None and wanted.endswith("private"):
        raise UnsupportedError(
            "linux.rootfsPropagation", "rootfsPropagation of [r]private is not safe without pivot_root"
        )


def tree(context: Context) -> Iterator[Op]:
    """The whole of it."""
    if not context.namespaces.has("mount"):
        yield from settle_cgroups(context, shown=False)
        yield from hooks.host(context)
        yield from hooks.create_container(context)
        root = context.slots.add(RootDirectory(context.site.rootfs, "root.path"))
        yield ChangeRoot(root, origin="root.path")
        yield from _working_directory(context)
        return
    yield from _propagation(context)
    yield _rootfs(context)
    if context.site.shown:
        yield from _fresh_directories()
    yield from mounts.mounts(context)
    yield from devices.devices(context)
    yield from hooks.host(context)
    yield from hooks.create_container(context)
    yield from _working_directory(context)
    yield from devices.terminal(context, console=True)
    yield from mounts.late(context)
    yield from _restrict(context)
    yield from _switch(context)


def _propagation(context: Context) -> Iterator[Op]:
    """Our copies of the host's mounts hear of changes there, and never the host of ours, unless it is asked for.

    pivot_root(2) wants neither the new root nor the mount below it to be shared, so for ``shared`` these two alone are
    private.
    """
    origin = "linux.rootfsPropagation"
    if not _is_shared(context):
        yield SetPropagation(PROPAGATION["slave"] | RECURSIVE, origin=origin)
        return
    yield SetPropagation(PROPAGATION["shared"] | RECURSIVE, origin=origin)
    yield SetPropagation(PROPAGATION["private"], origin=origin)


def _rootfs(context: Context) -> Op:
    site = context.site
    if site.scratch is not None:
        in_user_namespace = context.namespaces.has("user") or context.host.in_user_namespace
        if site.shown:
            # Mounts that a user namespace got from its parent are locked, and overlayfs takes no tree that has some.
            return SelectRootfs(site.rootfs, site.scratch, not in_user_namespace, site.shown, origin="root.path")
        lowers = lower_directories(context.host, (*site.layers, site.rootfs))
        return OverlayRootfs(lowers, site.scratch, in_user_namespace, origin="root.path")
    fd = binds.source_fd(context, site.rootfs, recursive=True, origin="root.path")
    return AttachRootfs(site.rootfs, fd, _is_shared(context), origin="root.path")


def _is_shared(context: Context) -> bool:
    return (context.linux.rootfs_propagation or "").endswith("shared")


def _fresh_directories() -> Iterator[Op]:
    """What every program expects to find besides the names that are shown (hier(7))."""
    for path, mode in FRESH_DIRECTORIES:
        yield MakeDirectory(path, mode, origin="root.path")


def _working_directory(context: Context) -> Iterator[Op]:
    process = context.process
    if process is not None and process.cwd.strip("/"):
        yield MakeDirectory(process.cwd, origin="process.cwd")


def _restrict(context: Context) -> Iterator[Op]:
    linux = context.linux
    for index, path in enumerate(linux.readonly_paths):
        yield ReadonlyPath(path, origin=f"linux.readonlyPaths[{index}]")
    seen: set[str] = set()
    for index, path in enumerate(linux.masked_paths):
        if (normal := posixpath.normpath(path)) not in seen:
            seen.add(normal)
            yield MaskPath(path, origin=f"linux.maskedPaths[{index}]")
    if context.document.root.readonly:
        yield SetMountAttributes("/", Attributes(set=RDONLY), origin="root.readonly")


def _switch(context: Context) -> Iterator[Op]:
    """Others are in a joined mount namespace, and pivoting would change their root as well."""
    if context.namespaces.joins("mount"):
        yield ChangeRoot(origin="root.path")
        return
    if context.site.full_views is None:
        yield PivotRoot(_is_shared(context), origin="root.path")
    else:
        yield CoverRoot(context.site.full_views, origin="root.path")
    wanted = context.linux.rootfs_propagation
    if wanted:
        yield SetPropagation(propagation_flag(wanted), origin="linux.rootfsPropagation")
