"""The program, alone, on the state root of a lab."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.command.programs import COMMAND, Program
from tests.support import Lab


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    directory = tmp_path / "alone"
    directory.mkdir()
    return Path(shutil.copy(COMMAND, directory / "ocirt"))


@pytest.fixture
def program(alone: Path, lab: Lab) -> Program:
    return Program(alone, lab.root)
