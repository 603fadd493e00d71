"""What the end of a container is judged by, read from the files of every layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.cgroups import verdict
from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.verdict import ABOVE, BELOW, LOST, Facts

from . import kernels

V1_REACHED = "memory.limit_in_bytes 64 MiB reached"


def test_version_1(tmp_path: Path) -> None:
    assert verdict.facts(kernels.v1(tmp_path)) == Facts(2, 102, 4.5, V1_REACHED)


def test_version_2(tmp_path: Path) -> None:
    assert verdict.facts(kernels.v2(tmp_path)) == Facts(2, 102, 4.5, "memory.max 64 MiB reached")


def test_hybrid_is_version_1(tmp_path: Path) -> None:
    assert verdict.facts(kernels.hybrid(tmp_path)) == Facts(2, 102, 4.5, V1_REACHED)


def test_nobody_was_killed(tmp_path: Path) -> None:
    cgroup = kernels.v2(tmp_path, {**kernels.V2, "memory.events": "max 3\noom 0\noom_kill 0\n"})
    assert verdict.facts(cgroup) == Facts(0, 102, 4.5, "")


def test_a_cgroup_that_goes_while_it_is_read_has_told_no_cause(tmp_path: Path) -> None:
    """And the kernel's log knows nothing of this one."""
    left = {name: text for name, text in kernels.V2.items() if name not in ("cgroup.procs", "memory.max")}
    assert verdict.facts(kernels.v2(tmp_path, left)) == Facts(2, 102, 4.5, LOST)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"memory.max": "max\n"}, BELOW),
        ({"memory.events.local": "oom 0\n"}, BELOW),
        ({"memory.events.local": "oom 0\n", "memory.events": "oom 0\noom_kill 1\n"}, ABOVE),
    ],
)
def test_which_limit_of_version_2(tmp_path: Path, changes: dict[str, str], cause: str) -> None:
    assert verdict.facts(kernels.v2(tmp_path, {**kernels.V2, **changes})).cause == cause


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (
            {"memory.failcnt": "0\n", "memory.memsw.limit_in_bytes": "100000\n"},
            "memory.memsw.limit_in_bytes 97.7 KiB reached",
        ),
        ({"memory.failcnt": "0\n"}, ABOVE),
        ({"memory.limit_in_bytes": kernels.UNLIMITED_V1}, ABOVE),
    ],
)
def test_which_limit_of_version_1(tmp_path: Path, changes: dict[str, str], cause: str) -> None:
    files = {**kernels.V1, "memory": {**kernels.V1["memory"], **changes}}
    assert verdict.facts(kernels.v1(tmp_path, files)).cause == cause


def test_version_1_counts_those_below(tmp_path: Path) -> None:
    cgroup = kernels.v1(tmp_path)
    for name, count in (("a", 3), ("a/b", 4)):
        (tmp_path / "memory" / name).mkdir()
        (tmp_path / "memory" / name / "memory.oom_control").write_text(f"oom_kill_disable 0\noom_kill {count}\n")
    assert verdict.facts(cgroup).oom_kills == 2 + 3 + 4


def test_what_others_used_before_is_not_the_containers() -> None:
    now = Facts(3, 200, 4.5, V1_REACHED)
    assert now.since(()) == now
    assert now.since((1, 100, 1.5)) == Facts(2, 200, 3.0, V1_REACHED)
    assert now.since((3, 200, 4.5)) == Facts(0, None, 0.0, "")
    assert Facts().since((3, 200, 4.5)) == Facts()


def test_without_a_cgroup_nobody_can_tell() -> None:
    assert verdict.facts(Cgroup()) == Facts(None, None, None, "")
    assert verdict.oom_killed(Cgroup()) is None


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (4096, "4 KiB"),
        (64 << 20, "64 MiB"),
        (100000, "97.7 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 52, "4096 TiB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert verdict.size(count) == words
