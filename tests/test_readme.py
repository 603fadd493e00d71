"""What README.md shows is what comes out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.root
def test_the_example_prints_what_stands_below_it() -> None:
    match = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)
    assert match is not None
    program, shown = match.groups()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == shown


def test_every_public_name_is_told_of() -> None:
    import ocirt

    told = {"ExistsError", "NotFoundError", "BundleError", "HookError", "InitDied", "ExitStatusUnknown", "Problem"}
    missing = {name for name in ocirt.__all__ if name not in README} - told - {"Status", "Terminal"}
    assert missing == set()
