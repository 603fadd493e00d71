"""Image layouts: what others write is read, what is written others read, and hostile ones do nothing."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import image
from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, OCIError
from ocirt.image import layout, media, pruning
from ocirt.image.digest import Digest
from ocirt.image.documents import MAX_DOCUMENT, Descriptor, Index
from ocirt.image.layout_archive import ArchiveDestination
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Raw, open_destination, open_source
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


def names(path: Path) -> list[tuple[str | None, str]]:
    return [(name, str(entry.digest)) for name, entry in layout.images(path)]


def read(place: str) -> Raw:
    with open_source(Location.parse(place), Access()) as source:
        return source.manifest()


def files(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()}


def two_tags(path: Path) -> tuple[str, str]:
    one, two = support.make_image(LAYERS), support.make_image(LAYERS[:1])
    index = {"schemaVersion": 2, "manifests": [one.descriptor("one"), two.descriptor("two")]}
    support.write_layout(path, index, {**one.blobs, **two.blobs})
    return one.digest, two.digest


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_skopeo_reads_what_is_written(tmp_path: Path, transport: str, kind: media.Compression) -> None:
    support.need("skopeo")
    made = support.make_layout(tmp_path / "made", LAYERS, compression=kind)
    digest = image.copy(f"oci:{made}:{support.TAG}", f"{transport}:{tmp_path}/copied:v1")
    said = json.loads(support.skopeo("inspect", f"{transport}:{tmp_path}/copied:v1"))
    assert said["Digest"] == str(digest) == names(made)[0][1]
    support.skopeo("copy", "--preserve-digests", f"{transport}:{tmp_path}/copied:v1", f"oci:{tmp_path}/theirs:v2")
    assert names(tmp_path / "theirs") == [("v2", str(digest))]


def test_other_digests_are_as_good(tmp_path: Path) -> None:
    """The other registered algorithm: names that are longer than a header of tar's has room for."""
    layer = support.compressed(LAYERS[0], "gzip")
    digest = Digest.of(layer, "sha512")
    made = support.make_image(LAYERS[:1])
    manifest = json.loads(made.blobs[made.manifest])
    manifest["layers"][0].update(digest=str(digest))
    data = support.to_json(manifest)
    top = {"mediaType": media.MANIFEST, "digest": str(Digest.of(data)), "size": len(data)}
    blobs = {Digest.of(data).hex: data, made.config: made.blobs[made.config]}
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    (path / "blobs/sha512").mkdir()
    (path / "blobs/sha512" / digest.hex).write_bytes(layer)
    image.copy(f"oci:{path}", f"oci-archive:{tmp_path}/a.tar", preserve_digests=True)
    image.copy(f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/m", preserve_digests=True)
    assert files(tmp_path / "m") == files(path)
    assert pruning.prune(tmp_path / "m") == pruning.Pruned(0, 0)


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_what_skopeo_writes_is_read(tmp_path: Path, transport: str) -> None:
    support.need("skopeo")
    made = support.make_layout(tmp_path / "made", LAYERS)
    support.skopeo("copy", f"oci:{made}:{support.TAG}", f"{transport}:{tmp_path}/theirs:v1")
    digest = image.copy(f"{transport}:{tmp_path}/theirs:v1", f"oci:{tmp_path}/copied:v2", preserve_digests=True)
    assert [str(digest)] == [found for _, found in names(made)]
    assert files(made) == files(tmp_path / "copied")


def test_umoci_reads_what_is_written_and_writes_what_is_read(tmp_path: Path) -> None:
    support.need("umoci", "skopeo")
    made = support.make_layout(tmp_path / "made", LAYERS)
    image.copy(f"oci:{made}", f"oci:{tmp_path}/ours:v1")
    support.umoci("tag", "--image", f"{tmp_path}/ours:v1", "v2")
    support.umoci("config", "--image", f"{tmp_path}/ours:v2", "--config.user", "7")
    assert support.umoci("ls", "--layout", tmp_path / "ours").split() == ["v1", "v2"]
    digest = image.copy(f"oci:{tmp_path}/ours:v2", f"oci:{tmp_path}/again:v3")
    assert json.loads(support.skopeo("inspect", "--config", f"oci:{tmp_path}/again:v3"))["config"]["User"] == "7"
    layout.remove(tmp_path / "ours", "v1")
    assert names(tmp_path / "ours") == [("v2", str(digest))]
    assert support.umoci("ls", "--layout", tmp_path / "ours").split() == ["v2"]


def test_what_umoci_collects_is_collected(tmp_path: Path) -> None:
    support.need("umoci")
    for name in ("ours", "theirs"):
        two_tags(tmp_path / name)
        layout.remove(tmp_path / name, "one")
    support.umoci("gc", "--layout", tmp_path / "theirs")
    assert len(files(tmp_path / "ours")) == 8
    done = pruning.prune(tmp_path / "ours")
    assert done.blobs == 3
    assert done.size > 0
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert pruning.prune(tmp_path / "ours") == pruning.Pruned(0, 0)


def test_images_without_a_name_stay_unless_they_are_unwanted(tmp_path: Path) -> None:
    """What an index leads to is kept with it: an image that moved on, an index's images, what has a subject."""
    one, two = support.make_image(LAYERS), support.make_image(LAYERS[:1])
    inner = support.to_json({"schemaVersion": 2, "manifests": [two.descriptor(None)], "subject": one.descriptor(None)})
    top = {"mediaType": media.INDEX, "digest": str(Digest.of(inner)), "size": len(inner)}
    blobs = {**one.blobs, **two.blobs, Digest.of(inner).hex: inner}
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [top]}, blobs)
    assert pruning.prune(path) == pruning.Pruned(0, 0)
    assert pruning.prune(path, unnamed=True).blobs == len(blobs)
    assert layout.images(path) == ()


