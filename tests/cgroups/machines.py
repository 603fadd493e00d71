"""What three kinds of machines, and a container in one, say of their cgroups; and where this machine has them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.layout import Here, Layout

V1_MOUNTS = """\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 24 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
33 31 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,release_agent=/agent,name=systemd
37 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
38 31 0:33 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
39 31 0:34 / /sys/fs/cgroup/cpuset rw shared:17 - cgroup cgroup rw,cpuset,noprefix,clone_children,cpuset_v2_mode
90 70 0:33 /docker/c1 /var/lib/c1/rootfs/sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
"""
V1_OWN = """\
12:cpuset:/
9:memory:/user.slice
4:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-0.slice/session-1.scope
"""

V2_MOUNTS = """\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
V2_OWN = "0::/system.slice/ssh.service\n"

HYBRID_MOUNTS = """\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = "5:devices:/\n4:memory:/a b/c\n1:cpu:/\n0::/\n"

# A container without a cgroup namespace: the kernel speaks of the whole machine, the mounts show a part of it.
NESTED_MOUNTS = """\
60 50 0:33 /docker/c1 /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory
61 50 0:36 /docker/c1 /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,pids
62 50 0:37 /docker/c1 /sys/fs/cgroup/freezer ro,nosuid,nodev,noexec,relatime - cgroup cgroup rw,freezer
"""
NESTED_OWN = "3:freezer:/docker/c10\n2:pids:/docker/c1/inner\n1:memory:/docker/c1\n"


def machine(mounts: str, own: str) -> Here:
    return Here.parse(Layout.parse(mounts), own)


V1 = machine(V1_MOUNTS, V1_OWN)
V2 = machine(V2_MOUNTS, V2_OWN)
HYBRID = machine(HYBRID_MOUNTS, HYBRID_OWN)
NESTED = machine(NESTED_MOUNTS, NESTED_OWN)
NONE = machine("24 30 0:22 / /sys rw - sysfs sysfs rw\n", "")

Spawn = Callable[..., "subprocess.Popen[bytes]"]
"""Starts a process that does not outlive the test: ``spawn("sleep", "1")``, or for long without arguments."""


def v1(cgroup: Cgroup, controller: str) -> str:
    for directory in cgroup.directories:
        if controller in directory.controllers:
            return directory.path
    pytest.skip(f"the {controller} controller is not on cgroup version 1 here")
