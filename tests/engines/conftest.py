"""Which versions of engines were tested, at the end of what pytest says."""

from __future__ import annotations

import shutil
import subprocess

import pytest

ENGINES = ("podman", "conmon", "buildah", "slirp4netns", "criu", "containerd", "ctr", "dockerd")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """If any of them was."""
    if any("tests/engines/test_" in report.nodeid for report in terminalreporter.getreports("passed")):
        terminalreporter.write_sep("=", "engines")
        for name in filter(shutil.which, ENGINES):
            terminalreporter.write_line(_version(name))


def _version(name: str) -> str:
    done = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0]
