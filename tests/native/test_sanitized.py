"""Whole lives of containers with an ocirt-init that watches itself: AddressSanitizer and UBSan.

A copy of the package with that init in the place of its own runs in another process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt._native import HERE
from ocirt.plan import Plan
from ocirt.plan import ops as o
from ocirt.plan.context import StartSocket
from ocirt.wire import HEADER, OPERATION, encode
from tests.native.initrun import run_bytes

NATIVE = Path(HERE)
PACKAGE = NATIVE.parent
BUILD = PACKAGE.parents[1] / "build_ffi.py"

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None or not BUILD.exists(), reason="needs gcc and a source tree"),
]

SCRIPT = """
import os, subprocess, sys
from ocirt import Bundle, Container, Spec
from ocirt.errors import SetupError
from ocirt.spec import Hook, Hooks, IDMapping, Mount, Namespace, User


rootfs, state = sys.argv[1:]


def life(spec, *args, pass_fds=(), **changes):
    process = spec.process.evolve(**{"terminal": False, "args": args, **changes})
    bundle = Bundle(rootfs.rpartition("/")[0], spec.evolve(process=process))
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Container.create("sanitized", bundle, root=state, pass_fds=pass_fds, **streams) as container:
        container.start()
        out, err = container.process.communicate(timeout=60)
        assert b"Sanitizer" not in err and b"runtime error" not in err, err
        return out.decode(), container.process.returncode


default = Spec.default()
print(life(default, "sh", "-c", "echo $HOME; exit 3"))
print(life(default, "id", "-u", user=User(1000, 1000, additional_gids=(5, 44)), cwd="/new/directory"))

linux = default.linux
mappings = (IDMapping(0, 100000, 65536),)
namespaces = (*linux.namespaces, Namespace("user"), Namespace("time"), Namespace("cgroup"))
own = linux.evolve(namespaces=namespaces, uid_mappings=mappings, gid_mappings=mappings)
print(life(default.evolve(linux=own), "cat", "/proc/self/uid_map"))

copied = Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup", "iversion"), mappings, mappings)
again = Mount("/root", None, rootfs + "/etc", ("bind", "src-nofollow"))
print(life(default.evolve(mounts=(*default.mounts, copied, again)), "sh", "-c", "cd /root; ls; stat -c %h one"))

numbers = (3, 4, 5, 6, 8, 700)
for number in numbers:
    os.dup2(0, number)
for place in (linux, own):
    print(life(default.evolve(linux=place), "sh", "-c", "ls /proc/1/fd; true", pass_fds=numbers))

echo = Hook("/bin/sh", ("sh", "-c", "cat; exit 0"), timeout=10)
fail = Hook("/bin/sh", ("sh", "-c", "seq 10000; exit 7"))
print(life(default.evolve(hooks=Hooks(create_container=(echo,), start_container=(echo,))), "echo", "hooked"))
for broken in (
    default.evolve(hooks=Hooks(create_container=(fail,))),
    default.evolve(linux=linux.evolve(rootfs_propagation="rshared", masked_paths=("/proc/keys", "/etc"))),
):
    try:
        print(life(broken, "no such program"))
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a sanitized ocirt-init."""
    directory = tmp_path_factory.mktemp("sanitized")
    subprocess.run([sys.executable, str(BUILD), "--sanitize", str(directory)], check=True, capture_output=True)
    return directory


def test_containers_live_without_a_complaint(sanitized: Path, rootfs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package" / "ocirt"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(sanitized / "ocirt-init", copy / "_native" / "ocirt-init")
    for path in (tmp_path, rootfs.parent, rootfs):
        path.chmod(0o755)
    (rootfs / "etc/below").mkdir()
    (rootfs / "etc/one").write_text("text")
    (rootfs / "etc/below/two").hardlink_to(rootfs / "etc/one")
    (rootfs / "etc/link").symlink_to("one")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(rootfs), str(tmp_path / "state")],
        env={"PYTHONPATH": str(copy.parent), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "('/\\n', 3)",
        "('1000\\n', 0)",
        "('         0     100000      65536\\n', 0)",
        "('below\\nlink\\none\\n2\\n', 0)",
        *[r"('0\n1\n2\n3\n4\n5\n6\n700\n8\n', 0)"] * 2,
        "('hooked\\n', 0)",
        "HookError",
        "SetupError",
    ]


VICTIM = Plan(
    (
        o.SetUmask(0o22),
        o.FindHome(0),
        o.KeepDescriptors(((o.Fd(0), 3), (o.Fd(1), 8))),
        o.ChangeDirectory("/"),
        o.SetUser(0, 0, may_set_groups=False, groups=(5, 44)),
        o.SetCapabilities(0, 0, 0, 0),
        o.FindProgram("true", ("/bin", "", "/usr/bin")),
    ),
    (StartSocket(), StartSocket()),
)
"""What only changes the process that runs it, whatever its operands are."""

SLOTS = (0, 1)
DAMAGED = encode(VICTIM).encoded()
CODES = {HEADER.size + OPERATION.size * number + byte for number in range(len(VICTIM.ops)) for byte in range(4)}


@settings(max_examples=200)
@given(changes=st.dictionaries(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255), min_size=1, max_size=4))
def test_no_damage_to_a_plan_does_damage_to_init(sanitized: Path, changes: dict[int, int]) -> None:
    """It runs, or fails with an event. Codes are left alone: another operation would not be as harmless."""
    plan = bytearray(DAMAGED)
    for place, byte in changes.items():
        if place not in CODES:
            plan[place] = byte
    outcome = run_bytes(bytes(plan), slots=SLOTS, program=sanitized / "ocirt-init")
    assert outcome.returncode in (0, 125)
    assert (outcome.returncode == 125) is (outcome.failure is not None)
