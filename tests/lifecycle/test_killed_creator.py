"""A creator that is killed, at any point, leaves nothing that delete cannot remove."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt import containers
from tests.support import Lab, children, document, eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace, to kill at a chosen system call"),
]

SCRIPT = """
import os, sys
from ocirt import Bundle, Container
id, root, path = sys.argv[1:]
bundle = Bundle.load(path)
Container.create("warm", bundle, root=root, stdin=-3, stdout=-3, stderr=-3).delete()
os.write(1, b"BEGIN")
Container.create(id, bundle, root=root, stdin=-3, stdout=-3, stderr=-3)
os.write(1, b"END")
os._exit(0)
"""
"""What is done for the first time, such as imports, is done before it counts."""

MARK = re.compile(r"write\(1, \"(BEGIN|END)\"")
CALL = re.compile(r"^(?:\d+ +)?([a-z0-9_]+)\(")


def command(lab: Lab, container_id: str, bundle: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT, container_id, str(lab.root), bundle]


def recorded(lab: Lab, bundle: str) -> list[tuple[str, int]]:
    """Each system call of a create: its name, and the how-manieth of that name it is in the life of the process."""
    trace = lab.directory / "trace"
    name = lab.new_id()
    subprocess.run(["strace", "-o", trace, *command(lab, name, bundle)], check=True, capture_output=True, timeout=60)
    lab.load(name).delete(force=True)
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


def kill_at(lab: Lab, bundle: str, call: str, number: int) -> str:
    """Create under a tracer that kills at this call; the id."""
    container_id = lab.new_id()
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    subprocess.run(
        ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, *command(lab, container_id, bundle)],
        check=False,
        capture_output=True,
        timeout=60,
    )
    return container_id


def strays(container_id: str) -> list[str]:
    """Processes in the container's cgroups, or running an init for nobody."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if container_id in (entry / "cgroup").read_text():
                    found.append(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def sample(points: list[tuple[str, int]], size: int) -> list[tuple[str, int]]:
    """Evenly spread; all of them where OCIRT_ALL_POINTS is set."""
    if "OCIRT_ALL_POINTS" in os.environ or len(points) <= size:
        return points
    return [points[index * len(points) // size] for index in range(size)]


def test_nothing_is_left_after_delete_wherever_the_creator_was_killed(lab: Lab) -> None:
    bundle = str(lab.bundle(document("sleep", "600")).path)
    points = recorded(lab, bundle)
    assert len(points) > 20
    for call, number in sample(points, 40):
        container_id = kill_at(lab, bundle, call, number)
        left = [container.id for container in containers(root=lab.root)]
        assert left in ([], [container_id], [container_id, "warm"], ["warm"]), (call, number)
        for container in containers(root=lab.root):
            assert container.status in {"stopped", "created", "creating"}
            container.delete(force=True)
        eventually(lambda id=container_id: strays(id) == [], f"no process is left, killed at {call} {number}")
        assert lab.remains() == [], (call, number)
    assert children() == []


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
