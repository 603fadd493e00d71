"""examples/images.py does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import support

EXAMPLE = Path(__file__).parents[2] / "examples/images.py"
SAID = """\
an image of one layer: sha256 1
run: hello from an image
repacked: 2 layers
run: hello from its second layer
"""


@pytest.mark.root
def test_an_image_is_made_run_changed_and_run_again() -> None:
    if support.busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (SAID, "")
