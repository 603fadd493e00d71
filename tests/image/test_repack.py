"""From a bundle back to an image: others unpack what ocirt made of it, and it is what the bundle was."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ocirt.archive.extraction import extract
from ocirt.archive.ownership import Ownership
from ocirt.errors import ArchiveError, BundleError, ImageError, UnsupportedError
from ocirt.image import media, record
from ocirt.image.compression import reader
from ocirt.image.documents import ContainerConfig, Descriptor, History, Manifest, Platform
from ocirt.image.reference import Location
from ocirt.image.repack import Packed, Packing, from_rootfs, repack
from ocirt.image.transport import Access, Destination, Source, open_destination, open_source
from ocirt.spec import IDMapping
from tests.archive.pictures import opened, picture
from tests.image.support import (
    Entry,
    directory,
    hardlink,
    make_image,
    make_layout,
    need,
    skopeo,
    symlink,
    tar,
    umoci,
    write_layout,
)

pytestmark = pytest.mark.root

FILES: Mapping[str, Entry] = {
    "etc": directory(),
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "etc/apt": directory(),
    "etc/apt/one": b"1",
    "etc/apt/two": b"2",
    "bin": directory(),
    "bin/sh": b"#!",
    "bin/bash": hardlink("bin/sh"),
    "lib": symlink("usr/lib"),
    "data": directory(),
    "data/old": b"volume",
}
MORE_FILES: Mapping[str, Entry] = {
    "etc/group": b"root:x:0:\nstaff:x:50:\n",
    "var": directory(),
    "etc/\u00e4\udcff": b"odd",
}
BASE = (tar(FILES), tar(MORE_FILES))

ORDINARY_EDIT = """
rm etc/passwd; rm etc/apt/*; echo new >etc/new; ln bin/sh bin/dash; chmod 4755 bin/sh; mv var var2
mkdir -p opt/deep; mkfifo opt/deep/fifo; ln -sfn /usr/lib64 lib; setfattr -n user.test -v 1 opt/deep
rm "etc/$(printf '\\303\\244\\377')"; touch "opt/$(printf '\\377')"
"""
EDIT = ORDINARY_EDIT + "mknod opt/null c 1 3; touch -d @7 opt/null; chown 5:6 opt/deep"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout", BASE, tag="base", config={"Volumes": {"/data": {}}})


def source(layout: Path, tag: str) -> Source:
    return open_source(Location.parse(f"oci:{layout}:{tag}"), Access())


def destination(layout: Path, tag: str) -> Destination:
    return open_destination(Location.parse(f"oci:{layout}:{tag}"), Access())


def unpack(layout: Path, tag: str, bundle: Path, ownership: Ownership | None = None) -> Path:
    """The rootfs of a new bundle, as ``Image.unpack`` makes it."""
    ownership = ownership or Ownership()
    rootfs = bundle / record.ROOTFS
    rootfs.mkdir(parents=True)
    os.chown(rootfs, *ownership.host_ids(0, 0))
    with source(layout, tag) as image:
        raw = image.manifest()
        for layer in Manifest.loads(raw.data, "manifest").layers:
            with image.blob(layer) as blob, reader(blob, media.LAYERS[layer.media_type]) as stream:
                extract(stream, rootfs, ownership=ownership)
    with opened(rootfs) as fd:
        record.write(bundle, fd, Descriptor(raw.media_type, raw.digest, len(raw.data)), ownership)
    return rootfs


def edit(rootfs: Path, script: str = EDIT) -> None:
    subprocess.run(["sh", "-ec", script], cwd=rootfs, check=True)


def repacked(
    layout: Path,
    bundle: Path,
    tag: str = "new",
    *,
    packing: Packing | None = None,
    history: History | None = None,
    mask_volumes: bool = True,
    masked: Sequence[str] = (),
    refresh: bool = False,
) -> Packed:
    """The bundle of ``base`` as the image ``tag``."""
    with source(layout, "base") as image, destination(layout, tag) as made:
        return repack(
            bundle,
            image,
            made,
            packing=packing,
            history=history,
            mask_volumes=mask_volumes,
            masked=masked,
            refresh=refresh,
        )


def document(layout: Path, tag: str, *, config: bool = False) -> dict[str, Any]:
    """A manifest, or a configuration, as it lies there."""
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    (entry,) = (entry for entry in entries if entry["annotations"]["org.opencontainers.image.ref.name"] == tag)
    found: dict[str, Any] = json.loads(blob(layout, entry))
    if config:
        found = json.loads(blob(layout, found["config"]))
    return found


def blob(layout: Path, entry: Mapping[str, Any]) -> bytes:
    digits: str = entry["digest"].removeprefix("sha256:")
    return (layout / "blobs/sha256" / digits).read_bytes()


def without_root(root: Path) -> dict[str, tuple[object, ...]]:
    """umoci leaves the root's time alone."""
    return {name: entry for name, entry in picture(root).items() if name != "."}


def test_what_ocirt_repacked_umoci_unpacks(layout: Path, tmp_path: Path) -> None:
    need("umoci", "setfattr")
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    edit(rootfs)
    repacked(layout, tmp_path / "bundle")
    umoci("unpack", "--image", f"{layout}:new", tmp_path / "theirs")
    assert without_root(tmp_path / "theirs/rootfs") == without_root(rootfs)


def test_what_ocirt_repacked_ocirt_unpacks(layout: Path, tmp_path: Path) -> None:
    need("setfattr")
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    edit(rootfs)
    repacked(layout, tmp_path / "bundle")
    assert picture(unpack(layout, "new", tmp_path / "again")) == picture(rootfs)


UNPACKINGS: Mapping[str, list[str]] = {
    "as root": [],
    "rootless": ["--rootless"],
    "mapped": ["--uid-map=0:100000:65536", "--gid-map=0:100000:65536"],
}


@pytest.mark.parametrize("how", UNPACKINGS)
def test_what_umoci_unpacked_ocirt_repacks(layout: Path, tmp_path: Path, how: str) -> None:
    need("umoci", "setfattr")
    umoci("unpack", *UNPACKINGS[how], "--image", f"{layout}:base", tmp_path / "bundle")
    rootfs = tmp_path / "bundle/rootfs"
    assert repacked(layout, tmp_path / "bundle", "same").layer is None
    edit(rootfs, EDIT if how == "as root" else ORDINARY_EDIT)
    if how == "mapped":
        for path in (rootfs, *rootfs.rglob("*")):
            if path.lstat().st_uid == 0:
                os.lchown(path, 100000, 100000)
    if how == "rootless":
        os.setxattr(rootfs / "opt/deep", "user.rootlesscontainers", b"\x08\x05\x10\x06")
    repacked(layout, tmp_path / "bundle")
    umoci("unpack", *UNPACKINGS[how], "--image", f"{layout}:new", tmp_path / "theirs")
    assert without_root(tmp_path / "theirs/rootfs") == without_root(rootfs)
    if how == "rootless":
        assert (unpack(layout, "new", tmp_path / "as root") / "opt/deep").stat().st_uid == 5


def test_mapped_owners_are_the_images(layout: Path, tmp_path: Path) -> None:
    mappings = (IDMapping(0, 100000, 65536),)
    rootfs = unpack(layout, "base", tmp_path / "bundle", Ownership(mappings, mappings))
    assert (rootfs / "etc").stat().st_uid == 100000
    (rootfs / "etc/new").touch()
    os.chown(rootfs / "etc/new", 100005, 100006)
    repacked(layout, tmp_path / "bundle")
    status = (unpack(layout, "new", tmp_path / "again") / "etc/new").stat()
    assert (status.st_uid, status.st_gid) == (5, 6)


def test_skopeo_takes_what_ocirt_repacked(layout: Path, tmp_path: Path) -> None:
    need("skopeo", "setfattr")
    edit(unpack(layout, "base", tmp_path / "bundle"))
    packed = repacked(layout, tmp_path / "bundle")
    skopeo("copy", f"oci:{layout}:new", f"dir:{tmp_path / 'copy'}")
    found = json.loads(skopeo("inspect", "--config", f"oci:{layout}:new"))
    assert found["rootfs"]["diff_ids"] == [str(digest) for digest in packed.config.rootfs.diff_ids]
    assert json.loads((tmp_path / "copy/manifest.json").read_text()) == document(layout, "new")


def test_the_image_says_what_was_done(layout: Path, tmp_path: Path) -> None:
    edit(unpack(layout, "base", tmp_path / "bundle"), "touch etc/new")
    history = History(created_by="a test", author="somebody", comment="well done")
    packed = repacked(layout, tmp_path / "bundle", history=history, packing=Packing(source_date_epoch=86400))
    before, after = document(layout, "base", config=True), document(layout, "new", config=True)
    assert after["history"] == [
        {},  # the base said nothing of its layers, and engines want all or none
        {},
        {
            "created": "1970-01-02T00:00:00Z",
            "created_by": "a test",
            "author": "somebody",
            "comment": "well done",
        },
    ]
    layers = document(layout, "new")["layers"]
    plain = gzip.decompress(blob(layout, layers[2]))
    assert layers[:2] == document(layout, "base")["layers"]
    assert after["rootfs"]["diff_ids"] == [
        *before["rootfs"]["diff_ids"],
        f"sha256:{hashlib.sha256(plain).hexdigest()}",
    ]
    assert after["created"] == "1970-01-02T00:00:00Z"
    assert after["config"] == before["config"]
    assert packed.changes == 2


def test_without_changes_there_is_no_layer(layout: Path, tmp_path: Path) -> None:
    unpack(layout, "base", tmp_path / "bundle")
    packed = repacked(layout, tmp_path / "bundle")
    assert packed.layer is None
    assert document(layout, "new")["layers"] == document(layout, "base")["layers"]
    assert document(layout, "new", config=True)["history"][-1]["empty_layer"] is True


def test_equal_changes_make_an_equal_image(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for name in ("one", "two"):
        edit(unpack(layout, "base", tmp_path / name), "mkdir new; touch new/file; echo x >etc/apt/one; rm etc/passwd")
        made.append(repacked(layout, tmp_path / name, name).descriptor)
    assert made[0] == made[1]


def test_a_copied_bundle_has_changed_in_nothing_but_what_was_changed(layout: Path, tmp_path: Path) -> None:
    epoch = Packing(source_date_epoch=1700000000)
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    subprocess.run(["cp", "-a", tmp_path / "bundle", tmp_path / "copy"], check=True)
    assert repacked(layout, tmp_path / "copy", "same").layer is None
    for bundle in ("bundle", "copy"):
        status = (rootfs / "etc/apt/one").stat()
        edit(tmp_path / bundle / "rootfs", "printf x >etc/apt/one")
        os.utime(tmp_path / bundle / "rootfs/etc/apt/one", ns=(status.st_atime_ns, status.st_mtime_ns))
    ours = repacked(layout, tmp_path / "bundle", packing=epoch)
    copied = repacked(layout, tmp_path / "copy", packing=epoch)
    assert ours.changes == 3
    assert ours.descriptor == copied.descriptor


def test_volumes_are_left_out_unless_wanted(layout: Path, tmp_path: Path) -> None:
    edit(unpack(layout, "base", tmp_path / "bundle"), "rm data/old; touch data/new etc/new")
    repacked(layout, tmp_path / "bundle", "without")
    repacked(layout, tmp_path / "bundle", "with", mask_volumes=False)
    repacked(layout, tmp_path / "bundle", "neither", masked=["/etc/"])
    assert names(layout, "without") == ["etc/", "etc/new"]
    assert names(layout, "with") == ["data/", "data/new", "data/.wh.old", "etc/", "etc/new"]
    assert len(document(layout, "neither")["layers"]) == 2


def names(layout: Path, tag: str) -> list[str]:
    """What the uppermost layer says."""
    done = subprocess.run(
        ["tar", "--list", "--gzip", "--file=-"],
        input=blob(layout, document(layout, tag)["layers"][-1]),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize("by", ["ocirt", "umoci"])
def test_a_refreshed_bundle_is_of_the_new_image(layout: Path, tmp_path: Path, by: str) -> None:
    bundle = tmp_path / "bundle"
    if by == "umoci":
        need("umoci")
        umoci("unpack", "--image", f"{layout}:base", bundle)
    else:
        unpack(layout, "base", bundle)
    there = {path.name for path in bundle.iterdir()}
    edit(bundle / "rootfs", "touch etc/first; rm etc/passwd; touch data/hidden")
    repacked(layout, bundle, "first", refresh=True)
    assert not {path.name for path in bundle.iterdir()} - there - {record.FILE}
    edit(bundle / "rootfs", "touch etc/second")
    with source(layout, "first") as image, destination(layout, "second") as made:
        repack(bundle, image, made, mask_volumes=False)
    assert len(document(layout, "second")["layers"]) == 4
    assert names(layout, "second") == ["data/", "data/hidden", "etc/", "etc/second"]
    assert without_root(unpack(layout, "second", tmp_path / "again")) == without_root(bundle / "rootfs")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_are_compressed_as_asked_for(layout: Path, tmp_path: Path, compression: media.Compression) -> None:
    need("skopeo")
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    (rootfs / "large").write_bytes(os.urandom(1 << 20) * 3)
    repacked(layout, tmp_path / "bundle", packing=Packing(compression=compression, level=1))
    layer = document(layout, "new")["layers"][-1]
    assert layer["mediaType"] == media.layer(compression)
    assert picture(unpack(layout, "new", tmp_path / "again")) == picture(rootfs)
    skopeo("copy", f"oci:{layout}:new", f"dir:{tmp_path / 'copy'}")


def test_dockers_types_become_the_ocis(tmp_path: Path) -> None:
    image = make_image(BASE, docker=True)
    layout = write_layout(
        tmp_path / "layout", {"schemaVersion": 2, "manifests": [image.descriptor("base")]}, image.blobs
    )
    edit(unpack(layout, "base", tmp_path / "bundle"), "touch new")
    repacked(layout, tmp_path / "bundle")
    manifest = document(layout, "new")
    assert {layer["mediaType"] for layer in manifest["layers"]} == {media.layer("gzip")}
    assert (manifest["mediaType"], manifest["config"]["mediaType"]) == (media.MANIFEST, media.CONFIG)


def test_it_goes_to_another_layout_with_all_it_needs(layout: Path, tmp_path: Path) -> None:
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    edit(rootfs, "touch new")
    with source(layout, "base") as image, destination(tmp_path / "other", "new") as made:
        repack(tmp_path / "bundle", image, made)
    shutil.rmtree(layout)
    assert picture(unpack(tmp_path / "other", "new", tmp_path / "again")) == picture(rootfs)


def test_a_bundle_of_shared_layers_is_what_was_written_over_them(layout: Path, tmp_path: Path) -> None:
    expected = unpack(layout, "base", tmp_path / "expected")
    upper = tmp_path / "bundle/upper"
    upper.mkdir(parents=True)
    os.utime(upper, ns=(0, expected.stat().st_mtime_ns))
    with source(layout, "base") as image, opened(upper) as fd:
        raw = image.manifest()
        record.write_upper(tmp_path / "bundle", fd, Descriptor(raw.media_type, raw.digest, len(raw.data)), Ownership())
    assert repacked(layout, tmp_path / "bundle", "same").layer is None
    edit(upper, "mkdir etc data; mknod etc/passwd c 0 0; touch etc/new data/hidden")
    edit(upper, "mkdir etc/apt; setfattr -n trusted.overlay.opaque -v y etc/apt; touch -r . etc")
    repacked(layout, tmp_path / "bundle")
    edit(expected, "rm etc/passwd etc/apt/*; cp -p ../../bundle/upper/etc/new etc/new")
    for path in (".", "etc", "etc/apt"):
        os.utime(expected / path, ns=(0, (upper / path).stat().st_mtime_ns))
    again = unpack(layout, "new", tmp_path / "again")
    os.utime(again / "data", ns=(0, (expected / "data").stat().st_mtime_ns))
    assert picture(again) == picture(expected)
    with pytest.raises(UnsupportedError, match="refresh"):
        repacked(layout, tmp_path / "bundle", refresh=True)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("script", ["touch .wh.file", "setfattr -n user.a=b -v 1 etc/passwd"])
def test_what_fails_leaves_nothing(layout: Path, tmp_path: Path, script: str) -> None:
    need("setfattr")
    edit(unpack(layout, "base", tmp_path / "bundle"), script)
    before = files(tmp_path)
    with pytest.raises(ArchiveError):
        repacked(layout, tmp_path / "bundle", refresh=True)
    assert files(tmp_path) - before <= {"layout/blobs/.lock"}
    assert "new" not in (layout / "index.json").read_text()


def test_sockets_are_told(layout: Path, tmp_path: Path) -> None:
    rootfs = unpack(layout, "base", tmp_path / "bundle")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(rootfs / "socket"))
    assert repacked(layout, tmp_path / "bundle").skipped == ("socket",)


def test_a_directory_that_was_not_unpacked_is_no_bundle(layout: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle/rootfs").mkdir(parents=True)
    with pytest.raises(BundleError, match="was not unpacked from an image by ocirt or umoci"):
        repacked(layout, tmp_path / "bundle")


def test_the_image_has_to_be_there(layout: Path, tmp_path: Path) -> None:
    unpack(layout, "base", tmp_path / "bundle")
    other = make_layout(tmp_path / "other", [tar({"x": b"x"})], tag="base")
    with pytest.raises(ImageError):
        repacked(other, tmp_path / "bundle")


@pytest.mark.parametrize("epoch", ["yesterday", "-1", "1.5", "\u0661"])
def test_the_epoch_is_a_number(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: str) -> None:
    unpack(layout, "base", tmp_path / "bundle")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH"):
        repacked(layout, tmp_path / "bundle")


@pytest.mark.parametrize("path", ["/", "..", "a/../../b", ""])
def test_no_path_leads_out_of_the_tree(layout: Path, tmp_path: Path, path: str) -> None:
    unpack(layout, "base", tmp_path / "bundle")
    with pytest.raises(ImageError, match="no path in the tree"):
        repacked(layout, tmp_path / "bundle", masked=[path])


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    root.mkdir()
    edit(
        root,
        "mkdir -p bin opt/deep var/cache; echo x >bin/sh; echo y >var/cache/y; mkfifo opt/deep/fifo; chmod 1777 var",
    )
    return root


def test_a_directory_becomes_an_image(rootfs: Path, tmp_path: Path) -> None:
    need("umoci", "skopeo")
    layout = tmp_path / "layout"
    config = ContainerConfig(env=("PATH=/bin",), entrypoint=("/bin/sh",), cmd=("-l",), user="5:6", labels={"a": "b"})
    with destination(layout, "new") as made:
        packed = from_rootfs(
            rootfs, made, config=config, platform=Platform("arm64", "linux"), author="somebody", masked=["var/cache/y"]
        )
    assert packed.config.rootfs.diff_ids
    found = document(layout, "new", config=True)
    assert found["config"] == {
        "User": "5:6",
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/bin/sh"],
        "Cmd": ["-l"],
        "Labels": {"a": "b"},
    }
    assert (found["architecture"], found["os"], found["author"]) == ("arm64", "linux", "somebody")
    assert len(found["history"]) == len(found["rootfs"]["diff_ids"]) == 1
    skopeo("copy", f"oci:{layout}:new", f"dir:{tmp_path / 'copy'}")
    umoci("unpack", "--image", f"{layout}:new", tmp_path / "theirs")
    (rootfs / "var/cache/y").unlink()
    os.utime(rootfs / "var/cache", ns=(0, (tmp_path / "theirs/rootfs/var/cache").stat().st_mtime_ns))
    assert picture(tmp_path / "theirs/rootfs") == picture(rootfs)


def test_by_default_it_is_for_this_machine_and_does_nothing(rootfs: Path, tmp_path: Path) -> None:
    with destination(tmp_path / "layout", "new") as made:
        from_rootfs(rootfs, made)
    found = document(tmp_path / "layout", "new", config=True)
    assert (found["architecture"], found["os"]) == (
        {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "linux",
    )
    assert "config" not in found or found["config"] == {}


def test_dockers_archives_take_it_too(rootfs: Path, tmp_path: Path) -> None:
    need("skopeo")
    archive = f"docker-archive:{tmp_path / 'archive'}"
    with open_destination(Location.parse(f"{archive}:example/name:tag"), Access()) as made:
        packed = from_rootfs(rootfs, made)
    skopeo("copy", archive, f"oci:{tmp_path / 'layout'}:copy")
    assert picture(unpack(tmp_path / "layout", "copy", tmp_path / "again")) == picture(rootfs)
    assert document(tmp_path / "layout", "copy", config=True)["rootfs"]["diff_ids"] == [
        str(digest) for digest in packed.config.rootfs.diff_ids
    ]


def test_the_same_directory_is_the_same_image(rootfs: Path, tmp_path: Path) -> None:
    packing = Packing(source_date_epoch=1000)
    subprocess.run(["cp", "-a", rootfs, tmp_path / "copy"], check=True)
    made = []
    for number, root in enumerate((rootfs, tmp_path / "copy")):
        with destination(tmp_path / "layout", str(number)) as to:
            made.append(from_rootfs(root, to, packing=packing).descriptor)
    assert made[0] == made[1]
