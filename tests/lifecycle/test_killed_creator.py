"""A creator that is killed, at any point, leaves nothing that delete cannot remove."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ocirt import containers
from tests.support import Lab, document, eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to kill at a chosen system call"),
]

SCRIPT = """
import os, sys
from ocirt import Bundle, Container
id, root, path = sys.argv[1:]
bundle = Bundle.load(path)
null = dict(stdin=-3, stdout=-3, stderr=-3)
with Container.create(id + "-first", bundle, root=root, **null) as first:
    first.start()
    first.exec(["true"], **null).wait()
%s
os.write(1, b"BEGIN")
%s
os.write(1, b"END")
os._exit(0)
"""
"""What is done for the first time, such as imports, is done before it counts."""

CREATE = "container = Container.create(id, bundle, root=root, **null)"
OPERATIONS = {
    "create": ("", CREATE),
    "start": (CREATE, "container.start()"),
    "exec": (f"{CREATE}; container.start()", "container.exec(['sleep', '600'], **null)"),
    "delete": (f"{CREATE}; container.start()", "container.delete(force=True)"),
}

MARK = re.compile(r"write\(1, \"(BEGIN|END)\"")
CALL = re.compile(r"^(?:\d+ +)?([a-z0-9_]+)\(")


def command(lab: Lab, operation: str, container_id: str, bundle: str) -> list[str]:
    lab.ids.append(f"{container_id}-first")
    return [sys.executable, "-c", SCRIPT % OPERATIONS[operation], container_id, str(lab.root), bundle]


def recorded(lab: Lab, operation: str, bundle: str) -> list[tuple[str, int]]:
    """Each system call of an operation: its name, and the how-manieth of that name it is in the life of the process."""
    trace = lab.directory / "trace"
    name = lab.new_id()
    subprocess.run(
        ["strace", "-o", trace, *command(lab, operation, name, bundle)], check=True, capture_output=True, timeout=60
    )
    lab.sweep()
    counts: dict[str, int] = {}
    points: list[tuple[str, int]] = []
    inside = False
    for line in trace.read_text("utf-8", "replace").splitlines():
        if mark := MARK.search(line):
            inside = mark[1] == "BEGIN"
        if not (call := CALL.match(line)):
            continue
        counts[call[1]] = counts.get(call[1], 0) + 1
        if inside:
            points.append((call[1], counts[call[1]]))
    return points


def kill_at(lab: Lab, operation: str, bundle: str, call: str, number: int) -> str:
    """Do it under a tracer that kills at this call; the id."""
    container_id = lab.new_id()
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    subprocess.run(
        [
            "strace",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            inject,
            *command(lab, operation, container_id, bundle),
        ],
        check=False,
        capture_output=True,
        timeout=60,
    )
    return container_id


def alone(container_id: str) -> bool:
    """No process is in a cgroup of that name."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if container_id in (entry / "cgroup").read_text():
                    return False
            except (FileNotFoundError, ProcessLookupError):
                continue
    return True


def sample(points: list[tuple[str, int]], size: int) -> list[tuple[str, int]]:
    """Evenly spread; all of them where OCIRT_ALL_POINTS is set."""
    if "OCIRT_ALL_POINTS" in os.environ or len(points) <= size:
        return points
    return [points[index * len(points) // size] for index in range(size)]


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "size"), [("create", 20), ("start", 5), ("exec", 5), ("delete", 5)])
def test_nothing_is_left_after_delete_wherever_the_caller_was_killed(lab: Lab, operation: str, size: int) -> None:
    bundle = str(lab.bundle(document("sleep", "600")).path)
    points = recorded(lab, operation, bundle)
    assert len(points) > size
    for call, number in sample(points, size):
        container_id = kill_at(lab, operation, bundle, call, number)
        assert {container.id for container in containers(root=lab.root)} <= {container_id, f"{container_id}-first"}
        for container in containers(root=lab.root):
            assert container.status in {"stopped", "created", "creating", "running"}
            container.delete(force=True)
        eventually(partial(alone, container_id), f"no process is left, killed at {call} {number}")
        assert lab.remains() == [], (call, number)


def test_an_abandoned_directory_is_stopped_and_can_be_deleted_without_force(lab: Lab) -> None:
    """A creator that got no further than its claim, and one whose record is cut short."""
    for content in (None, b"", b'{"id": "x'):
        container_id = lab.new_id()
        (lab.root / container_id).mkdir(parents=True)
        lab.root.chmod(0o700)
        if content is not None:
            (lab.root / container_id / "state.json").write_bytes(content)
        (found,) = containers(root=lab.root)
        assert found.id == container_id
        assert found.status == "stopped"
        assert found.state()["pid"] == 0
        assert found.processes() == ()
        found.delete()
        assert lab.remains() == []


def test_a_record_of_another_boot_is_of_a_stopped_container(lab: Lab) -> None:
    container = lab.create(document("sleep", "600"))
    file = lab.root / container.id / "state.json"
    record = json.loads(file.read_bytes())
    container.kill(signal.SIGKILL)
    container.wait(60)
    file.write_text(json.dumps({**record, "boot": "another", "pid": os.getpid()}))
    loaded = lab.load(container)
    assert loaded.status == "stopped"
    loaded.delete()
    assert lab.remains() == []


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(lab: Lab) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    time.sleep(0.05)  # start times are counted in hundredths of a second (proc_pid_stat(5))
    container = lab.create(document("sleep", "600"))
    file = lab.root / container.id / "state.json"
    record = json.loads(file.read_bytes())
    container.kill(signal.SIGKILL)
    container.wait(60)
    file.write_text(json.dumps({**record, "pid": bystander.pid}))
    loaded = lab.load(container)
    assert loaded.status == "stopped"
    loaded.delete(force=True)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
