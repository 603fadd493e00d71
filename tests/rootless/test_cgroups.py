"""An ordinary user's containers have cgroups, and limits, where somebody has given that user a cgroup."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ocirt.cgroups import layout
from ocirt.cgroups.units import has_systemd
from tests.rootless.user import GID, UID, User
from tests.support import eventually

pytestmark = [
    pytest.mark.vm("systemd"),
    pytest.mark.root,
    pytest.mark.rootless,
    pytest.mark.skipif(layout.probe().mode != "v2", reason="needs cgroup version 2 alone"),
]
needs_systemd = pytest.mark.skipif(not has_systemd(), reason="systemd is not the init of this machine")

MOUNT = Path("/sys/fs/cgroup")
NAME = "ocirt-given"

LIMITED = """
from ocirt.errors import UnsupportedError
from ocirt.spec.limits import *
from ocirt.spec.linux import Resources

def limited(*args, **resources):
    spec = document(*args)
    spec = spec.evolve(root=spec.root.evolve(path=ROOTFS))
    return Bundle(HOME, spec.evolve(linux=spec.linux.evolve(resources=Resources(**resources))))

def created(manager="cgroupfs", **resources):
    bundle = limited("sleep", "600", **resources)
    return Container.create("c", bundle, root=STATE, stdin=DEVNULL, stdout=DEVNULL, cgroup_manager=manager)

def place(pid="self"):
    with open(f"/proc/{pid}/cgroup") as file:
        return file.read().strip().removeprefix("0::")

def written(pid, name):
    with open(f"/sys/fs/cgroup{place(pid)}/{name}") as file:
        return file.read().strip()
"""

SESSION = f"""
os.environ["XDG_RUNTIME_DIR"] = "/run/user/{UID}"
"""

SCOPE = """
from ocirt.cgroups.dbus import Systemd
from ocirt.cgroups.properties import Property
with Systemd("user") as systemd:
    systemd.follow_jobs()
    mine = (Property("PIDs", "au", [os.getpid()]), Property("Delegate", "b", True))
    assert systemd.start("caller.scope", mine) == "done"
"""
"""As systemd-run --user --scope -p Delegate=yes does."""


def empty(directory: Path) -> bool:
    return not (directory / "cgroup.procs").read_text()


@pytest.fixture
def given() -> Iterator[Path]:
    """A cgroup that root has given to the user, with all that the kernel lets one give."""
    path = MOUNT / NAME
    (path / "caller").mkdir(parents=True)
    (MOUNT / "cgroup.subtree_control").write_text("+memory +pids")
    for directory in (path, path / "caller"):
        for name in ("", *Path("/sys/kernel/cgroup/delegate").read_text().split()):
            with contextlib.suppress(FileNotFoundError):
                os.chown(directory / name, UID, GID)
    yield path
    for directory in (path / "caller", path):
        eventually(partial(empty, directory), "all have left")
        directory.rmdir()


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """The user is known and has a systemd of its own: one for all tests, since logind ends a session in its own time
    and would take the next one's directory along."""
    lines = {
        "passwd": f"tester:x:{UID}:{GID}::/:/bin/sh\n",
        "group": f"tester:x:{GID}:\n",
        "shadow": "tester:*:19000:0:99999:7:::\n",
    }
    for name, line in lines.items():
        file = Path("/etc") / name
        if line not in file.read_text():
            with file.open("a") as known:
                known.write(line)
    service = f"user@{UID}.service"
    # Else logind, which hears of the user from whoever asks for its units, ends all of it soon after that.
    subprocess.run(["loginctl", "enable-linger", str(UID)], check=True)
    subprocess.run(["systemctl", "start", service], check=True)
    eventually((Path("/run/user") / str(UID) / "bus").exists, "the user has a bus")
    yield
    subprocess.run(["loginctl", "disable-linger", str(UID)], check=True)
    subprocess.run(["systemctl", "stop", service, f"user-runtime-dir@{UID}.service"], check=True)


def units() -> str:
    """Of the user's, those of containers."""
    command = ["systemctl", "--user", f"--machine={UID}@.host", "list-units", "--all", "--plain", "ocirt-*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_beside_the_callers_a_container_has_a_cgroup_with_limits(user: User, given: Path) -> None:
    code = """
with created(memory=Memory(limit=64 << 20), pids=Pids(50)) as container:
    print(place(container.pid), written(container.pid, "memory.max"), written(container.pid, "pids.max"))
"""
    assert user.python(LIMITED + code, cgroup=given / "caller").split() == [f"/{NAME}/c", str(64 << 20), "50"]
    assert not (given / "c").exists()


def test_who_was_given_its_own_alone_has_containers_below_that(user: User, given: Path) -> None:
    os.chown(given, 0, 0)
    os.chown(given / "cgroup.procs", 0, 0)
    (given / "cgroup.subtree_control").write_text("+memory")
    code = """
with created() as container:
    print(place(container.pid))
try:
    created(memory=Memory(limit=64 << 20))
except OCIError as error:
    print(error)
"""
    first, error = user.python(LIMITED + code, cgroup=given / "caller").splitlines()
    assert first == f"/{NAME}/caller/c"
    assert "there are processes in this one" in error


def test_without_one_there_are_no_limits_and_an_error_says_what_is_missing(user: User) -> None:
    code = """
with created() as container:
    print(place(container.pid) == place())
try:
    created(memory=Memory(limit=64 << 20))
except UnsupportedError as error:
    print(error.origin, error)
"""
    first, error = user.python(LIMITED + code).splitlines()
    assert first == "True"
    assert error.startswith("linux.resources.memory.limit ")
    assert "systemd-run --user --scope -p Delegate=yes" in error


@needs_systemd
@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("scope", ["", SCOPE], ids=["from outside", "from a scope"])
def test_a_users_systemd_makes_a_scope_with_limits(user: User, scope: str) -> None:
    code = """
with created("systemd", memory=Memory(limit=64 << 20), pids=Pids(50)) as container:
    container.start()
    process = container.exec(["sleep", "600"], stdin=DEVNULL)
    print(place(container.pid), written(container.pid, "memory.max"), written(container.pid, "pids.max"))
    print(place(process.pid) == place(container.pid))
"""
    place, memory, pids, same = user.python(LIMITED + SESSION + scope + code).split()
    assert place == f"/user.slice/user-{UID}.slice/user@{UID}.service/user.slice/ocirt-c.scope"
    assert (memory, pids, same) == (str(64 << 20), "50", "True")
    assert "ocirt-c.scope" not in units()


@needs_systemd
@pytest.mark.usefixtures("session")
def test_in_a_delegated_scope_files_do_as_well(user: User) -> None:
    code = """
with created(memory=Memory(limit=64 << 20)) as container:
    print(place(container.pid), written(container.pid, "memory.max"))
"""
    place, memory = user.python(LIMITED + SESSION + SCOPE + code).split()
    assert place.endswith("/c")
    assert f"user@{UID}.service" in place
    assert memory == str(64 << 20)


@needs_systemd
def test_a_user_without_a_session_has_no_systemd(user: User) -> None:
    code = """
try:
    created("systemd")
except UnsupportedError as error:
    print(error)
"""
    assert "loginctl enable-linger" in user.python(LIMITED + code)
