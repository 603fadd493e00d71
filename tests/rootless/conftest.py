"""One user for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rootless.user import User, make_user


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()