def test_a_broken_manifest_is_no_reason_to_forget_what_it_needs(tmp_path: Path) -> None:
    path = support.make_layout(tmp_path / "l", LAYERS)
    ((_, entry),) = layout.images(path)
    before = files(path)
    (path / layout.blob_path(entry.digest)).write_bytes(b"x")
    for unnamed in (False, True):
        with pytest.raises(DigestMismatch):
            pruning.prune(path, unnamed=unnamed)
    assert files(path) == before
    assert [found for _, found in layout.images(path)] == [entry]


def test_who_is_a_manifest_somewhere_is_followed_wherever_else_it_is_mentioned(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    other = {**made.descriptor("other"), "mediaType": "application/x"}
    for number, entries in enumerate(([other, made.descriptor()], [made.descriptor(), other])):
        index = {"schemaVersion": 2, "manifests": entries}
        path = support.write_layout(tmp_path / str(number), index, made.blobs)
        assert pruning.prune(path) == pruning.Pruned(0, 0)


def test_nobody_collects_what_somebody_is_writing(tmp_path: Path) -> None:
    path = tmp_path / "l"
    with open_destination(Location("oci", f"{path}:v1"), Access()) as destination:
        destination.put_blob(io.BytesIO(b"x"))
        with pytest.raises(ImageError, match="being written to"):
            pruning.prune(path)
        destination.put_manifest(Raw(b"{}", media.MANIFEST))
        destination.commit()
    assert [name for name, _ in layout.images(path)] == ["v1"]


def test_a_name_moves_on_as_skopeo_moves_it(tmp_path: Path) -> None:
    support.need("skopeo")
    for number, layers in enumerate((LAYERS, LAYERS[:1], LAYERS)):
        made = support.make_layout(tmp_path / f"made{number}", layers)
        image.copy(f"oci:{made}", f"oci:{tmp_path}/ours:v1")
        support.skopeo("copy", f"oci:{made}", f"oci:{tmp_path}/theirs:v1")
    assert names(tmp_path / "ours") == names(tmp_path / "theirs")


def test_an_image_is_found_by_its_name_or_place(tmp_path: Path) -> None:
    one, two = two_tags(tmp_path / "l")
    for name, digest in (("one", one), ("two", two), ("@0", one), ("@1", two)):
        assert str(read(f"oci:{tmp_path}/l:{name}").digest) == digest
    for name in ("@2", "@x", "three", "on"):
        with pytest.raises(ImageNotFound, match=r"one, two|counted"):
            read(f"oci:{tmp_path}/l:{name}")
    with pytest.raises(ImageError, match=r"which image is meant.*one, two"):
        read(f"oci:{tmp_path}/l")
    layout.remove(tmp_path / "l", "two")
    assert str(read(f"oci:{tmp_path}/l").digest) == one
    with pytest.raises(ImageNotFound):
        layout.remove(tmp_path / "l", "two")


def test_a_name_of_two_images_is_ambiguous(tmp_path: Path) -> None:
    one, two = support.make_image(LAYERS), support.make_image([])
    index = {"schemaVersion": 2, "manifests": [one.descriptor("x"), two.descriptor("x"), one.descriptor("y")]}
    path = support.write_layout(tmp_path / "l", index, {**one.blobs, **two.blobs})
    with pytest.raises(ImageError, match="choose one by its place"):
        read(f"oci:{path}:x")
    assert str(read(f"oci:{path}:@1").digest) == two.digest
    assert str(read(f"oci:{path}:y").digest) == one.digest


@pytest.mark.parametrize("name", ["-x", "a//b", "a b", "@0", "ä", "a/", "x" * 40 + "!"])
def test_no_image_is_given_a_name_that_none_may_have(tmp_path: Path, name: str) -> None:
    for transport in ("oci", "oci-archive"):
        with pytest.raises(ImageError, match="no name"):
            open_destination(Location(transport, f"{tmp_path}/l:{name}"), Access())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_among_what_is_no_layout(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="neither empty nor"):
        open_destination(Location("oci", str(tmp_path)), Access())
    with pytest.raises(ImageError):
        open_destination(Location("oci", f"{tmp_path}/file"), Access())
    assert files(tmp_path) == {"file"}


@pytest.mark.parametrize("mark", [None, b"", b"{}", b'{"imageLayoutVersion":"2.0.0"}', b"[" * 4096, b"x" * 10000])
def test_what_is_no_layout_is_not_read(tmp_path: Path, mark: bytes | None) -> None:
    path = support.make_layout(tmp_path / "l")
    (path / "oci-layout").unlink()
    if mark is not None:
        (path / "oci-layout").write_bytes(mark)
    with pytest.raises(ImageError):
        read(f"oci:{path}")
    with pytest.raises(ImageNotFound):
        read(f"oci:{tmp_path}/absent")


# Hostile layouts


def replaced(path: Path, kind: str, tmp_path: Path) -> None:
    """What stood at ``path`` is something of this kind."""
    data = path.read_bytes()
    path.unlink()
    (tmp_path / "outside").write_bytes(data)
    match kind:
        case "link":
            path.symlink_to(tmp_path / "outside")
        case "inner link":
            (path.parent / "other").write_bytes(data)
            path.symlink_to("other")
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "zero":
            path.symlink_to("/dev/zero")
        case "longer":
            path.write_bytes(data + b" ")
        case "shorter":
            path.write_bytes(data[:-1])
        case "other":
            path.write_bytes(bytes(len(data)))
        case "nothing":
            pass


KINDS = ("link", "inner link", "FIFO", "directory", "zero", "longer", "shorter", "other", "nothing")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_blob_that_is_no_file_of_its_digest_is_refused(tmp_path: Path, kind: str, what: str) -> None:
    made = support.make_image(LAYERS)
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [made.descriptor()]}, made.blobs)
    blob = {"manifest": made.manifest, "config": made.config, "layer": made.layers[0]}[what]
    replaced(path / "blobs/sha256" / blob, kind, tmp_path)
    with pytest.raises(OCIError):
        image.copy(f"oci:{path}", f"oci:{tmp_path}/copied:v1")
    assert not (tmp_path / "copied/index.json").exists()
    with pytest.raises(ImageError):
        image.copy(f"oci:{tmp_path}/copied:v1", f"oci:{tmp_path}/third:v1")
    assert not any(name.startswith(".ocirt-") for name in files(tmp_path / "copied"))


