"""Processes by pidfd: waiting, signals, exit status; here with children that are no containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ocirt import Process, Terminal
from ocirt.errors import ExitStatusUnknown
from ocirt.process import reap_abandoned


def child(*args: str) -> Process:
    """Ours by its pidfd alone: ``subprocess`` forgets it at once."""
    made = subprocess.Popen(args, stdin=subprocess.DEVNULL)
    pidfd = os.pidfd_open(made.pid)
    made.returncode = 0  # or its finaliser would complain, and wait
    return Process(args, made.pid, pidfd)


@pytest.fixture
def sleeper() -> Iterator[Process]:
    process = child("sleep", "600")
    yield process
    process.kill()
    process.wait(60)
    process.close()


@pytest.mark.parametrize("code", [0, 1, 255])
def test_an_exit_status_is_the_return_code(code: int) -> None:
    process = child("sh", "-c", f"exit {code}")
    assert process.wait(60) == code
    assert (process.poll(), process.returncode, process.wait(0)) == (code, code, code)
    process.close()


def test_a_signal_is_a_negative_return_code(sleeper: Process) -> None:
    assert sleeper.poll() is None
    sleeper.terminate()
    assert sleeper.wait(60) == -signal.SIGTERM
    sleeper.send_signal(signal.SIGKILL)  # nothing happens to one that has ended


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_a_wait_that_takes_too_long_is_given_up(sleeper: Process, timeout: float) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        sleeper.wait(timeout)
    assert caught.value.cmd == ("sleep", "600")
    assert sleeper.returncode is None


def test_the_status_is_known_although_another_waiter_was_quicker() -> None:
    process = child("sh", "-c", "exit 9")
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 9
    try:
        assert process.wait(60) == 9
    except ExitStatusUnknown:
        pytest.skip("this kernel keeps no status for a pidfd (before Linux 6.15)")
    finally:
        process.close()


def test_the_status_of_somebody_elses_zombie_is_read_without_reaping_it() -> None:
    """Its parent has not looked yet, and will find it as it was."""
    script = (
        "import os, sys\n"
        "child = os.fork()\n"
        "child or os._exit(6)\n"
        "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n"
        "print(child, flush=True); sys.stdin.read()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        process = Process((), pid, os.pidfd_open(pid))
        assert process.wait(60) == 6
        process.close()
        output, _ = parent.communicate("", timeout=60)
        assert output == "6\n"


def test_a_process_that_is_closed_early_is_reaped_later() -> None:
    process = child("sleep", "0.2")
    process.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    reap_abandoned()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_the_status_of_one_that_is_left_is_for_others() -> None:
    process = child("sh", "-c", "exit 5")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process._leave()
    process.close()
    reap_abandoned()
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 5


def test_closing_twice_is_closing_once(sleeper: Process) -> None:
    other = child("true")
    other.wait(60)
    other.close()
    other.close()
    assert sleeper.poll() is None


def test_a_terminal_reads_as_empty_once_it_is_hung_up() -> None:
    master, slave = os.openpty()
    with Terminal(master) as terminal:
        terminal.resize(81, 26)
        assert os.get_terminal_size(slave) == terminal.size == os.terminal_size((81, 26))
        os.write(slave, b"x")
        assert terminal.read() == b"x"
        os.close(slave)
        assert terminal.read() == b""
        assert repr(terminal) == f"<Terminal fd={master}>"
    terminal.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(master)
