"""Limits in everyday words mean what config.json would say, and hold one call of ``run``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ocirt
from ocirt import Limits
from ocirt.cgroups import layout
from ocirt.errors import SetupError
from ocirt.limits import byte_count
from ocirt.spec.limits import CPU, Memory, Pids
from ocirt.spec.linux import Resources
from tests.support import eventually, make_rootfs


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("1K", 1024),
        ("64KB", 65536),
        ("512M", 2**29),
        ("512MiB", 2**29),
        ("512 mb", 2**29),
        ("1.5G", 3 * 2**29),
        ("2T", 2**41),
        ("1p", 2**50),
        ("-1", -1),
        (-1, -1),
        (7, 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert byte_count(text) == size


@pytest.mark.parametrize("text", ["", "M", "-2", "-1M", "1..5G", "1E", "1 000", "five", "0x10", "1MM", "\u0661"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size in bytes"):
        byte_count(text)


@given(st.integers(0, 2**60))
def test_a_number_is_a_number_of_bytes(size: int) -> None:
    assert byte_count(size) == byte_count(str(size)) == size
    assert byte_count(f"{size}K") == size * 1024


@pytest.mark.parametrize(
    ("limits", "resources"),
    [
        (Limits(), Resources()),
        (Limits(memory="512M"), Resources(memory=Memory(limit=2**29))),
        (Limits(memory="1M", swap="1M"), Resources(memory=Memory(limit=2**20, swap=2**21))),
        (Limits(memory="1M", swap=0), Resources(memory=Memory(limit=2**20, swap=2**20))),
        (Limits(memory="1M", swap=-1), Resources(memory=Memory(limit=2**20, swap=-1))),
        (Limits(cpus=1.5), Resources(cpu=CPU(quota=150_000, period=100_000))),
        (Limits(cpu_shares=512, cpuset="0-1"), Resources(cpu=CPU(shares=512, cpus="0-1"))),
        (Limits(pids=128), Resources(pids=Pids(128))),
    ],
)
def test_what_they_say_in_config_json(limits: Limits, resources: Resources) -> None:
    assert limits.resources() == resources


@pytest.mark.parametrize("cpus", [0, 0.001, -1, float("inf"), float("nan")])
def test_less_time_than_the_kernel_measures(cpus: float) -> None:
    with pytest.raises(ValueError, match=r"cpus must be at least 0\.01"):
        Limits(cpus=cpus)


def test_swap_lies_above_memory() -> None:
    with pytest.raises(ValueError, match="a limit of swap needs one of memory"):
        Limits(swap="1M")


limited = pytest.mark.skipif(not layout.here().directories, reason="no cgroup hierarchy is mounted here")


@pytest.mark.root
@limited
def test_one_call_is_held_to_its_number_of_processes() -> None:
    script = "sleep 0.01 & sleep 0.01 & sleep 0.01 & sleep 0.01 & sleep 0.01 & wait; echo all"
    assert ocirt.run(["sh", "-c", script], text=True).stdout == "all\n"
    done = ocirt.run(["sh", "-c", script], text=True, pids=4)
    assert "fork" in done.stderr
    assert done.stdout == ""


@pytest.mark.root
@limited
def test_one_call_is_killed_at_its_limit_of_memory() -> None:
    script = "x = bytearray(200 << 20); print(len(x))"
    assert ocirt.run(["python3", "-c", script], memory="300M").returncode == 0
    done = ocirt.run(["python3", "-c", script], limits=Limits(memory="64M", swap=0))
    assert (done.returncode, done.stdout) == (-9, b"")


@pytest.mark.root
@limited
def test_one_call_sees_the_cpus_that_it_has() -> None:
    assert ocirt.run(["nproc"], limits=Limits(cpuset="1"), text=True).stdout == "1\n"


@pytest.mark.root
@limited
def test_what_a_call_leaves_behind_in_its_cgroup_is_killed(tmp_path: Path) -> None:
    """Without a pid namespace of its own nothing else would."""
    spec = ocirt.Spec.default()
    assert spec.linux is not None
    others = tuple(entry for entry in spec.linux.namespaces if entry.type != "pid")
    rootfs = make_rootfs(tmp_path / "rootfs")
    spec = spec.evolve(root=spec.root.evolve(path=str(rootfs)), linux=spec.linux.evolve(namespaces=others))
    assert spec.process is not None
    bundle = ocirt.Bundle(tmp_path, spec.evolve(process=spec.process.evolve(terminal=False)))
    script = "sleep 600 >/dev/null 2>&1 & echo $!"
    done = ocirt.run(["sh", "-c", script], bundle=bundle, text=True, pids=50)
    assert done.returncode == 0
    eventually(lambda: not Path(f"/proc/{int(done.stdout)}").exists(), "it is reaped")


@pytest.mark.root
@limited
def test_a_limit_that_cannot_be_had_is_told_by_its_member() -> None:
    with pytest.raises(SetupError) as caught:
        ocirt.run(["true"], limits=Limits(cpuset="4000"))
    assert caught.value.origin == "linux.resources.cpu.cpus"


@pytest.mark.root
@limited
def test_three_words_go_before_a_whole_value() -> None:
    done = ocirt.run(["sh", "-c", "true & true & true & true"], limits=Limits(pids=1, cpuset="1"), pids=100, text=True)
    assert done.stderr == ""
