"""Which namespaces a container creates, which it joins, and in what order.

A user namespace comes first: owning it is what grants the right to the others. A cgroup namespace comes late: its root
is wherever the process is at that moment. A time namespace takes in only children, and only once its offsets are
written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocirt.errors import UnsupportedError
from ocirt.plan import descriptors, scheduling
from ocirt.plan.context import Context, NamespaceFile
from ocirt.plan.ops import (
    CLONE_NEW,
    BecomeRoot,
    Clone,
    JoinNamespaces,
    LoopbackUp,
    OfferNetlink,
    Op,
    Purpose,
    SetDomainname,
    SetHostname,
    Sync,
    Unshare,
    WriteProc,
)
from ocirt.spec import IDMapping
from ocirt.spec.check_linux import sysctl_path

CLOCKS = {"monotonic": 1, "boottime": 7}
"""clock_gettime(2) numbers, as ``/proc/self/timens_offsets`` wants them."""

IPC_SYSCTLS = frozenset(
    f"kernel/{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)
"""Of kernel/, what every ipc namespace has for itself (sysctl/kernel.rst)."""

ORIGIN = "linux.namespaces"
CGROUPS = "linux.cgroupsPath"


def check(context: Context) -> None:
    """What the caller or the kernel does not allow, before anything exists."""
    host, namespaces = context.host, context.namespaces
    for index, namespace in context.namespaces.by_type.values():
        if namespace.type not in host.namespaces:
            raise UnsupportedError(f"{ORIGIN}[{index}]", f"this kernel has no {namespace.type} namespaces")
    if not host.privileged and not namespaces.has("user"):
        raise UnsupportedError(
            ORIGIN, "rootless container requires user namespaces: add one, with uidMappings and gidMappings"
        )
    if namespaces.creates("user"):
        _check_user_namespace(context)
    if context.linux.net_devices:
        _check_net_devices(context)
    for key in context.linux.sysctl:
        _check_sysctl(context, key)


def _check_net_devices(context: Context) -> None:
    """config-linux.md has them be an object by itself, so it is no breach of a rule if there is nowhere to move to."""
    origin = "linux.netDevices"
    if not context.namespaces.has("network"):
        raise UnsupportedError(
            origin, f"unable to move network devices without a NET namespace: add network to {ORIGIN}"
        )
    if context.host.rootless:
        raise UnsupportedError(origin, "network devices are not supported for rootless containers")


def _check_sysctl(context: Context, key: str) -> None:
    """One that belongs to a namespace of the container's; any other would change the whole host."""
    path = sysctl_path(key)
    if path == "kernel/hostname" and context.namespaces.has("uts"):
        words = f'sysctl "{key}" is not allowed as it conflicts with the OCI "hostname" field: set that instead'
        raise UnsupportedError(_sysctl_origin(key), words)
    type_ = _sysctl_namespace(path)
    if type_ is None:
        raise UnsupportedError(_sysctl_origin(key), f'sysctl "{key}" is not in a separate kernel namespace')
    if not context.namespaces.has(type_):
        raise UnsupportedError(_sysctl_origin(key), f"{_not_of_host(key, type_)}: add one to {ORIGIN}")


def _not_of_host(key: str, type_: str) -> str:
    """In runc's words."""
    if type_ == "network":
        return f'sysctl "{key}" not allowed in host network namespace'
    return f'sysctl "{key}" is not allowed in the hosts {type_} namespace'


def _unless_own(context: Context, type_: str) -> tuple[str, str] | None:
    """Why a joined namespace must not turn out to be the caller's own; only who opens it can tell."""
    for key in context.linux.sysctl:
        if _sysctl_namespace(sysctl_path(key)) == type_:
            return _sysctl_origin(key), f"{_not_of_host(key, type_)}, which {ORIGIN} leads to"
    return None


def _sysctl_namespace(path: str) -> str | None:
    if ".." in path.split("/"):
        return None
    if path in IPC_SYSCTLS or path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    return {"net": "network", "user": "user"}.get(path.partition("/")[0])


