"""From a container's path to a file, in trees that were made to lead astray: never outside the rootfs.

Each tree lies beside a directory ``outside``, which nothing may change.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.plan import ops as o
from ocirt.plan import tree_ops as t
from tests.native.initrun import MOUNT_NAMESPACE, Outcome, run

pytestmark = pytest.mark.root

Tree = Mapping[str, str | None]
"""Paths in the rootfs, and what the symlink there holds; ``None`` for a directory."""


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "rootfs").mkdir()
    return tmp_path / "rootfs"


def make(rootfs: Path, tree: Tree) -> None:
    for path, link in tree.items():
        where = rootfs / path.lstrip("/")
        if link is None:
            where.mkdir(parents=True, exist_ok=True)
        else:
            where.parent.mkdir(parents=True, exist_ok=True)
            where.symlink_to(link)


def within(rootfs: Path, *operations: o.Op) -> Outcome:
    """Run them with ``rootfs`` as the tree that container paths start in."""
    private = t.SetPropagation(t.PROPAGATION["private"] | t.RECURSIVE)
    return run(private, t.AttachRootfs(str(rootfs)), *operations, namespaces=MOUNT_NAMESPACE)


def contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


WAYS = [
    ({}, "/a/b/c", "a/b/c"),
    ({}, "/a//b/./c/", "a/b/c"),
    ({}, "/a/../b", "b"),
    ({}, "/../../b", "b"),
    ({"/l": "/d", "/d": None}, "/l/x", "d/x"),
    ({"/l": "d", "/d": None}, "/l/x", "d/x"),
    ({"/l": "../../../outside"}, "/l/x", "outside/x"),
    ({"/l": "/../../outside"}, "/l/x", "outside/x"),
    ({"/l": "/nowhere/yet"}, "/l/x", "nowhere/yet/x"),
    ({"/d/l": "nowhere"}, "/d/l", "d/nowhere"),
    ({"/d/l": "../nowhere/"}, "/d/l/", "nowhere"),
    ({"/a": "/b", "/b": "c", "/c": "./d"}, "/a/x", "d/x"),
    ({"/s": "/deep/er", "/deep/er": None}, "/s/../x", "deep/x"),
    ({"/s": "/deep/er", "/deep/er": None, "/deep/er/l": "../y"}, "/s/l/z", "deep/y/z"),
    ({}, "/" + "n" * 255, "n" * 255),
]


@pytest.mark.parametrize(("tree", "path", "made"), WAYS, ids=[path[:20] for _, path, _ in WAYS])
def test_what_is_missing_is_made_where_the_kernel_would_look_for_it(
    rootfs: Path, tree: Tree, path: str, made: str
) -> None:
    make(rootfs, tree)
    assert within(rootfs, t.MakeDirectory(path)).succeeded
    assert (rootfs / made).is_dir()
    assert contents(rootfs.parent / "outside") == []


@pytest.mark.parametrize(
    ("tree", "path", "error"),
    [
        ({"/l": "l"}, "/l/x", errno.ELOOP),
        ({"/a": "/b", "/b": "/a"}, "/a", errno.ELOOP),
        ({f"/{n}": f"/{n + 1}" for n in range(60)}, "/0", errno.ELOOP),
        ({}, "/" + "n" * 256, errno.ENAMETOOLONG),
        ({}, "/n" * 2048, errno.ENAMETOOLONG),
        ({"/l": "n/" * 2000}, "/l/" + "n/" * 100 + "x", errno.ENAMETOOLONG),
        ({"/proc": None, "/l": "/proc/self/root"}, "/file/x", errno.ENOTDIR),
    ],
)
def test_paths_that_lead_nowhere_are_refused(rootfs: Path, tree: Tree, path: str, error: int) -> None:
    make(rootfs, tree)
    (rootfs / "file").touch()
    failure = within(rootfs, t.MakeDirectory(path)).failure
    assert failure is not None
    assert failure.errno == error
    assert contents(rootfs.parent / "outside") == []


def test_a_long_path_is_made_to_its_end(rootfs: Path) -> None:
    path = "/n" * 2047
    assert len(path) == 4094
    assert within(rootfs, t.MakeDirectory(path)).succeeded
    depth, where = 0, os.open(rootfs, os.O_PATH)
    while "n" in os.listdir(f"/proc/self/fd/{where}"):
        where, last = os.open("n", os.O_PATH, dir_fd=where), where
        os.close(last)
        depth += 1
    found = depth
    while depth:  # too deep for those who remove the directories of old test runs
        where, last = os.open("..", os.O_PATH, dir_fd=where), where
        os.close(last)
        os.rmdir("n", dir_fd=where)
        depth -= 1
    os.close(where)
    assert found == 2047


def test_made_directories_are_open_to_all_and_owned_by_root(rootfs: Path) -> None:
    assert within(rootfs, t.MakeDirectory("/a/b")).succeeded
    for name in ("a", "a/b"):
        info = (rootfs / name).stat()
        assert (info.st_mode & 0o7777, info.st_uid, info.st_gid) == (0o755, 0, 0)


def test_a_directory_in_a_setgid_directory_inherits_its_group(rootfs: Path) -> None:
    (rootfs / "g").mkdir()
    os.chown(rootfs / "g", 0, 44)
    (rootfs / "g").chmod(0o2755)
    assert within(rootfs, t.MakeDirectory("/g/x")).succeeded
    info = (rootfs / "g/x").stat()
    assert (info.st_mode & 0o7777, info.st_gid) == (0o2755, 44)


def test_a_missing_target_of_a_file_is_a_file(rootfs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    assert within(rootfs, t.BindMount("/a/target", str(source))).succeeded
    info = (rootfs / "a/target").stat()
    assert (rootfs / "a/target").is_file()
    assert (info.st_mode & 0o777, info.st_size) == (0o644, 0)


@pytest.mark.parametrize("link", ["../outside", "/../outside", "../../../../../../../../tmp", "/proc/self/root"])
def test_devices_and_links_stay_inside(rootfs: Path, link: str) -> None:
    """``/dev`` of an image may be a link (CVE-2026-41579)."""
    make(rootfs, {"/dev": link})
    within(rootfs, t.MakeDevice("/dev/n", 0o020666, 1, 3), t.MakeSymlink("/dev/l", "x"))
    assert contents(rootfs.parent / "outside") == []
    assert not Path("/tmp/n").exists()


@pytest.mark.parametrize("stands", ["file", "link", "fifo", "other device", "directory"])
def test_a_device_takes_the_place_of_nothing_else(rootfs: Path, stands: str) -> None:
    place = rootfs / "null"
    match stands:
        case "file":
            place.touch()
        case "link":
            place.symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(place)
        case "other device":
            os.mknod(place, 0o020666, os.makedev(1, 5))
        case "directory":
            place.mkdir()
    failure = within(rootfs, t.MakeDevice("/null", 0o020666, 1, 3)).failure
    assert failure is not None
    assert failure.errno == errno.EEXIST
    assert not (rootfs / "elsewhere").exists()


def test_a_device_that_is_there_already_is_left_alone(rootfs: Path) -> None:
    os.mknod(rootfs / "null", 0o020600, os.makedev(1, 3))
    assert within(rootfs, t.MakeDevice("/null", 0o020666, 1, 3, 7, 7)).succeeded
    assert (rootfs / "null").stat().st_uid == 0


@pytest.mark.parametrize("path", ["/", "/.", "/..", "//", "/a/.."])
def test_a_device_needs_a_name(rootfs: Path, path: str) -> None:
    failure = within(rootfs, t.MakeDevice(path, 0o020666, 1, 3)).failure
    assert failure is not None
    assert failure.errno == errno.EINVAL


PROC = t.MountFilesystem("/proc", "proc", "proc", tolerance=2 | 4 | 8)


@pytest.mark.parametrize("target", ["/proc/self/attr", "/proc/sys", "/proc/1", "/l/sys", "/proc"])
def test_nothing_covers_a_part_of_proc(rootfs: Path, target: str) -> None:
    """CVE-2019-16884, by its name or by another."""
    make(rootfs, {"/l": "proc", "/fake": None})
    failure = within(rootfs, PROC, t.BindMount(target, str(rootfs / "fake"))).failure
    assert failure is not None
    assert failure.errno == errno.EPERM
    assert failure.detail.endswith("cannot be mounted because it is inside /proc")


@pytest.mark.parametrize("target", ["/proc", "/l", "/l/../proc/."])
def test_nothing_but_a_procfs_takes_its_place(rootfs: Path, target: str) -> None:
    make(rootfs, {"/l": "proc", "/proc": None, "/fake": None})
    for op in (t.BindMount(target, str(rootfs / "fake")), t.MountFilesystem(target, "tmpfs")):
        failure = within(rootfs, op).failure
        assert failure is not None
        assert failure.errno == errno.EPERM


def test_a_procfs_may_be_bound_in_its_place(rootfs: Path) -> None:
    """As engines do for a container that shares the host's processes."""
    assert within(rootfs, t.BindMount("/proc", "/proc", recursive=True)).succeeded


