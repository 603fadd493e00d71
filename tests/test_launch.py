"""ocirt-init at work: what it is started from, what it inherits, and how its failures are told."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from ocirt import launch as module
from ocirt.errors import HookError, InitDied, SetupError
from ocirt.launch import Launch, Prepared, failure, launch
from ocirt.plan import Plan
from ocirt.plan import ops as o
from ocirt.plan import tree_ops as t
from ocirt.plan.ops import Op, Purpose
from ocirt.reaping import reap
from ocirt.wire import Failed, SyncRequested

WAIT = o.Sync(Purpose.RLIMITS)


@contextlib.contextmanager
def running(*ops: Op, descriptors: Sequence[int] = ()) -> Iterator[Launch]:
    null = os.open("/dev/null", os.O_RDWR)
    launched = launch(Prepared.of(Plan(ops)), descriptors, (null, null, null))
    os.close(null)
    try:
        yield launched
    finally:
        launched.abort()


def open_files(pid: int) -> list[int]:
    return sorted(map(int, os.listdir(f"/proc/{pid}/fd")))


def until_told(launched: Launch) -> None:
    """Until the first Sync."""
    event = next(launched.heard())
    assert isinstance(event, SyncRequested)
    assert event.purpose is Purpose.RLIMITS


def test_the_program_runs_from_memory_that_nobody_can_write_to() -> None:
    """CVE-2019-5736: a container that reaches /proc/PID/exe finds nothing of the host's."""
    with running(WAIT) as launched:
        until_told(launched)
        assert os.readlink(f"/proc/{launched.pid}/exe").startswith("/memfd:ocirt-init")
        with pytest.raises(OSError, match=r"busy|permitted|denied"):
            os.open(f"/proc/{launched.pid}/exe", os.O_WRONLY)
        fd = os.open(f"/proc/{launched.pid}/exe", os.O_RDONLY)
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & module.SEALS == module.SEALS
        os.close(fd)


def test_it_inherits_no_descriptor_but_those_that_it_is_given() -> None:
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    with running(WAIT, descriptors=(leak, leak)) as launched:
        until_told(launched)
        assert open_files(launched.pid) == [0, 1, 2, 3, 5, 6]  # 4 was the plan
    os.close(leak)


def test_it_inherits_no_environment() -> None:
    with running(WAIT) as launched, open(f"/proc/{launched.pid}/environ", "rb") as file:
        until_told(launched)
        assert file.read() == b""


def test_signals_are_as_a_new_program_expects_them() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and a caller's thread may block any; a hook hears of neither."""
    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; exit 1"
    hook = o.RunHook("/bin/sh", ("sh", "-c", script), (), 0, False, ("", ""), origin="hooks.createContainer[0]")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with running(hook) as launched, pytest.raises(HookError) as caught:
            list(launched.heard())
    finally:
        assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == {*before, signal.SIGUSR1}
    assert caught.value.output.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_its_session_is_its_own() -> None:
    with running(WAIT) as launched:
        until_told(launched)
        assert os.getsid(launched.pid) == launched.pid


def test_it_ends_with_a_host_that_does_not_answer() -> None:
    """A container that nobody has recorded must not live on."""
    with running(WAIT, o.SetUmask(0)) as launched:
        until_told(launched)
        launched.events.close()
        assert reap(launched.pidfd, os.WNOWAIT) == 125


def test_it_goes_on_when_told() -> None:
    with running(WAIT, o.SetUmask(0)) as launched:
        events = launched.heard()
        assert next(events) == SyncRequested(Purpose.RLIMITS, index=0)
        launched.go()
        assert list(events) == []
        assert reap(launched.pidfd, os.WNOWAIT) == 0


def test_a_death_is_told_with_its_signal() -> None:
    with running(WAIT) as launched:
        until_told(launched)
        os.kill(launched.pid, signal.SIGKILL)
        assert list(launched.heard()) == []
        died = launched.died()
        assert isinstance(died, InitDied)
        assert "SIGKILL" in str(died)


def test_the_program_outlives_a_closed_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may close all of its descriptors, and the number may be another file's by now."""
    monkeypatch.setattr(module, "_sealed", os.open("/dev/null", os.O_RDONLY))
    with running(WAIT) as launched:
        until_told(launched)


def test_a_failure_names_the_field_the_call_and_the_errno() -> None:
    with (
        running(o.SetUmask(0), o.FindProgram("missing", ("/bin",), origin="process.args[0]"), WAIT) as launched,
        pytest.raises(SetupError) as caught,
    ):
        list(launched.heard())
    error = caught.value
    assert (error.origin, error.operation, error.errno) == ("process.args[0]", "FindProgram", errno.ENOENT)
    assert isinstance(error.__cause__, OSError)


