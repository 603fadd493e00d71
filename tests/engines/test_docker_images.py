"""Images go to Docker's daemon and come back, through its socket and through files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import image
from ocirt.errors import ImageError, ImageNotFound
from ocirt.image.documents import ImageConfig, Manifest
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_source
from tests.engines import daemons
from tests.engines.daemons import Engine
from tests.image import support
from tests.support import open_files

pytestmark = [pytest.mark.root, pytest.mark.engine]


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with daemons.dockerd() as engine:
        yield engine


@pytest.fixture(autouse=True)
def nothing_left(docker: Engine) -> Iterator[None]:
    files, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files() == files
    assert set(threading.enumerate()) == threads


@pytest.fixture
def access(docker: Engine) -> Access:
    return Access(daemon=f"{docker.place.directory}/docker.sock")


def config_of(place: str) -> ImageConfig:
    with open_source(Location.parse(place), Access()) as source:
        manifest = Manifest.loads(source.manifest().data, place)
        with source.blob(manifest.config) as stream:
            return ImageConfig.loads(stream.read(), place)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_docker_runs_what_it_was_given_and_gives_it_back(
    docker: Engine, access: Access, tmp_path: Path, kind: str
) -> None:
    made = support.busybox_layout(tmp_path / "made", config={"Env": [f"KIND={kind}", "PATH=/bin"], "User": "alice"})
    image.copy(f"oci:{made}", f"oci:{made}:other", compression="zstd" if kind == "zstd" else "gzip")
    name = f"localhost/{kind}:1"
    image.copy(f"oci:{made}:other", f"docker-daemon:{name}", dst_access=access)
    said = docker("run", "--rm", "--network=none", name, "sh", "-c", "echo $KIND; id -un")
    assert said == f"{kind}\nalice\n"
    image.copy(f"docker-daemon:{name}", f"oci:{tmp_path}/back:v1", access=access)
    before, after = config_of(f"oci:{made}:other"), config_of(f"oci:{tmp_path}/back:v1")
    assert after.rootfs == before.rootfs
    assert (after.config.user, after.config.env) == (before.config.user, before.config.env)


def test_an_image_is_found_by_its_id(docker: Engine, access: Access, tmp_path: Path) -> None:
    made = support.busybox_layout(tmp_path / "made")
    image.copy(f"oci:{made}", "docker-daemon:byid:1", dst_access=access)
    (found,) = json.loads(docker("inspect", "byid:1"))
    assert found["Id"] == str(Manifest.loads(raw_of(f"oci:{made}"), "it").config.digest)
    digest = image.copy(f"docker-daemon:{found['Id']}", f"oci:{tmp_path}/back:v1", access=access)
    assert digest == image.copy("docker-daemon:byid:1", f"oci:{tmp_path}/back:v2", access=access)


def raw_of(place: str) -> bytes:
    with open_source(Location.parse(place), Access()) as source:
        return source.manifest().data


def test_what_docker_saves_is_read_and_what_is_written_docker_loads(docker: Engine, tmp_path: Path) -> None:
    made = support.busybox_layout(tmp_path / "made")
    archive = f"{docker.place.directory}/ours.tar"
    for name in ("one", "two"):
        image.copy(f"oci:{made}", f"docker-archive:{archive}:{name}:1")
        docker("load", "--input", archive)
    docker("save", "--output", f"{docker.place.directory}/theirs.tar", "one:1", "two:1", daemons_image(docker))
    for name in ("one:1", "two:1"):
        place = f"docker-archive:{docker.place.directory}/theirs.tar:{name}"
        image.copy(place, f"oci:{tmp_path}/back:v1")
        assert config_of(f"oci:{tmp_path}/back:v1").rootfs == config_of(f"oci:{made}").rootfs
    with pytest.raises(ImageNotFound, match="one:1"):
        image.copy(f"docker-archive:{docker.place.directory}/theirs.tar", f"oci:{tmp_path}/back:v2")


def daemons_image(docker: Engine) -> str:
    """The one that this daemon has from the start."""
    return next(name for name in docker("images", "--format={{.Repository}}:{{.Tag}}").split() if "busybox" in name)


def test_what_docker_does_not_have_is_not_found(docker: Engine, access: Access, tmp_path: Path) -> None:
    for name in ("absent:1", f"sha256:{'a' * 64}"):
        with pytest.raises(ImageNotFound):
            image.copy(f"docker-daemon:{name}", f"oci:{tmp_path}/m:v1", access=access)
    assert not (tmp_path / "m").exists()


def test_what_docker_refuses_is_told(docker: Engine, access: Access, tmp_path: Path) -> None:
    """A layer that is no tar archive: nobody before docker looks into it."""
    support.make_layout(tmp_path / "made", [b"no archive" * 100], compression="none")
    with pytest.raises(ImageError, match="did not load it"):
        image.copy(f"oci:{tmp_path}/made", "docker-daemon:broken:1", dst_access=access)
    assert "broken" not in docker("images")


def test_without_docker_its_socket_is_named(tmp_path: Path) -> None:
    support.make_layout(tmp_path / "made")
    access = Access(daemon=f"{tmp_path}/none.sock")
    with pytest.raises(ImageError, match=r"none.sock.*is docker running"):
        image.copy("docker-daemon:a:1", f"oci:{tmp_path}/m:v1", access=access)
    with pytest.raises(ImageError, match=r"none.sock.*is docker running"):
        image.copy(f"oci:{tmp_path}/made", "docker-daemon:a:1", dst_access=access)
