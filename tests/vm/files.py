"""The host's own files under another kernel, with version 2 of cgroups alone, and with AppArmor."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.vm.kernel import Kernel
from tests.vm.machine import Machine
from tests.vm.needs import ROOT

AGAIN: Final = ("local", "id=cached", "path=/", "readonly=on", "security_model=none", "multidevs=remap")
"""The host's files once more, for files.sh to mount in a way that keeps what was read."""


def machine(kernel: Kernel, cache: Path) -> Machine:
    """All that it changes is in memory, but for what it says."""
    shared = cache / "files"
    script = (str(ROOT / "tests/vm/files.sh"), str(ROOT), str(kernel.directory))
    options = (
        # Without udev it finds no other way to talk than the console.
        *("--no-virtme-ng-init", "--show-boot-console"),
        *("--rwdir", f"/run/shared={shared}", "--script-sh", "sh /run/shared/command"),
        *("--qemu-opts", "-fsdev", ",".join(AGAIN), "-device", "virtio-9p-pci,fsdev=cached,mount_tag=cached"),
    )
    return Machine(kernel, shared, script, options)