@pytest.mark.parametrize("kind", ["link", "FIFO", "directory", "zero", "other", "nothing"])
def test_an_index_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = support.make_layout(tmp_path / "l")
    replaced(path / "index.json", kind, tmp_path)
    with pytest.raises(OCIError):
        read(f"oci:{path}")


@pytest.mark.parametrize("directory", ["blobs", "blobs/sha256"])
def test_directories_of_blobs_are_no_links(tmp_path: Path, directory: str) -> None:
    path = support.make_layout(tmp_path / "l", LAYERS)
    outside = (path / directory).rename(tmp_path / "outside")
    (path / directory).symlink_to(outside)
    with pytest.raises(ImageError, match="symbolic link"):
        read(f"oci:{path}")
    before = files(outside)
    made = support.make_layout(tmp_path / "other", [support.tar({"other": b"x"})])
    with pytest.raises(ImageError, match="symbolic link"):
        image.copy(f"oci:{made}", f"oci:{path}:v2")
    assert files(outside) == before


@pytest.mark.parametrize(
    "index",
    [
        b'{"schemaVersion":2,"manifests":' + b"[" * 100_000,
        b'{"schemaVersion":2,"manifests":[' + b'{"mediaType":"a","digest":"sha256:b","size":1},' * 100_000 + b"{}]}",
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:../../x","size":1}]}',
        b'{"schemaVersion":2,"manifests":[{"mediaType":"a","size":1}]}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
        b"",
        b" " * (MAX_DOCUMENT + 1),
        b"\xff" * 10,
    ],
)
def test_a_hostile_index_is_refused(tmp_path: Path, index: bytes) -> None:
    path = support.make_layout(tmp_path / "l")
    (path / "index.json").write_bytes(index)
    with pytest.raises(OCIError) as caught:
        read(f"oci:{path}:v1")
    assert len(str(caught.value)) < 100_000_000


