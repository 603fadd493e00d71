"""Copies to Debian's registry and back, with skopeo as a witness of what is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import image
from ocirt.errors import ImageError, ImageNotFound, OCIError
from ocirt.image import layout, media
from ocirt.image.digest import Digest
from ocirt.image.documents import Manifest
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Progress, open_source
from tests.image import support
from tests.image.servers import registry
from tests.support import open_files

pytestmark = pytest.mark.usefixtures("home")

OPEN = Access(http=True)
LAYERS = [support.tar({"a": b"1" * 5000}), support.tar([("b", b"2"), ("c", support.symlink("b"))])]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    support.need("skopeo")
    with registry(tmp_path_factory.mktemp("registry")) as there:
        yield there


@pytest.fixture(autouse=True)
def nothing_left(host: str) -> Iterator[None]:
    files, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files() == files
    assert set(threading.enumerate()) == threads


def inspected(place: str, *flags: str) -> dict[str, object]:
    said: dict[str, object] = json.loads(support.skopeo("inspect", "--tls-verify=false", *flags, place))
    return said


def files(path: Path) -> set[str]:
    return {file.name for file in (path / "blobs/sha256").iterdir()}


def test_an_image_goes_there_and_comes_back_as_it_was(host: str, tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    place = f"docker://{host}/team/plain:v1"
    told: list[Progress] = []
    digest = image.copy(f"oci:{made}", place, dst_access=OPEN, preserve_digests=True, report=told.append)
    assert {progress.action for progress in told} == {"upload"}
    assert inspected(place)["Digest"] == str(digest)
    told.clear()
    again = image.copy(place, f"oci:{tmp_path}/back:v1", access=OPEN, preserve_digests=True, report=told.append)
    assert {progress.action for progress in told} == {"download"}
    assert again == digest
    assert files(made) == files(tmp_path / "back")
    assert image.copy(f"docker://{host}/team/plain@{digest}", f"oci:{tmp_path}/back:v2", access=OPEN) == digest


def test_what_docker_saved_goes_there_compressed(host: str, tmp_path: Path) -> None:
    """As docker and skopeo push it; and not where no digest may change."""
    made = support.make_layout(tmp_path / "made", LAYERS)
    image.copy(f"oci:{made}", f"docker-archive:{tmp_path}/a.tar:app:1")
    place = f"docker://{host}/team/saved:v1"
    image.copy(f"docker-archive:{tmp_path}/a.tar", place, dst_access=OPEN)
    said = inspected(place, "--raw")
    assert said["mediaType"] == media.DOCKER_MANIFEST
    with open_source(Location.parse(place), OPEN) as source:
        manifest = Manifest.loads(source.manifest().data, place)
    assert {layer.media_type for layer in manifest.layers} == {media.layer("gzip", docker=True)}
    plain = image.copy(
        f"docker-archive:{tmp_path}/a.tar",
        f"docker://{host}/team/saved:v2",
        dst_access=OPEN,
        preserve_digests=True,
    )
    with open_source(Location.parse(f"docker-archive:{tmp_path}/a.tar"), Access()) as source:
        assert source.manifest().digest == plain
    image.copy(place, f"docker-archive:{tmp_path}/b.tar:app:1", access=OPEN)
    assert (tmp_path / "a.tar").stat().st_size == (tmp_path / "b.tar").stat().st_size
    support.skopeo("copy", "--src-tls-verify=false", place, f"oci:{tmp_path}/theirs:v1")


def test_an_index_goes_there_whole(host: str, tmp_path: Path) -> None:
    made = [support.make_image(LAYERS[:1], platform=("linux", name)) for name in ("amd64", "arm64")]
    entries = [
        one.descriptor(None, platform={"os": "linux", "architecture": name})
        for one, name in zip(made, ("amd64", "arm64"), strict=True)
    ]
    data = support.to_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})
    top = {"mediaType": media.INDEX, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {**made[0].blobs, **made[1].blobs, Digest.of(data).hex: data}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    place = f"docker://{host}/team/index:v1"
    digest = image.copy(f"oci:{tmp_path}/l", place, dst_access=OPEN, all_platforms=True)
    assert digest == Digest.of(data)
    assert inspected(place, "--raw")["manifests"] == entries
    for one, name in zip(made, ("amd64", "arm64"), strict=True):
        assert str(image.copy(place, f"oci:{tmp_path}/m:{name}", access=OPEN, platform=name)) == one.digest
    image.copy(place, f"oci:{tmp_path}/whole:v1", access=OPEN, all_platforms=True)
    assert files(tmp_path / "whole") == set(blobs)
    ((_, entry),) = layout.images(tmp_path / "whole")
    assert (entry.digest, entry.media_type) == (digest, media.INDEX)


def test_layers_are_converted_on_the_way(host: str, tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    place = f"docker://{host}/team/converted:v1"
    image.copy(f"oci:{made}", place, dst_access=OPEN, compression="zstd")
    with open_source(Location.parse(place), OPEN) as source:
        manifest = Manifest.loads(source.manifest().data, place)
    assert {layer.media_type for layer in manifest.layers} == {media.layer("zstd")}
    image.copy(place, f"oci:{tmp_path}/back:v1", access=OPEN, compression="none")
    assert {Digest.of(layer).hex for layer in LAYERS} < files(tmp_path / "back")


def test_from_one_repository_to_another(host: str, tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    one, two = (f"docker://{host}/{team}/moved:v1" for team in ("one", "two"))
    digest = image.copy(f"oci:{made}", one, dst_access=OPEN)
    assert image.copy(one, two, access=OPEN, dst_access=OPEN) == digest
    assert inspected(two)["Digest"] == str(digest)


def test_what_is_not_there_is_not_found(host: str, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        image.copy(f"docker://{host}/team/absent:v1", f"oci:{tmp_path}/m:v1", access=OPEN)
    assert not (tmp_path / "m/index.json").exists()


def test_a_bad_layer_is_no_image_there(host: str, tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [made.descriptor()]}, made.blobs)
    blob = path / "blobs/sha256" / made.layers[1]
    blob.write_bytes(bytes(len(blob.read_bytes())))
    with pytest.raises(ImageError):
        image.copy(f"oci:{path}", f"docker://{host}/team/bad:v1", dst_access=OPEN)
    with pytest.raises(OCIError):
        image.copy(f"docker://{host}/team/bad:v1", f"oci:{tmp_path}/m:v1", access=OPEN)


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    access = Access(http=True, retries=0)
    with pytest.raises(OCIError):
        image.copy(f"oci:{made}", "docker://127.0.0.1:1/a:v1", dst_access=access)
