"""What docker save writes is read, by every trick that is in it or against it, and what is written others load."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt import image
from ocirt.errors import ArchiveError, DigestMismatch, ImageError, ImageNotFound, OCIError
from ocirt.image import docker_archive, media, members
from ocirt.image.compression import reader
from ocirt.image.digest import Digest
from ocirt.image.documents import ImageConfig, Manifest
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_source
from tests.image import support
from tests.support import open_files

LAYERS = [support.tar({"a": b"1" * 5000}), support.tar([("b", b"2"), ("c", support.symlink("b"))])]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No descriptor and no thread is left by whatever happened."""
    files, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files() == files
    assert set(threading.enumerate()) == threads


def config(layers: list[bytes] = LAYERS, **members: object) -> bytes:
    diff_ids = [str(Digest.of(layer)) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return support.to_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **members})


def saved(*images: Mapping[str, object]) -> bytes:
    return support.to_json(images)


ONE = {"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["0/layer.tar", "1/layer.tar"]}
PLAIN: dict[str, support.Entry] = {
    "manifest.json": saved(ONE),
    "config.json": config(),
    "0/layer.tar": LAYERS[0],
    "1/layer.tar": LAYERS[1],
}


def write(path: Path, entries: Mapping[str, support.Entry] | list[tuple[str, support.Entry]]) -> str:
    (path / "a.tar").write_bytes(support.tar(entries))
    return f"docker-archive:{path}/a.tar"


def layers_of(place: str) -> list[bytes]:
    """The layers of an image, uncompressed, each with its digest checked by a copy."""
    found: list[bytes] = []
    with open_source(Location.parse(place), Access()) as source:
        manifest = Manifest.loads(source.manifest().data, "manifest")
        for layer in manifest.layers:
            with source.blob(layer) as stream, reader(stream, media.LAYERS[layer.media_type]) as plain:
                found.append(b"".join(iter(lambda: plain.read(1 << 20), b"")))
    return found


def copied(place: str, path: Path) -> list[bytes]:
    """The same after a copy, which verifies everything."""
    image.copy(place, f"oci:{path}/copied:v1")
    return layers_of(f"oci:{path}/copied:v1")


def test_an_archive_is_read(tmp_path: Path) -> None:
    assert copied(write(tmp_path, PLAIN), tmp_path) == LAYERS


def test_the_configuration_stays_as_it_is(tmp_path: Path) -> None:
    """Docker's own members, which OCI does not know, too: so an image's ID remains."""
    said = config(config={"Healthcheck": {"Test": ["NONE"]}}, docker_version="1.13")
    place = write(tmp_path, {**PLAIN, "config.json": said})
    image.copy(place, f"oci:{tmp_path}/l:v1")
    assert (tmp_path / "l/blobs/sha256" / hashlib.sha256(said).hexdigest()).read_bytes() == said
    image.copy(f"oci:{tmp_path}/l:v1", f"docker-archive:{tmp_path}/b.tar:app:1")
    with tarfile.open(tmp_path / "b.tar") as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]  # a regular file
        assert entry["RepoTags"] == ["docker.io/library/app:1"]
        assert archive.extractfile(entry["Config"]).read() == said  # type: ignore[union-attr]  # a regular file
        assert [archive.extractfile(layer).read() for layer in entry["Layers"]] == LAYERS  # type: ignore[union-attr]  # a file


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_skopeo_reads_what_is_written(tmp_path: Path, kind: media.Compression) -> None:
    support.need("skopeo")
    made = support.make_layout(tmp_path / "made", LAYERS, compression=kind)
    image.copy(f"oci:{made}", f"docker-archive:{tmp_path}/a.tar:host.example/app:1")
    assert support.skopeo("list-tags", f"docker-archive:{tmp_path}/a.tar").count("host.example/app:1") == 1
    support.skopeo("copy", f"docker-archive:{tmp_path}/a.tar:host.example/app:1", f"oci:{tmp_path}/theirs:v1")
    assert layers_of(f"oci:{tmp_path}/theirs:v1") == LAYERS


