"""Which machines there are, and which tests each is for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen

TESTS: Final = Path(__file__).resolve().parent.parent
ROOT: Final = TESTS.parent


@frozen
class Guest:
    """A kind of machine."""

    name: str
    """What ``@pytest.mark.vm`` calls it."""
    script: Path
    """What makes the machine ready and runs pytest, with pytest's arguments."""
    also: tuple[str, ...]
    """Tests that run anywhere, and here because much is different: version 2 of cgroups alone, an older kernel."""

    def paths(self) -> list[str]:
        """Files with its tests, relative to the project: those that are marked, and those of ``also``."""
        files = sorted(TESTS.rglob("test_*.py"))
        marked = [path for path in files if "pytest.mark.vm" in path.read_text("utf-8")]
        return [*(str(path.relative_to(ROOT)) for path in marked), *self.also]


FILES: Final = Guest(
    "files",
    TESTS / "vm/files.sh",
    (
        "tests/cgroups",
        "tests/lifecycle/test_create.py",
        "tests/lifecycle/test_device_filter.py",
        "tests/lifecycle/test_devices.py",
        "tests/lifecycle/test_exec.py",
        "tests/lifecycle/test_failures.py",
        "tests/lifecycle/test_limits.py",
        "tests/lifecycle/test_control.py",
        "tests/test_limits.py",
    ),
)
"""The host's own files under another kernel, with all controllers on version 2 of cgroups, and with AppArmor."""

GUESTS: Final = {guest.name: guest for guest in (FILES,)}
