"""What is read and not honoured yet is an error, never skipped in silence."""

from __future__ import annotations

import pytest

from ocirt.errors import UnsupportedError
from ocirt.plan.unsupported import check
from ocirt.spec import (
    CPU,
    Linux,
    Memory,
    Pids,
    Process,
    Resources,
    Root,
    Spec,
)

BASE = Spec(root=Root("rootfs"))
PROCESS = Process(cwd="/", args=("x",))

REFUSED = [
    ("linux.resources.memory", BASE.evolve(linux=Linux(resources=Resources(memory=Memory(limit=1))))),
    ("linux.resources.cpu", BASE.evolve(linux=Linux(resources=Resources(cpu=CPU(shares=2))))),
    ("linux.resources.pids", BASE.evolve(linux=Linux(resources=Resources(pids=Pids(limit=1))))),
    ("linux.resources.unified", BASE.evolve(linux=Linux(resources=Resources(unified={"pids.max": "1"})))),
]


@pytest.mark.parametrize(("origin", "document"), REFUSED, ids=[origin for origin, _ in REFUSED])
def test_it_is_refused_by_its_path(origin: str, document: Spec) -> None:
    with pytest.raises(UnsupportedError) as caught:
        check(document)
    assert caught.value.origin == origin


def test_what_asks_for_nothing_is_no_error() -> None:
    check(BASE.evolve(linux=Linux(resources=Resources(unified={})), process=PROCESS))
