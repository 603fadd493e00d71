"""config.json and what it says of every platform (config.md): root, mounts, process, hooks.

What it says of Linux alone is in ``linux.py``. The classes are values; loading and dumping are in ``convert.py``,
the rules in ``check.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import field, frozen

from ocirt.spec.base import REQUIRED, Document, FreeText, Int32, OCIObject, UInt32, UInt64, strings
from ocirt.spec.linux import IDMapping, Linux

if TYPE_CHECKING:
    from os import PathLike

    from ocirt.spec.base import JSON
    from ocirt.spec.engine import EngineConfig
    from ocirt.spec.imported import Imported, Machine
    from ocirt.spec.scheduling import ExecCPUAffinity, IOPriority, Scheduler


@frozen(repr=False)
class Root(OCIObject):
    """The container's root filesystem (config.md, Root)."""

    path: str
    readonly: bool = False


@frozen(repr=False)
class Mount(OCIObject):
    """One more mount below the root (config.md, Mounts); its order among the others matters."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = field(default=(), converter=strings)
    uid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])
    gid_mappings: tuple[IDMapping, ...] = field(default=(), converter=tuple[IDMapping, ...])


@frozen(repr=False)
class ConsoleSize(OCIObject):
    """The terminal's size in characters."""

    height: UInt64
    width: UInt64


@frozen(repr=False)
class User(OCIObject):
    """Whom the process runs as, in the container's user namespace (config.md, POSIX-platform User)."""

    uid: UInt32 = field(default=0, metadata=REQUIRED)
    gid: UInt32 = field(default=0, metadata=REQUIRED)
    umask: UInt32 | None = None
    additional_gids: tuple[UInt32, ...] = field(default=(), converter=tuple[int, ...])


@frozen(repr=False)
class Rlimit(OCIObject):
    """One resource limit, see getrlimit(2); 2**64-1 stands for infinity."""

    type: str
    hard: UInt64
    soft: UInt64


@frozen(repr=False)
class Capabilities(OCIObject):
    """The five capability sets by their full names, see capabilities(7)."""

    bounding: tuple[str, ...] = field(default=(), converter=strings)
    effective: tuple[str, ...] = field(default=(), converter=strings)
    inheritable: tuple[str, ...] = field(default=(), converter=strings)
    permitted: tuple[str, ...] = field(default=(), converter=strings)
    ambient: tuple[str, ...] = field(default=(), converter=strings)


@frozen(repr=False, kw_only=True)
class Process(Document):
    """The program of the container and how it runs (config.md, Process)."""

    terminal: bool = False
    console_size: ConsoleSize | None = None
    cwd: str
    env: tuple[str, ...] = field(default=(), converter=strings)
    args: tuple[str, ...] = field(default=(), converter=strings)
    command_line: str | None = None
    rlimits: tuple[Rlimit, ...] = field(default=(), converter=tuple[Rlimit, ...])
    apparmor_profile: str | None = None
    capabilities: Capabilities | None = None
    no_new_privileges: bool = False
    oom_score_adj: Int32 | None = None
    scheduler: Scheduler | None = None
    selinux_label: str | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: ExecCPUAffinity | None = None
    user: User = User()


@frozen(repr=False)
class Hook(OCIObject):
    """A program that the runtime runs at a point of the container's life (config.md, POSIX-platform Hooks)."""

    path: str
    args: tuple[str, ...] = field(default=(), converter=strings)
    env: tuple[str, ...] = field(default=(), converter=strings)
    timeout: int | None = None


@frozen(repr=False)
class Hooks(OCIObject):
    """The hooks of all six kinds; within a kind they run in order."""

    prestart: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])
    create_runtime: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])
    create_container: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])
    start_container: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])
    poststart: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])
    poststop: tuple[Hook, ...] = field(default=(), converter=tuple[Hook, ...])


@frozen(repr=False, kw_only=True)
class Spec(Document):
    """The whole of config.json (config.md)."""

    oci_version: str = field(default="1.3.0", metadata=REQUIRED)
    root: Root
    mounts: tuple[Mount, ...] = field(default=(), converter=tuple[Mount, ...])
    process: Process | None = None
    hostname: str | None = None
    domainname: str | None = None
    linux: Linux | None = None
    hooks: Hooks | None = None
    annotations: Mapping[str, FreeText] = field(factory=dict, hash=False)

    @staticmethod
    def default(
        rootless: bool = False, *, uid: int | None = None, gid: int | None = None, cgroup2: bool = False
    ) -> Spec:
        """What ``runc spec [--rootless]`` writes, but for ociVersion, which is ours.

        ``uid`` and ``gid`` are what root of a rootless container is on the host, by default the caller's IDs. On a
        host with cgroup v2 alone, runc adds a cgroup namespace: ``cgroup2``.
        """
        from ocirt.spec.default import default

        return default(rootless, uid=uid, gid=gid, cgroup2=cgroup2)

    @staticmethod
    def from_docker_inspect(source: str | bytes | Mapping[str, JSON], machine: Machine | None = None) -> Imported:
        """What ``docker inspect`` says of a container, as a ``spec`` and ``notes`` of what does not go into one.

        ``source`` is its JSON text, or the object of one container. Devices and names of users can only be carried
        over with a ``machine`` that knows them, such as ``ocirt.lookup.here()``; else they are noted too.

        :raises SpecError: it is no such document, with every problem.
        """
        from ocirt.spec import docker_inspect, imported

        return docker_inspect.convert(source, machine if machine is not None else imported.Machine())

    @staticmethod
    def from_engine(path: str | PathLike[str]) -> EngineConfig:
        """A config.json, or the directory with one, that an engine made for its runtime.

        It has what the engine needs of it; ``standalone()`` is one that needs no engine, and what was replaced.

        :raises BundleError: there is none.
        :raises SpecError: it is wrong, with every problem.
        """
        from ocirt.spec.engine import EngineConfig

        return EngineConfig.load(path)
