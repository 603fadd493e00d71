"""An image is copied whole and verified, converted only where it has to be, or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocirt import image
from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, OCIError, UnsupportedError
from ocirt.image import layout, manifests, media, platform
from ocirt.image.copying import Copy
from ocirt.image.digest import Digest
from ocirt.image.documents import ImageConfig, Index, Manifest
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Progress, Raw, Source, open_destination, open_source
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


def opened(place: str) -> Source:
    return open_source(Location.parse(place), Access())


def manifest_of(place: str) -> Manifest:
    with opened(place) as source:
        return Manifest.loads(source.manifest().data, place)


def diff_ids(place: str) -> list[str]:
    """What the configuration says, once it has been compared with what the layers are."""
    with opened(place) as source:
        manifest = Manifest.loads(source.manifest().data, place)
        with source.blob(manifest.config) as stream:
            config = ImageConfig.loads(stream.read(), place)
        for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
            with source.blob(layer) as stream:
                data = stream.read()
            assert Digest.of(data) == layer.digest
            plain = data if media.LAYERS[layer.media_type] == "none" else unpacked(data)
            assert Digest.of(plain) == diff_id
    return [str(diff_id) for diff_id in config.rootfs.diff_ids]


def unpacked(data: bytes) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    return subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout


DIFF_IDS = [str(Digest.of(layer)) for layer in LAYERS]


def written(path: Path, *images: support.MadeImage, entries: list[dict[str, object]] | None = None) -> str:
    """A layout whose one image is the first of these, or an index of these entries."""
    blobs = {digest: data for made in images for digest, data in made.blobs.items()}
    if entries is None:
        top = images[0].descriptor(None)
    else:
        data = support.to_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})
        blobs[Digest.of(data).hex] = data
        top = {"mediaType": media.INDEX, "digest": str(Digest.of(data)), "size": len(data)}
    support.write_layout(path, {"schemaVersion": 2, "manifests": [top]}, blobs)
    return f"oci:{path}"


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("wanted", ["gzip", "zstd", "none", None])
def test_layers_become_what_is_wanted(
    tmp_path: Path, kind: media.Compression, wanted: media.Compression | None
) -> None:
    support.need("zstd")
    made = support.make_image(LAYERS, compression=kind)
    digest = image.copy(written(tmp_path / "l", made), f"oci:{tmp_path}/m:v1", compression=wanted)
    manifest = manifest_of(f"oci:{tmp_path}/m:v1")
    assert {layer.media_type for layer in manifest.layers} == {media.layer(wanted or kind)}
    assert diff_ids(f"oci:{tmp_path}/m:v1") == DIFF_IDS
    assert (str(digest) == made.digest) == (wanted in (None, kind))
    assert manifest.config.digest.hex == made.config
    access = Access(compression=wanted or "keep")
    assert image.copy(f"oci:{tmp_path}/l", f"oci-archive:{tmp_path}/m.tar", dst_access=access) == digest


def test_digests_are_preserved_or_nothing_is_copied(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    place = written(tmp_path / "l", made)
    assert str(image.copy(place, f"oci:{tmp_path}/m:v1", preserve_digests=True)) == made.digest
    targets: list[tuple[str, media.Compression | None]] = [
        (f"docker-archive:{tmp_path}/a.tar", None),
        (f"oci:{tmp_path}/n:v1", "zstd"),
    ]
    for target, kind in targets:
        with pytest.raises(ImageError, match="digest would change"):
            image.copy(place, target, preserve_digests=True, compression=kind)
    assert not (tmp_path / "a.tar").exists()
    assert not (tmp_path / "n/index.json").exists()


def test_a_destination_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    place = written(tmp_path / "l", support.make_image(LAYERS))
    with pytest.raises(UnsupportedError, match="compression gzip"):
        image.copy(place, f"docker-archive:{tmp_path}/a.tar", compression="gzip")


def test_dockers_words_become_ocis_and_back(tmp_path: Path) -> None:
    """A layout whose manifest is Docker's, as some write it, becomes one of OCI's; skopeo converts it alike."""
    support.need("skopeo")
    made = support.make_image(LAYERS, docker=True)
    place = written(tmp_path / "l", made)
    image.copy(place, f"oci:{tmp_path}/m:v1")
    manifest = manifest_of(f"oci:{tmp_path}/m:v1")
    assert manifest.media_type == media.MANIFEST
    assert manifest.config.media_type == media.CONFIG
    assert [layer.digest.hex for layer in manifest.layers] == list(made.layers)
    assert diff_ids(f"oci:{tmp_path}/m:v1") == DIFF_IDS
    said = json.loads(support.skopeo("inspect", f"oci:{tmp_path}/m:v1"))
    assert said["Layers"] == [f"sha256:{layer}" for layer in made.layers]
    back = manifests.manifest_as(manifest, media.DOCKER_MANIFEST, "it")
    assert Manifest.loads(made.blobs[made.manifest], "it") == back


def platforms() -> tuple[list[support.MadeImage], list[dict[str, object]]]:
    made = [
        support.make_image([support.tar({"arch": name.encode()})], platform=("linux", name))
        for name in ("arm64", "amd64")
    ]
    arm, amd = made
    lie = support.make_image([], platform=("unknown", "unknown"))
    return [*made, lie], [
        arm.descriptor(None, platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
        amd.descriptor(None, platform={"os": "linux", "architecture": "amd64"}),
        lie.descriptor(None, platform={"os": "unknown", "architecture": "unknown"}),
    ]


def test_one_image_of_an_index_is_chosen(tmp_path: Path) -> None:
    made, entries = platforms()
    place = written(tmp_path / "l", *made, entries=entries)
    for name, one in (("linux/arm64", made[0]), ("linux/amd64", made[1]), ("aarch64", made[0]), ("amd64/v2", None)):
        if one is None:
            with pytest.raises(ImageNotFound, match=r"linux/amd64, linux/arm64"):
                image.copy(place, f"oci:{tmp_path}/m:x", platform=name)
            continue
        assert str(image.copy(place, f"oci:{tmp_path}/m:x", platform=name)) == one.digest
        assert str(image.copy(place, f"oci:{tmp_path}/m:x", platform=platform.parse(name))) == one.digest
    assert len(list((tmp_path / "m/blobs/sha256").iterdir())) == 6


def test_an_image_of_another_platform_is_not_taken_for_the_one_that_was_asked_for(tmp_path: Path) -> None:
    place = written(tmp_path / "l", support.make_image(LAYERS, platform=("linux", "s390x")))
    with pytest.raises(ImageNotFound, match="it is one for linux/s390x"):
        image.copy(place, f"oci:{tmp_path}/m:v1", platform="linux/arm64")
    image.copy(place, f"oci:{tmp_path}/m:v1", platform="linux/s390x")
    image.copy(place, f"oci:{tmp_path}/n:v1")


def test_an_index_is_copied_with_all_in_it(tmp_path: Path) -> None:
    support.need("skopeo")
    made, entries = platforms()
    place = written(tmp_path / "l", *made, entries=entries)
    digest = image.copy(place, f"oci:{tmp_path}/m:v1", all_platforms=True, preserve_digests=True)
    support.skopeo("copy", "--all", place, f"oci:{tmp_path}/theirs:v1")
    assert [(entry.digest, entry.media_type) for _, entry in layout.images(tmp_path / "m")] == [(digest, media.INDEX)]
    ours, theirs = ({f.name for f in (tmp_path / d / "blobs/sha256").iterdir()} for d in ("m", "theirs"))
    assert ours == theirs
    image.copy(f"oci:{tmp_path}/m:v1", f"oci-archive:{tmp_path}/m.tar:v1", all_platforms=True, compression="none")
    said = json.loads(support.skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/m.tar:v1"))
    assert [entry["platform"] for entry in said["manifests"]] == [entry["platform"] for entry in entries]
    image.copy(f"oci-archive:{tmp_path}/m.tar:v1", f"oci:{tmp_path}/n:v1", platform="arm64")
    assert manifest_of(f"oci:{tmp_path}/n:v1").config.digest.hex == made[0].config


def test_a_list_of_dockers_becomes_an_index(tmp_path: Path) -> None:
    one = support.make_image(LAYERS, docker=True)
    entries = [one.descriptor(None, platform={"os": "linux", "architecture": "amd64"})]
    data = support.to_json({"schemaVersion": 2, "mediaType": media.DOCKER_LIST, "manifests": entries})
    top = {"mediaType": media.DOCKER_LIST, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {**one.blobs, Digest.of(data).hex: data}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    image.copy(f"oci:{tmp_path}/l", f"oci:{tmp_path}/m:v1", all_platforms=True)
    with opened(f"oci:{tmp_path}/m:v1") as source:
        raw = source.manifest()
        assert raw.media_type == media.INDEX
        (entry,) = Index.loads(raw.data, "index").manifests
        assert entry.media_type == media.MANIFEST
        assert entry.platform is not None
        child = Manifest.loads(source.manifest(entry).data, "manifest")
    assert child.layers[0].media_type == media.layer("gzip")


def test_an_artifact_is_copied_as_it_is(tmp_path: Path) -> None:
    """Where the destination has words for it."""
    blobs: dict[str, bytes] = {}

    def kept(data: bytes, media_type: str) -> dict[str, object]:
        blobs[Digest.of(data).hex] = data
        return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": "application/x.of.ours",
        "config": {**kept(b"{}", media.EMPTY), "data": base64.b64encode(b"{}").decode()},
        "layers": [kept(b"anything", "application/x.of.ours.part")],
    }
    top = kept(support.to_json(manifest), media.MANIFEST)
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    (tmp_path / "l/blobs/sha256" / Digest.of(b"{}").hex).unlink()  # it is in its descriptor
    digest = image.copy(f"oci:{tmp_path}/l", f"oci:{tmp_path}/m:v1", compression="zstd")
    assert str(digest) == top["digest"]
    assert {file.name for file in (tmp_path / "m/blobs/sha256").iterdir()} == set(blobs)
    with pytest.raises(ImageError, match="artifact"):
        image.copy(f"oci:{tmp_path}/l", f"docker-archive:{tmp_path}/a.tar")


@pytest.mark.parametrize("data", ["AAA=", "!", base64.b64encode(b"other").decode(), "é"])
def test_what_a_descriptor_holds_is_verified(tmp_path: Path, data: str) -> None:
    made = support.make_image(LAYERS)
    manifest = json.loads(made.blobs[made.manifest])
    manifest["config"]["data"] = data
    changed = support.to_json(manifest)
    top = {"mediaType": media.MANIFEST, "digest": str(Digest.of(changed)), "size": len(changed)}
    blobs = {**made.blobs, Digest.of(changed).hex: changed}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    with pytest.raises(ImageError):
        image.copy(f"oci:{tmp_path}/l", f"oci:{tmp_path}/m:v1")


def changed_manifest(tmp_path: Path, media_type: str = media.MANIFEST, **members: object) -> str:
    made = support.make_image(LAYERS)
    data = support.to_json({**json.loads(made.blobs[made.manifest]), **members})
    top = {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {**made.blobs, Digest.of(data).hex: data}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    return f"oci:{tmp_path}/l:@0"


@pytest.mark.parametrize("media_type", [media.DOCKER_SCHEMA1, media.DOCKER_SIGNED_SCHEMA1])
def test_dockers_first_manifests_are_refused_with_the_remedy(tmp_path: Path, media_type: str) -> None:
    with pytest.raises(UnsupportedError, match="version 1"):
        image.copy(changed_manifest(tmp_path, media_type), f"oci:{tmp_path}/m:v1")


@pytest.mark.parametrize(
    "members",
    [
        {"manifests": []},
        {"schemaVersion": 1},
        {"mediaType": media.INDEX},
        {"mediaType": media.DOCKER_MANIFEST},
        {"layers": []},
        {"layers": [{"mediaType": media.LAYER, "digest": f"sha256:{'a' * 64}", "size": 1}] * 2},
        {"config": {"mediaType": media.CONFIG, "digest": f"sha256:{'a' * 64}", "size": 2}},
        {"config": {"mediaType": media.CONFIG, "digest": f"sha256:{'a' * 64}", "size": 2**62}},
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    with pytest.raises(OCIError):
        image.copy(changed_manifest(tmp_path, **members), f"oci:{tmp_path}/m:v1")
    assert not (tmp_path / "m/index.json").exists()


def test_a_manifest_need_not_say_its_type(tmp_path: Path) -> None:
    image.copy(changed_manifest(tmp_path, mediaType=None), f"oci:{tmp_path}/m:v1")
    assert diff_ids(f"oci:{tmp_path}/m:v1") == DIFF_IDS


def foreign(tmp_path: Path) -> str:
    """Windows' base layer is at Microsoft's."""
    made = support.make_image(LAYERS)
    manifest = json.loads(made.blobs[made.manifest])
    manifest["layers"][0].update(
        mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://host.example/base"]
    )
    data = support.to_json(manifest)
    top = {"mediaType": media.MANIFEST, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {digest: blob for digest, blob in made.blobs.items() if digest != made.layers[0]}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, {**blobs, Digest.of(data).hex: data})
    return f"oci:{tmp_path}/l"


def test_layers_that_are_elsewhere_stay_there(tmp_path: Path) -> None:
    place = foreign(tmp_path)
    image.copy(place, f"oci:{tmp_path}/m:v1", preserve_digests=True)
    assert manifest_of(f"oci:{tmp_path}/m:v1").layers[0].urls == ("https://host.example/base",)
    with pytest.raises(UnsupportedError, match="not to be distributed"):
        image.copy(place, f"docker-archive:{tmp_path}/a.tar")


def test_a_layer_is_compared_with_the_configuration_when_it_is_converted(tmp_path: Path) -> None:
    lie = {"type": "layers", "diff_ids": [f"sha256:{'a' * 64}"] * 2}
    place = written(tmp_path / "l", support.make_image(LAYERS, rootfs=lie))
    for kind in ("zstd", "none"):
        with pytest.raises(DigestMismatch, match="uncompressed"):
            image.copy(place, f"oci:{tmp_path}/m:v1", compression=kind)
    plain = written(tmp_path / "p", support.make_image(LAYERS, compression="none", rootfs=lie))
    with pytest.raises(DigestMismatch):
        image.copy(plain, f"oci:{tmp_path}/m:v1")


def test_a_bomb_is_as_long_as_it_is(tmp_path: Path) -> None:
    """What is longer than its DiffID says is found out at its end; meanwhile it takes room where it is written to."""
    bomb = gzip.compress(bytes(1 << 26))
    made = support.make_image([bytes(1 << 20)], compression="gzip")
    manifest = json.loads(made.blobs[made.manifest])
    manifest["layers"][0].update(digest=str(Digest.of(bomb)), size=len(bomb))
    data = support.to_json(manifest)
    top = {"mediaType": media.MANIFEST, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {**made.blobs, Digest.of(data).hex: data, Digest.of(bomb).hex: bomb}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    with pytest.raises(DigestMismatch):
        image.copy(f"oci:{tmp_path}/l", f"docker-archive:{tmp_path}/a.tar")
    assert [file.name for file in tmp_path.iterdir()] == ["l"]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    place = written(tmp_path / "l", support.make_image(LAYERS))
    image.copy(place, f"oci:{tmp_path}/m:v1")
    blob = tmp_path / "m" / layout.blob_path(manifest_of(place).layers[0].digest)
    before = blob.stat().st_ino
    image.copy(place, f"oci:{tmp_path}/m:v2")
    assert blob.stat().st_ino == before


def test_how_far_it_has_come_is_told(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    told: list[Progress] = []
    image.copy(written(tmp_path / "l", made), f"oci:{tmp_path}/m:v1", report=told.append)
    last = {progress.what: progress for progress in told}
    assert last.keys() == {digest[:12] for digest in (made.config, *made.layers)}
    for progress in last.values():
        assert progress.done == progress.total
        assert progress.action == "copy"


def test_who_is_told_may_end_it(tmp_path: Path) -> None:
    class Enough(OSError):
        """Which must not be taken for an error of writing."""

    def refuse(progress: Progress) -> None:
        raise Enough

    with pytest.raises(Enough):
        image.copy(written(tmp_path / "l", support.make_image(LAYERS)), f"oci:{tmp_path}/m:v1", report=refuse)
    assert not (tmp_path / "m/index.json").exists()


def test_one_bad_layer_ends_the_others(tmp_path: Path) -> None:
    layers = [support.tar({str(number): os.urandom(100)}) for number in range(12)]
    made = support.make_image(layers)
    place = written(tmp_path / "l", made)
    (tmp_path / "l/blobs/sha256" / made.layers[7]).write_bytes(b"x")
    with pytest.raises(DigestMismatch):
        image.copy(place, f"oci:{tmp_path}/m:v1")
    assert not (tmp_path / "m/index.json").exists()
    (tmp_path / "l/blobs/sha256" / made.layers[7]).write_bytes(made.blobs[made.layers[7]])
    assert str(image.copy(place, f"oci:{tmp_path}/m:v1")) == made.digest


INTERRUPTED = """
import os, signal, sys, threading
from ocirt import image

