"""What an engine made for its runtime, made free of it: each thing that is replaced, and that it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.errors import BundleError, SpecError
from ocirt.spec import Hook, Hooks, IDMapping, Linux, Mount, Namespace, Process, Root, Seccomp, Spec, Syscall
from ocirt.spec.engine import SHM, EngineConfig
from ocirt.spec.imported import Imported

ID = "a1" * 32
OTHER = "b2" * 32
TASKS = "/run/containerd/io.containerd.runtime.v2.task"
MOBY = f"{TASKS}/moby/{ID}"
USERDATA = f"/var/lib/containers/storage/overlay-containers/{ID}/userdata"
POD = "/var/lib/kubelet/pods/0a1b2c3d-0000-1111-2222-333344445555"

TYPES = ("pid", "network", "ipc", "uts", "mount")


def configuration(**changes: object) -> Spec:
    base = Spec(
        root=Root("/srv/rootfs"),
        process=Process(cwd="/", args=("sh",)),
        linux=Linux(namespaces=tuple(map(Namespace, TYPES))),
    )
    return base.evolve(**changes)


def freed(directory: str = MOBY, **changes: object) -> Imported:
    found = EngineConfig(configuration(**changes), directory).standalone()
    assert found.spec.check() == ()
    return found


def told(found: Imported) -> dict[str, str]:
    """Without the root filesystem, of which something is always told."""
    assert all(note.why for note in found.notes)
    return {note.path: note.became for note in found.notes if note.path != "root.path"}


def test_a_configuration_without_an_engine_stays_as_it_is() -> None:
    found = freed()
    assert found.spec == configuration()
    assert told(found) == {}


@pytest.mark.parametrize(
    ("directory", "engine"),
    [
        (MOBY, "docker"),
        (f"{TASKS}/k8s.io/{ID}", "containerd"),
        (f"{TASKS}/default/web", "containerd"),
        (f"/var/run/docker/libcontainerd/{ID}", "docker"),
        (USERDATA, "podman"),
        ("/srv/bundle", ""),
    ],
)
def test_whose_it_is_tells_its_place(directory: str, engine: str) -> None:
    assert EngineConfig(configuration(), directory).engine == engine


def test_the_file_or_its_directory(tmp_path: Path) -> None:
    spec = configuration()
    spec.dump(tmp_path / "config.json")
    for path in (tmp_path, tmp_path / "config.json", str(tmp_path)):
        found = Spec.from_engine(path)
        assert (found.spec, found.directory) == (spec, str(tmp_path))
    with pytest.raises(BundleError):
        Spec.from_engine(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0.0"}')
    with pytest.raises(SpecError):
        Spec.from_engine(tmp_path)


@pytest.mark.parametrize(
    ("path", "expected", "became"),
    [
        ("rootfs", f"{MOBY}/rootfs", repr(f"{MOBY}/rootfs")),
        ("/var/lib/docker/overlay2/x/merged", "/var/lib/docker/overlay2/x/merged", "kept"),
    ],
)
def test_the_root_is_absolute_and_told(path: str, expected: str, became: str) -> None:
    found = freed(root=Root(path, readonly=True))
    assert found.spec.root == Root(expected, readonly=True)
    assert [(note.path, note.value, note.became) for note in found.notes] == [("root.path", path, became)]


def joined(type_: str, path: str) -> Linux:
    return Linux(namespaces=tuple(Namespace(name, path if name == type_ else None) for name in TYPES))


@pytest.mark.parametrize(
    ("type_", "path"),
    [
        ("network", "/proc/4711/ns/net"),
        ("ipc", "/proc/4711/ns/ipc"),
        ("uts", "/proc/4711/ns/uts"),
        ("pid", "/proc/4711/ns/pid"),
        ("network", "/var/run/netns/cni-01234567-89ab"),
        ("network", "/run/user/1000/netns/netns-01234567"),
        ("network", "/run/docker/netns/0123456789ab"),
    ],
)
def test_a_pods_namespaces_become_new_ones(type_: str, path: str) -> None:
    found = freed(linux=joined(type_, path))
    assert found.spec.linux == Linux(namespaces=tuple(map(Namespace, TYPES)))
    index = TYPES.index(type_)
    assert told(found) == {f"linux.namespaces[{index}].path": f"a new {type_} namespace"}


def test_a_namespace_of_somebodys_own_is_joined_as_before() -> None:
    linux = joined("network", "/run/netns/mine")
    found = freed(linux=linux)
    assert found.spec.linux == linux
    assert told(found) == {}


def test_dockers_name_of_the_hosts_network() -> None:
    """Its settings would be the host's; its files are taken for the engine's."""
    linux = joined("network", "/run/docker/netns/default").evolve(sysctl={"net.a": "1", "kernel.b": "2"})
    hosts = Mount("/etc/hosts", "bind", f"/var/lib/docker/containers/{ID}/hosts", ("rbind",))
    found = freed(linux=linux, mounts=(hosts,))
    assert found.spec.linux == Linux(
        namespaces=tuple(Namespace(name) for name in TYPES if name != "network"), sysctl={"kernel.b": "2"}
    )
    assert found.spec.mounts == (Mount("/etc/hosts", "bind", "/etc/hosts", ("rbind", "ro", "rprivate")),)
    assert told(found) == {
        "linux.namespaces[1].path": "no network namespace",
        "linux.sysctl['net.a']": "left out",
        "mounts[0].source": "the host's /etc/hosts",
    }


def test_a_joined_user_namespace_needs_mappings_of_its_own() -> None:
    path = "/proc/4711/ns/user"
    users = (*map(Namespace, TYPES), Namespace("user", path))
    assert told(freed(linux=Linux(namespaces=users))) == {"linux.namespaces[5].path": "left out"}
    mapping = (IDMapping(0, 100_000, 65536),)
    found = freed(linux=Linux(namespaces=users, uid_mappings=mapping, gid_mappings=mapping))
    assert told(found) == {"linux.namespaces[5].path": "a new user namespace"}
    assert found.spec.linux is not None
    assert found.spec.linux.uid_mappings == mapping


def test_the_cgroup_is_the_engines() -> None:
    found = freed(linux=configuration().linux.evolve(cgroups_path=f"/docker/{ID}"))  # type: ignore[union-attr]  # it has one
    assert found.spec == configuration()
    assert told(found) == {"linux.cgroupsPath": "left out"}


def test_hooks_that_call_an_engine_go_and_others_stay() -> None:
    setkey = Hook("/proc/28/exe", ("libnetwork-setkey", "-exec-root=/run/docker", ID))
    cleanup = Hook("/usr/bin/podman", ("podman", "container", "cleanup", ID))
    wrapped = Hook("/bin/env", ("env", "/usr/libexec/podman/netavark", "setup"))
    own = Hook("/usr/local/bin/notify", ("notify", "podman is great"))
    found = freed(hooks=Hooks(prestart=(own, setkey), poststop=(cleanup,), poststart=(wrapped,)))
    assert found.spec.hooks == Hooks(prestart=(own,))
    assert told(found) == dict.fromkeys(("hooks.prestart[1]", "hooks.poststart[0]", "hooks.poststop[0]"), "left out")
    assert freed(hooks=Hooks(prestart=(setkey,))).spec.hooks is None


@pytest.mark.parametrize(
    "source",
    [
        f"/var/lib/docker/containers/{ID}/resolv.conf",
        f"/data/docker/containers/{OTHER}/hostname",
        f"/run/containers/storage/overlay-containers/{ID}/userdata/.containerenv",
        f"/home/u/.local/share/containers/storage/overlay-containers/{ID}/userdata/run/secrets",
        f"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{OTHER}/resolv.conf",
        "/data/io.containerd.grpc.v1.cri/sandboxes/short/shm",
        f"{POD}/etc-hosts",
        f"{MOBY}/something",
        "/proc/4711/root/tmp",
    ],
)
def test_files_of_an_engine_are_not_bound(source: str) -> None:
    mounts = (Mount("/a", "bind", source, ("rbind",)), Mount("/data", "bind", "/srv/data", ("rbind", "ro")))
    found = freed(mounts=mounts)
    assert found.spec.mounts == mounts[1:]
    assert told(found) == {"mounts[0].source": "left out"}


@pytest.mark.parametrize(
    "source",
    ["/srv/data", "/usr/bin/docker-init", "/proc", "/dev/shm", "/home/u/pods/x", f"/srv/{ID}-mine", "/proc/sys"],
)
def test_files_of_others_are(source: str) -> None:
    mounts = (Mount("/a", "bind", source, ("rbind",)), Mount("/proc", "proc", "proc"))
    found = freed(mounts=mounts)
    assert found.spec.mounts == mounts
    assert told(found) == {}


@pytest.mark.parametrize(
    "source",
    [
        f"/var/lib/docker/volumes/{OTHER}/_data",
        "/var/lib/containers/storage/volumes/name/_data/sub",
    ],
)
def test_volumes_stay_and_are_told(source: str) -> None:
    mounts = (Mount("/a", "bind", source, ("rbind",)),)
    found = freed(mounts=mounts)
    assert found.spec.mounts == mounts
    assert told(found) == {"mounts[0].source": "kept"}


def test_shared_memory_of_a_pod_becomes_its_own() -> None:
    found = freed(USERDATA, mounts=(Mount("/dev/shm", "bind", f"{USERDATA}/shm", ("bind", "nosuid")),))
    assert found.spec.mounts == (SHM,)
    assert told(found) == {"mounts[0].source": "a tmpfs of its own, of 64 MiB"}


def test_nobody_is_left_to_answer_for_system_calls() -> None:
    rules = (Syscall(("mount",), "SCMP_ACT_NOTIFY"), Syscall(("read",), "SCMP_ACT_ALLOW"))
    seccomp = Seccomp(
        "SCMP_ACT_ALLOW", listener_path=f"/run/{ID}/agent.sock", listener_metadata="engine", syscalls=rules
    )
    linux = configuration().linux
    assert linux is not None
    found = freed(linux=linux.evolve(seccomp=seccomp))
    assert found.spec.linux is not None
    assert found.spec.linux.seccomp == Seccomp(
        "SCMP_ACT_ALLOW", syscalls=(Syscall(("mount",), "SCMP_ACT_ERRNO", 38), rules[1])
    )
    assert told(found) == {
        "linux.seccomp.listenerPath": "left out",
        "linux.seccomp.syscalls[0].action": "SCMP_ACT_ERRNO with ENOSYS",
    }


@pytest.mark.parametrize("profile", ["docker-default", "cri-containerd.apparmor.d", "containers-default-0.57.4"])
def test_a_profile_that_the_engine_loads(profile: str) -> None:
    found = freed(process=Process(cwd="/", args=("sh",), apparmor_profile=profile))
    assert found.spec == configuration()
    assert told(found) == {"process.apparmorProfile": "left out"}
    own = Process(cwd="/", args=("sh",), apparmor_profile="mine")
    assert freed(process=own).spec.process == own


def test_annotations_for_the_engine() -> None:
    annotations = {
        "io.container.manager": "libpod",
        "io.kubernetes.cri.container-type": "container",
        "io.podman.annotations.init": "TRUE",
        "org.systemd.property.After": "x",
        "org.opencontainers.image.stopSignal": "15",
        "mine": "1",
    }
    found = freed(annotations=annotations)
    assert found.spec.annotations == {"org.opencontainers.image.stopSignal": "15", "mine": "1"}
    assert list(told(found)) == [f"annotations[{name!r}]" for name in list(annotations)[:4]]
