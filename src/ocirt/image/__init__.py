"""Images: from a registry, a layout or an archive to a bundle, and back (opencontainers/image-spec 1.1).

::

    copy("docker://debian:12", "oci:images:debian")     from one place to another
    Image.open("oci:images:debian").unpack("bundle")    to a bundle (umoci unpack)
    Image.repack("bundle", "oci:images:changed")        and back (umoci repack)
    Store().pull("debian:12")                           layers that bundles share

On the ground ``digest``, ``media`` and ``documents``: the specification's words as values. ``reference`` is how people
name images, ``transport`` what every place offers where they are kept. ``ocirt`` itself does not import this package:
whoever brings a rootfs of their own does not pay for it.

Transports are ``layout``, ``layout_archive``, ``docker_archive``, ``docker_daemon`` and ``tarball``, with ``files``,
``members`` and ``new_archive`` for what untrusted files ask for (``pruning`` cleans a layout up), and ``registry``,
which stands on ``http``, ``tokens`` and ``auth``. ``copying`` takes an image from one place to another: ``platform``
is the choice among several, ``manifests`` and ``compression`` convert on the way, ``threads`` do several things at
once.

``image`` is an image to be read. Its layers come by ``supply`` and become a bundle's files, its configuration by
``conversion``; ``making`` sees to it that a bundle is whole. A ``store`` keeps ``layers`` unpacked for many bundles
(``layered``), each unpacked on an ``overlay`` of those below; ``throw_away`` is what ``ocirt.run`` does with it.
``repack`` makes images, of what ``record`` knows and ``packing`` compresses. ``progress`` shows all that to people.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.archive.extraction import ExtractLimits
    from ocirt.image.copying import copy
    from ocirt.image.documents import ContainerConfig, Descriptor, ImageConfig, Index, Manifest, Platform
    from ocirt.image.image import Image
    from ocirt.image.progress import bars
    from ocirt.image.reference import Location, Reference
    from ocirt.image.repack import Packed
    from ocirt.image.store import Pruned, Store, StoredImage
    from ocirt.image.transport import Access, Progress

_HOME = {
    "archive.extraction": ("ExtractLimits",),
    "image.copying": ("copy",),
    "image.documents": ("ContainerConfig", "Descriptor", "ImageConfig", "Index", "Manifest", "Platform"),
    "image.image": ("Image",),
    "image.progress": ("bars",),
    "image.reference": ("Location", "Reference"),
    "image.repack": ("Packed",),
    "image.store": ("Pruned", "Store", "StoredImage"),
    "image.transport": ("Access", "Progress"),
}

_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022  # in the order of use
    "copy",
    "Image",
    "Store",
    "StoredImage",
    "Pruned",
    "bars",
    "Access",
    "Progress",
    "ExtractLimits",
    "Packed",
    "Location",
    "Reference",
    "Platform",
    "Descriptor",
    "Manifest",
    "Index",
    "ImageConfig",
    "ContainerConfig",
]


def __getattr__(name: str) -> object:
    """PEP 562: who reads a name of an image does not load what copies one."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ocirt.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