def _sysctl_origin(key: str) -> str:
    return f'linux.sysctl["{key}"]'


def _check_user_namespace(context: Context) -> None:
    host, linux = context.host, context.linux
    index, _ = context.namespaces.by_type["user"]
    if not host.user_namespaces:
        raise UnsupportedError(
            f"{ORIGIN}[{index}]",
            "user namespaces are not allowed here: raise user.max_user_namespaces, and set "
            "kernel.unprivileged_userns_clone=1 where that exists (sysctl)",
        )
    if host.privileged:
        return
    _check_allowance(context, linux.uid_mappings, "uid", host.euid, host.subordinate_uids)
    _check_allowance(context, linux.gid_mappings, "gid", host.egid, host.subordinate_gids)


def _check_allowance(
    context: Context, mappings: Sequence[IDMapping], kind: str, own: int, allowed: Sequence[range]
) -> None:
    """An ordinary user may map itself, and what /etc/subuid and /etc/subgid grant (newuidmap(1))."""
    host = context.host
    if host.maps_itself(mappings, own):
        return
    tool = "newuidmap" if kind == "uid" else "newgidmap"
    for index, mapping in enumerate(mappings):
        origin = f"linux.{kind}Mappings[{index}]"
        wanted = range(mapping.host_id, mapping.host_id + mapping.size)
        if wanted == range(own, own + 1):
            continue
        if not allowed:
            raise UnsupportedError(
                origin,
                f"user {host.euid} has no entry in /etc/sub{kind}; map only {own} (size 1), or have one added: "
                f"usermod --add-sub{kind}s 100000-165535 NAME",
            )
        if not any(wanted.start in part and wanted.stop - 1 in part for part in allowed):
            ranges = ", ".join(f"{part.start}-{part.stop - 1}" for part in allowed)
            raise UnsupportedError(
                origin, f"host IDs {wanted.start}-{wanted.stop - 1} are not user {host.euid}'s own: those are {ranges}"
            )
    if not host.has_newuidmap:
        raise UnsupportedError(f"linux.{kind}Mappings", f"{tool} is missing (Debian: apt-get install uidmap)")


def enter(context: Context) -> Iterator[Op]:
    """From the caller's namespaces to the container's."""
    namespaces = context.namespaces
    if context.is_staged:
        # The process that the host moves is the one that it started, so all who follow must be born of it. Besides,
        # root of a user namespace may not be able to see its cgroups, and trees of the host are taken beforehand.
        yield from descriptors.keep(context)
        yield _recorded()
        yield from join_cgroups(context)
        yield from context.slots.trees
    yield from _join(context)
    if namespaces.joins("network"):
        # It may belong to the caller's user namespace, and root of a new one would have no rights in it.
        yield from _net_devices(context)
    user_first = namespaces.creates("user") and namespaces.creates("time")
    if user_first:
        yield Clone(CLONE_NEW["user"], origin=ORIGIN)
        yield from _become_root(context)
    yield from _time_offsets(context)
    if user_first:
        yield Clone(namespaces.created_flags("cgroup", "time", "user"), origin=ORIGIN)
    elif namespaces.creates("user"):
        yield Clone(namespaces.created_flags("cgroup", "time"), origin=ORIGIN)
    else:
        # The kernel takes longest over a network namespace. In the child, it keeps nobody else waiting.
        yield Clone(namespaces.created_flags("cgroup", "time", "network"), origin=ORIGIN)
        if not context.is_staged:
            yield from descriptors.keep(context)
        if namespaces.creates("network"):
            yield Unshare(CLONE_NEW["network"], origin=ORIGIN)
        if not context.is_staged:
            yield _recorded()
    if not user_first:
        yield from _become_root(context)


def _recorded() -> Op:
    """Up to here nothing was touched that would have to be found again if the creator were killed."""
    return Sync(Purpose.RECORD)


def join_cgroups(context: Context) -> Iterator[Op]:
    """Wait until the host has moved us to cgroups of version 1; those of version 2 we were born into."""
    if context.site.joins_cgroups:
        yield Sync(Purpose.JOINED, origin=CGROUPS)