@pytest.mark.parametrize("link", ["/elsewhere", ".", "/", "missing"])
def test_proc_goes_to_an_ordinary_directory_alone(rootfs: Path, link: str) -> None:
    """CVE-2019-19921."""
    make(rootfs, {"/elsewhere": None, "/proc": link})
    assert within(rootfs, PROC).failure is not None


def test_proc_does_not_go_on_a_file(rootfs: Path) -> None:
    (rootfs / "proc").touch()
    failure = within(rootfs, PROC).failure
    assert failure is not None
    assert failure.errno == errno.ENOTDIR


def test_links_of_procfs_lead_nowhere(rootfs: Path) -> None:
    """CVE-2024-21626: /proc/self/fd and /proc/self/root see the host."""
    make(rootfs, {"/l": "/proc/self/root"})
    failure = within(rootfs, PROC, t.MakeDirectory("/l/etc")).failure
    assert failure is not None
    assert failure.errno == errno.ELOOP


@pytest.mark.parametrize(
    "op", [t.MaskPath("/missing"), t.ReadonlyPath("/missing"), t.MaskPath("/l"), t.MaskPath("/d/x")]
)
def test_what_is_absent_needs_no_mask(rootfs: Path, op: o.Op) -> None:
    make(rootfs, {"/l": "nowhere", "/d": None})
    assert within(rootfs, op).succeeded
    assert contents(rootfs) == ["d", "l"]


