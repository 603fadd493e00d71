"""``ocirt spec --from-docker-inspect``: a bundle's configuration, and on standard error what is not in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Commands
from tests.spec.inspected import document

pytestmark = pytest.mark.root


@pytest.fixture
def inspected(commands: Commands) -> Path:
    """Of a container whose root filesystem is here."""
    rootfs = commands.bundle / "rootfs"
    (rootfs / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n")
    found = document(
        GraphDriver={"Data": {"MergedDir": str(rootfs)}, "Name": "overlay2"},
        Path="sh",
        Args=["-c", "id -u; id -g; stat -c '%F %t:%T' /dev/zram; echo $COLOR"],
        Config__User="alice",
        Config__Env=["COLOR=blue"],
        HostConfig__Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/zram", "CgroupPermissions": "rw"}],
        HostConfig__RestartPolicy={"Name": "always", "MaximumRetryCount": 0},
    )
    file = commands.bundle / "inspected.json"
    file.write_text(json.dumps([found]))
    return file


def test_a_container_of_dockers_runs_here(commands: Commands, inspected: Path) -> None:
    """Users are those of its root filesystem, devices those of this machine."""
    done = commands.tried("spec", "--from-docker-inspect", str(inspected))
    assert (done.returncode, done.stdout) == (0, "")
    root, restart = done.stderr.splitlines()
    assert root.startswith("GraphDriver.Data.MergedDir: ")
    assert restart == ("HostConfig.RestartPolicy: 'always' is left out: nobody starts it again once it has ended")
    assert commands.run("run", commands.id).splitlines() == ["1000", "1001", "character special file 1:3", "blue"]


def test_from_standard_input(commands: Commands, inspected: Path) -> None:
    commands.run("spec", "--from-docker-inspect=-", input=inspected.read_text())
    assert json.loads((commands.bundle / "config.json").read_text())["process"]["user"]["uid"] == 1000


def test_what_is_wrong_leaves_no_file(commands: Commands, inspected: Path) -> None:
    inspected.write_text(json.dumps([document(HostConfig__Memory="64m")]))
    done = commands.tried("spec", "--from-docker-inspect", str(inspected))
    assert done.returncode == 1
    assert "HostConfig.Memory: '64m' must be an integer" in done.stderr
    assert not (commands.bundle / "config.json").exists()
    assert commands.tried("spec", "--from-docker-inspect", "/no/such").returncode == 1
    assert commands.tried("spec", "--rootless", "--from-docker-inspect", str(inspected)).returncode == 1
