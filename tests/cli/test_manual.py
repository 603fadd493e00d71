"""The manual page: complete, and good roff."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from ocirt.cli.manual import page
from ocirt.cli.table import COMMANDS, GLOBALS
from tests.support import SECONDS


def rendered(words: list[str]) -> str:
    done = subprocess.run(words, input=page(), capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stderr == ""  # warnings would be there
    return re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_it_is_rendered_without_a_warning() -> None:
    text = rendered(["groff", "-man", "-Tutf8", "-ww", "-P-c"])
    for title in ("NAME", "SYNOPSIS", "COMMANDS", "GLOBAL OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert re.search(f"^{title}$", text, re.MULTILINE), title
    for command in COMMANDS:
        assert re.search(rf"^   {command.name}$", text, re.MULTILINE), command.name
    for flag in (*GLOBALS, *(flag for command in COMMANDS for flag in command.flags)):
        # A dash that is to be typed must be one when it is copied (groff_man_style(7)).
        assert (f"--{flag.name}" in text) is not flag.hidden
    assert 'echo \'{"cpu": {"quota": 50000}}\' | ocirt update -r - web' in text


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_it() -> None:
    assert "run containers" in rendered(["man", "--warnings", "-l", "-"])


def test_a_command_prints_it() -> None:
    done = subprocess.run([sys.executable, "-m", "ocirt", "man"], capture_output=True, text=True, check=True)
    assert done.stdout == page()
    assert done.stdout.startswith('.\\" made by: ocirt man\n.TH OCIRT 1 ')
