"""Cgroups of our own to try things on, and processes to put there."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator

import pytest

from ocirt.cgroups import layout, tree
from ocirt.cgroups.choice import choose
from ocirt.cgroups.files import Cgroup, survey

from .machines import Spawn


@pytest.fixture
def name() -> Iterator[str]:
    """A fresh id; whatever was made by this name is gone afterwards, from every hierarchy."""
    text = f"ocirt-test-{uuid.uuid4().hex}"
    yield text
    for _, own in layout.here().directories:
        assert tree.remove(f"{own}/{text}")


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start processes that do not outlive the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(args or ("sleep", "60"), stdout=subprocess.PIPE))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def cgroup(name: str, spawn: Spawn) -> Iterator[Cgroup]:
    """A made cgroup; it asks for ``spawn`` so that the processes are gone before the directories."""
    made = survey(choose(layout.here(), None, name))
    made.make()
    yield made
    made.kill()
