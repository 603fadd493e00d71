"""Device programs in the kernel: what processes in a version 2 cgroup can open and make."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from ocirt.cgroups import device_filter, layout, tree
from ocirt.cgroups.bpf import Program, assemble
from ocirt.cgroups.devices import device_list
from ocirt.errors import SetupError
from ocirt.spec.linux import DeviceRule
from tests.support import eventually

from .device_rules import Access, allowed, lists
from .machines import Spawn
from .programs import attach_beside, is_loaded

V2 = [own for hierarchy, own in layout.here().directories if hierarchy.version == 2]

pytestmark = [pytest.mark.root, pytest.mark.skipif(not V2, reason="cgroup version 2 is not mounted here")]

DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, access="rwm")
FUSE = DeviceRule(allow=True, type="c", major=10, minor=229, access="rw")

NODES = tuple(itertools.product("bc", (1, 10), (3, 229, 200)))
ACCESSES: tuple[Access, ...] = tuple(
    (type_, asked, major, minor) for type_, major, minor in NODES for asked in ("r", "w", "rw", "m")
)

TRY = """
import json, os, stat, sys
cgroup, nodes, accesses = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with open(f"{cgroup}/cgroup.procs", "w") as file:
    file.write("0")
flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
permitted = []
for type, asked, major, minor in accesses:
    node = f"{nodes}/{type}-{major}-{minor}"
    try:
        if asked == "m":
            os.mknod(f"{node}-new", {"b": stat.S_IFBLK, "c": stat.S_IFCHR}[type] | 0o600, os.makedev(major, minor))
            os.unlink(f"{node}-new")
        else:
            os.close(os.open(node, flags[asked] | os.O_NONBLOCK | os.O_NOCTTY))
    except PermissionError:
        continue
    except OSError:
        pass  # there is no such device: this is found out after it was permitted
    permitted.append([type, asked, major, minor])
print(json.dumps(permitted))
"""


def program(*rules: DeviceRule) -> Program:
    return assemble(device_list(rules))


@pytest.fixture
def cgroup() -> Iterator[str]:
    """A version 2 cgroup of the test's own."""
    path = f"{V2[0]}/ocirt-test-{os.getpid()}"
    os.mkdir(path)
    yield path
    eventually(lambda: tree.remove(path), "the cgroup is empty")


