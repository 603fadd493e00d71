"""A root filesystem in an archive is an image of one layer."""

from __future__ import annotations

import bz2
import hashlib
import os
from pathlib import Path

import pytest

from ocirt.errors import ImageError, ImageNotFound, UnsupportedError
from ocirt.image import Image, copy
from ocirt.image.media import Compression
from tests.image.support import compressed, need, skopeo, tar, umoci

ARCHIVE = tar({"etc/motd": b"hello\n", "bin/sh": b"#!"})


def written(directory: Path, data: bytes) -> str:
    path = directory / "rootfs.tar"
    path.write_bytes(data)
    return f"tarball:{path}"


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_archive_is_the_layer_as_it_is(tmp_path: Path, compression: Compression) -> None:
    data = compressed(ARCHIVE, compression)
    name = written(tmp_path, data)
    with Image.open(name) as image:
        (layer,) = image.layers
        assert layer.descriptor.digest.hex == hashlib.sha256(data).hexdigest()
        assert layer.diff_id.hex == hashlib.sha256(ARCHIVE).hexdigest()
        bundle = image.unpack(tmp_path / "bundle")
    assert (bundle.rootfs / "etc/motd").read_text() == "hello\n"


def test_others_read_the_copy(tmp_path: Path) -> None:
    need("skopeo", "umoci")
    layout = tmp_path / "layout"
    digest = copy(written(tmp_path, compressed(ARCHIVE, "gzip")), f"oci:{layout}:it")
    assert f'"Digest": "{digest}"' in skopeo("inspect", f"oci:{layout}:it")
    umoci("unpack", "--rootless", "--image", f"{layout}:it", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/etc/motd").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"no archive at all" * 100, ImageError),
        (ARCHIVE[:-1024][:700], ImageError),
        (compressed(ARCHIVE, "gzip")[:-20], ImageError),
        (bz2.compress(ARCHIVE), UnsupportedError),
        (b"", ImageError),
    ],
)
def test_what_is_no_layer_is_refused(tmp_path: Path, data: bytes, error: type[Exception]) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error):
        Image.open(written(tmp_path, data))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        Image.open(f"tarball:{tmp_path}/nowhere")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ImageError):
            Image.open(f"tarball:{path}")


def test_it_is_a_source_alone(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="source alone"):
        copy(written(tmp_path, ARCHIVE), f"tarball:{tmp_path}/other.tar")
