"""Overlays of many layers, as the kernels of today take their list and as those before Linux 6.8 did."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from attrs import evolve

from ocirt.host import Host
from ocirt.plan.ops import Op, Tolerance
from ocirt.plan.overlay import lower_directories
from ocirt.plan.tree_ops import (
    PROPAGATION,
    RECURSIVE,
    AttachRootfs,
    Attributes,
    MountFilesystem,
    OfferOverlay,
    ReadonlyPath,
    SetPropagation,
)
from ocirt.wire import TreeOffered
from tests.native.initrun import MOUNT_NAMESPACE, Outcome, run

pytestmark = pytest.mark.root

KERNELS = [
    pytest.param((6, 1), id="joined"),
    pytest.param((6, 8), id="one-by-one", marks=pytest.mark.skipif(Host.probe().kernel < (6, 8), reason="Linux 6.8")),
]
PRIVATE = SetPropagation(PROPAGATION["private"] | RECURSIVE)


def layers(directory: Path, count: int) -> tuple[str, ...]:
    """Directories with long paths, each with a file of its own."""
    made = [directory / f"{'layer' * 6}-{number}" for number in range(count)]
    for number, layer in enumerate(made):
        layer.mkdir()
        (layer / str(number)).touch()
    return tuple(map(str, made))


def offered(outcome: Outcome) -> int:
    """The tree as a descriptor of ours."""
    assert outcome.succeeded, outcome
    (event,) = outcome.events
    assert isinstance(event, TreeOffered)
    return event.fd


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("writable", [False, True])
def test_an_overlay_is_offered_and_mounted_nowhere(
    tmp_path: Path, kernel: tuple[int, int], count: int, writable: bool
) -> None:
    if count == 1 and not writable:
        return  # of which the kernel makes no overlay
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    lowers = lower_directories(evolve(Host.probe(), kernel=kernel), layers(tmp_path, count))
    assert len(lowers) == (count if kernel >= (6, 8) else 1)
    places = (str(upper), str(work)) if writable else ("", "")
    tree = offered(run(PRIVATE, OfferOverlay(*places, lowers, False), namespaces=MOUNT_NAMESPACE))
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
        try:
            assert set(os.listdir(root)) == {str(number) for number in range(count)}
            if writable:
                os.unlink("0", dir_fd=root)
        finally:
            os.close(root)
    finally:
        os.close(tree)
    assert os.listdir(upper) == (["0"] if writable else [])
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_a_list_that_no_call_takes_is_an_error(tmp_path: Path) -> None:
    lowers = lower_directories(evolve(Host.probe(), kernel=(6, 1)), layers(tmp_path, 60))
    failure = run(PRIVATE, OfferOverlay("", "", lowers, False), namespaces=MOUNT_NAMESPACE).failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("mount", errno.E2BIG)


@pytest.mark.parametrize("kernel", [(6, 1), (6, 8)])
def test_an_overlay_on_the_root_is_what_paths_lead_to(tmp_path: Path, kernel: tuple[int, int]) -> None:
    """As one parameter of more than 255 bytes, and apart."""
    if Host.probe().kernel < kernel:
        pytest.skip("needs Linux 6.8")
    empty, upper, work = (tmp_path / name for name in ("empty", "upper", "work"))
    for path in (empty, upper, work):
        path.mkdir()
    stack = layers(tmp_path, 10)
    together = kernel < (6, 8)
    lower = [f"lowerdir={':'.join(stack)}"] if together else [f"lowerdir+={each}" for each in stack]
    parameters = (*lower, f"upperdir={upper}", f"workdir={work}")
    steps: list[Op] = [
        PRIVATE,
        AttachRootfs(str(empty)),
        MountFilesystem("/", "overlay", "overlay", parameters, Attributes()),
        MountFilesystem("/made", "tmpfs", "tmpfs", (), Attributes(), int(Tolerance.CREATE_TARGET)),
        ReadonlyPath("/9"),
    ]
    outcome = run(*steps, namespaces=MOUNT_NAMESPACE)
    assert outcome.succeeded, outcome
    assert os.listdir(empty) == []
    assert os.listdir(upper) == ["made"]
