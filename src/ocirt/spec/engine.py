"""A config.json that containerd, Docker, podman or CRI-O made for its runtime, and one that needs none of them.

Such a file belongs to a live container: namespaces of a process that may be gone tomorrow, files that the engine keeps
for it, hooks that call the engine. Where they are found::

    /run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID/config.json      Docker's namespace is moby
    GRAPHROOT/overlay-containers/ID/userdata/config.json                        of podman and CRI-O

Engines can keep their things anywhere. So their files are known by how the paths are made: a container's whole ID, or
the name of one of containerd's plugins, is a part of them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ocirt.spec.base import join
from ocirt.spec.config import Hook, Hooks, Mount, Process, Root, Spec
from ocirt.spec.imported import LEFT_OUT, Imported, Note
from ocirt.spec.linux import Linux, Namespace

if TYPE_CHECKING:
    from os import PathLike

    from ocirt.spec.seccomp import Seccomp

ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
PLUGIN: Final = re.compile(r"io\.containerd\.[a-z0-9.-]+", re.ASCII)
OF_A_PROCESS: Final = re.compile(r"/proc/(\d+|self|thread-self)(/.*)?", re.ASCII)
OF_A_POD: Final = re.compile(r"/pods/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/", re.ASCII)
"""The kubelet's directory of a pod."""

VOLUME: Final = re.compile(r"/volumes/[^/]+/_data(/.*)?$", re.ASCII)
"""Docker's and podman's; anonymous ones have an ID for a name."""

NETWORK: Final = re.compile(r"/netns/(cni-|netns-)|/docker/netns/", re.ASCII)
"""Namespaces that plugins and engines have bound somewhere."""

HOSTS_NETWORK: Final = re.compile(r"/docker/netns/default$", re.ASCII)

ENGINES: Final = frozenset(
    "conmon containerd crio docker dockerd libnetwork-setkey netavark nerdctl podman rootlessport slirp4netns".split()
)
"""Programs that a hook of an engine calls."""

ANNOTATIONS: Final = (
    *("io.container.manager", "io.containerd.", "io.kubernetes.", "io.podman.", "io.crio.", "nerdctl/"),
    *("com.docker.", "org.systemd.property."),
)
"""How an engine finds its container again, and what its own cgroup driver needs."""

PROFILE: Final = re.compile(
    r"docker-default|cri-containerd\.apparmor\.d|crio-default\S*|containers-default-\S+|nerdctl-default"
)
"""AppArmor profiles that engines load, and load again when they are gone."""

SHM: Final = Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k"))
KEPT: Final = "kept"
_THEIRS: Final = "it is in the engine's directory"
NETWORK_FILES: Final = ("/etc/resolv.conf", "/etc/hosts")


@frozen
class EngineConfig:
    """The configuration as it was found, and the directory that it was found in."""

    spec: Spec
    directory: str

    @classmethod
    def load(cls, path: str | PathLike[str]) -> EngineConfig:
        """:raises BundleError: there is no config.json."""
        text = str(path)
        file = text if text.endswith(".json") else posixpath.join(text, "config.json")
        return cls(Spec.load(file), posixpath.dirname(file) or ".")

    @property
    def engine(self) -> str:
        """Whose it is, as far as its place tells: docker, containerd, podman (or CRI-O), or nothing."""
        parts = self.directory.rstrip("/").split("/")
        if parts[-1] == "userdata" and any(part.endswith("-containers") for part in parts):
            return "cri-o" if "io.kubernetes.cri-o.ContainerType" in self.spec.annotations else "podman"
        if any(PLUGIN.fullmatch(part) for part in parts):
            return "docker" if "moby" in parts else "containerd"
        return "docker" if "libcontainerd" in parts else ""

    def standalone(self) -> Imported:
        """Without an engine; its root filesystem remains the engine's, which a note says."""
        return _Change(self.spec, self.directory).made()