interrupted = threading.Event()

def interrupt(number, frame):
    interrupted.set()
    raise KeyboardInterrupt

def report(progress):
    if threading.current_thread() is not threading.main_thread() and progress.done:
        os.write(1, b"copying\\n")
        interrupted.wait()

signal.signal(signal.SIGINT, interrupt)
try:
    image.copy(sys.argv[1], sys.argv[2], report=report, compression=sys.argv[3])
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
"""


@pytest.mark.parametrize("kind", ["none", "gzip"])
def test_ctrl_c_ends_it_cleanly(tmp_path: Path, kind: str) -> None:
    """All workers are in the middle of a layer, whether it is converted in another thread or not."""
    layers = [support.tar({str(number): os.urandom(1 << 20)}) for number in range(6)]
    place = written(tmp_path / "l", support.make_image(layers, compression="zstd"))
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, place, f"oci:{tmp_path}/m:v1", kind], stdout=subprocess.PIPE, text=True
    ) as copying:
        assert copying.stdout is not None
        for _ in range(4):
            assert copying.stdout.readline() == "copying\n"
        copying.send_signal(signal.SIGINT)
        lines = copying.stdout.read().splitlines()
    assert copying.returncode == 0
    assert lines[-1] == "interrupted 1"
    assert not (tmp_path / "m/index.json").exists()
    assert not [name for name in os.listdir(tmp_path / "m") if name.startswith(".ocirt-")]


def test_sigkill_anywhere_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """At each blob that is begun; and afterwards the copy succeeds."""
    layers = [support.tar({str(number): os.urandom(2000)}) for number in range(4)]
    made = support.make_image(layers)
    place = written(tmp_path / "l", made)
    script = """