@pytest.fixture
def directory(cgroup: str) -> Iterator[int]:
    """The same, open."""
    fd = os.open(cgroup, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Device nodes for ``permitted`` to open."""
    for type_, major, minor in NODES:
        kind = stat.S_IFBLK if type_ == "b" else stat.S_IFCHR
        os.mknod(tmp_path / f"{type_}-{major}-{minor}", kind | 0o600, os.makedev(major, minor))
    return tmp_path


def permitted(cgroup: str, nodes: Path, accesses: tuple[Access, ...] = ACCESSES) -> list[Access]:
    """What a process in the cgroup is not refused with EPERM."""
    command = [sys.executable, "-c", TRY, cgroup, str(nodes), json.dumps(accesses)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(type_, asked, major, minor) for type_, asked, major, minor in json.loads(shown)]


def test_without_rules_the_defaults_alone_can_be_used(cgroup: str, directory: int, nodes: Path) -> None:
    assert permitted(cgroup, nodes) == list(ACCESSES)
    device_filter.attach(directory, program())
    everywhere = [
        access for access in ACCESSES if access[1] == "m" or (access[0] == "c" and access[2:] in ((1, 3), (10, 200)))
    ]
    assert permitted(cgroup, nodes) == everywhere


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=lists())
def test_the_kernel_does_what_the_rules_say(rules: list[DeviceRule], cgroup: str, directory: int, nodes: Path) -> None:
    """Each list takes the place of the one before."""
    device_filter.attach(directory, program(*rules))
    assert permitted(cgroup, nodes) == allowed(rules, ACCESSES)


def test_cgroups_below_are_filtered_as_well(cgroup: str, directory: int, nodes: Path) -> None:
    os.mkdir(f"{cgroup}/below")
    device_filter.attach(directory, program(DENY_ALL, FUSE))
    accesses: tuple[Access, ...] = (("c", "rw", 10, 229), ("b", "r", 1, 3))
    assert permitted(f"{cgroup}/below", nodes, accesses) == [("c", "rw", 10, 229)]


@pytest.mark.parametrize("before", [0, 1, 3])
def test_one_program_is_left_whatever_was_there(cgroup: str, directory: int, nodes: Path, before: int) -> None:
    for minor in range(before):
        attach_beside(directory, program(DENY_ALL, DeviceRule(True, "c", 10, minor, "r")))
    old = device_filter.attached(directory)
    assert len(old) == before
    device_filter.attach(directory, program(DENY_ALL, FUSE))
    (new,) = device_filter.attached(directory)
    assert new not in old
    assert permitted(cgroup, nodes, (("c", "rw", 10, 229),))


@pytest.mark.parametrize("before", [1, 2])
def test_there_is_no_moment_without_a_filter(
    cgroup: str, directory: int, nodes: Path, spawn: Spawn, before: int
) -> None:
    for _ in range(before):
        attach_beside(directory, program())
    script = 'echo 0 > "$1/cgroup.procs"; echo; while ! { exec 3< "$2"; } 2> /dev/null; do :; done; echo opened'
    process = spawn("bash", "-c", script, "bash", cgroup, str(nodes / "c-10-229"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    for _ in range(300):
        device_filter.attach(directory, program())
        if before > 1:
            attach_beside(directory, program())
    assert process.poll() is None
    device_filter.attach(directory, program(FUSE))
    assert process.stdout.readline() == b"opened\n"


def test_where_everything_is_allowed_nothing_is_attached(directory: int) -> None:
    device_filter.attach(directory, program(ALLOW_ALL))
    assert device_filter.attached(directory) == ()


def test_where_everything_is_allowed_an_older_filter_goes(cgroup: str, directory: int, nodes: Path) -> None:
    device_filter.attach(directory, program())
    device_filter.attach(directory, program(ALLOW_ALL))
    assert permitted(cgroup, nodes) == list(ACCESSES)


def test_what_the_verifier_said_last_is_told(directory: int) -> None:
    endless = Program(assemble(device_list([])).code[:-8], {}, everything=False)
    with pytest.raises(SetupError, match="last insn is not an exit or jmp") as caught:
        device_filter.attach(directory, endless)
    error = caught.value
    assert (error.origin, error.operation, error.call) == (
        "linux.resources.devices",
        "AllowDevices",
        "bpf(BPF_PROG_LOAD)",
    )
    assert (error.errno, error.hint) == (errno.EINVAL, "")
    assert device_filter.attached(directory) == ()


def test_many_rules_are_no_trouble_for_the_verifier(cgroup: str, directory: int, nodes: Path) -> None:
    """If it had to tell apart what comparisons tell of the numbers, it would give up on these (E2BIG)."""
    numbers = random.Random(5)
    rules = [
        DeviceRule(
            numbers.random() < 0.5,
            numbers.choice("bc"),
            *numbers.choice([(number, None), (None, number), (number, number), (number % 20, number)]),
            numbers.choice(["r", "w", "rw", "m"]),
        )
        for number in range(2000)
    ]
    device_filter.attach(directory, program(*rules, FUSE))
    assert permitted(cgroup, nodes) == allowed([*rules, FUSE], ACCESSES)


def test_signals_do_not_keep_a_long_program_from_being_verified(directory: int) -> None:
    long = program(*(DeviceRule(True, "c", number, number, "r") for number in range(3000)))
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for _ in range(3):
            device_filter.attach(directory, long)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_filter_that_nobody_may_join_is_in_the_way(directory: int) -> None:
    attach_beside(directory, program(), flags=0)
    with pytest.raises(SetupError, match="BPF_F_ALLOW_MULTI") as caught:
        device_filter.attach(directory, program(FUSE))
    assert (caught.value.call, caught.value.errno) == ("bpf(BPF_PROG_ATTACH)", errno.EPERM)


def test_a_filter_ends_with_its_cgroup(cgroup: str, directory: int) -> None:
    device_filter.attach(directory, program())
    (number,) = device_filter.attached(directory)
    os.rmdir(cgroup)
    eventually(lambda: not is_loaded(number), "the program is gone")
    os.mkdir(cgroup)  # for the fixture


@pytest.mark.parametrize(("rule", "outcome"), [(ALLOW_ALL, "fine"), (DENY_ALL, "bpf(BPF_PROG_QUERY) 1")])
def test_who_may_not_filter_may_allow_everything(directory: int, rule: DeviceRule, outcome: str) -> None:
    code = """
import os, sys
from ocirt.cgroups import bpf, device_filter, devices
from ocirt.errors import SetupError
from ocirt.spec import DeviceRule
os.setresuid(65534, 65534, 65534)
try:
    rule = DeviceRule(sys.argv[2] == "True", access="r")
    device_filter.attach(int(sys.argv[1]), bpf.assemble(devices.device_list([rule])))
    print("fine")
except SetupError as error:
    print(error.call, error.errno)
"""
    command = [sys.executable, "-c", code, str(directory), str(rule.allow)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, pass_fds=[directory]).stdout
    assert shown == f"{outcome}\n"
