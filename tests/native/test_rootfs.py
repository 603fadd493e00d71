"""The tree that becomes the container's ``/``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import support

pytestmark = pytest.mark.root

SCRIPT = """
import sys
from pathlib import Path
from ocirt.plan import tree_ops as t
from tests.native.initrun import MOUNT_NAMESPACE, run

rootfs = sys.argv[1]
before = Path("/proc/self/mountinfo").read_text()
outcome = run(
    t.SetPropagation(t.PROPAGATION["shared"] | t.RECURSIVE),
    t.SetPropagation(t.PROPAGATION["private"]),
    t.AttachRootfs(rootfs, private=True),
    t.MountFilesystem("/x", "tmpfs"),
    t.PivotRoot(),
    namespaces=MOUNT_NAMESPACE,
)
assert outcome.succeeded, outcome
assert Path("/proc/self/mountinfo").read_text() == before
"""


def test_a_rootfs_on_a_shared_mount_does_not_show_its_mounts_to_the_host(tmp_path: Path) -> None:
    """Nor does it keep pivot_root(2) from taking it."""
    root = Path(__file__).parents[2]
    where = shlex.quote(str(tmp_path))
    program = shlex.join([sys.executable, "-c", SCRIPT, str(tmp_path / "rootfs")])
    shell = f"mount -t tmpfs none {where} && mount --make-shared {where} && mkdir {where}/rootfs && {program}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell],
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=support.SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