@frozen
class _Change:
    """One configuration on its way."""

    spec: Spec
    directory: str
    notes: list[Note] = field(factory=list)

    def made(self) -> Imported:
        spec = self.spec
        linux = spec.linux if spec.linux is not None else Linux()
        namespaces, hosts_network = self._namespaces(linux)
        changed = spec.evolve(
            root=self._root(),
            mounts=tuple(self._mounts(hosts_network)),
            process=self._process(),
            hooks=self._hooks(),
            linux=self._linux(linux, namespaces, hosts_network),
            annotations=self._annotations(),
        )
        return Imported(changed, tuple(self.notes))

    def _note(self, path: str, value: object, why: str, became: str = LEFT_OUT) -> None:
        self.notes.append(Note(path, value, became, why))

    def _root(self) -> Root:
        root = self.spec.root
        path = posixpath.normpath(posixpath.join(self.directory, root.path))
        why = "the engine's own mount, there while its container is, and shared with it: unpack one to be free of it"
        self._note("root.path", root.path, why, became=KEPT if path == root.path else repr(path))
        return root.evolve(path=path)

    def _namespaces(self, linux: Linux) -> tuple[tuple[Namespace, ...], bool]:
        """Those that a process or an engine keeps become new ones; the host's network is no namespace at all."""
        made: list[Namespace] = []
        hosts = not any(namespace.type == "network" for namespace in linux.namespaces)
        for index, namespace in enumerate(linux.namespaces):
            at, path = f"linux.namespaces[{index}].path", namespace.path
            if path is None or not (OF_A_PROCESS.fullmatch(path) or NETWORK.search(path)):
                made.append(namespace)
            elif HOSTS_NETWORK.search(path):
                self._note(at, path, "it is the host's network", became="no network namespace")
                hosts = True
            elif namespace.type == "user" and not (linux.uid_mappings and linux.gid_mappings):
                self._note(at, path, "nothing says which IDs it maps; add linux.uidMappings and gidMappings")
            else:
                made.append(namespace.evolve(path=None))
                self._note(at, path, "whose it is may be gone", became=f"a new {namespace.type} namespace")
        return tuple(made), hosts

    def _linux(self, linux: Linux, namespaces: tuple[Namespace, ...], hosts_network: bool) -> Linux:
        if linux.cgroups_path is not None:
            why = "the engine's container is in there; ocirt names cgroups by the container"
            self._note("linux.cgroupsPath", linux.cgroups_path, why)
        types = {namespace.type for namespace in namespaces}
        sysctl = dict(linux.sysctl)
        for name in [name for name in sysctl if hosts_network and name.startswith("net.")]:
            self._note(f"linux.sysctl[{name!r}]", sysctl.pop(name), "the network is the host's")
        has_users = "user" in types
        return linux.evolve(
            namespaces=namespaces,
            cgroups_path=None,
            sysctl=sysctl,
            seccomp=None if linux.seccomp is None else self._seccomp(linux.seccomp),
            uid_mappings=linux.uid_mappings if has_users else (),
            gid_mappings=linux.gid_mappings if has_users else (),
        )

    def _seccomp(self, seccomp: Seccomp) -> Seccomp:
        """System calls that nobody answers for any more fail, as if the kernel did not have them."""
        if seccomp.listener_path is None:
            return seccomp
        self._note("linux.seccomp.listenerPath", seccomp.listener_path, "the agent there is the engine's")
        rules = []
        for index, rule in enumerate(seccomp.syscalls):
            if rule.action == "SCMP_ACT_NOTIFY":
                at = f"linux.seccomp.syscalls[{index}].action"
                self._note(at, rule.action, "nobody is there to answer", became="SCMP_ACT_ERRNO with ENOSYS")
                rule = rule.evolve(action="SCMP_ACT_ERRNO", errno_ret=38)
            rules.append(rule)
        return seccomp.evolve(listener_path=None, listener_metadata=None, syscalls=tuple(rules))

    def _process(self) -> Process | None:
        process = self.spec.process
        if process is None or process.apparmor_profile is None or not PROFILE.fullmatch(process.apparmor_profile):
            return process
        self._note(
            "process.apparmorProfile", process.apparmor_profile, "the engine loads it, and again once it is gone"
        )
        return process.evolve(apparmor_profile=None)

    def _annotations(self) -> dict[str, str]:
        kept = {}
        for name, value in self.spec.annotations.items():
            if name.startswith(ANNOTATIONS):
                self._note(f"annotations[{name!r}]", value, "it is for the engine")
            else:
                kept[name] = value
        return kept

    def _hooks(self) -> Hooks | None:
        hooks = self.spec.hooks
        if hooks is None:
            return None
        changed = hooks.evolve(
            prestart=tuple(self._kept("prestart", hooks.prestart)),
            create_runtime=tuple(self._kept("createRuntime", hooks.create_runtime)),
            create_container=tuple(self._kept("createContainer", hooks.create_container)),
            start_container=tuple(self._kept("startContainer", hooks.start_container)),
            poststart=tuple(self._kept("poststart", hooks.poststart)),
            poststop=tuple(self._kept("poststop", hooks.poststop)),
        )
        return changed if changed != Hooks() else None

    def _kept(self, kind: str, hooks: tuple[Hook, ...]) -> Iterator[Hook]:
        """Those of the site remain: a hook is an engine's if it calls one."""
        for index, hook in enumerate(hooks):
            names = {posixpath.basename(word) for word in (hook.path, *hook.args[:2])}
            if OF_A_PROCESS.fullmatch(hook.path) or names & ENGINES:
                self._note(f"hooks.{kind}[{index}]", " ".join((hook.path, *hook.args[1:])), "it calls the engine")
            else:
                yield hook

    def _mounts(self, hosts_network: bool) -> Iterator[Mount]:
        for index, mount in enumerate(self.spec.mounts):
            at, source = join(f"mounts[{index}]", "source"), mount.source or ""
            if VOLUME.search(source):
                self._note(at, source, "a volume of the engine's, and gone when the engine removes it", became=KEPT)
                yield mount
            elif not self._is_engines(mount):
                yield mount
            else:
                yield from self._replaced(mount, at, hosts_network)

    def _is_engines(self, mount: Mount) -> bool:
        source = mount.source or ""
        if not source.startswith("/"):
            return False
        within = posixpath.normpath(source) + "/"
        parts = source.split("/")
        return (
            within.startswith(posixpath.join(posixpath.normpath(self.directory), ""))
            or OF_A_PROCESS.fullmatch(source) is not None
            or OF_A_POD.search(source) is not None
            or any(ID.fullmatch(part) or PLUGIN.fullmatch(part) for part in parts)
        )

    def _replaced(self, mount: Mount, at: str, hosts_network: bool) -> Iterator[Mount]:
        destination = posixpath.normpath(mount.destination)
        source = mount.source
        if destination == "/dev/shm":
            self._note(at, source, _THEIRS, became="a tmpfs of its own, of 64 MiB")
            yield SHM
        elif destination in NETWORK_FILES and hosts_network:
            self._note(at, source, _THEIRS, became=f"the host's {destination}")
            yield Mount(destination, "bind", destination, ("rbind", "ro", "rprivate"))
        else:
            self._note(
                at, source, f"it is in the engine's directory; what the root filesystem has at {destination} shows"
            )
