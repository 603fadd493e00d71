"""A bundle: a directory with config.json and a root filesystem (bundle.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocirt import Bundle, Spec
from ocirt.errors import BundleError, SpecError


def test_create_writes_what_load_reads(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    spec = Spec.default()
    made = Bundle.create(tmp_path / "bundle", rootfs=tmp_path / "tree", spec=spec)
    assert Bundle.load(tmp_path / "bundle").spec == made.spec
    assert made.spec.root.path == str(tmp_path / "tree")
    assert made.spec.evolve(root=spec.root) == spec
    assert made.rootfs == tmp_path / "tree"


def test_a_rootfs_inside_the_bundle_is_named_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    assert Bundle.create(tmp_path, rootfs=tmp_path / "rootfs").spec.root.path == "rootfs"
    assert json.loads((tmp_path / "config.json").read_text())["root"]["path"] == "rootfs"


def test_create_needs_a_directory_for_a_rootfs(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.create(tmp_path / "bundle", rootfs=tmp_path / "absent")
    assert (caught.value.origin, caught.value.path) == ("root.path", str(tmp_path / "absent"))
    assert not (tmp_path / "bundle").exists()


def test_create_keeps_a_configuration_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        Bundle.create(tmp_path, rootfs=tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"


def test_load_without_a_configuration_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"config\.json"):
        Bundle.load(tmp_path)


def test_load_of_a_wrong_configuration_tells_its_problems(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"ociVersion": "1.3.0", "root": {}}')
    with pytest.raises(SpecError) as caught:
        Bundle.load(tmp_path)
    assert [problem.path for problem in caught.value.problems] == ["root.path"]


def test_the_path_is_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = Bundle("here", Spec.default())
    monkeypatch.chdir("/")
    assert bundle.path == tmp_path / "here"
    assert repr(bundle) == f"Bundle({str(tmp_path / 'here')!r})"


@pytest.mark.parametrize("content", ["absent", "file", "loop"])
def test_a_rootfs_that_is_no_directory_is_a_bundle_error(tmp_path: Path, content: str) -> None:
    rootfs = tmp_path / "rootfs"
    if content == "file":
        rootfs.touch()
    elif content == "loop":
        rootfs.symlink_to("rootfs")
    with pytest.raises(BundleError) as caught:
        _ = Bundle(tmp_path, Spec.default()).rootfs
    assert caught.value.origin == "root.path"


def test_a_rootfs_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "rootfs").symlink_to("real")
    assert Bundle(tmp_path, Spec.default()).rootfs.samefile(tmp_path / "real")
