"""Who may ask CRIU for anything."""

from __future__ import annotations

import pytest

from tests.support import python

SCRIPT = """
import os
from ocirt import UnsupportedError
from ocirt.criu.options import check_privileges
import ocirt.host

os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    check_privileges("restore")
except UnsupportedError as error:
    print(error)
"""


@pytest.mark.root
def test_an_ordinary_user_hears_what_is_missing() -> None:
    assert python(SCRIPT) == (
        "restore: CRIU needs root, or CAP_CHECKPOINT_RESTORE where a rootless container is concerned\n"
    )