import os, signal, sys
from ocirt import image
count = int(sys.argv[3])
def report(progress):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
image.copy(sys.argv[1], sys.argv[2], report=report, compression="zstd")
"""
    for transport in ("oci", "oci-archive"):
        target = f"{transport}:{tmp_path}/{transport}:v1"
        codes = []
        for count in range(0, 40, 2):
            done = subprocess.run([sys.executable, "-c", script, place, target, str(count)], check=False)
            codes.append(done.returncode)
            if done.returncode == 0:
                break
            with pytest.raises(ImageNotFound):
                opened(target).manifest()
        assert codes[-1] == 0
        assert set(codes[:-1]) == {-signal.SIGKILL}
        assert diff_ids(target) == [str(Digest.of(layer)) for layer in layers]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_layers(tmp_path: Path) -> None:
    """Four layers of 32 MiB at once, that do not compress, from gzip to zstd, 100 MiB above what Python takes."""
    size = 32 << 20
    layers = []
    blobs: dict[str, bytes] = {}
    for number in range(4):
        data = gzip.compress(hashlib.shake_128(b"%d" % number).digest(1 << 20) * (size >> 20), 1)
        blobs[Digest.of(data).hex] = data
        layers.append({"mediaType": media.layer("gzip"), "digest": str(Digest.of(data)), "size": len(data)})
    ids = [hashlib.sha256(hashlib.shake_128(b"%d" % number).digest(1 << 20) * (size >> 20)) for number in range(4)]
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{found.hexdigest()}" for found in ids]}
    config = support.to_json({"architecture": "amd64", "os": "linux", "rootfs": rootfs})
    blobs[Digest.of(config).hex] = config
    manifest = support.to_json(
        {
            "schemaVersion": 2,
            "config": {"mediaType": media.CONFIG, "digest": str(Digest.of(config)), "size": len(config)},
            "layers": layers,
        }
    )
    blobs[Digest.of(manifest).hex] = manifest
    top = {"mediaType": media.MANIFEST, "digest": str(Digest.of(manifest)), "size": len(manifest)}
    support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    script = """
