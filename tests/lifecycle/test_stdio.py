"""The standard streams, and what users of ``subprocess.Popen`` expect of a process."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

from ocirt import Process
from ocirt.errors import OCIError
from ocirt.spec import User
from tests.support import SECONDS, Lab, document, eventually, linux, namespaces, process, shell

pytestmark = pytest.mark.root

MEBIBYTE = bytes(range(256)) * 4096


def test_pipes_carry_each_stream_apart(lab: Lab) -> None:
    spec = shell("read line; echo out-$line; echo err-$line >&2")
    with lab.create(spec, stdin=PIPE, stdout=PIPE, stderr=PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(b"word\n", SECONDS) == (b"out-word\n", b"err-word\n")
        assert container.process.returncode == 0


def test_errors_can_go_with_the_output(lab: Lab) -> None:
    with lab.create(shell("echo out; echo err >&2"), stdout=PIPE, stderr=STDOUT) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(timeout=SECONDS) == (b"out\nerr\n", None)


def test_files_and_descriptors_are_used_as_they_are(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        with lab.create(document("cat"), stdin=source, stdout=sink.fileno()) as container:
            container.start()
            assert container.wait(SECONDS) == 0
        assert not source.closed
        assert not sink.closed
    assert (tmp_path / "out").read_bytes() == b"from a file"


def test_streams_are_inherited_by_default(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    with lab.create(shell("echo out; echo err >&2"), stdout=None, stderr=None) as container:
        container.start()
        container.wait(SECONDS)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_devnull_is_empty_and_swallows(lab: Lab) -> None:
    with lab.create(shell("cat; echo x; echo y >&2"), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL) as container:
        container.start()
        assert container.wait(SECONDS) == 0
        assert container.process is not None
        assert container.process.communicate() == (None, None)


@pytest.mark.parametrize("value", [-5, -100])
def test_other_negative_numbers_are_no_streams(lab: Lab, value: int) -> None:
    with pytest.raises(OCIError, match="stdout"):
        lab.create(document("true"), stdout=value)
    assert lab.remains() == []


def test_a_mebibyte_goes_both_ways_at_once(lab: Lab) -> None:
    spec = shell("tee /dev/stderr")
    with lab.create(spec, stdin=PIPE, stdout=PIPE, stderr=PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(MEBIBYTE, SECONDS) == (MEBIBYTE, MEBIBYTE)


def test_a_process_need_not_read_its_input(lab: Lab) -> None:
    with lab.create(document("true"), stdin=PIPE, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(MEBIBYTE, SECONDS) == (b"", None)
        assert container.process.returncode == 0


def test_a_timeout_kills_and_tells_what_came_before(lab: Lab) -> None:
    with lab.create(shell("echo early; echo bad >&2; sleep 600 & sleep 600"), stdout=PIPE, stderr=PIPE) as container:
        container.start()
        assert container.process is not None
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            container.process.communicate(timeout=0.5)
        assert (caught.value.output, caught.value.stderr) == (b"early\n", b"bad\n")
        assert container.process.returncode == -9
        eventually(lambda: container.status == "stopped", "stopped")


def test_what_a_process_leaves_behind_does_not_stop_a_timeout(lab: Lab) -> None:
    """The pipe is still open in a process of another session, which lives on in the caller's pid namespace."""
    shared = linux(namespaces=namespaces("mount", "ipc", "uts", "network"))
    spec = shell("setsid sleep 600 & echo early").evolve(linux=shared)
    with lab.create(spec, stdout=PIPE) as container:
        container.start()
        assert container.process is not None
        began = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            container.process.communicate(timeout=0.5)
        assert caught.value.output == b"early\n"
        assert time.monotonic() - began < SECONDS


def test_poll_and_returncode_follow_the_process(lab: Lab) -> None:
    with lab.create(shell("read line; exit 3"), stdin=PIPE) as container:
        container.start()
        process = container.process
        assert process is not None
        assert (process.poll(), process.returncode) == (None, None)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert process.wait(SECONDS) == 3
        assert (process.poll(), process.returncode, process.wait()) == (3, 3, 3)


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (Process.terminate, signal.SIGTERM),
        (Process.kill, signal.SIGKILL),
        (lambda process: process.send_signal(signal.SIGUSR1), signal.SIGUSR1),
    ],
)
def test_signals_arrive(lab: Lab, send: object, number: int) -> None:
    with lab.start(document("sleep", "600")) as container:
        process = container.exec(["sleep", "600"], stdin=DEVNULL, stdout=DEVNULL)
        assert callable(send)
        send(process)
        assert process.wait(SECONDS) == -number
        send(process)  # to one that has ended: nothing happens


def test_its_descriptor_is_readable_at_the_end(lab: Lab) -> None:
    with lab.create(shell("read line"), stdin=PIPE) as container, selectors.DefaultSelector() as selector:
        container.start()
        process = container.process
        assert process is not None
        assert process.stdin is not None
        selector.register(process, selectors.EVENT_READ)
        assert selector.select(0) == []
        process.stdin.close()
        assert [key.fileobj for key, _ in selector.select(SECONDS)] == [process]


def test_an_event_loop_can_wait_for_it(lab: Lab) -> None:
    async def life() -> int | None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        with lab.create(shell("exit 4")) as container:
            process = container.process
            assert process is not None
            loop.add_reader(process.fileno(), ended.set)
            container.start()
            await asyncio.wait_for(ended.wait(), SECONDS)
            loop.remove_reader(process.fileno())
            return process.poll()

    assert asyncio.run(life()) == 4


def test_a_process_is_a_context_manager_that_waits(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        with container.exec(["sh", "-c", "echo x; exit 6"], stdin=DEVNULL, stdout=PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read() == b"x\n"
        assert process.returncode == 6
        assert repr(process) == f"<Process {process.pid} args=['sh', '-c', 'echo x; exit 6'] returncode=6>"


def test_a_stream_that_the_caller_has_closed_is_an_empty_one(lab: Lab) -> None:
    """Its number may be any file's by now, or soon."""
    from tests.support import python

    script = """
import os, sys
from ocirt import Container
id, bundle, root, closed = sys.argv[1:]
os.close(int(closed))
container = Container.create(id, bundle, root=root)
container.start()
code = container.wait()
container.delete()
os._exit(code)
"""
    spec = shell("for fd in 0 1 2; do test -e /proc/self/fd/$fd || exit 9; done")
    for closed in ("0", "1", "2"):
        python(script, lab.new_id(), str(lab.bundle(spec).path), str(lab.root), closed)


def test_a_pipe_of_ours_belongs_to_the_user(lab: Lab) -> None:
    """So that /dev/stdout can be opened again, as web servers do."""
    spec = document().evolve(process=process("sh", "-c", "echo again > /dev/stdout", user=User(1000, 1000)))
    assert lab.output(spec) == "again\n"


def test_the_ends_of_others_are_closed(lab: Lab) -> None:
    """Only the process holds the writing end: its end is the pipe's end, although another container runs."""
    with lab.start(document("sleep", "600")), lab.start(shell("echo done")) as container:
        assert container.process is not None
        assert container.process.stdout is not None
        assert os.read(container.process.stdout.fileno(), 100) == b"done\n"
        assert os.read(container.process.stdout.fileno(), 100) == b""
