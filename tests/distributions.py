"""The source distribution and the wheel of this tree, made once for all tests that look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def call_backend(tree: Path, call: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call a hook as a frontend does: in a process of its own, in the source tree (PEP 517)."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); import build_ffi; build_ffi.{call}"]
    return subprocess.run(
        command, cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project as a clone would be: without anything that was made from it."""
    copy = tmp_path_factory.mktemp("clone") / "ocirt"
    made = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "results", "libocirt.so", "ocirt-init", "_ffi.py"
    )
    shutil.copytree(ROOT, copy, ignore=made)
    (copy / "command" / "ocirt").unlink(missing_ok=True)
    return copy


@pytest.fixture(scope="session")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    call_backend(tree, f"build_sdist({str(directory)!r})").check_returncode()
    (made,) = directory.iterdir()
    return made


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of the source distribution; the environment's own setuptools and cffi build it."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(directory), str(sdist)], check=True)
    (made,) = directory.iterdir()
    return made