def see_cgroups(context: Context) -> Iterator[Op]:
    """The host makes the cgroups while init makes mounts, so they need not be there before they are shown."""
    if not context.is_staged and context.site.joins_cgroups:
        yield Sync(Purpose.CGROUPS, origin=CGROUPS)
    if context.namespaces.creates("cgroup"):
        yield from _enter_cgroup_namespace(context)


def settle_cgroups(context: Context, *, shown: bool) -> Iterator[Op]:
    """Everybody but us runs in the container's cgroups; we are in them once the container is created."""
    hooks = context.document.hooks
    if context.namespaces.creates("cgroup"):
        if not shown:
            yield from _enter_cgroup_namespace(context)
    elif not context.is_staged and (hooks is not None or scheduling.needs_cgroups(context)):
        yield from join_cgroups(context)


def _enter_cgroup_namespace(context: Context) -> Iterator[Op]:
    """Its root is the cgroup that we are in at this moment."""
    if not context.is_staged:
        yield from join_cgroups(context)
    yield Unshare(CLONE_NEW["cgroup"], origin=ORIGIN)


def _join(context: Context) -> Iterator[Op]:
    pairs, origins = [], []
    for index, namespace in context.namespaces.joined():
        origin = f"{ORIGIN}[{index}].path"
        fd = context.slots.add(
            NamespaceFile(namespace.path or "", namespace.type, origin, _unless_own(context, namespace.type))
        )
        pairs.append((CLONE_NEW[namespace.type], fd))
        origins.append(origin)
    if pairs:
        yield JoinNamespaces(tuple(pairs), origin=ORIGIN, origins=tuple(origins))


def _become_root(context: Context) -> Iterator[Op]:
    """Root of a new user namespace as soon as there is such an ID; without one the caller's own must do."""
    linux = context.linux
    if context.namespaces.joins("user"):
        yield BecomeRoot(context.host.privileged and not context.keeps_groups, origin="linux.namespaces")
    if not context.namespaces.creates("user"):
        return
    yield Sync(Purpose.ID_MAPS, origin="linux.uidMappings")
    if is_mapped(linux.uid_mappings, 0) and is_mapped(linux.gid_mappings, 0):
        yield BecomeRoot(context.may_set_groups, origin="linux.uidMappings")


def is_mapped(mappings: Sequence[IDMapping], container_id: int) -> bool:
    return any(entry.container_id <= container_id < entry.container_id + entry.size for entry in mappings)


def _time_offsets(context: Context) -> Iterator[Op]:
    if not context.namespaces.creates("time"):
        return
    yield Unshare(CLONE_NEW["time"], origin=ORIGIN)
    lines = [
        f"{CLOCKS[clock]} {offset.secs} {offset.nanosecs}\n" for clock, offset in context.linux.time_offsets.items()
    ]
    if lines:
        yield WriteProc("self/timens_offsets", "".join(lines), origin="linux.timeOffsets")


def names(context: Context) -> Iterator[Op]:
    """Host name and domain name."""
    if context.document.hostname:
        yield SetHostname(context.document.hostname, origin="hostname")
    if context.document.domainname:
        yield SetDomainname(context.document.domainname, origin="domainname")


def network(context: Context) -> Iterator[Op]:
    if context.namespaces.creates("network"):
        yield LoopbackUp(origin=ORIGIN)
    if not context.namespaces.joins("network"):
        yield from _net_devices(context)


def _net_devices(context: Context) -> Iterator[Op]:
    if devices := context.linux.net_devices:
        pairs = tuple((name, device.name or name) for name, device in devices.items())
        yield OfferNetlink(pairs, origin="linux.netDevices")


def sysctls(context: Context) -> Iterator[Op]:
    """Through the host's /proc, whose sys/ shows the namespaces of whoever opens it."""
    for key, value in context.linux.sysctl.items():
        yield WriteProc(f"sys/{sysctl_path(key)}", value, origin=_sysctl_origin(key))
