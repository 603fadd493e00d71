"""containerd imports the archives that are written, and its exports are read: its reader is nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import image
from ocirt.image import layout
from ocirt.image.members import archive
from tests.engines import daemons
from tests.engines.daemons import Engine
from tests.image import support

pytestmark = [pytest.mark.root, pytest.mark.engine]


@pytest.fixture(scope="module")
def ctr() -> Iterator[Engine]:
    with daemons.containerd() as engine:
        yield engine


@pytest.mark.parametrize(
    ("target", "imported"),
    [("oci-archive:{}:v1", "localhost/oci:v1"), ("docker-archive:{}:localhost/docker:v1", "localhost/docker:v1")],
)
def test_containerd_imports_what_is_written(ctr: Engine, tmp_path: Path, target: str, imported: str) -> None:
    made = support.busybox_layout(tmp_path / "made")
    path = f"{ctr.place.directory}/image.tar"
    image.copy(f"oci:{made}", target.format(path))
    ctr("images", "import", "--base-name=localhost/oci", path)
    assert imported in ctr("images", "ls", "--quiet").split()
    assert ctr("run", "--rm", "--runc-binary=" + str(ctr.place.log.program), imported, "x", "echo", "ran") == "ran\n"


def test_what_containerd_exports_is_read(ctr: Engine, tmp_path: Path) -> None:
    """It is an archive of a layout, with what docker load wants beside it."""
    made = support.busybox_layout(tmp_path / "made")
    path = f"{ctr.place.directory}/image.tar"
    ((_, entry),) = layout.images(made)
    image.copy(f"oci:{made}", f"oci-archive:{path}:v1")
    ctr("images", "import", "--base-name=localhost/back", path)
    ctr("images", "export", f"{ctr.place.directory}/theirs.tar", "localhost/back:v1")
    with archive(f"{ctr.place.directory}/theirs.tar") as members:
        assert "manifest.json" in members
    digest = image.copy(f"oci-archive:{ctr.place.directory}/theirs.tar", f"oci:{tmp_path}/m:v1", preserve_digests=True)
    assert digest == entry.digest
    image.copy(f"docker-archive:{ctr.place.directory}/theirs.tar", f"oci:{tmp_path}/n:v1")
    ours, theirs = ({file.name for file in (tmp_path / name / "blobs/sha256").iterdir()} for name in ("m", "n"))
    assert len(ours & theirs) == 2  # the configuration and the layer, as it was compressed
