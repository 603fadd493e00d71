"""A tree is removed whatever is in it, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt.archive.removal import remove, remove_tree
from tests.archive.conftest import make_outside
from tests.archive.trees import untouched


def removed(directory: Path, name: str) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def test_symlinks_are_removed_and_not_followed(tmp_path: Path) -> None:
    make_outside(tmp_path / "outside")
    before = untouched(tmp_path / "outside")
    (tmp_path / "tree/deep").mkdir(parents=True)
    for name in ("directory", "secret", "."):
        (tmp_path / "tree/deep" / f"to-{name}x").symlink_to(tmp_path / "outside" / name)
    (tmp_path / "tree-link").symlink_to("outside")
    removed(tmp_path, "tree")
    removed(tmp_path, "tree-link")
    assert os.listdir(tmp_path) == ["outside"]
    assert untouched(tmp_path / "outside") == before


def test_a_file_is_a_tree_too_and_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    removed(tmp_path, "f")
    removed(tmp_path, "f")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/"])
def test_it_takes_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        removed(tmp_path, name)


def test_depth_is_no_obstacle(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):  # five bytes each: more than a path may have, and more than Python's recursion
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    removed(tmp_path, "deep")
    assert os.listdir(tmp_path) == []


def test_what_is_to_stay_stays_with_the_directories_that_lead_to_it(tmp_path: Path) -> None:
    for path in ("t/a/keep", "t/a/go", "t/b/go", "t/keep/go"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    os.utime(tmp_path / "t/a", ns=(5, 6))
    fd = os.open(tmp_path, os.O_RDONLY)
    remove(fd, "t", lambda _fd, _key, name: name == "keep")
    os.close(fd)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["t", "t/a", "t/a/keep", "t/keep"]
    assert os.stat(tmp_path / "t/a").st_mtime_ns == 6


@pytest.mark.root
@pytest.mark.parametrize("mounted", ["directory", "file"])
def test_mounts_are_not_entered(tmp_path: Path, mounted: str) -> None:
    make_outside(tmp_path / "outside")
    before = untouched(tmp_path / "outside")
    (tmp_path / "tree/directory").mkdir(parents=True)
    (tmp_path / "tree/file").touch()
    source = tmp_path / "outside" / ("." if mounted == "directory" else "secret")
    code = f"""
import os
from ocirt.archive.removal import remove_tree
try:
    remove_tree(os.open({str(tmp_path)!r}, os.O_RDONLY), "tree")
except OSError as error:
    print(error.errno in (16, 18))
"""
    script = f'mount --bind {source} {tmp_path}/tree/{mounted} && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert untouched(tmp_path / "outside") == before
