"""Other layouts of cgroups than this machine's: a mount namespace that shows fewer hierarchies, and pytest in it.

Version 2 has no controllers there that version 1 has taken; but device programs are none.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ocirt.cgroups import layout

SCRIPTS = {
    "version 2 alone": "umount --lazy /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup",
    "hybrid without devices": "umount /sys/fs/cgroup/devices",
}
"""What makes them of a hybrid machine's."""


def run_tests(name: str, *paths: str) -> str:
    """What pytest says of the tests, none of which may fail."""
    if layout.probe().mode != "hybrid" or os.geteuid() != 0:
        pytest.skip("needs cgroups of both versions, and root")
    command = f'{SCRIPTS[name]} && exec "$@"'
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", command, "sh", *arguments]
    done = subprocess.run(inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout
