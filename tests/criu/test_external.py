"""Which mounts CRIU is to leave to us, and by which names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.cgroups.files import Cgroup
from ocirt.criu import external
from ocirt.spec import Mount
from tests.support import document, linux, namespaces

NONE = linux(masked_paths=())


def names(*mounts: Mount, bundle: str = "/bundle") -> list[str]:
    spec = document("true", mounts=mounts, linux=NONE)
    return sorted(external.at_restore(spec, bundle, Cgroup()))


def test_a_bind_mount_is_named_after_its_destination(tmp_path: Path) -> None:
    assert names(Mount("/data/", "none", str(tmp_path), ("rbind", "ro"))) == [f"mnt[/data]:{tmp_path}"]


def test_a_relative_source_lies_in_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    assert names(Mount("data", "none", "files", ("bind",)), bundle=str(tmp_path)) == [f"mnt[/data]:{tmp_path}/files"]


def test_other_filesystems_are_criu_s_own_affair() -> None:
    assert names(Mount("/tmp", "tmpfs", "tmpfs", ("nosuid",))) == []


def test_masked_files_are_named_after_what_covers_them() -> None:
    spec = document("true", mounts=(), linux=linux(masked_paths=("/proc/kcore", "/proc/keys")))
    assert list(external.at_restore(spec, "/bundle", Cgroup())) == ["mnt[/dev/null]:/dev/null"]


def test_devices_of_the_host_s_in_a_user_namespace() -> None:
    spec = document("true", mounts=(), linux=NONE.evolve(namespaces=namespaces("mount", "user")))
    assert "mnt[/dev/zero]:/dev/zero" in list(external.at_restore(spec, "/bundle", Cgroup()))


def test_mount_points_with_odd_names() -> None:
    line = r"36 35 98:0 / /a\040b\134c rw,noatime master:1 - ext4 /dev/root rw"
    assert dict(external.mount_points(line)) == {"/a b\\c": external.MountPoint("/a b\\c", "ext4")}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/real/x", "/real/x"),
        ("/absolute/x", "/real/x"),
        ("/relative/x", "/real/x"),
        ("/../../real/../real", "/real"),
        ("/up/etc", "/etc"),
        ("/nowhere/x", "/nowhere/x"),
    ],
)
def test_links_are_the_containers(tmp_path: Path, path: str, expected: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "absolute").symlink_to("/real")
    (tmp_path / "relative").symlink_to("./real")
    (tmp_path / "up").symlink_to("../../..")
    assert external.resolve(str(tmp_path), path) == expected


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "loop")
    assert external.resolve(str(tmp_path), "/loop/x").startswith("/")
