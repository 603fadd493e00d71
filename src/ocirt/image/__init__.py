"""Images: from a registry, a layout or an archive to a bundle, and back (opencontainers/image-spec 1.1).

On the ground ``digest``, ``media`` and ``documents``: the specification's words as values. ``reference`` is how people
name images, ``transport`` what every place offers where they are kept. ``ocirt`` itself does not import this package:
whoever brings a rootfs of their own does not pay for it.

``layout``, ``layout_archive``, ``docker_archive`` and ``docker_daemon`` are transports, with ``files``, ``members`` and
``new_archive`` for what untrusted files ask for; ``pruning`` cleans a layout up. ``copying`` takes an image from one
place to another: ``platform`` is the choice among several, ``manifests`` and ``compression`` convert on the way,
``threads`` do several things at once.

``image`` is an image to be read. Its layers come by ``supply`` and become a bundle's files; ``making`` sees to it that
it is whole. A ``store`` keeps ``layers`` unpacked for many bundles (``layered``), each on an ``overlay`` of those
below; ``throw_away`` is what ``ocirt.run`` does with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.image.copying import copy
    from ocirt.image.image import Image
    from ocirt.image.store import Pruned, Store, StoredImage

_HOME = {"copying": ("copy",), "image": ("Image",), "store": ("Pruned", "Store", "StoredImage")}

_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["Image", "Pruned", "Store", "StoredImage", "copy"]


def __getattr__(name: str) -> object:
    """PEP 562: who reads a name of an image does not load what copies one."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
