"""The kernel's log as a witness: others may write there too, and choose the names that stand in it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from ocirt.cgroups import kernel_log

LINE = "oom-kill:constraint=CONSTRAINT_MEMCG,mems_allowed=0,oom_memcg={0},task_memcg={0},task=sh,pid=1,uid=0"


@pytest.mark.root
def test_a_line_that_somebody_else_wrote_is_no_kill() -> None:
    """lifecycle/test_ending.py has the kernel's own."""
    path, began = f"/test-{os.getpid()}-log", time.clock_gettime(time.CLOCK_BOOTTIME)
    if not os.access("/dev/kmsg", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kmsg here")
    fd = os.open("/dev/kmsg", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, f"<4>{LINE.format(path)}\n".encode())
        assert LINE.format(path).encode() in b"".join(records(fd))
    finally:
        os.close(fd)
    assert kernel_log.kills(path, began) == ()


def records(fd: int) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield os.read(fd, kernel_log.RECORD_BYTES)


@pytest.mark.parametrize("name", ["/victim", "/victim/below"])
def test_a_line_names_a_cgroup_and_what_is_below_it(name: str) -> None:
    assert kernel_log._concerns(LINE.format(name), "/victim")
    assert not kernel_log._concerns(LINE.format(name), "/vic")


def test_a_name_that_reads_like_a_line_is_not_believed() -> None:
    assert not kernel_log._concerns(LINE.format("/other/x,task_memcg=/victim"), "/victim")


@pytest.mark.parametrize(
    ("usage", "reached"),
    [
        (["memory: usage 64kB, limit 64kB, failcnt 9"], ("memory", 65536)),
        (["memory: usage 60kB, limit 64kB, failcnt 9", "swap: usage 0kB, limit 0kB"], ("memory", 65536)),
        (["memory: usage 8kB, limit 64kB", "memory+swap: usage 127kB, limit 128kB"], ("memory+swap", 131072)),
        (["memory: usage 64kB, limit 64kB", "memory+swap: usage 64kB, limit 64kB"], ("memory", 65536)),
        ([], None),
    ],
)
def test_the_limit_that_was_reached(
    usage: list[str], reached: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where something was given back meanwhile."""
    lines = ["the machine begins", *usage, LINE.format("/victim")]
    monkeypatch.setattr(kernel_log, "_records", lambda: ((float(at), text) for at, text in enumerate(lines)))
    assert kernel_log.kills("/victim", 0.0) == (kernel_log.Kill("/victim", reached),)
