"""What the tests of engines rest on: calls are noted, whoever is called, and nothing outlives a place."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.engines.images import busybox_image, tar
from tests.engines.log import RUNTIMES
from tests.engines.place import place
from tests.support import eventually, host_mounts

pytestmark = [pytest.mark.root, pytest.mark.engine]


def test_calls_of_ocirt_are_noted_and_made() -> None:
    with place() as there:
        assert there.run(str(there.log.program), "--log-format", "json", "--version").startswith("ocirt version")
        done = there.tried(str(there.log.program), "state", "two words")
        assert (done.returncode, "invalid container ID format" in done.stderr) == (1, True)
        assert there.log.calls() == [["ocirt", "--log-format", "json", "--version"], ["ocirt", "state", "two words"]]
        assert there.log.commands()[1:] == ["state"]
        assert there.log.others() == []


def test_calls_of_other_runtimes_are_noted_and_fail() -> None:
    found = [name for name in RUNTIMES if shutil.which(name)]
    if not found:
        pytest.skip(f"none of {', '.join(RUNTIMES)} is installed")
    with place() as there:
        for name in found:
            assert there.tried(name, "--version").returncode == 1
        assert there.log.others() == [[name, "--version"] for name in found]


def test_nothing_outlives_a_place() -> None:
    with place() as there:
        there.memory_on(str(there.directory / "storage"))
        there.run("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! >pid")
        (inside,) = there.run("cat", f"/proc/{(there.directory / 'pid').read_text().strip()}/comm").split()
        assert inside == "sleep"
        held = os.stat(f"/proc/{there.pid}/ns/pid").st_ino
    eventually(lambda: held not in _pid_namespaces(), "its processes are gone")
    assert not there.directory.exists()
    assert not [line for line in host_mounts() if str(there.directory) in line]


def test_an_image_has_what_busybox_has(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("image")
    image = busybox_image()
    (directory / "rootfs").mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory / "rootfs")], input=image.layer, check=True)
    done = subprocess.run(
        ["chroot", str(directory / "rootfs"), "/bin/sh", "-c", "id alice"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "uid=1000(alice) gid=1000(alice) groups=1000(alice),29(audio)\n"
    assert image.docker_archive(directory / "image.tar").stat().st_size > len(image.layer)
    assert (image.oci_layout(directory / "layout") / "index.json").is_file()
    assert tar({"a": b"b"})


def _pid_namespaces() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.add(os.stat(f"/proc/{name}/ns/pid").st_ino)
            except OSError:  # gone meanwhile
                continue
    return found
