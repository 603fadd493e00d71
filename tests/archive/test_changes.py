"""What changed in a tree is told, all of it and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from ocirt.archive.changes import Change, changes, changes_of_upper
from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import Entry, Walk
from ocirt.errors import UnsupportedError
from tests.archive.pictures import changed_since, opened, recorded, words

OLD = 10**18


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for path in ("etc/apt", "usr/bin", "var/lib/data", "empty"):
        (root / path).mkdir(parents=True)
    for path in ("etc/passwd", "etc/apt/one", "etc/apt/two", "usr/bin/sh", "var/lib/data/file"):
        (root / path).write_text(path)
    os.link(root / "usr/bin/sh", root / "usr/bin/bash")
    (root / "bin").symlink_to("usr/bin")
    age(root)
    return root


def age(root: Path) -> None:
    """All times long ago, so that a new one is another."""
    for path in (*root.rglob("*"), root):
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)


SECRETLY = "cp -p {0} ../saved; tr a-z A-Z <../saved >{0}; touch -r ../saved {0}"
"""Other content of the same size, and all times but ctime as they were."""

EDITS: Mapping[str, tuple[str, dict[str, str]]] = {
    "nothing": ("true", {}),
    "a file is added": ("touch etc/new", {"etc": "modified", "etc/new": "added"}),
    "a directory is added with what is in it": (
        "cp -a etc/apt empty/",
        {"empty": "modified", "empty/apt": "added", "empty/apt/one": "added", "empty/apt/two": "added"},
    ),
    "a file is written to": ("echo x >etc/passwd", {"etc/passwd": "modified"}),
    "a file is written to, secretly": (SECRETLY.format("etc/passwd"), {"etc/passwd": "modified"}),
    "a file is replaced": (
        "echo x >etc/new; mv etc/new etc/passwd",
        {"etc": "modified", "etc/passwd": "modified"},
    ),
    "a mode": ("chmod 600 etc/passwd", {"etc/passwd": "modified"}),
    "a setuid bit": ("chmod u+s etc/passwd", {"etc/passwd": "modified"}),
    "a time alone": ("touch etc/passwd", {"etc/passwd": "modified"}),
    "a directory's mode": ("chmod 700 empty", {"empty": "modified"}),
    "the root's mode": ("chmod 700 .", {".": "modified"}),
    "a file is removed": ("rm etc/passwd", {"etc": "modified", "etc/passwd": "removed"}),
    "a directory is removed": ("rm -r etc", {".": "modified", "etc": "removed"}),
    "a directory is emptied": ("rm etc/apt/*", {"etc/apt": "modified opaque"}),
    "a directory is emptied, and something new is in it": (
        "rm etc/apt/one; mv etc/apt/two etc/apt/three",
        {"etc/apt": "modified opaque", "etc/apt/three": "added"},
    ),
    "a directory is emptied of all but one": (
        "rm etc/apt/one",
        {"etc/apt": "modified", "etc/apt/one": "removed"},
    ),
    "a file takes a directory's place": (
        "rm -r etc/apt; touch etc/apt",
        {"etc": "modified", "etc/apt": "modified"},
    ),
    "a directory takes a file's place": (
        "rm etc/passwd; mkdir etc/passwd; touch etc/passwd/x",
        {"etc": "modified", "etc/passwd": "modified", "etc/passwd/x": "added"},
    ),
    "a symlink leads elsewhere": ("ln -sfn usr/sbin bin", {".": "modified", "bin": "modified"}),
    "a symlink takes a directory's place": ("rm -r etc; ln -s usr etc", {".": "modified", "etc": "modified"}),
    "a directory is renamed": (
        "mv var/lib var/lib2",
        {
            "var": "modified",
            "var/lib": "removed",
            "var/lib2": "added",
            "var/lib2/data": "added",
            "var/lib2/data/file": "added",
        },
    ),
    "a file with two names is written to": (
        "echo x >usr/bin/sh",
        {"usr/bin/sh": "modified", "usr/bin/bash": "modified"},
    ),
    "a file gets a third name": (
        "ln usr/bin/sh etc/sh",
        {"etc": "modified", "etc/sh": "added", "usr/bin/sh": "modified", "usr/bin/bash": "modified"},
    ),
    # Its ctime shows that something happened, and here nobody tells what it held.
    "a file loses one of two names": (
        "rm usr/bin/sh",
        {"usr/bin": "modified", "usr/bin/bash": "modified", "usr/bin/sh": "removed"},
    ),
    "two names of one file become two files that are alike": (
        "rm usr/bin/sh; cp -p usr/bin/bash usr/bin/sh",
        {"usr/bin": "modified", "usr/bin/bash": "modified", "usr/bin/sh": "modified"},
    ),
    "a FIFO takes a file's place": (
        "rm etc/passwd; mkfifo etc/passwd",
        {"etc": "modified", "etc/passwd": "modified"},
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_done_to_a_tree_is_what_changed(tree: Path, edit: str) -> None:
    before = recorded(tree)
    script, expected = EDITS[edit]
    subprocess.run(["sh", "-ec", script], cwd=tree, check=True)
    assert words(changed_since(before, tree)) == expected


def test_an_attribute_is_a_change(tree: Path) -> None:
    before = recorded(tree)
    os.setxattr(tree / "etc/passwd", "user.x", b"1")
    assert words(changed_since(before, tree)) == {"etc/passwd": "modified"}


@pytest.mark.root
def test_owners_and_devices(tree: Path) -> None:
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    age(tree)
    before = recorded(tree)
    os.chown(tree / "etc/passwd", 5, 0)
    os.lchown(tree / "bin", 0, 5)
    (tree / "device").unlink()
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.utime(tree / "device", ns=(OLD, OLD))
    os.utime(tree, ns=(OLD, OLD))
    assert words(changed_since(before, tree)) == {"bin": "modified", "device": "modified", "etc/passwd": "modified"}


def test_directories_on_the_way_are_told_too(tree: Path) -> None:
    before = recorded(tree)
    (tree / "var/lib/data/file").write_text("x")
    assert [(change.name, change.kind) for change in changed_since(before, tree)] == [
        ("var", "unchanged"),
        ("var/lib", "unchanged"),
        ("var/lib/data", "unchanged"),
        ("var/lib/data/file", "modified"),
    ]


def test_masked_paths_are_neither_looked_at_nor_missed(tree: Path) -> None:
    before = recorded(tree)
    (tree / "var/lib/data/new").touch()
    shutil.rmtree(tree / "etc/apt")
    (tree / "etc/passwd").chmod(0o600)
    shutil.rmtree(tree / "empty")
    found = changed_since(before, tree, masked=(b"var/lib/data", b"etc/apt", b"etc/passwd", b"empty"))
    assert words(found) == {".": "modified", "etc": "modified"}


def test_a_directory_with_something_masked_in_it_is_not_made_opaque(tree: Path) -> None:
    (tree / "etc/apt/three").touch()
    before = recorded(tree)
    for name in ("one", "two", "three"):
        (tree / "etc/apt" / name).unlink()
    found = changed_since(before, tree, masked=(b"etc/apt/three",))
    assert words(found) == {"etc/apt": "modified", "etc/apt/one": "removed", "etc/apt/two": "removed"}


def digests_then(tree: Path) -> Callable[[Collection[bytes]], Mapping[bytes, bytes]]:
    held = {os.fsencode(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    return lambda wanted: {path: hashlib.sha256(held[path]).digest() for path in wanted}


def test_a_copied_tree_is_compared_with_what_its_files_held(tree: Path, tmp_path: Path) -> None:
    before = recorded(tree)
    digests = digests_then(tree)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True, copy_function=shutil.copy2)
    (copy / "usr/bin/bash").unlink()
    os.link(copy / "usr/bin/sh", copy / "usr/bin/bash")
    age(copy)
    subprocess.run(["sh", "-ec", SECRETLY.format("etc/apt/one")], cwd=copy, check=True)
    with opened(copy) as fd:
        found = changes(before, Walk(fd, Ownership()), fd, digests=digests)
        assert words(found) == {"etc/apt/one": "modified"}
        # Without anybody who knows, what is not known to be the same is taken for changed; only contents are in doubt.
        unsure = changes(before, Walk(fd, Ownership()), fd)
    files = ("etc/apt/one", "etc/apt/two", "etc/passwd", "usr/bin/bash", "usr/bin/sh", "var/lib/data/file")
    assert words(unsure) == dict.fromkeys(files, "modified")


def test_a_file_that_was_only_touched_is_compared_too(tree: Path) -> None:
    before = recorded(tree)
    digests = digests_then(tree)
    (tree / "usr/bin/sh").unlink()  # the other name's ctime is another now
    (tree / "etc/passwd").chmod(0o600)
    (tree / "etc/passwd").chmod(0o644)
    with opened(tree) as fd:
        found = changes(before, Walk(fd, Ownership()), fd, digests=digests)
    assert words(found) == {"usr/bin": "modified", "usr/bin/sh": "removed"}


def test_the_next_record_has_what_the_image_has(tree: Path) -> None:
    before = recorded(tree)
    (tree / "etc/new").touch()
    (tree / "var/lib/data/more").touch()
    (tree / "usr/bin/sh").unlink()
    kept: list[Entry] = []
    masked = (b"var/lib/data",)
    with opened(tree) as fd:
        changes(before, Walk(fd, Ownership(), masked=masked), fd, masked=masked, keep=kept.append)
        now = [entry for entry in Walk(fd, Ownership()) if not entry.path.startswith(b"var/lib/data")]
    there = {entry.path: entry._replace(dev=0) for entry in kept}
    then = {entry.path: entry for entry in before}
    assert b"var/lib/data/more" not in there
    assert {path: entry for path, entry in there.items() if path.startswith(b"var/lib/data")} == {
        path: then[path] for path in (b"var/lib/data", b"var/lib/data/file")
    }
    assert [entry for path, entry in there.items() if not path.startswith(b"var/lib/data")] == [
        entry._replace(dev=0) for entry in now
    ]


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    root = tmp_path / "upper"
    root.mkdir()
    (root / "dir").mkdir()
    (root / "dir/file").write_text("x")
    return root


def of_upper(root: Path) -> list[Change]:
    with opened(root) as fd:
        return list(changes_of_upper(fd))


@pytest.mark.root
@pytest.mark.parametrize("prefix", ["trusted", "user"])
def test_all_of_an_upper_directory_is_a_change(upper: Path, prefix: str) -> None:
    os.mknod(upper / "dir/gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(upper / "dir/device", stat.S_IFCHR, os.makedev(1, 3))
    (upper / "dir/gone too").touch()
    os.setxattr(upper / "dir/gone too", f"{prefix}.overlay.whiteout", b"y")
    os.setxattr(upper / "dir", f"{prefix}.overlay.opaque", b"y")
    os.setxattr(upper / "dir/file", f"{prefix}.overlay.origin", b"\0\xfb")
    os.setxattr(upper / "dir/file", "user.own", b"1")
    found = of_upper(upper)
    assert words(found) == {
        ".": "modified",
        "dir": "modified opaque",
        "dir/device": "modified",
        "dir/file": "modified",
        "dir/gone": "removed",
        "dir/gone too": "removed",
    }
    attributes = {change.name: change.entry.xattrs for change in found if change.entry is not None}
    assert attributes["dir/file"] == ((b"user.own", b"1"),)
    assert attributes["dir"] == ()


@pytest.mark.root
@pytest.mark.parametrize(("name", "value"), [("redirect", b"/elsewhere"), ("metacopy", b"")])
def test_what_is_only_in_part_in_an_upper_directory_is_refused(upper: Path, name: str, value: bytes) -> None:
    os.setxattr(upper / "dir/file", f"trusted.overlay.{name}", value)
    with pytest.raises(UnsupportedError, match=r"dir/file: is only in part in this layer: .*=off"):
        of_upper(upper)


@pytest.mark.root
def test_a_mount_in_the_tree_is_an_error_unless_it_is_masked(tree: Path) -> None:
    script = f"""
