"""Plans as they are printed, whole: ``golden/*.plan``. ``python -m tests.plan.examples`` writes them anew."""

from __future__ import annotations

import pytest

from tests.plan.examples import EXAMPLES, GOLDEN


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plan_is_the_one_we_have_read(name: str) -> None:
    assert str(EXAMPLES[name]()) == (GOLDEN / f"{name}.plan").read_text()


def test_every_golden_plan_has_its_example() -> None:
    assert {path.stem for path in GOLDEN.glob("*.plan")} == set(EXAMPLES)
