"""docs/transcript.md shows what comes out."""

from __future__ import annotations

import shutil

import pytest

from tests import support, transcript

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(support.busybox() is None, reason="needs a static busybox (Debian: busybox-static)"),
    pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps (Debian: procps)"),
]


def test_every_command_prints_what_stands_below_it() -> None:
    page = transcript.PAGE.read_text()
    assert transcript.rewritten(page) == page
