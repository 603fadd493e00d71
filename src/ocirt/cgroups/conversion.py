"""``linux.resources`` as settings, each controller by the version that it is on.

In hybrid mode some are on version 1 and the rest on version 2; no controller is ever on both (cgroups(7)).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import v1, v2
from ocirt.cgroups.settings import Controllers
from ocirt.errors import UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.settings import Setting
    from ocirt.spec.linux import Resources

_V2_NAMES: Final = {"blkio": "io"}
_NETWORK: Final = ("net_cls", "net_prio")


def settings_for(resources: Resources, controllers: Controllers, *, strict: bool = True) -> tuple[Setting, ...]:
    """What is to be written for these limits, in the order of application.

    :param strict: that what only version 1 knows is an error where version 2 is in charge, or else left out.
    :raises UnsupportedError: that, or a limit whose controller there is not.
    """
    if controllers.only_v2:
        v2.refuse_network(resources, strict=strict)
    _refuse_missing(resources, controllers, strict)
    return tuple(_settings(resources, controllers, strict))


def _settings(resources: Resources, controllers: Controllers, strict: bool) -> Iterator[Setting]:
    for name, convert in v1.CONTROLLERS.items():
        if name in controllers.v1:
            yield from convert(resources, strict)
    for name, convert in v2.CONTROLLERS.items():
        if name in controllers.v2:
            yield from map(_on_v2, convert(resources, strict))
    yield from v2.unified(resources, controllers)


def _on_v2(setting: Setting) -> Setting:
    otherwise = setting.otherwise and _on_v2(setting.otherwise)
    return setting._replace(version=2, otherwise=otherwise)


def in_version(resources: Resources, oci_version: str) -> Resources:
    """What they mean in a configuration of this version of the specification.

    Before 1.3 a limit of no tasks stood for no limit, with runc as with crun, and podman before 5.4.1 writes 0 when its
    user says -1. From then on 0 is 0.
    """
    minor = int(oci_version.split(".")[1])
    if resources.pids is None or resources.pids.limit != 0 or minor >= 3:
        return resources
    return resources.evolve(pids=resources.pids.evolve(limit=-1))


def asks(resources: Resources) -> bool:
    """Whether anything is to be limited, wherever that might be possible."""
    everywhere = Controllers(v1=frozenset(v1.CONTROLLERS))
    return bool(resources.unified) or any(True for _ in _settings(resources, everywhere, True))


def _refuse_missing(resources: Resources, controllers: Controllers, strict: bool) -> None:
    for name, convert in v1.CONTROLLERS.items():
        other = _V2_NAMES.get(name, name)
        if name in controllers.v1 or other in controllers.v2 or (name in _NETWORK and controllers.only_v2):
            continue
        if controllers.only_v2:
            convert = v2.CONTROLLERS[other]  # first of all it says what version 2 does not know
        for setting in convert(resources, strict):
            if not (setting.optional and setting.values == ("0",)):  # what there is without it anyway
                raise UnsupportedError(setting.origin, f"the {setting.controller} controller is not available here")
