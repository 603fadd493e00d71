"""A small Debian of its own whose first process is systemd, which the host's many services would keep from starting."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.lifecycle.test_debian import mirror
from tests.vm.kernel import Kernel
from tests.vm.machine import Machine
from tests.vm.needs import ROOT, VMError, program, run

SUITE: Final = "bookworm"
PACKAGES: Final = "systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,udev,kmod,python3,busybox-static"

UNIT: Final = """\
[Unit]
After=multi-user.target serial-getty@ttyS0.service
[Service]
ExecStart=/bin/sh /opt/vm/command
StandardOutput=file:/dev/console
StandardError=inherit
ExecStopPost=/bin/systemctl poweroff --force
Delegate=yes
[Install]
WantedBy=multi-user.target
"""

PYTHON: Final = (3, 11)
"""Of that Debian; what was compiled for another does not run there."""


def machine(kernel: Kernel, cache: Path) -> Machine:
    """:raises VMError: the small Debian cannot be made here."""
    if sys.version_info[:2] != PYTHON:
        raise VMError("the machine with systemd has Python 3.11, and needs a virtual environment of that version")
    root = cache / "systemd"
    if not root.is_dir():
        _make(root, kernel)
    shared = root / "opt/vm"
    _copy(shared)
    options = ("--root", str(root), "--rw", "--systemd")
    return Machine(kernel, shared, ("/opt/vm/systemd.sh",), options)


def _make(root: Path, kernel: Kernel) -> None:
    where = mirror()
    if os.geteuid() != 0 or where is None:
        raise VMError("the machine with systemd needs root, to make it, and a Debian mirror in /etc/apt")
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        made = Path(work, "root")
        run(
            [program("debootstrap"), "--variant=minbase", f"--include={PACKAGES}", SUITE, str(made), where], root.parent
        )
        shutil.copytree(kernel.directory / "lib/modules", made / "usr/lib/modules", symlinks=True, dirs_exist_ok=True)
        (made / "etc/systemd/system/vm-test.service").write_text(UNIT)
        run([program("systemctl"), f"--root={made}", "enable", "vm-test.service"], root.parent)
        made.chmod(0o755)
        made.rename(root)  # whole or not at all


def _copy(shared: Path) -> None:
    """The project and what it needs, as archives: so many small files would take the machine long to fetch."""
    shared.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests/vm/systemd.sh", shared)
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    for name, directory, contents in (
        ("project", ROOT, ("src", "tests", "pyproject.toml")),
        ("packages", packages, (".",)),
    ):
        archive = str(shared / f"{name}.tar")
        without = [f"--exclude={pattern}" for pattern in ("__pycache__", "mypy", "mypyc", "ruff", "pip", "virtme*")]
        run(["tar", "--create", f"--file={archive}", *without, *contents], directory)
