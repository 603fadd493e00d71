"""Which machines there are, and which tests each is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.vm import files, systemd
from tests.vm.kernel import Kernel
from tests.vm.machine import Machine
from tests.vm.needs import ROOT


@frozen
class Guest:
    """A kind of machine."""

    name: str
    """What ``@pytest.mark.vm`` calls it."""
    machine: Callable[[Kernel, Path], Machine]
    """With what it has to keep in a directory."""
    also: tuple[str, ...] = ()
    """Tests that run anywhere, and here because much is different."""

    def paths(self) -> list[str]:
        """Files with its tests, relative to the project: those with marked ones, where others skip, and ``also``."""
        found = sorted((ROOT / "tests").rglob("test_*.py"))
        marked = [str(path.relative_to(ROOT)) for path in found if "pytest.mark.vm" in path.read_text("utf-8")]
        return [*(path for path in marked if path not in APART), *self.also]


APART: Final = ("tests/cli/test_checkpoint.py", "tests/lifecycle/test_checkpoint.py")
"""What takes CRIU longer there than all else takes together, so it is run by name alone."""


ON_EACH_LAYOUT: Final = (
    "tests/lifecycle/test_control.py",
    "tests/lifecycle/test_device_filter.py",
    "tests/lifecycle/test_ending.py",
    "tests/lifecycle/test_events.py",
    "tests/lifecycle/test_limits.py",
    "tests/lifecycle/test_stats.py",
)
"""What config.json and the API promise of limits, control and observation, whoever makes the cgroups."""

FILES: Final = Guest(
    "files",
    files.machine,
    (
        "tests/cgroups/test_device_filter.py",
        "tests/cgroups/test_files.py",
        "tests/cgroups/test_files_signals.py",
        "tests/cgroups/test_limits.py",
        "tests/cgroups/test_tree.py",
        "tests/cli/test_events.py",
        "tests/lifecycle/test_caller.py",
        "tests/lifecycle/test_create.py",
        "tests/lifecycle/test_devices.py",
        "tests/lifecycle/test_exec.py",
        "tests/lifecycle/test_failures.py",
        "tests/native/test_overlay.py",
        "tests/test_limits.py",
        *ON_EACH_LAYOUT,
    ),
)
SYSTEMD: Final = Guest("systemd", systemd.machine, ON_EACH_LAYOUT)

GUESTS: Final = {guest.name: guest for guest in (FILES, SYSTEMD)}
