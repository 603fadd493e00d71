"""The C sources compile without a warning, and gcc's own analysis of their paths finds nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt._native import HERE

NATIVE = Path(HERE)

ROOT = NATIVE.parents[2]

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.mark.skipif(not (ROOT / "build_ffi.py").exists(), reason="needs a source tree")
def test_every_warning_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "build_ffi.py"), "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# -Wno: ocirt-init gives its descriptors back to the kernel all at once, when a failure ends it.
ANALYSIS = ("-fanalyzer", "-Wno-analyzer-fd-leak", "-Wno-analyzer-file-leak", "-Werror")


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", sorted((*NATIVE.glob("*.c"), *(ROOT / "command").glob("*.c"))), ids=lambda path: path.name
)
def test_the_analyzer_finds_nothing(source: Path, tmp_path: Path) -> None:
    command = ["gcc", "-std=gnu11", "-O2", *ANALYSIS, "-c", str(source), "-o", str(tmp_path / "object")]
    if source.name == "bare.c":
        command.append("-ffreestanding")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