def test_what_skopeo_writes_is_read(tmp_path: Path) -> None:
    support.need("skopeo")
    made = support.make_layout(tmp_path / "made", LAYERS)
    for name in ("one", "two"):
        support.skopeo("copy", f"oci:{made}", f"docker-archive:{tmp_path}/{name}.tar:app:{name}")
        assert copied(f"docker-archive:{tmp_path}/{name}.tar", tmp_path / name) == LAYERS
        assert copied(f"docker-archive:{tmp_path}/{name}.tar:app:{name}", tmp_path / name) == LAYERS


def test_skopeo_and_we_say_the_same_of_an_archive(tmp_path: Path) -> None:
    support.need("skopeo")
    place = write(tmp_path, PLAIN)
    theirs = json.loads(support.skopeo("inspect", "--raw", place))
    with open_source(Location.parse(place), Access()) as source:
        ours = json.loads(source.manifest().data)
    for said in (*ours["layers"], *theirs["layers"]):
        said["mediaType"] = said["mediaType"].removesuffix(".gzip")  # theirs are not compressed either
    assert ours == theirs


def test_umoci_unpacks_what_came_of_an_archive(tmp_path: Path) -> None:
    support.need("umoci")
    image.copy(write(tmp_path, PLAIN), f"oci:{tmp_path}/l:v1", compression="gzip")
    support.umoci("unpack", "--rootless", "--image", f"{tmp_path}/l:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/a").read_bytes() == b"1" * 5000
    assert os.readlink(tmp_path / "bundle/rootfs/c") == "b"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_layers_may_be_compressed_in_the_archive(tmp_path: Path, kind: media.Compression) -> None:
    entries = {**PLAIN, "0/layer.tar": support.compressed(LAYERS[0], kind)}
    place = write(tmp_path, entries)
    assert copied(place, tmp_path) == LAYERS
    assert copied(f"oci:{tmp_path}/copied", tmp_path / "again") == LAYERS
    image.copy(place, f"docker-archive:{tmp_path}/b.tar")
    assert layers_of(f"docker-archive:{tmp_path}/b.tar") == LAYERS


@pytest.mark.parametrize(
    "links",
    [
        {"1/layer.tar": support.symlink("../x/y.tar"), "x/y.tar": LAYERS[1]},
        {"1/layer.tar": support.symlink("../x"), "x": support.symlink("./y/../z"), "z": LAYERS[1]},
        {"1/layer.tar": support.hardlink("x"), "x": LAYERS[1]},
        {"1/layer.tar": support.hardlink("./x"), "x": support.symlink("y"), "y": LAYERS[1]},
    ],
)
def test_layers_may_be_links(tmp_path: Path, links: Mapping[str, support.Entry]) -> None:
    assert copied(write(tmp_path, {**PLAIN, **links}), tmp_path) == LAYERS


def test_one_layer_may_be_there_twice(tmp_path: Path) -> None:
    twice = [LAYERS[0], LAYERS[1], LAYERS[0]]
    entries: dict[str, support.Entry] = {
        **PLAIN,
        "manifest.json": saved({**ONE, "Layers": ["0/layer.tar", "1/layer.tar", "2/layer.tar"]}),
        "config.json": config(twice),
        "2/layer.tar": support.symlink("../0/layer.tar"),
    }
    place = write(tmp_path, entries)
    assert copied(place, tmp_path) == twice
    image.copy(place, f"docker-archive:{tmp_path}/b.tar:app:1")
    assert layers_of(f"docker-archive:{tmp_path}/b.tar") == twice


def several(path: Path) -> str:
    other = {"Config": "other.json", "RepoTags": ["host.example/app:1", "app:2"], "Layers": ["0/layer.tar"]}
    unnamed: dict[str, object] = {"Config": "none.json", "RepoTags": None, "Layers": []}
    entries = {**PLAIN, "other.json": config(LAYERS[:1]), "none.json": config([])}
    return write(path, {**entries, "manifest.json": saved(ONE, other, unnamed)})


