"""The machines are what they are said to be: else the tests would show there what they show anywhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ocirt.cgroups import layout
from ocirt.host import Host
from tests.support import SECONDS, Lab, document

CONTROLLERS = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}


def controllers() -> set[str]:
    return set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())


@pytest.mark.vm
def test_files_has_version_2_of_cgroups_alone_and_apparmor() -> None:
    assert layout.probe().mode == "v2"
    assert controllers() >= CONTROLLERS
    assert Host.probe().apparmor
    assert os.path.isdir("/sys/kernel/security/apparmor")


@pytest.mark.vm("systemd")
def test_systemd_runs_and_makes_scopes(lab: Lab) -> None:
    state = subprocess.run(["systemctl", "is-system-running"], capture_output=True, text=True, check=False)
    assert state.stdout in ("running\n", "starting\n")
    assert layout.probe().mode == "v2"
    assert controllers() >= CONTROLLERS
    scope = ["systemd-run", "--scope", "--quiet", "cat", "/proc/self/cgroup"]
    shown = subprocess.run(scope, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    assert shown.strip().endswith(".scope")
    assert lab.output(document("cat", "/proc/self/cgroup")) == f"0::/system.slice/{lab.ids[-1]}\n"
