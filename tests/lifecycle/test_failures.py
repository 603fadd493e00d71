"""What cannot be made is a typed error that names its member, and leaves nothing behind (runtime.md, Errors)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ocirt import Bundle, Container, Spec
from ocirt.errors import BundleError, ExistsError, OCIError, SetupError, SpecError, UnsupportedError
from ocirt.spec import Linux, Mount, Rlimit, Root
from tests.support import Caller, Lab, document, linux, namespaces, process, python, shell

pytestmark = pytest.mark.root


def refused(lab: Lab, spec: Spec) -> OCIError:
    before = Caller.now()
    with pytest.raises(OCIError) as caught:
        lab.create(spec)
    assert lab.remains() == []
    error = caught.value
    del caught
    error.__traceback__ = None
    assert Caller.now() == before
    return error


@pytest.mark.covers("ociVersion")
def test_a_wrong_configuration_tells_every_problem(lab: Lab) -> None:
    """Before anything exists, with the path of each."""
    program = process("true", cwd="relative", rlimits=(Rlimit("RLIMIT_NONE", 1, 1),))
    error = refused(lab, document("true").evolve(oci_version="one", process=program))
    assert isinstance(error, SpecError)
    assert [problem.path for problem in error.problems] == ["ociVersion", "process.cwd", "process.rlimits[0].type"]


def test_a_missing_configuration(lab: Lab) -> None:
    with pytest.raises(BundleError, match=r"JSON specification file config\.json not found|config\.json"):
        Container.create(lab.new_id(), lab.directory, root=lab.root)


@pytest.mark.covers("root.path")
def test_a_missing_rootfs(lab: Lab) -> None:
    error = refused(lab, document("true").evolve(root=Root("/no/such/rootfs")))
    assert isinstance(error, BundleError)
    assert error.origin == "root.path"


def test_a_rootfs_that_is_a_file(lab: Lab) -> None:
    error = refused(lab, document("true").evolve(root=Root("/etc/hostname")))
    assert isinstance(error, BundleError)


def setup_error(error: OCIError) -> tuple[str, str, int]:
    assert isinstance(error, SetupError)
    assert isinstance(error.__cause__, OSError)
    return error.origin, error.operation, error.errno


def test_a_missing_program(lab: Lab) -> None:
    assert setup_error(refused(lab, document("no-such")))[:2] == ("process.args[0]", "FindProgram")


def mounted(*mounts: Mount) -> Spec:
    spec = shell("true")
    return spec.evolve(mounts=(*spec.mounts, *mounts))


@pytest.mark.covers("mounts[].source")
def test_a_missing_source_of_a_bind_mount(lab: Lab) -> None:
    error = refused(lab, mounted(Mount("/tmp", None, "/no/such/source", ("bind",))))
    origin, _, number = setup_error(error)
    assert origin.startswith("mounts[7]")
    assert number == 2
    assert "/no/such/source" in str(error)
    assert "the source does not exist" in str(error)


def test_a_mount_point_that_cannot_be_made(lab: Lab) -> None:
    """Below a filesystem where nothing can be made."""
    error = refused(lab, mounted(Mount("/sys/new", "tmpfs", "tmpfs")))
    assert setup_error(error)[0] == "mounts[7]"
    assert "/sys/new" in str(error)


def test_a_mount_point_below_a_readonly_source(lab: Lab) -> None:
    source = lab.directory / "source"
    source.mkdir()
    spec = mounted(Mount("/tmp", None, str(source), ("bind", "ro")), Mount("/tmp/new", "tmpfs", "tmpfs"))
    error = refused(lab, spec)
    assert setup_error(error)[::2] == ("mounts[8]", 30)
    assert os.listdir(source) == []


@pytest.mark.covers("mounts[].type")
def test_an_unknown_filesystem(lab: Lab) -> None:
    error = refused(lab, mounted(Mount("/tmp", "nosuchfs", "x")))
    assert setup_error(error) == ("mounts[7]", "MountFilesystem", 19)
    assert "this kernel has no such filesystem" in str(error)


@pytest.mark.covers("mounts[].options")
def test_data_that_a_filesystem_refuses(lab: Lab) -> None:
    error = refused(lab, mounted(Mount("/tmp", "tmpfs", "tmpfs", ("size=lots",))))
    assert setup_error(error)[0].startswith("mounts[7]")
    assert "size=lots" in str(error)


@pytest.mark.covers("mounts[].destination")
@pytest.mark.parametrize(
    "mount",
    [
        Mount("/bin/busybox", None, "/etc", ("bind",)),
        Mount("/tmp", None, "/etc/passwd", ("bind",)),
        Mount("/bin/busybox", "tmpfs", "tmpfs"),
    ],
)
def test_a_directory_and_a_file_are_no_place_for_each_other(lab: Lab, mount: Mount) -> None:
    """In mount(2)'s words, which tell users more than move_mount(2)'s EINVAL."""
    error = refused(lab, mounted(mount))
    assert setup_error(error)[::2] == ("mounts[7]", errno.ENOTDIR)
    assert "Not a directory" in str(error)


@pytest.mark.covers("hostname")
def test_a_host_name_that_is_too_long(lab: Lab) -> None:
    error = refused(lab, document("true").evolve(hostname="x" * 65))
    assert "hostname" in str(error)


def test_a_sysctl_that_is_not_there(lab: Lab) -> None:
    error = refused(lab, document("true").evolve(linux=linux(sysctl={"net.ipv4.no_such": "1"})))
    assert "no_such" in str(error)
    assert "linux.sysctl" in str(error)


@pytest.mark.covers("linux.sysctl")
@pytest.mark.parametrize(
    "key", ["vm.oom_kill_allocating_task", "kernel.panic", "kernel/hostname", "user.max_user_namespaces"]
)
def test_a_sysctl_of_the_whole_host(lab: Lab, key: str) -> None:
    file = Path("/proc/sys", key.replace(".", "/"))
    before = file.read_text()
    error = refused(lab, document("true").evolve(linux=linux(sysctl={key: before.strip()})))
    assert isinstance(error, UnsupportedError)
    assert error.origin == f'linux.sysctl["{key}"]'
    assert file.read_text() == before


def test_a_sysctl_of_the_hosts_network_by_its_path(lab: Lab) -> None:
    types = namespaces("pid", "ipc", "uts", "mount", network="/proc/self/ns/net")
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    error = refused(lab, document("true").evolve(linux=linux(namespaces=types, sysctl={"net.ipv4.ip_forward": "1"})))
    assert isinstance(error, UnsupportedError)
    assert error.needs.startswith('sysctl "net.ipv4.ip_forward" not allowed in host network namespace')
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


@pytest.mark.covers("linux.sysctl")
def test_a_sysctl_of_the_hosts_network(lab: Lab) -> None:
    without = tuple(entry for entry in linux().namespaces if entry.type != "network")
    members = linux(namespaces=without, sysctl={"net.ipv4.ip_forward": "1"})
    assert "not allowed in host network namespace" in str(refused(lab, document("true").evolve(linux=members)))


@pytest.mark.parametrize(
    ("change", "origin"),
    [
        (lambda: {"mount_label": "system_u:object_r:x_t:s0"}, "linux.mountLabel"),
    ],
)
def test_what_is_not_honoured_yet_is_no_silent_skip(
    lab: Lab, change: Callable[[], dict[str, object]], origin: str
) -> None:
    error = refused(lab, document("true").evolve(linux=linux(**change())))
    assert isinstance(error, UnsupportedError)
    assert error.origin == origin


def test_a_second_container_of_the_same_name(lab: Lab) -> None:
    with lab.create(document("sleep", "60")) as container:
        with pytest.raises(ExistsError):
            lab.create(document("true"), id=container.id)
        container.start()
        assert container.status == "running"


def test_a_failed_create_leaves_its_id_free(lab: Lab) -> None:
    container_id = lab.new_id()
    with pytest.raises(SetupError):
        lab.create(document("no-such"), id=container_id)
    lab.create(document("true"), id=container_id).delete()


def test_a_rootfs_without_the_wanted_program_says_where_it_looked(lab: Lab) -> None:
    assert "no-such" in str(refused(lab, document("no-such")))


def test_a_state_root_that_cannot_be_made(lab: Lab) -> None:
    bundle = lab.bundle(document("true"))
    with pytest.raises((OCIError, OSError)):
        Container.create(lab.new_id(), bundle, root="/proc/no/state")
    assert lab.remains() == []


@pytest.mark.covers("linux")
def test_no_linux_section_is_a_container_with_the_callers_namespaces(lab: Lab) -> None:
    spec = Spec(process=process("ls", "/"), root=Root("rootfs"), linux=None)
    assert lab.output(spec).split() == "bin dev etc proc root sys tmp".split()
    assert lab.output(spec.evolve(linux=Linux())).split() == "bin dev etc proc root sys tmp".split()


def test_a_bundle_is_loaded_from_its_path(lab: Lab) -> None:
    bundle = lab.bundle(document("true"))
    with Container.create(lab.new_id(), str(bundle.path), root=lab.root, stdin=-3, stdout=-3) as container:
        container.start()
        assert container.wait(60) == 0
    assert Bundle.load(bundle.path).spec == bundle.spec


def test_a_caller_whose_root_is_no_mount_point_is_told(rootfs: Path) -> None:
    """After chroot(2) the kernel says no more than EINVAL."""
    said = python(
        "import os, sys\n"
        "import ocirt\n"
        "ocirt.run(['true'], root=sys.argv[1] + '/state')\n"  # imports all, and asks the host what it wants to know
        "bundle = ocirt.Bundle('/', ocirt.Spec.default().evolve(root=ocirt.spec.Root('/'), mounts=()))\n"
        "os.chroot(sys.argv[1])\n"
        "try:\n"
        "    ocirt.Container.create('c', bundle, root='/state', cgroup_manager='disabled', stdin=0, stdout=1)\n"
        "except ocirt.SetupError as error:\n"
        "    print(error.operation, error.hint)\n",
        str(rootfs),
    )
    assert said.startswith("SetPropagation the caller's / is no mount point")
