"""What all tests share: which of them this machine can run, and how hypothesis behaves."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadline: how long an example takes on a shared machine says nothing about our code.
settings.register_profile("ocirt", deadline=None)
settings.load_profile("ocirt")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root for everybody else; the other markers are for choosing with ``-m``."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs to be root"))
