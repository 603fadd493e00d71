"""Where version 2 of cgroups is alone, init and all executed processes are born in the cgroup of their container."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from uuid import uuid4

import pytest

from ocirt import Container, Spec
from ocirt.cgroups import tree
from ocirt.errors import SetupError
from ocirt.spec import Hook, Hooks, IDMapping
from tests.support import SECONDS, Lab, document, error_of, eventually, linux, namespaces, shell

pytestmark = [pytest.mark.root, pytest.mark.vm]

TOP = Path("/sys/fs/cgroup")
TYPES = ("pid", "network", "ipc", "uts", "mount")
MAPPINGS = (IDMapping(0, 200000, 65536),)
VIEW = "cat /proc/self/cgroup; grep -c . /sys/fs/cgroup/cgroup.procs; ls /sys/fs/cgroup/cgroup.events"

SIBLING = """
import os, sys
from subprocess import DEVNULL, PIPE
from ocirt import Bundle, Container
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write("0")
with Container.create(sys.argv[3], Bundle.load(sys.argv[2]), root=sys.argv[4], stdin=DEVNULL, stdout=DEVNULL) as made:
    print(open(f"/proc/{made.pid}/cgroup").read(), end="")
"""

KILLED = """
import sys
from subprocess import DEVNULL
from ocirt import Bundle, Container
Container.create(sys.argv[2], Bundle.load(sys.argv[1]), root=sys.argv[3], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A cgroup for containers, whose number of processes can be limited."""
    (TOP / "cgroup.subtree_control").write_text("+pids")
    made = TOP / f"ocirt-test-{uuid4().hex}"
    made.mkdir()
    yield made
    assert tree.remove(str(made))


def below(parent: Path, lab: Lab, spec: Spec) -> Spec:
    return spec.evolve(linux=linux(cgroups_path=f"/{parent.name}/{lab.new_id()}"))


def own(pid: int) -> Path:
    """The directory of a process's cgroup."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return Path(f"{TOP}{line.removeprefix('0::')}")


def test_init_is_in_a_cgroup_of_its_own(lab: Lab) -> None:
    with lab.create(document("sleep", "600")) as container:
        assert own(container.pid) == TOP / container.id
        assert (TOP / container.id / "cgroup.procs").read_text().split() == [str(container.pid)]
        container.start()
        assert own(container.pid) == TOP / container.id


def test_init_is_born_there(lab: Lab, parent: Path) -> None:
    """A limit of processes hinders those who are born, and nobody who is moved (cgroups(7))."""
    (parent / "pids.max").write_text("0")
    error = error_of(lambda: lab.create(below(parent, lab, document("true"))))
    assert isinstance(error, SetupError)
    assert (error.call, error.errno) == ("clone3", errno.EAGAIN)
    assert list(parent.glob("*/")) == []
    assert lab.remains() == []


def test_an_executed_process_is_born_there(lab: Lab, parent: Path) -> None:
    with lab.start(below(parent, lab, document("sleep", "600"))) as container:
        (parent / "pids.max").write_text("1")
        error = error_of(lambda: container.exec(["true"], stdin=DEVNULL))
        assert isinstance(error, SetupError)
        # The start itself fails, and not the Clone of one who was moved there.
        assert (error.operation, error.call, error.errno) == ("JoinProcess", "clone3", errno.EAGAIN)
        assert container.processes() == (container.pid,)
        (parent / "pids.max").write_text("max")
        made = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=DEVNULL)
        assert own(made.pid) == own(container.pid)
        assert container.processes() == tuple(sorted((container.pid, made.pid)))
        made.kill()
        made.wait(SECONDS)


