"""What all tests share: which of them this machine can run, how hypothesis behaves, and a place for containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ocirt.preparation import CgroupManager

pytest.register_assert_rewrite("tests.support")

from tests import support  # noqa: E402  # what is imported before that line is not rewritten

# No deadline: how long an example takes on a shared machine says nothing about our code.
settings.register_profile("ocirt", deadline=None)
settings.load_profile("ocirt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--guest", metavar="NAME", help="which of the virtual machines of tests/vm this is")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs root for everybody else, and what needs a machine other than this.

    The other markers are for choosing with ``-m``.
    """
    for item in items:
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs to be root"))
        machine = item.get_closest_marker("vm")
        if machine is None:
            continue
        (guest,) = machine.args or ("files",)
        if guest != config.getoption("guest"):
            item.add_marker(pytest.mark.skip(reason=f"for the virtual machine with {guest}: make vm-test"))


@pytest.fixture(scope="session")
def busybox_rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem for reading: a test that changes one asks for ``rootfs``."""
    if support.busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    return support.make_rootfs(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def rootfs(busybox_rootfs: Path, tmp_path: Path) -> Path:
    """A root filesystem of the test's own, where the shared one (``busybox_rootfs``) could be made."""
    del busybox_rootfs
    return support.make_rootfs(tmp_path / "rootfs")


@pytest.fixture
def lab(request: pytest.FixtureRequest, busybox_rootfs: Path, tmp_path: Path) -> Iterator[support.Lab]:
    """A place for containers, which must be as clean afterwards as before.

    For ``systemd_too``, systemd makes their cgroups in the machine where it can.
    """
    by_systemd = request.node.get_closest_marker("systemd_too") and request.config.getoption("guest") == "systemd"
    manager: CgroupManager = "systemd" if by_systemd else "cgroupfs"
    yield from support.checked(support.Lab(tmp_path, busybox_rootfs, manager))


@pytest.fixture
def own_lab(rootfs: Path, tmp_path: Path) -> Iterator[support.Lab]:
    """The same with a rootfs of the test's own."""
    yield from support.checked(support.Lab(tmp_path, rootfs))