import os, subprocess, sys
from pathlib import Path
from tests.archive.pictures import changed_since, recorded, words
from ocirt.errors import ArchiveError
root = Path({str(tree)!r})
before = recorded(root)
subprocess.run(["mount", "--bind", root / "etc/apt", root / "empty"], check=True)
try:
    changed_since(before, root)
except ArchiveError as error:
    assert "empty" in str(error) and "mounted" in str(error), error
else:
    sys.exit("it was not told")
print(words(changed_since(before, root, masked=(b"empty",))))
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


@pytest.mark.root
def test_what_an_overlay_has_written_makes_of_its_lower_directory_what_it_shows(tree: Path, tmp_path: Path) -> None:
    """Each edit, in an overlay of its own, in a mount namespace of its own."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", OVERLAYS, str(tree), str(tmp_path / "overlays")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{len(EDITS)}\n"), done.stdout + done.stderr


OVERLAYS = """
import io, subprocess, sys
from pathlib import Path
from ocirt.archive.changes import changes_of_upper
from ocirt.archive.extraction import extract
from tests.archive.pictures import layer_of, opened, picture
from tests.archive.test_changes import EDITS

lower, places, equal = Path(sys.argv[1]), Path(sys.argv[2]), 0
for number, (edit, (script, _)) in enumerate(EDITS.items()):
    names = ("upper", "work", "merged")
    upper, work, merged = (places / str(number) / name for name in names)
    for path in (upper, work, merged):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    subprocess.run(["sh", "-ec", script], cwd=merged, check=True)
    twin = places / str(number) / "twin"
    subprocess.run(["cp", "-a", lower, twin], check=True)
    with opened(upper) as fd:
        extract(io.BytesIO(layer_of(fd, changes_of_upper(fd))), twin)
    shown, made = picture(merged), picture(twin)
    if shown == made:
        equal += 1
    else:
        print(edit, sorted(set(shown.items()) ^ set(made.items())))
    subprocess.run(["umount", merged], check=True)
print(equal)
"""