def test_an_executed_process_may_be_born_further_down(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        (own(container.pid) / "inner").mkdir()
        made = container.exec(["sleep", "600"], cgroup="inner", stdin=DEVNULL, stdout=DEVNULL)
        assert own(made.pid) == own(container.pid) / "inner"
        assert container.processes() == tuple(sorted((container.pid, made.pid)))
        container.delete(force=True)
        assert made.wait(SECONDS) == -9
    assert lab.remains() == []


@pytest.mark.parametrize(
    "members",
    [
        linux(namespaces=namespaces(*TYPES, "cgroup")),
        linux(namespaces=namespaces(*TYPES, "cgroup", "user"), uid_mappings=MAPPINGS, gid_mappings=MAPPINGS),
    ],
    ids=["root", "user namespace"],
)
def test_its_own_cgroup_is_all_that_it_sees(lab: Lab, members: object) -> None:
    """The top of all has no cgroup.events."""
    with lab.start(document("sleep", "600").evolve(linux=members)) as container:
        with container.exec(["sh", "-c", VIEW], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT) as made:
            output, _ = made.communicate(timeout=SECONDS)
        assert output == b"0::/\n3\n/sys/fs/cgroup/cgroup.events\n"


def test_without_a_cgroup_namespace_its_mount_shows_no_more(lab: Lab) -> None:
    spec = shell(VIEW).evolve(linux=linux(namespaces=namespaces(*TYPES)))
    shown = lab.output(spec).splitlines()
    assert shown == [f"0::/{lab.ids[-1]}", "2", "/sys/fs/cgroup/cgroup.events"]


def test_it_cannot_change_its_cgroup(lab: Lab) -> None:
    said = lab.output(shell("mkdir /sys/fs/cgroup/inner; echo 0 >/sys/fs/cgroup/cgroup.freeze")).splitlines()
    assert [line.rpartition(": ")[2] for line in said] == ["Read-only file system"] * 2


def test_a_caller_in_a_cgroup_of_its_own_has_it_beside_itself(lab: Lab, parent: Path) -> None:
    """A cgroup with processes can have no controllers for those below it."""
    (parent / "caller").mkdir()
    bundle = lab.bundle(document("true"))
    words = [str(parent / "caller"), str(bundle.path), lab.new_id(), str(lab.root)]
    done = subprocess.run(
        [sys.executable, "-c", SIBLING, *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.stdout, done.stderr) == (f"0::/{parent.name}/{lab.ids[-1]}\n", "")


def test_all_who_are_in_it_end_with_it(lab: Lab) -> None:
    """Without a pid namespace, only the cgroup knows who belongs to the container."""
    script = "for n in 1 2 3; do setsid sleep 600 & done; wait"
    types = [type_ for type_ in TYPES if type_ != "pid"]
    with lab.start(shell(script).evolve(linux=linux(namespaces=namespaces(*types, "cgroup")))) as container:
        eventually(lambda: len(container.processes()) == 4, "all have begun")
        pids = container.processes()
        container.delete(force=True)
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}") and not ended(pid)] == []
    assert lab.remains() == []


def ended(pid: int) -> bool:
    """It waits for somebody to ask what it died of."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")


def test_a_frozen_container_is_paused_and_ends_all_the_same(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        (own(container.pid) / "cgroup.freeze").write_text("1")
        eventually(lambda: container.status == "paused", "paused")
        container.delete(force=True)
    assert lab.remains() == []


def test_what_a_killed_creator_leaves_can_be_deleted(lab: Lab) -> None:
    """Its init is in the cgroup already, and ends with it or at the latest with its delete."""
    kill = Hook("/bin/sh", args=("sh", "-c", "kill -9 $PPID"))
    bundle = lab.bundle(document("sleep", "600").evolve(hooks=Hooks(create_runtime=(kill,))))
    words = [str(bundle.path), lab.new_id(), str(lab.root)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (-9, "")
    assert lab.cgroups() == [str(TOP / lab.ids[-1])]
    lab.load(lab.ids[-1]).delete(force=True)
    assert lab.remains() == []


def test_a_cgroup_somebody_is_in_is_not_taken(lab: Lab, parent: Path) -> None:
    spec = below(parent, lab, document("sleep", "600"))
    with lab.start(spec):
        error = error_of(lambda: Container.create(lab.new_id(), lab.bundle(spec), root=lab.root))
    assert isinstance(error, SetupError)
    assert (error.origin, error.errno) == ("linux.cgroupsPath", errno.EBUSY)