def test_several_images_are_told_apart_by_name_or_place(tmp_path: Path) -> None:
    place = several(tmp_path)
    for name, count in {
        "app:1": 2,
        "docker.io/library/app:1": 2,
        "app:2": 1,
        "host.example/app:1": 1,
        "@0": 2,
        "@1": 1,
        "@2": 0,
    }.items():
        assert layers_of(f"{place}:{name}") == LAYERS[:count]
    for name in ("app", "app:3", "@3", "@99999999999", "@x", "other.example/app:1"):
        with pytest.raises(ImageNotFound):
            layers_of(f"{place}:{name}")
    with pytest.raises(ImageNotFound, match="app:1, host"):
        layers_of(place)


def test_an_archive_may_be_compressed(tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    for kind in ("gzip", "zstd"):
        path = tmp_path / f"b.{kind}"
        path.write_bytes(support.compressed((tmp_path / "a.tar").read_bytes(), kind))
        assert copied(f"docker-archive:{path}", tmp_path / kind) == LAYERS


# Before Docker 1.10


def old(layers: Mapping[str, Mapping[str, object]], **more: support.Entry) -> dict[str, support.Entry]:
    entries: dict[str, support.Entry] = {"repositories": support.to_json({"app": {"1": "top"}})}
    for number, (name, said) in enumerate(layers.items()):
        entries[f"{name}/VERSION"] = b"1.0"
        entries[f"{name}/json"] = support.to_json(said)
        entries[f"{name}/layer.tar"] = LAYERS[number % 2]
    return {**entries, **more}


OLD: dict[str, Mapping[str, object]] = {
    "base": {"id": "base", "created": "2014-01-01T00:00:00Z", "container_config": {"Cmd": ["/bin/sh", "-c", "x"]}},
    "top": {
        "id": "top",
        "parent": "base",
        "created": "2014-01-02T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"], "User": "7"},
        "author": "somebody",
    },
}


def test_the_oldest_archives_are_read(tmp_path: Path) -> None:
    place = write(tmp_path, old(OLD))
    assert copied(place, tmp_path) == LAYERS
    assert layers_of(f"{place}:app:1") == LAYERS
    with pytest.raises(ImageNotFound, match="app:1"):
        layers_of(f"{place}:app:2")
    with open_source(Location.parse(f"oci:{tmp_path}/copied:v1"), Access()) as source:
        manifest = Manifest.loads(source.manifest().data, "manifest")
        with source.blob(manifest.config) as stream:
            said = ImageConfig.loads(stream.read(), "config")
    assert (said.config.user, said.config.cmd, said.author) == ("7", ("sh",), "somebody")
    assert [entry.created_by for entry in said.history] == ["/bin/sh -c x", None]


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"parent": "top"}},
        {"base": {"parent": "base"}},
        {"base": {"parent": "absent"}},
        {"base": {"parent": 7}},
        {"base": []},
        {"top": {"parent": "../../etc/passwd"}},
        {"top": {"parent": "base", "config": {"User": 7}}},
    ],
)
def test_broken_chains_of_the_oldest_are_refused(tmp_path: Path, change: dict[str, Mapping[str, object]]) -> None:
    with pytest.raises(OCIError):
        copied(write(tmp_path, old({**OLD, **change})), tmp_path)


