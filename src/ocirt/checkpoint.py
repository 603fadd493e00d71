"""Containers from checkpoints: what ``Container.checkpoint`` wrote becomes a container again, here or elsewhere.

``ocirt.criu`` has how. Restoring an image means to run what is in it with the rights that are written there: as with
runc, whoever wrote the image is trusted like whoever wrote config.json, and more.
"""

from __future__ import annotations

import os
from typing import Unpack

from ocirt.bundle import Bundle
from ocirt.container import Container
from ocirt.criu.restoring import RestoreOptions
from ocirt.criu.restoring import restore as restored
from ocirt.preparation import CgroupManager, Request
from ocirt.state import StateStore
from ocirt.streams import Stream, opened

Path = str | os.PathLike[str]


def restore(
    path: Path,
    id: str,
    bundle: Bundle | Path,
    *,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    root: Path | None = None,
    cgroup_manager: CgroupManager = "cgroupfs",
    strict_resources: bool = True,
    **options: Unpack[RestoreOptions],
) -> Container:
    """A container of a checkpoint; it runs, and its init is our child.

    Namespaces, memory and files in tmpfs come from the image, the rest from the bundle: the rootfs as it is now, the
    sources of bind mounts, namespaces that are joined, limits, and hooks (prestart and createRuntime).

    :param path: where ``Container.checkpoint`` wrote the image.
    :param bundle: like the one that the container had; its paths may be others.
    :param stdin, stdout, stderr: in the place of pipes that the container had. A terminal of the container's own is
        ``process.terminal``.
    :param root, cgroup_manager, strict_resources: as for ``Container.create``.
    :param options: ``work_path``, ``tcp_established``, ``tcp_close``, ``ext_unix_sk``, ``shell_job``, ``file_locks``,
        ``manage_cgroups_mode``, ``empty_network``, ``auto_dedup``, ``lazy_pages``, ``network_lock``, ``criu`` as for
        ``Container.checkpoint``; ``lsm_profile`` (``TYPE:NAME``) and ``lsm_mount_context``.
    :raises UnsupportedError: there is no CRIU, or it, the kernel or the caller cannot do this.
    :raises SpecError, BundleError, SetupError, HookError, ExistsError, CriuError: nothing is left then.
    """
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    request = Request(id, loaded, cgroup_manager, strict_resources=strict_resources)
    store = StateStore(root)
    with opened(stdin, stdout, stderr) as streams:
        record, process = restored(store, request, os.path.abspath(path), options, streams)
    return Container(store, id, record, process)
