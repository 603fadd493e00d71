"""What was added is there, and nothing else, however much there is."""

from __future__ import annotations

import pytest

from ocirt.archive import remembered
from ocirt.archive.remembered import Remembered


@pytest.mark.parametrize("fresh", [1, 2, 7, 100_000])
def test_it_holds_what_was_added(monkeypatch: pytest.MonkeyPatch, fresh: int) -> None:
    monkeypatch.setattr(remembered, "FRESH", fresh)
    found = Remembered()
    for number in range(500):
        found.add((1, number % 7), f"name{number}")
        found.add((1, number % 7), f"name{number}")
        assert ((1, number % 7), f"name{number}") in found
    assert all(((1, number % 7), f"name{number}") in found for number in range(500))
    assert not any(((1, number % 7 + 1), f"name{number}") in found for number in range(500))
    assert ((2, 0), "name0") not in found