import resource, sys
from ocirt import image
from ocirt.image import copying, layout, compression
compression.zstd()
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image.copy(sys.argv[1], sys.argv[2], compression="zstd")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, f"oci:{tmp_path}/l", f"oci:{tmp_path}/m:v1"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert int(done.stdout) < 100


def test_a_copy_of_open_places_is_not_seen_before_its_caller_commits(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    place = Location.parse(f"oci:{tmp_path}/m:v1")
    with opened(written(tmp_path / "l", made)) as source, open_destination(place, Access()) as destination:
        digest = Copy(source, destination).run(None)
        with pytest.raises(ImageNotFound):
            opened(str(place))
        destination.commit()
    assert manifest_of(str(place)) == Manifest.loads(made.blobs[digest.hex], "manifest")


def test_nothing_is_copied_to_nowhere(tmp_path: Path) -> None:
    place = written(tmp_path / "l", support.make_image(LAYERS))
    with pytest.raises(ImageNotFound):
        image.copy(f"oci:{tmp_path}/absent", f"oci:{tmp_path}/m:v1")
    assert not (tmp_path / "m").exists()
    with pytest.raises(ImageError):
        image.copy(place, f"oci-archive:{tmp_path}/absent/m.tar")
    with open_destination(Location.parse(f"oci:{tmp_path}/m:v1"), Access()) as destination:
        with pytest.raises(ImageError, match="no manifest"):
            destination.commit()
        with pytest.raises(ImageError):
            destination.put_manifest(Raw(b"{}", media.DOCKER_MANIFEST))
