"""Any layers, one on the other, make the tree that a model in memory makes of them (model.py)."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt.archive.extraction import extract
from ocirt.errors import ArchiveError
from tests.archive import building
from tests.archive.model import Dir, Entry, Leaf, Model

pytestmark = pytest.mark.root

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TARGETS = st.one_of(
    PATHS,
    PATHS.map("/{}".format),
    PATHS.map("../{}".format),
    st.sampled_from([".", "..", "/", "../..", "a/../b", "a/b/../../c", "b/.."]),
)
MODES = st.sampled_from([0o755, 0o700, 0o1777, 0o500, 0])
TIMES = st.integers(1, 1000)

ENTRIES = st.one_of(
    st.builds(Entry, st.just("dir"), PATHS, mode=MODES, mtime=TIMES),
    st.builds(Entry, st.just("file"), PATHS, st.sampled_from(["", "x", "yy"]), MODES, TIMES),
    st.builds(Entry, st.just("symlink"), PATHS, TARGETS, mtime=TIMES),
    st.builds(Entry, st.just("link"), PATHS, PATHS),
    st.builds(Entry, st.just("whiteout"), PATHS),
    st.builds(Entry, st.just("opaque"), PATHS),
)
STACKS = st.lists(st.lists(ENTRIES, min_size=4, max_size=16), min_size=2, max_size=4)


def modelled(directory: Dir, path: str = ".") -> Iterator[tuple[str, tuple[object, ...]]]:
    """All of it, with the identity of files for what hard links have in common."""
    yield path, ("dir", directory.mode, directory.mtime)
    for name, child in directory.children.items():
        below = f"{path}/{name}"
        if isinstance(child, Leaf):
            yield below, (child.kind, child.text, child.mode if child.kind == "file" else 0, child.mtime)
        else:
            yield from modelled(child, below)


def real(root: str, path: str = ".") -> Iterator[tuple[str, tuple[object, ...]]]:
    """The same of the file system."""
    where = os.path.join(root, path)
    status = os.lstat(where)
    mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        yield path, ("dir", mode, mtime)
        for name in os.listdir(where):
            yield from real(root, f"{path}/{name}")
    elif stat.S_ISLNK(status.st_mode):
        yield path, ("symlink", os.readlink(where), 0, mtime)
    else:
        yield path, ("file", Path(where).read_text(), mode, mtime)


def groups_of_the_model(directory: Dir) -> set[frozenset[str]]:
    found: dict[int, set[str]] = {}
    todo: list[tuple[str, Dir]] = [(".", directory)]
    while todo:
        path, here = todo.pop()
        for name, child in here.children.items():
            if isinstance(child, Dir):
                todo.append((f"{path}/{name}", child))
            else:
                found.setdefault(id(child), set()).add(f"{path}/{name}")
    return {frozenset(paths) for paths in found.values()}


def groups_of_the_tree(root: str) -> set[frozenset[str]]:
    found: dict[int, set[str]] = {}
    for path, (kind, *_) in real(root):
        if kind != "dir":
            found.setdefault(os.lstat(os.path.join(root, path)).st_ino, set()).add(path)
    return {frozenset(paths) for paths in found.values()}


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(stack=STACKS, last=ENTRIES)
def test_layers_make_the_models_tree(stack: list[list[Entry]], last: Entry) -> None:
    base = tempfile.mkdtemp(prefix="ocirt-model-")
    root = os.path.join(base, "root")
    os.mkdir(root, 0o755)
    os.utime(root, ns=(0, 0))
    model = Model()
    accepted: list[Entry] = []
    try:
        for layer in stack:
            accepted = model.apply(layer)
            extract(archive(accepted), root)
            assert dict(real(root)) == dict(modelled(model.root))
            assert groups_of_the_tree(root) == groups_of_the_model(model.root)
        if model.refuses(last):
            with pytest.raises(ArchiveError):
                extract(archive([last]), root)
        assert os.listdir(base) == ["root"]
    finally:
        shutil.rmtree(base)


def archive(entries: list[Entry]) -> io.BytesIO:
    return io.BytesIO(building.layer(*(entry.block() for entry in entries)))
