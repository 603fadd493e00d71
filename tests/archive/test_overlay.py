"""Layers in overlayfs' form, mounted one on the other, show the tree that the same layers make when applied.

By the model of model.py, without paths through symlinks: a layer that is extracted alone cannot know where they lead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt.archive.extraction import extract
from tests.archive.model import Dir, Entry, Leaf, Model
from tests.archive.test_model import MODES, PATHS, TIMES, archive, modelled

pytestmark = pytest.mark.root

MOUNTER = """
import json, os, subprocess, sys

def seen(root, path="."):
    where = os.path.join(root, path)
    if os.path.islink(where):
        return [[path, "symlink", os.readlink(where)]]
    if os.path.isdir(where):
        found = [[path, "dir", ""]]
        for name in os.listdir(where):
            found += seen(root, f"{path}/{name}")
        return found
    with open(where) as file:
        return [[path, "file", file.read()]]

for line in sys.stdin:
    lowers, target = json.loads(line)
    options = "lowerdir=" + ":".join(lowers)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, target], check=True)
    found = seen(target)
    subprocess.run(["umount", target], check=True)  # before anybody removes it
    print(json.dumps(found), flush=True)
"""

LEAVES = st.one_of(PATHS, PATHS.map("{}/s".format), st.just("s"))
"""No path leads through ``s``, which may be a symlink."""

ENTRIES = st.one_of(
    st.builds(Entry, st.just("dir"), LEAVES, mode=MODES, mtime=TIMES),
    st.builds(Entry, st.just("file"), LEAVES, st.sampled_from(["", "x", "yy"]), MODES, TIMES),
    st.builds(Entry, st.just("symlink"), LEAVES.filter(lambda path: path.endswith("s")), st.just("/a"), mtime=TIMES),
    st.builds(Entry, st.just("whiteout"), LEAVES),
    st.builds(Entry, st.just("opaque"), PATHS),
)
STACKS = st.lists(st.lists(ENTRIES, min_size=3, max_size=12), min_size=2, max_size=4)

View = Callable[[list[str], str], dict[str, tuple[str, str]]]


@pytest.fixture(scope="module")
def mounted() -> Iterator[View]:
    """Mounts layers, lowest first, in a namespace of its own, and tells what is to be seen."""
    command = ["unshare", "--mount", sys.executable, "-c", MOUNTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mounter:
        stdin, stdout = mounter.stdin, mounter.stdout
        assert stdin is not None
        assert stdout is not None

        def view(layers: list[str], target: str) -> dict[str, tuple[str, str]]:
            stdin.write(json.dumps([layers[::-1], target]) + "\n")
            stdin.flush()
            return {path: (kind, text) for path, kind, text in json.loads(stdout.readline())}

        yield view
        stdin.close()


def has_directory(root: Dir, path: str) -> bool:
    here: Dir | Leaf | None = root
    for name in filter(None, path.split("/")):
        here = here.children.get(name) if isinstance(here, Dir) else None
    return isinstance(here, Dir)


def is_of_use(model: Model, entry: Entry) -> bool:
    """A whiteout in a directory that lower layers do not have makes one, since a layer does not know."""
    if entry.kind == "opaque":
        return has_directory(model.root, entry.path)
    return entry.kind != "whiteout" or has_directory(model.root, entry.path.rpartition("/")[0])


def is_alone(layer: list[Entry], entry: Entry) -> bool:
    """Whiteouts in a directory that is gone as a whole are not to be had: they would make it again."""
    if entry.kind not in ("whiteout", "opaque"):
        return True
    others = [other for other in layer if other.kind in ("whiteout", "opaque") and other != entry]
    below = any(other.path.startswith(f"{entry.path}/") for other in others)
    inside = entry.kind == "whiteout" and any(other.kind == "opaque" and other.path == entry.path for other in others)
    return not below and not inside


def expected(model: Model) -> dict[str, tuple[str, str]]:
    found = {}
    for path, (kind, *rest) in modelled(model.root):
        found[path] = (str(kind), "" if kind == "dir" else str(rest[0]))
    return found


@settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(stack=STACKS)
def test_mounted_layers_show_the_models_tree(mounted: View, stack: list[list[Entry]]) -> None:
    base = Path(tempfile.mkdtemp(prefix="ocirt-overlay-"))
    model = Model()
    layers = []
    try:
        for number, wanted in enumerate(stack):
            sensible = [entry for entry in wanted if is_of_use(model, entry)]
            useful = model.apply([entry for entry in sensible if is_alone(sensible, entry)])
            layers.append(str(base / f"layer{number}"))
            os.mkdir(layers[-1])
            extract(archive(useful), layers[-1], whiteouts="overlay")
        (base / "mounted").mkdir()
        assert mounted(layers, str(base / "mounted")) == expected(model)
    finally:
        shutil.rmtree(base)
