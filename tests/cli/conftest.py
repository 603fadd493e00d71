"""A fresh state root and bundle for each test; whatever it left running is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from ocirt import containers
from tests.cli.commands import Commands


@pytest.fixture
def commands(rootfs: Path, tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path / "state", tmp_path, f"cli-{token_hex(4)}")
    assert rootfs == tmp_path / "rootfs"
    yield made
    for container in containers(root=made.root):
        container.delete(force=True)