def test_an_index_may_be_long(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    entries = [made.descriptor(f"v{number}") for number in range(10_000)]
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": entries}, made.blobs)
    assert str(read(f"oci:{path}:v9999").digest) == made.digest
    with pytest.raises(ImageNotFound, match="and 9980 more"):
        read(f"oci:{path}:v10000")


def test_the_index_has_an_end(tmp_path: Path) -> None:
    """What would be too long to be read is not written."""
    made = support.make_image([])
    entries = [made.descriptor("v" * 1000 + str(number)) for number in range(3000)]
    while len(support.to_json({"schemaVersion": 2, "manifests": entries})) < MAX_DOCUMENT - 2000:
        entries.append(made.descriptor("v" * 1000 + str(len(entries))))
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": entries}, made.blobs)
    layout_tag(path, "w", made)  # spaces go when it is written for the first time
    with pytest.raises(ImageError, match="no room"):
        layout_tag(path, "w" * 200_000, made)
    assert len(layout.images(path)) >= len(entries)


def layout_tag(path: Path, name: str, made: support.MadeImage) -> None:
    with open_destination(Location("oci", f"{path}:{name}"), Access()) as destination:
        destination.put_manifest(Raw(made.blobs[made.manifest], made.media_type))
        destination.commit()


@pytest.mark.parametrize("kind", ["FIFO", "link", "directory", "shorter", "longer", "nothing"])
def test_a_damaged_blob_at_the_destination_is_written_again(tmp_path: Path, kind: str) -> None:
    made = support.make_image(LAYERS)
    path = support.write_layout(tmp_path / "l", {"schemaVersion": 2, "manifests": [made.descriptor()]}, made.blobs)
    image.copy(f"oci:{path}", f"oci:{tmp_path}/copied:v1")
    blob = tmp_path / "copied/blobs/sha256" / made.layers[0]
    replaced(blob, kind, tmp_path)
    if kind == "directory":
        with pytest.raises(ImageError, match="directory"):
            image.copy(f"oci:{path}", f"oci:{tmp_path}/copied:v1")
        return
    image.copy(f"oci:{path}", f"oci:{tmp_path}/copied:v1")
    assert not blob.is_symlink()
    assert blob.read_bytes() == made.blobs[made.layers[0]]


# Several at once, and ends in the middle

TAG = """
import sys
from ocirt import image
source, path, prefix, count = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(count)):
    image.copy(source, f"oci:{path}:{prefix}{number}")
"""


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    arguments = [f"oci:{made}", str(tmp_path / "l")]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TAG, *arguments, prefix, "25"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for prefix in "ab"
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        worker.communicate(b"\n")
        assert worker.returncode == 0
    found = [name for name, _ in layout.images(tmp_path / "l")]
    assert sorted(map(str, found)) == sorted(f"{prefix}{number}" for prefix in "ab" for number in range(25))
    assert not any(name.startswith(".ocirt-") for name in files(tmp_path / "l"))


SLOW = """
import sys
from ocirt import image
from ocirt.image.documents import Descriptor
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_destination

class Slow:
    def read(self, size=-1):
        print("writing", flush=True)
        sys.stdin.readline()
        return bytes(1000)

with open_destination(Location.parse(sys.argv[1]), Access()) as destination:
    destination.put_blob(Slow())
"""


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_who_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path, transport: str) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    place = f"{transport}:{tmp_path}/l:v1"
    with subprocess.Popen([sys.executable, "-c", SLOW, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdin is not None
        assert killed.stdout is not None
        for _ in range(3):
            assert killed.stdout.readline() == b"writing\n"
            killed.stdin.write(b"\n")
            killed.stdin.flush()
        killed.send_signal(signal.SIGKILL)
    with pytest.raises(ImageNotFound):
        read(place)
    digest = image.copy(f"oci:{made}", place)
    assert read(place).digest == digest
    assert not [name for name in files(tmp_path) if ".ocirt-" in name]


KILLED = """
import sys
from ocirt import image
image.copy(*sys.argv[1:])
"""


CALLS = {
    "oci": ("renameat", "fsync", "mkdirat,mkdir", "write"),
    "oci-archive": ("renameat", "fsync", "pwrite64,ftruncate"),
}


@pytest.mark.parametrize(("transport", "call"), [(name, call) for name, calls in CALLS.items() for call in calls])
def test_a_kill_at_any_call_leaves_the_old_image_or_the_new_one(tmp_path: Path, transport: str, call: str) -> None:
    """At each one of a thread's that changes anything, counted until none is left to be killed at."""
    support.need("strace")
    one, two = (support.make_layout(tmp_path / name, [support.tar({name: b"x" * 5000})]) for name in "ab")
    digests = {names(one)[0][1], names(two)[0][1]}
    codes: list[int] = []
    while 0 not in codes:
        directory = tmp_path / f"{len(codes)}"
        directory.mkdir()
        place = f"{transport}:{directory}/l:v1"
        image.copy(f"oci:{one}", place)
        inject = f"--inject={call}:signal=KILL:when={len(codes) + 1}"
        command = ["strace", "-f", "-qq", f"--output={tmp_path}/log", f"--trace={call}", inject]
        done = subprocess.run([*command, sys.executable, "-B", "-c", KILLED, f"oci:{two}", place], check=False)
        codes.append(done.returncode)
        assert str(read(place).digest) in digests
        image.copy(place, f"oci-archive:{tmp_path}/whole.tar", compression="zstd")  # which verifies all of it
        image.copy(f"oci:{two}", place)
        assert str(read(place).digest) == names(two)[0][1]
        assert not [name for name in files(directory) if ".ocirt-" in name]
    assert len(codes) > 1
    assert set(codes[:-1]) == {-signal.SIGKILL}


def test_what_is_being_written_is_not_swept_away(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, f"oci:{tmp_path}/l:v1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        image.copy(f"oci:{made}", f"oci:{tmp_path}/l:v2")
        assert [name for name in files(tmp_path / "l") if ".ocirt-" in name]
        writer.kill()


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    class Broken:
        def read(self, size: int = -1, /) -> bytes:
            raise ZeroDivisionError

    for transport in ("oci", "oci-archive"):
        with (
            pytest.raises(ZeroDivisionError),
            open_destination(Location(transport, f"{tmp_path}/{transport}:v1"), Access()) as destination,
        ):
            destination.put_blob(Broken())
    assert files(tmp_path) == set()


def test_nothing_is_seen_before_commit(tmp_path: Path) -> None:
    made = support.make_image(LAYERS)
    for transport in ("oci", "oci-archive"):
        place = Location(transport, f"{tmp_path}/{transport}:v1")
        with open_destination(place, Access()) as destination:
            destination.put_manifest(Raw(made.blobs[made.manifest], made.media_type))
            with pytest.raises(ImageError):
                open_source(place, Access())
        with pytest.raises(ImageError):
            open_source(place, Access())


# Archives of layouts


def archive_of(directory: Path, path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the modes are texts
        archive.add(directory, ".")
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_are_read_compressed_or_not(tmp_path: Path, mode: str) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    path = archive_of(made, tmp_path / "a.tar", mode)
    image.copy(f"oci-archive:{path}", f"oci:{tmp_path}/copied:{support.TAG}")
    assert files(tmp_path / "copied") == files(made)


def test_an_archive_may_come_through_a_pipe(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    path = archive_of(made, tmp_path / "a.tar")
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', path, tmp_path / "pipe"]) as cat:
        image.copy(f"oci-archive:{tmp_path}/pipe", f"oci:{tmp_path}/copied")
    assert cat.returncode == 0
    assert files(tmp_path / "copied") == files(made)


def test_an_archive_may_go_through_a_pipe(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', tmp_path / "pipe", tmp_path / "a.tar"]) as cat:
        image.copy(f"oci:{made}", f"oci-archive:{tmp_path}/pipe:v1")
    assert cat.returncode == 0
    image.copy(f"oci-archive:{tmp_path}/a.tar:v1", f"oci:{tmp_path}/copied")
    assert files(tmp_path / "copied") == files(made)


def test_an_archive_takes_the_place_of_another_or_leaves_it(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", LAYERS)
    path = tmp_path / "a.tar"
    path.write_bytes(b"before")
    with open_destination(Location("oci-archive", str(path)), Access()) as destination:
        assert isinstance(destination, ArchiveDestination)
    assert path.read_bytes() == b"before"
    (tmp_path / "link").symlink_to("a.tar")
    image.copy(f"oci:{made}", f"oci-archive:{tmp_path}/link:v1")
    assert tarfile.is_tarfile(path)
    assert (tmp_path / "link").is_symlink()
    first = path.read_bytes()
    image.copy(f"oci:{made}", f"oci-archive:{path}:v1")
    assert len(path.read_bytes()) == len(first)
    with tarfile.open(path) as archive:
        assert len(set(archive.getnames())) == len(archive.getnames()) == 8


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    made = support.make_layout(tmp_path / "made", [support.tar({"a": os.urandom(3000)})])
    whole = archive_of(made, tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    for length in range(0, len(whole), 512):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(OCIError):
            image.copy(f"oci-archive:{tmp_path}/cut.tar", f"oci:{tmp_path}/copied")
        shutil.rmtree(tmp_path / "copied", ignore_errors=True)


def test_a_directory_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        read(f"oci-archive:{tmp_path}")
    with pytest.raises(ImageError):
        open_destination(Location("oci-archive", str(tmp_path)), Access())


def test_a_reader_keeps_what_it_has_opened(tmp_path: Path) -> None:
    """Even if somebody puts another layout in the place."""
    path = support.make_layout(tmp_path / "l", LAYERS)
    with open_source(Location("oci", str(path)), Access()) as source:
        path.rename(tmp_path / "moved")
        support.make_layout(path, [])
        assert source.manifest().digest == read(f"oci:{tmp_path}/moved").digest


def test_several_descriptors_of_one_digest_do_not_confuse(tmp_path: Path) -> None:
    index = Index(2, ())
    one = Descriptor(media.MANIFEST, Digest.of(b"1"), 1)
    two = Descriptor(media.MANIFEST, Digest.of(b"2"), 1)
    for descriptor, name in ((one, ""), (one, ""), (one, "a"), (one, "b"), (two, "a"), (two, "")):
        index = layout.with_name(index, descriptor, name)
    found = [(entry.annotations.get(layout.REF_NAME), entry.digest) for entry in index.manifests]
    assert found == [(None, one.digest), ("b", one.digest), ("a", two.digest)]
