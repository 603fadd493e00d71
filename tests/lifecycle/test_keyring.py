"""A session keyring of the container's own (keyrings(7)), which no member of config.json asks for, and runc makes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from ocirt import Container, Spec
from ocirt.spec import IDMapping, Linux
from tests.support import SECONDS, Lab, document, eventually, linux, make_rootfs, namespaces, process, said

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(not Path("/proc/keys").exists(), reason="needs a kernel with keys"),
]

SHOW = r"""
#include <linux/keyctl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	char text[1024] = "";
	long ring = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);

	syscall(SYS_keyctl, KEYCTL_DESCRIBE, ring, text, sizeof text - 1);
	printf("%ld;%s\n", ring, text);
	fflush(stdout);
	pause();
	return 0;
}
"""


@pytest.fixture(scope="module")
def showing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rootfs with a program that says which keyring it has, and stays."""
    directory = tmp_path_factory.mktemp("keys")
    make_rootfs(directory / "rootfs")
    source = directory / "show.c"
    source.write_text(SHOW)
    subprocess.run(["gcc", "-static", "-o", directory / "rootfs/bin/show", source], check=True)
    return directory / "rootfs"


MAPPING = (IDMapping(0, 200000, 65536),)
WITH_USER_NAMESPACE = linux(
    namespaces=namespaces("user", "pid", "network", "ipc", "uts", "mount", "cgroup"),
    uid_mappings=MAPPING,
    gid_mappings=MAPPING,
)


def of(rootfs: Path, members: Linux) -> Spec:
    spec = document("show").evolve(linux=members)
    return spec.evolve(root=spec.root.evolve(path=str(rootfs)))


def first_line(container: Container) -> list[str]:
    """Serial number, type, uid, gid, permissions, name."""
    process = container.process
    assert process is not None
    assert process.stdout is not None
    return process.stdout.readline().decode().strip().split(";")


def executed(container: Container) -> list[str]:
    with container.exec(process("show"), stdin=DEVNULL, stdout=PIPE) as made:
        assert made.stdout is not None
        line = made.stdout.readline().decode().strip().split(";")
        made.kill()
        made.wait(SECONDS)
    return line


by_namespace = pytest.mark.parametrize(
    "members", [linux(), WITH_USER_NAMESPACE], ids=["of the host", "in a user namespace"]
)


@by_namespace
def test_a_container_has_a_keyring_of_its_own_that_every_process_joins(lab: Lab, showing: Path, members: Linux) -> None:
    with lab.start(of(showing, members)) as container:
        serial, kind, _, _, permission, name = first_line(container)
        assert (kind, name) == ("keyring", f"_ses.{container.id}")
        assert int(permission, 16) == 0x3F1B0000
        assert executed(container)[0] == serial
        assert executed(container)[0] == serial


def test_two_containers_have_two(lab: Lab, showing: Path) -> None:
    with lab.start(of(showing, linux())) as one, lab.start(of(showing, linux())) as other:
        assert first_line(one)[0] != first_line(other)[0]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows keyctl's number on x86-64 alone")
def test_a_keyring_of_that_name_which_is_there_before_is_not_taken(lab: Lab, showing: Path) -> None:
    """Somebody might have put it there, to read what the container will put into it."""
    container_id = lab.new_id()
    script = f"import ctypes, sys; c = ctypes.CDLL(None); n = c.syscall(250, 1, b'_ses.{container_id}'); "
    script += "c.syscall(250, 5, n, 0x3f1b0000); print(n, flush=True); sys.stdin.read()"
    with subprocess.Popen(["python3", "-c", script], stdin=PIPE, stdout=PIPE, text=True) as squatter:
        assert squatter.stdout is not None
        theirs = squatter.stdout.readline().strip()
        spec = of(showing, linux())
        with lab.create(spec, id=container_id, stdout=PIPE) as container:
            container.start()
            serial, _, _, _, _, name = first_line(container)
            assert serial != theirs
            assert name == "_ses"
        squatter.communicate()


def test_it_can_be_left_out(lab: Lab, showing: Path) -> None:
    with Container.create(
        lab.new_id(),
        lab.bundle(of(showing, linux())),
        root=lab.root,
        stdin=DEVNULL,
        stdout=PIPE,
        new_keyring=False,
    ) as container:
        container.start()
        serial, _, _, _, _, name = first_line(container)
        assert name != f"_ses.{container.id}"
        assert executed(container)[0] == serial
        assert executed(lab.load(container))[0] == serial


def test_it_is_gone_with_the_container(lab: Lab, showing: Path) -> None:
    with lab.start(of(showing, linux())) as container:
        name = f"_ses.{container.id}"
        assert name in Path("/proc/keys").read_text()
        container.kill(9)
        said(container)
    eventually(lambda: name not in Path("/proc/keys").read_text(), "the keyring is gone")
