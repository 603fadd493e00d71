"""What can be decided once for all containers of a bundle, since only their ids differ.

A plan takes longer to make than a container; so it is made with a mark where the id belongs, and kept by the bundle
for as long as host, cgroups and the caller's wishes stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from attrs import evolve, frozen

from ocirt import launch
from ocirt.bundle import Bundle
from ocirt.cgroups import choice, delegation, devices, files, layout, limits, mounts
from ocirt.cgroups.conversion import asks, in_version, settings_for
from ocirt.cgroups.devices import DeviceWrite
from ocirt.cgroups.settings import Controllers
from ocirt.errors import UnsupportedError
from ocirt.filters import program_of
from ocirt.host import Host
from ocirt.plan import ID_MARK, Site, plan_create
from ocirt.seccomp import notifies, profile_of
from ocirt.spec import Linux, Resources, Spec
from ocirt.state import NOTIFY, SCRATCH, StateStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirt.answers import Answers
    from ocirt.cgroups.bpf import Program
    from ocirt.cgroups.layout import Here
    from ocirt.cgroups.settings import Setting
    from ocirt.cgroups.systemd import Wanted
    from ocirt.spec import DeviceRule

KEPT: Final = 64
"""So many plans a bundle keeps at most."""

CgroupManager = Literal["cgroupfs", "systemd", "disabled"]


@frozen
class Request:
    """What the caller of create asked for."""

    container_id: str
    bundle: Bundle
    cgroup_manager: CgroupManager = "cgroupfs"
    throw_away_layer: bool = False
    layers: tuple[str, ...] = ()
    """With that layer, directories that lie between it and the rootfs, the top one first."""
    shown: tuple[str, ...] = ()
    """With that layer, only these names at the top of the rootfs."""
    new_keyring: bool = True
    strict_resources: bool = True
    """A limit that only version 1 knows is an error on version 2, or else left out."""
    answers: Answers | None = None
    """To the system calls that the profile leaves to others."""
    kept: tuple[int, ...] = ()
    """See ``Site``, as for the next."""
    activated: int = 0
    pivots: bool = True
    """By pivot_root(2), which not every root can be left by."""
    notifies: bool = False
    """The container has a socket for sd_notify(3)."""


@frozen(eq=False)
class Prepared:
    """A bundle's plan, and the cgroups that go with it."""

    host: Host
    here: Here | None
    rootfs: str
    launch: launch.Prepared
    placement: choice.Placement | None
    device_writes: tuple[DeviceWrite, ...]
    device_program: Program | None
    """In version 2, where a device list is a program."""
    limits: tuple[Setting, ...] = ()
    unit: Wanted | None = None
    """Who makes the cgroup is systemd."""
    owner: int | None = None
    """Whose the container's cgroup of version 2 becomes."""
    plain: tuple[str, ...] = ()
    """See ``Record``."""

    @property
    def born_in_cgroup(self) -> bool:
        """CLONE_INTO_CGROUP (clone(2)): where version 2 is alone, init is born in its cgroup; elsewhere it is moved.

        systemd makes a scope around a process alone.
        """
        if self.here is None or self.placement is None or self.unit is not None:
            return False
        return self.here.layout.mode == "v2"

    @property
    def early_limits(self) -> tuple[Setting, ...]:
        return tuple([setting for setting in self.limits if setting.controller != "pids"])

    @property
    def late_limits(self) -> tuple[Setting, ...]:
        return tuple([setting for setting in self.limits if setting.controller == "pids"])

    def cgroup(self, container_id: str) -> files.Cgroup:
        """Where this container's processes go, having looked whether they may.

        :raises SetupError: at ``linux.cgroupsPath``, somebody is there already.
        """
        if self.placement is None:
            return files.Cgroup()
        return _survey(self.placement, self.host.rootless and self.unit is None, container_id)


def prepare(store: StateStore, request: Request, ours: int) -> Prepared:
    """:raises SpecError, UnsupportedError, SetupError: nothing has been made yet."""
    bundle, host = request.bundle, Host.probe()
    rootfs = bundle._rootfs()  # a bundle and its preparation are one thing in two files
    needs_cgroups = request.cgroup_manager != "disabled" or any(
        mount.type in ("cgroup", "cgroup2") for mount in bundle.spec.mounts
    )
    here = layout.here() if needs_cgroups else None
    # Hooks are told the id in JSON, and what an ordinary user may do with cgroups differs from id to id; a unit is
    # described by it.
    reusable = bundle.spec.hooks is None and (not host.rootless or not needs_cgroups)
    reusable = reusable and request.cgroup_manager != "systemd" and request.pivots
    container_id = ID_MARK if reusable else request.container_id
    scratch = f"{store.root}/{container_id}/{SCRATCH}" if request.throw_away_layer else None
    wishes = (request.cgroup_manager, request.shown, request.new_keyring, request.strict_resources)
    files = (request.kept, request.activated, request.notifies, request.pivots)
    key = (ours, scratch, rootfs, request.layers, *wishes, *files)
    known = bundle._prepared.get(key)
    if known is not None and known.host is host and known.here is here:
        return known
    site = Site(
        container_id,
        bundle._directory,
        rootfs,
        scratch,
        request.layers,
        ours,
        shown=request.shown,
        keyring=request.new_keyring,
        kept=request.kept,
        activated=request.activated,
        full_views=None if request.pivots else _full_views(),
        notify=f"{store.root}/{container_id}/{NOTIFY}" if request.notifies else None,
    )
    prepared = _prepare(store, request, host, here, site)
    if reusable:
        if len(bundle._prepared) >= KEPT:
            bundle._prepared.clear()
        bundle._prepared[key] = prepared
    return prepared