names = st.sampled_from(("a", "b", "c", "..", "."))
links = st.builds(lambda slash, parts: slash + "/".join(parts), st.sampled_from(("", "/")), st.lists(names, min_size=1))
trees = st.dictionaries(
    st.lists(st.sampled_from(("a", "b", "c")), min_size=1, max_size=2).map(lambda parts: "/" + "/".join(parts)),
    st.none() | links,
    max_size=5,
)


def follow(rootfs: Path, path: str, left: int = 40) -> str | None:
    """Where ``path`` ends if ``rootfs`` is the root, in the words of path_resolution(7); ``None`` where it does not."""
    here = "/"
    parts = path.split("/")
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            here = posixpath.dirname(here)
            continue
        there = posixpath.join(here, part)
        where = rootfs / there.lstrip("/")
        if where.is_symlink():
            left -= 1
            if left < 0:
                return None
            link = os.readlink(where)
            here = "/" if link.startswith("/") else here
            parts = link.split("/") + parts
            continue
        if not where.exists():
            return None
        here = there
    return here


@settings(max_examples=150)
@given(tree=trees, path=links)
def test_any_path_in_any_tree_of_links_is_made_inside_or_not_at_all(tree: Tree, path: str) -> None:
    with TemporaryDirectory() as directory:
        rootfs = Path(directory, "in/rootfs")
        rootfs.mkdir(parents=True)
        for place, link in tree.items():
            try:
                make(rootfs, {place: link})
            except OSError:  # the place is taken, or lies behind a link that leads nowhere
                continue
        before = contents(Path(directory))
        outcome = within(rootfs, t.MakeDirectory(path))
        made = set(contents(Path(directory))) - set(before)
        assert all(name.startswith("in/rootfs/") for name in made)
        if outcome.succeeded:
            assert follow(rootfs, path) is not None
        else:
            assert outcome.failure is not None
            assert outcome.failure.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