# Hostile archives


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header whose size is whatever it is, with its checksum right."""
    block = bytearray(512)
    block[: len(name)] = name
    block[124:136] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "change",
    [
        {"manifest.json": saved({**ONE, "Config": "../../../../etc/passwd"})},
        {"manifest.json": saved({**ONE, "Config": "/etc/passwd"})},
        {"manifest.json": saved({**ONE, "Layers": ["../../etc/passwd", "/etc/shadow"]})},
        {"manifest.json": saved({**ONE, "Layers": ["0/layer.tar"]})},
        {"manifest.json": saved({**ONE, "Layers": ["0/layer.tar", "1"]}), "1": support.directory()},
        {"manifest.json": saved({**ONE, "Layers": ["1/layer.tar", "0/layer.tar"]})},
        {"manifest.json": saved({**ONE, "Layers": "0/layer.tar"})},
        {"manifest.json": saved({**ONE, "Config": 7})},
        {"manifest.json": saved({**ONE, "Config": None})},
        {"manifest.json": b"{}"},
        {"manifest.json": b"[]"},
        {"manifest.json": b"[" * 100_000},
        {"manifest.json": b" " * (4 * 1024 * 1024 + 1)},
        {"manifest.json": support.symlink("/etc/passwd")},
        {"manifest.json": support.symlink("manifest.json")},
        {"config.json": support.symlink("../config.json")},
        {"config.json": b"{}"},
        {"config.json": config(LAYERS[:1])},
        {"config.json": config([LAYERS[0], b"other"])},
        {"1/layer.tar": support.symlink("layer.tar")},
        {"1/layer.tar": support.symlink("../x"), "x": support.symlink("y"), "y": support.symlink("x")},
        {"1/layer.tar": support.symlink("../../../x"), "x": LAYERS[1]},
        {"1/layer.tar": support.symlink("/x"), "x": LAYERS[1]},
        {"1/layer.tar": support.hardlink("../x"), "x": LAYERS[1]},
        {"1/layer.tar": support.symlink("absent")},
        {"1/layer.tar": b"other"},
        {"1/layer.tar": b""},
        {"1/layer.tar": support.compressed(LAYERS[1], "gzip")[:-1]},
        {"1/layer.tar": support.compressed(LAYERS[0], "gzip")},
        {"1/layer.tar": support.symlink("../0/layer.tar"), "0/layer.tar": support.compressed(LAYERS[0], "gzip")},
        {"1/layer.tar": b"\xfd7zXZ\0" + LAYERS[1]},
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, change: dict[str, support.Entry]) -> None:
    place = write(tmp_path, {**PLAIN, **change})
    for target in (f"oci:{tmp_path}/l:v1", f"docker-archive:{tmp_path}/b.tar:app:1"):
        with pytest.raises(OCIError):
            image.copy(place, target)
    assert not (tmp_path / "b.tar").exists()
    assert not (tmp_path / "l/index.json").exists()


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "1/layer.tar"])
def test_what_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    """One reader would take the first, another the last."""
    place = write(tmp_path, [*PLAIN.items(), (f"./{name}", PLAIN[name])])
    with pytest.raises(ArchiveError, match="more than once"):
        copied(place, tmp_path)


def test_a_wrong_layer_is_found_out_whatever_it_is_compressed_to(tmp_path: Path) -> None:
    place = write(tmp_path, {**PLAIN, "1/layer.tar": LAYERS[1] + bytes(512)})
    for kind in ("none", "gzip", "zstd"):
        with pytest.raises(DigestMismatch):
            image.copy(place, f"oci:{tmp_path}/{kind}:v1", compression=kind)


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    write(tmp_path, dict(reversed(PLAIN.items())))  # manifest.json last
    whole = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    for length in range(0, len(whole), 256):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(OCIError):
            layers_of(f"docker-archive:{tmp_path}/cut.tar")


@pytest.mark.parametrize(
    "blocks",
    [
        header(b"x", b"\xff" * 12),  # -1 in base 256
        header(b"x", b"\x80" + b"\xff" * 11),
        header(b"x", b"-0000000001\0"),
        header(b"x", b"77777777777\0"),
        header(b"x", b"00000000009\0"),
        header(b"x", b"00000000000\0").replace(b"ustar", b"USTAR"),
        header(b"p", b"00000000011\0", b"x") + b"9 size=-1\n".ljust(512, b"\0"),
        header(b"p", b"00000000012\0", b"x") + b"10 size=9\n".ljust(512, b"\0") + header(b"x", b"00000000000\0"),
        header(b"p", b"00000000014\0", b"g") + b"12 path=abc\n".ljust(512, b"\0"),
        header(b"p", b"00000000012\0", b"x") + b"99 size=1\n".ljust(512, b"\0"),
        header(b"p", b"00000000012\0", b"x") + b"no record\n".ljust(512, b"\0"),
        header(b"p", b"00010000000\0", b"x") + bytes(1 << 21),
        header(b"p", b"00010000000\0", b"L") + b"n" * (1 << 21),
        b"x" * 512,
        b"x" * 100,
    ],
)
def test_headers_that_no_tar_has_are_refused(tmp_path: Path, blocks: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(blocks)
    with pytest.raises(OCIError), members.archive(f"{tmp_path}/a.tar"):
        pass


def test_paxs_size_is_what_counts(tmp_path: Path) -> None:
    """Who believes the other one reads a member that is not there (RUSTSEC-2026-0112 and its like)."""
    hidden = header(b"manifest.json", b"00000000002\0") + b"[]".ljust(512, b"\0")
    data = header(b"p", b"00000000015\0", b"x") + b"13 size=1024\n".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(data + header(b"x", b"00000000000\0") + hidden + bytes(1024))
    with members.archive(f"{tmp_path}/a.tar") as found:
        assert "manifest.json" not in found
        assert found.size("x") == 1024
    with tarfile.open(tmp_path / "a.tar") as theirs:
        assert theirs.getnames() == ["x"]


def test_members_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header(b"x", b"00000000000\0") * (members.MAX_MEMBERS + 1))
    with pytest.raises(ArchiveError, match="more than"), members.archive(f"{tmp_path}/a.tar"):
        pass


names = st.text(st.sampled_from("ab/._é"), min_size=1, max_size=300).filter(lambda name: name.strip("/."))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    entries=st.dictionaries(names, st.binary(max_size=1500), max_size=6),
    style=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_members_are_what_tarfile_says(tmp_path: Path, entries: dict[str, bytes], style: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=style) as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with tarfile.open(tmp_path / "a.tar") as archive, members.archive(f"{tmp_path}/a.tar") as found:
        clean = [members.cleaned(entry.name) for entry in archive]
        for entry in archive:
            if clean.count(members.cleaned(entry.name)) == 1 and not entry.name.endswith("/"):
                with found.read(entry.name) as stream:
                    assert stream.read() == archive.extractfile(entry).read()  # type: ignore[union-attr]  # a file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_changed_is_no_crash(tmp_path: Path, seed: int) -> None:
    """An archive with some bytes changed is read as it was, or refused by one of our own errors."""
    chance = random.Random(seed)
    data = bytearray(support.tar(dict(reversed(PLAIN.items()))))
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.choice((0, 0xFF, 0x80, ord("9"), ord("/"), chance.randrange(256)))
    (tmp_path / "a.tar").write_bytes(data)
    try:
        found = layers_of(f"docker-archive:{tmp_path}/a.tar")
    except OCIError:
        return
    assert len(found) == 2


def test_the_archives_of_others_are_named(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    image.copy(f"oci:{made}", f"oci-archive:{tmp_path}/a.tar")
    with pytest.raises(ImageError, match="oci-archive"):
        layers_of(f"docker-archive:{tmp_path}/a.tar")


@pytest.mark.parametrize("name", [f"app@sha256:{'a' * 64}", "App", "a b", "@1"])
def test_what_docker_could_not_load_is_not_written(tmp_path: Path, name: str) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    with pytest.raises(ImageError):
        image.copy(f"oci:{made}", f"docker-archive:{tmp_path}/a.tar:{name}")
    assert not (tmp_path / "a.tar").exists()


def test_without_a_name_it_has_none(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    image.copy(f"oci:{made}", f"docker-archive:{tmp_path}/a.tar")
    with members.archive(f"{tmp_path}/a.tar") as found:
        (entry,) = docker_archive.saved_images(found)
    assert entry.repo_tags == ()


def test_an_index_is_no_image_of_dockers(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    inner = support.to_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [made.descriptor(None)]})
    top = {"mediaType": media.INDEX, "digest": str(Digest.of(inner)), "size": len(inner)}
    blobs = {**made.blobs, Digest.of(inner).hex: inner}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    with pytest.raises(ImageError):
        image.copy(f"oci:{tmp_path}/l", f"docker-archive:{tmp_path}/a.tar:app:1", all_platforms=True)
    image.copy(f"oci:{tmp_path}/l", f"docker-archive:{tmp_path}/a.tar:app:1")
    assert layers_of(f"docker-archive:{tmp_path}/a.tar") == LAYERS