@pytest.mark.root
def test_a_failure_after_the_namespaces_is_told_as_well() -> None:
    """The first Clone is done by the start itself, and is no operation of the plan that is sent."""
    hostname = o.SetHostname("x" * 65, origin="hostname")
    clone = o.Clone(o.CLONE_NEW["uts"])
    with running(clone, hostname) as launched, pytest.raises(SetupError) as caught:
        list(launched.heard())
    assert (caught.value.origin, caught.value.call) == ("hostname", "sethostname")


@pytest.mark.root
def test_what_goes_on_in_a_child_is_still_ours_to_wait_for() -> None:
    """CLONE_PARENT: the last of all stages is the caller's own child."""
    with running(o.Clone(o.CLONE_NEW["user"]), WAIT, o.SetUmask(0)) as launched:
        first = launched.pid
        events = launched.heard()
        assert next(events) == SyncRequested(Purpose.RLIMITS, index=1)
        assert launched.pid != first
        launched.go()
        assert list(events) == []
        assert reap(launched.pidfd, os.WNOWAIT) == 0


LATE = """
import os
import select
from ocirt import launch as module
from ocirt.plan import Plan, ops as o
plan = Plan((o.Clone(o.CLONE_NEW["user"]), o.Sync(o.Purpose.RLIMITS), o.SetHostname("x" * 65, origin="hostname")))
null = os.open(os.devnull, os.O_RDWR)
launched = module.launch(module.Prepared.of(plan), [], (null, null, null))
first, events = launched.pid, launched.heard()
print(next(events).purpose.name, launched.pid != first)
launched.go()
try:
    next(events)
except Exception as error:
    print(error.origin)
launched.abort()
early = module.launch(module.Prepared.of(plan), [], (null, null, null))
early.abort()
try:
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
except ChildProcessError:
    print("no child")
"""


@pytest.mark.root
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to keep a parent from telling of its child")
def test_a_child_that_speaks_before_its_parent_is_heard_after_it() -> None:
    delay = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=clone3", "-e", "inject=clone3:delay_exit=200000"]
    done = subprocess.run([*delay, sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["RLIMITS True", "hostname", "no child"], done.stderr


@pytest.mark.root
def test_an_aborted_launch_leaves_no_child() -> None:
    with running(o.Clone(o.CLONE_NEW["user"]), WAIT) as launched:
        until_told(launched)
        pids = [launched.pid]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def event(*, left: int = 0, value: int = 0, call: str = "open", number: int = errno.EIO, detail: str = "") -> Failed:
    return Failed(index=0, left=left, errno=number, value=value, call=call, detail=detail)


def test_an_operand_that_failed_is_named_by_its_own_field() -> None:
    limits = o.SetRlimits(((0, 0, 0), (1, 1, 1)), origin="process.rlimits", origins=("first", "second"))
    error = failure(Plan((limits, o.SetUmask(0))), event(left=1, value=1))
    assert isinstance(error, SetupError)
    assert error.origin == "second"


def test_a_hook_that_failed_is_told_with_its_code_and_its_words() -> None:
    hook = o.RunHook("/hook", ("hook",), (), 1500, inside=False, state=("", ""), origin="hooks.createContainer[0]")
    exited = failure(Plan((hook,)), event(value=7, call="exit", detail="said so"))
    assert isinstance(exited, HookError)
    assert (exited.returncode, exited.output) == (7, "said so")
    late = failure(Plan((hook,)), event(call="timeout"))
    assert isinstance(late, HookError)
    assert "1.5s" in str(late)
    absent = failure(Plan((hook,)), event(call="access", number=errno.ENOENT))
    assert isinstance(absent, HookError)
    assert (absent.hook, absent.returncode) == ("hooks.createContainer[0]", None)
    assert absent.reason == "cannot be run: No such file or directory"


def test_remedies_are_given_where_an_errno_alone_would_mislead() -> None:
    error = failure(Plan((t.MountFilesystem("/x", "nofs"),)), event(call="fsopen", number=errno.ENODEV))
    assert "no such filesystem" in str(error)


def test_what_an_undone_launch_has_sent_is_closed() -> None:
    """Init may have offered a socket that nobody has asked for any more, and have a child to come."""
    before = os.listdir("/proc/self/fd")
    with running(o.OfferNetlink(()), o.Clone(0), WAIT) as launched:
        assert select.select([launched.events], [], [], 60)[0] == [launched.events]
    assert os.listdir("/proc/self/fd") == before
