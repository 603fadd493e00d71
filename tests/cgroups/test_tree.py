"""The operations on single cgroup directories, on real ones."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from ocirt.cgroups import layout, tree

pytestmark = pytest.mark.root


@pytest.fixture
def cgroup() -> Iterator[str]:
    """An empty cgroup of our own."""
    _, own = layout.here().directories[-1]
    path = f"{own}/ocirt-test-{uuid.uuid4().hex}"
    os.mkdir(path)
    yield path
    assert tree.remove(path)


def dig(top: str, names: list[str]) -> None:
    here = os.open(top, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_children_come_before_their_parents(cgroup: str) -> None:
    os.makedirs(f"{cgroup}/a/b")
    os.makedirs(f"{cgroup}/c")
    names = [name for _, name in tree.below(cgroup)]
    assert sorted(names) == ["a", "b", "c"]
    assert names.index("b") < names.index("a")


def test_a_tree_deeper_than_any_path_is_removed(cgroup: str) -> None:
    dig(cgroup, ["d" * 200] * 40)  # 8,000 bytes, where PATH_MAX is 4,096
    assert len(list(tree.below(cgroup))) == 40
    assert tree.processes(cgroup) == set()
    assert tree.remove(cgroup)
    assert not os.path.exists(cgroup)


def test_walking_leaves_no_descriptor_open(cgroup: str) -> None:
    os.makedirs(f"{cgroup}/a/b")
    before = os.listdir("/proc/self/fd")
    next(tree.below(cgroup))
    assert len(list(tree.below(cgroup))) == 2
    assert os.listdir("/proc/self/fd") == before


def test_a_walk_survives_the_removal_of_what_it_was_about_to_see(cgroup: str) -> None:
    os.makedirs(f"{cgroup}/a/b")
    os.makedirs(f"{cgroup}/c/d")
    walk = tree.below(cgroup)
    _, first = next(walk)
    for top in {"b": ("c/d", "c"), "d": ("a/b", "a")}[first]:
        os.rmdir(f"{cgroup}/{top}")
    assert [name for _, name in walk] == [{"b": "a", "d": "c"}[first]]


def test_removing_what_is_gone_succeeds(cgroup: str) -> None:
    os.rmdir(cgroup)
    assert tree.remove(cgroup)


def test_nobody_is_in_a_cgroup_that_is_gone(cgroup: str) -> None:
    os.rmdir(cgroup)
    assert tree.processes(cgroup) == set()


def test_an_error_names_the_file(cgroup: str) -> None:
    with pytest.raises(OSError, match=r"cgroup\.procs"):
        tree.write(f"{cgroup}/cgroup.procs", "no number")


def test_no_symbolic_link_is_followed(cgroup: str, tmp_path: os.PathLike[str]) -> None:
    link = os.path.join(tmp_path, "link")
    os.symlink(f"{cgroup}/cgroup.procs", link)
    with pytest.raises(OSError, match="symbolic link"):
        tree.read(link)
    with pytest.raises(OSError, match="symbolic link"):
        tree.write(link, "0")
