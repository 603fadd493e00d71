"""A bundle whose root filesystem is an image's layers, shared with others, and a directory of its own over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ocirt.archive.ownership import Ownership
from ocirt.host import Host
from ocirt.image import record
from ocirt.image.documents import Descriptor
from ocirt.image.layers import copy_root
from ocirt.image.making import FLAGS, Making
from ocirt.spec import Mount, Spec

EMPTY, UPPER, WORK = "rootfs", "upper", "work"
"""What is in it: the mount point, what its containers wrote, and overlayfs's workplace."""

WHOLE: Final = ("metacopy=off", "redirect_dir=nofollow", "index=off")
"""Whatever this kernel's defaults: what is in ``upper`` is there as a whole, and can be repacked."""


def furnish(made: Making, trees: Sequence[str], image: Descriptor, ownership: Ownership) -> None:
    """All but config.json, and with it what ``repack`` needs to know; ``trees`` are the layers, the top one first."""
    for part in (EMPTY, UPPER, WORK):
        os.mkdir(part, 0o755 if part != WORK else 0o700, dir_fd=made.fd)
    upper = os.open(UPPER, FLAGS, dir_fd=made.fd)
    try:
        copy_root(trees[0], upper)
        record.write_upper(made.path, upper, image, ownership, directory=UPPER)
    finally:
        os.close(upper)


def over_layers(document: Spec, trees: Sequence[str], bundle: str) -> Spec:
    """The configuration with these trees as its root, and the upper directory of the bundle over them."""
    options = [f"lowerdir={':'.join(trees)}", f"upperdir={bundle}/{UPPER}", f"workdir={bundle}/{WORK}", *WHOLE]
    host = Host.probe()
    if not host.privileged or host.in_user_namespace:
        options.append("userxattr")
    root = Mount("/", "overlay", "overlay", tuple(options))
    return document.evolve(root=document.root.evolve(path=EMPTY), mounts=(root, *document.mounts))