def _full_views() -> tuple[str, ...]:
    from ocirt.host_files import full_views

    return full_views()


def _devices(rules: Sequence[DeviceRule], here: Here, host: Host) -> tuple[tuple[DeviceWrite, ...], Program | None]:
    """What holds processes to the list: files, a program, or neither for an ordinary user."""
    devices.check_supported(here.layout, rules, rootless=host.rootless)
    means = devices.means(here.layout, rootless=host.rootless)
    if means == "files":
        return devices.device_writes(devices.device_list(rules)), None
    if means != "program":
        return (), None
    from ocirt.cgroups import bpf

    return (), bpf.assemble(devices.device_list(rules))


def _prepare(store: StateStore, request: Request, host: Host, here: Here | None, site: Site) -> Prepared:
    document = request.bundle.spec
    linux = document.linux or Linux()
    resources = in_version(linux.resources or Resources(), document.oci_version)
    placement: choice.Placement | None = None
    unit: Wanted | None = None
    writes: tuple[DeviceWrite, ...] = ()
    settings: tuple[Setting, ...] = ()
    program: Program | None = None
    cgroup = files.Cgroup()
    if request.cgroup_manager == "disabled":
        _refuse_limits(resources)
    elif here is not None:
        writes, program = _devices(resources.devices, here, host)
        unit = _unit(request, host, here, writes)
        placement = unit.placement if unit else choice.choose(here, linux.cgroups_path, site.container_id)
        cgroup = (
            files.Cgroup(placement.directories)
            if site.container_id == ID_MARK
            else files.survey(placement, rootless=host.rootless and unit is None)
        )
        settings = _limits(request, resources, here, host, cgroup)
    site = evolve(
        site,
        joins_cgroups=bool(cgroup.directories) and here is not None and (here.layout.mode != "v2" or unit is not None),
        cgroup_mounts=mounts.mount_entries(here, cgroup) if here is not None else (),
        own_cgroup=bool(cgroup.directories),
        filter=program_of(document, store.root),
    )
    plan = plan_create(document, host, site)
    return Prepared(
        host,
        here,
        site.rootfs,
        launch.Prepared.of(plan),
        placement,
        writes,
        program,
        settings,
        unit,
        _owner(document, here, host),
        _plain(document),
    )


def _plain(document: Spec) -> tuple[str, ...]:
    profile, hooks = profile_of(document.linux), document.hooks
    listener = profile is not None and notifies(profile)
    namespaces = document.linux.namespaces if document.linux is not None else ()
    plain = {
        "start": document.process is not None and not listener and (hooks is None or not hooks.poststart),
        "kill": any(entry.type == "pid" and not entry.path for entry in namespaces),
        "delete": hooks is None or not hooks.poststop,
    }
    return tuple([command for command, holds in plain.items() if holds])


def _owner(document: Spec, here: Here | None, host: Host) -> int | None:
    """Nobody new, most often; where there is version 1 it would not be safe, and an ordinary user can give nothing."""
    if here is None or here.layout.mode != "v2" or not host.privileged:
        return None
    uid = delegation.owner(document)
    return uid if uid != host.euid else None


def _limits(
    request: Request, resources: Resources, here: Here, host: Host, cgroup: files.Cgroup
) -> tuple[Setting, ...]:
    """Nothing is looked at for a configuration without any."""
    if not asks(resources):
        return ()
    controllers = limits.available(here.layout, cgroup, rootless=host.rootless)
    settings = settings_for(resources, controllers, strict=request.strict_resources)
    limits.check_permitted(cgroup, settings)
    return settings


def _refuse_limits(resources: Resources) -> None:
    try:
        settings_for(resources, Controllers())
    except UnsupportedError as error:
        words = "without a cgroup of its own (cgroup manager disabled) nothing can be limited"
        raise UnsupportedError(error.origin, words) from None


def _unit(request: Request, host: Host, here: Here, writes: tuple[DeviceWrite, ...]) -> Wanted | None:
    if request.cgroup_manager != "systemd":
        return None
    from ocirt.cgroups import systemd

    document = request.bundle.spec
    path = document.linux.cgroups_path if document.linux else None
    annotations = document.annotations
    return systemd.choose(
        here, path, request.container_id, annotations=annotations, writes=writes, rootless=host.rootless
    )


def _survey(placement: choice.Placement, rootless: bool, container_id: str) -> files.Cgroup:
    directories = tuple(
        directory._replace(
            path=directory.path.replace(ID_MARK, container_id),
            parents=tuple([parent.replace(ID_MARK, container_id) for parent in directory.parents]),
        )
        for directory in placement.directories
    )
    return files.survey(evolve(placement, directories=directories), rootless=rootless)
