"""Labels are written to a real procfs and to nothing else (CVE-2019-16884, CVE-2025-52881)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.plan import ops as o
from ocirt.plan.label_ops import SetFileLabel, SetLabel
from ocirt.plan.ops import Fd, RunHook
from tests import support
from tests.native.initrun import Outcome, run

PROC = Fd(0)
ABSENT = "thread-self/attr/absent/exec"
REAL = "thread-self/oom_score_adj"
"""A file that says what was written to it, as long as there is no security module here to ask."""


@pytest.fixture
def proc() -> Iterator[int]:
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def reading(path: str) -> RunHook:
    """Fails, and so tells what it has read."""
    return RunHook("/bin/sh", ("sh", "-c", f"cat {path}; exit 1"), ("PATH=/bin:/usr/bin",), 0, True, ("", ""))


def failed(outcome: Outcome) -> tuple[str, int, str]:
    failure = outcome.failure
    assert failure is not None
    return failure.call, failure.errno, failure.detail


@pytest.mark.covers("process.apparmorProfile", "process.selinuxLabel")
def test_the_bytes_are_those_of_the_label(proc: int) -> None:
    outcome = run(SetLabel(PROC, "517", (REAL,)), reading("/proc/self/oom_score_adj"), slots=[proc])
    assert failed(outcome)[2] == "517\n"


def test_where_the_first_file_is_absent_the_next_is_written(proc: int) -> None:
    outcome = run(SetLabel(PROC, "518", (ABSENT, REAL)), reading("/proc/self/oom_score_adj"), slots=[proc])
    assert failed(outcome)[2] == "518\n"


def test_where_none_is_there_it_fails(proc: int) -> None:
    outcome = run(SetLabel(PROC, "x", (ABSENT, "thread-self/absent")), slots=[proc])
    assert failed(outcome) == ("openat2", errno.ENOENT, "thread-self/absent")


def test_what_the_kernel_refuses_fails_with_the_label(proc: int) -> None:
    """A label that could not be written must not be taken for one that was."""
    outcome = run(SetLabel(PROC, "no number", (REAL,)), slots=[proc])
    assert failed(outcome) == ("write", errno.EINVAL, "no number")


@pytest.mark.root
def test_an_ordinary_user_can_still_say_what_it_will_be(proc: int) -> None:
    """It opens the file, by then another's in the eyes of procfs; without a security module nothing can be written."""
    outcome = run(o.SetUser(1000, 1000, True), SetLabel(PROC, "x", (ABSENT, "thread-self/attr/exec")), slots=[proc])
    assert failed(outcome) == ("write", errno.EINVAL, "x")


def test_a_directory_that_looks_like_proc_is_refused(tmp_path: Path) -> None:
    decoy = tmp_path / "thread-self/attr/exec"
    decoy.parent.mkdir(parents=True)
    decoy.touch()
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        outcome = run(SetLabel(PROC, "x", ("thread-self/attr/exec",)), slots=[fd])
    finally:
        os.close(fd)
    assert failed(outcome)[:2] == ("fstatfs", errno.EPERM)
    assert decoy.read_text() == ""


def test_a_part_of_proc_is_refused() -> None:
    fd = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    try:
        outcome = run(SetLabel(PROC, "1", ("oom_score_adj",)), slots=[fd])
    finally:
        os.close(fd)
    assert failed(outcome)[:2] == ("fstatfs", errno.EPERM)


def test_no_descriptor_at_all_is_refused() -> None:
    assert failed(run(SetLabel(PROC, "x", (REAL,))))[:2] == ("fstatfs", errno.EPERM)


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "self/root/etc/passwd", "self/exe"])
def test_no_link_and_no_dots_lead_out(proc: int, path: str) -> None:
    call, number, _ = failed(run(SetLabel(PROC, "x", (path,)), slots=[proc]))
    assert call == "openat2"
    assert number in (errno.EXDEV, errno.ELOOP)


DECOY = """
import os, sys
from tests.native.test_labels import PROC, REAL, SetLabel, failed, run
fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
print(failed(run(SetLabel(PROC, "1", ("uptime",)), slots=[fd]))[:2])
"""


@pytest.mark.root
def test_what_is_mounted_over_a_file_of_proc_is_not_written(tmp_path: Path) -> None:
    decoy = tmp_path / "decoy"
    decoy.touch()
    root = Path(__file__).parents[2]
    shell = 'mount --bind "$1" /proc/uptime && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", shell, "sh", decoy, sys.executable, DECOY],
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=support.SECONDS,
    )
    assert (done.stdout, done.stderr) == (f"('openat2', {errno.EXDEV})\n", "")
    assert decoy.read_text() == ""


@pytest.mark.covers("linux.mountLabel")
@pytest.mark.root
def test_a_directory_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no rootfs is being built, paths start at the working directory, which is the root by then."""
    monkeypatch.chdir(tmp_path)
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    assert run(SetFileLabel("/", label)).succeeded
    assert os.getxattr(tmp_path, "security.selinux") == label.encode() + b"\0"
