"""ocirt: run OCI containers from Python (opencontainers/runtime-spec 1.3.0, Linux).

::

    ocirt.run(["sh", "-c", "echo hello"])          one call, on this host's own files or any rootfs
    ocirt.Bundle.load("bundle")                    config.json and rootfs
    ocirt.Container.create("web", "bundle")        create, start, wait, kill, delete, exec, as runc does
    ocirt.containers()                             all of them
    ocirt.restore("images", "web", "bundle")       a container of a checkpoint

Where is what: ``spec`` (config.json as classes) → ``plan`` (what is done, in which order) → ``wire`` → ``launch``
(ocirt-init runs it) → ``creation``, ``starting``, ``execution``, ``updating`` (the host's part) → ``container``,
``process`` and ``running`` (what you use), with ``observation`` and ``ending`` for what they tell. ``cgroups``,
``hooks``, ``idmap``, ``host`` and ``state`` stand beside them, ``errors`` below, ``cli`` above; ``_native`` holds the C
side. docs/architecture.md tells the reasons.

Names are imported when first used: a program that only asks for ``ocirt.containers()`` does not pay for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocirt.answers import CONTINUE, SystemCall
    from ocirt.bundle import Bundle
    from ocirt.cgroups.stats import Stats
    from ocirt.checkpoint import restore
    from ocirt.container import Container, containers
    from ocirt.device_access import DeviceAccess, explain_device
    from ocirt.ending import ExitStatus
    from ocirt.errors import (
        ArchiveError,
        BundleError,
        CriuError,
        DigestMismatch,
        ExistsError,
        ExitStatusUnknown,
        HookError,
        ImageError,
        ImageNotFound,
        InitDied,
        NotFoundError,
        OCIError,
        Problem,
        RegistryError,
        SetupError,
        SpecError,
        StateError,
        UnsupportedError,
    )
    from ocirt.limits import Limits
    from ocirt.observation import Event, Exited, OutOfMemory, Paused, Resumed
    from ocirt.process import Process, Terminal
    from ocirt.running import Completed, bind, run
    from ocirt.spec import Spec
    from ocirt.state import Status
    from ocirt.supported import Features, features

__version__ = "0.1.0"

_HOME = {
    "answers": ("CONTINUE", "SystemCall"),
    "bundle": ("Bundle",),
    "cgroups.stats": ("Stats",),
    "checkpoint": ("restore",),
    "container": ("Container", "containers"),
    "device_access": ("DeviceAccess", "explain_device"),
    "ending": ("ExitStatus",),
    "errors": (
        "ArchiveError",
        "BundleError",
        "CriuError",
        "DigestMismatch",
        "ExistsError",
        "ExitStatusUnknown",
        "HookError",
        "ImageError",
        "ImageNotFound",
        "InitDied",
        "NotFoundError",
        "OCIError",
        "Problem",
        "RegistryError",
        "SetupError",
        "SpecError",
        "StateError",
        "UnsupportedError",
    ),
    "limits": ("Limits",),
    "observation": ("Event", "Exited", "OutOfMemory", "Paused", "Resumed"),
    "process": ("Process", "Terminal"),
    "running": ("Completed", "bind", "run"),
    "spec": ("Spec",),
    "state": ("Status",),
    "supported": ("Features", "features"),
}

_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022  # in the order of use
    "run",
    "Completed",
    "Limits",
    "bind",
    "Bundle",
    "Spec",
    "Container",
    "containers",
    "restore",
    "Status",
    "ExitStatus",
    "Stats",
    "Event",
    "OutOfMemory",
    "Paused",
    "Resumed",
    "Exited",
    "Process",
    "Terminal",
    "features",
    "Features",
    "explain_device",
    "DeviceAccess",
    "SystemCall",
    "CONTINUE",
    "OCIError",
    "SpecError",
    "Problem",
    "UnsupportedError",
    "BundleError",
    "StateError",
    "NotFoundError",
    "ExistsError",
    "SetupError",
    "InitDied",
    "HookError",
    "CriuError",
    "ImageError",
    "ImageNotFound",
    "DigestMismatch",
    "RegistryError",
    "ArchiveError",
    "ExitStatusUnknown",
]


def __getattr__(name: str) -> object:
    """PEP 562."""
    if name not in _MODULES:
        raise AttributeError(f"module 'ocirt' has no attribute {name!r}")
    value = getattr(import_module(f"ocirt.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
