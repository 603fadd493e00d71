"""An image becomes a bundle: the tree that umoci makes of it, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import evolve

from ocirt import Bundle, Spec, run
from ocirt.archive.extraction import ExtractLimits
from ocirt.errors import ArchiveError, BundleError, DigestMismatch, ImageError, UnsupportedError
from ocirt.image import record
from ocirt.image.image import UNFINISHED, Image
from ocirt.image.media import Compression
from ocirt.image.transport import Progress
from ocirt.spec import IDMapping
from tests.image import support
from tests.image.stacks import STACKS, devices, info, layers, mentioned
from tests.image.support import make_image, make_layout, need, tar, umoci, write_layout
from tests.image.trees import File, tree
from tests.rootless.user import GID, UID, make_user
from tests.support import SECONDS

pytestmark = pytest.mark.root

TWO = layers([[("one", b"1" * 100_000), ("both", b"1")], [("two", b"2" * 100_000), ("both", b"2")]])


def unpacked(layout: Path, bundle: Path, **options: object) -> Mapping[str, File]:
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        return tree(image.unpack(bundle, **options).rootfs)  # type: ignore[arg-type]  # of unpack, by their names


def told(files: Mapping[str, File], name: str) -> dict[str, File]:
    """What archives say: not how old a directory is that they pass through, nor whose, which umoci does not map."""
    known = mentioned(STACKS[name])
    kept = {path: file if path in known else evolve(file, mtime=0, owner=(0, 0)) for path, file in files.items()}
    return {**kept, ".": evolve(kept["."], owner=files["."].owner)}


@pytest.mark.parametrize("name", STACKS)
def test_the_tree_is_umocis(tmp_path: Path, name: str) -> None:
    need("umoci")
    layout = make_layout(tmp_path / "layout", layers(STACKS[name]))
    umoci("unpack", "--image", f"{layout}:{support.TAG}", tmp_path / "theirs")
    ours = unpacked(layout, tmp_path / "ours")
    assert told(ours, name) == told(tree(tmp_path / "theirs/rootfs"), name)


@pytest.mark.parametrize("name", STACKS)
def test_with_mapped_owners_it_is_umocis_too(tmp_path: Path, name: str) -> None:
    need("umoci")
    layout = make_layout(tmp_path / "layout", layers(STACKS[name]))
    maps = ("--uid-map", "0:100000:65536", "--gid-map", "0:200000:65536")
    umoci("unpack", *maps, "--image", f"{layout}:{support.TAG}", tmp_path / "theirs")
    mappings = {"uid_map": [IDMapping(0, 100_000, 65_536)], "gid_map": [IDMapping(0, 200_000, 65_536)]}
    ours = unpacked(layout, tmp_path / "ours", **mappings)
    assert told(ours, name) == told(tree(tmp_path / "theirs/rootfs"), name)
    assert {ours[path].owner for path in ours.keys() - mentioned(STACKS[name])} == {(100_000, 200_000)}


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Mapping[str, Path]]:
    """For each stack a directory with ``ours`` and ``theirs``, unpacked by an ordinary user."""
    need("umoci")
    for user in make_user():
        for number, name in enumerate(STACKS):
            make_layout(user.home / f"{number}/layout", layers(STACKS[name]))
            os.chown(user.home / str(number), UID, GID)
        user.python(f"""
from ocirt.image.image import Image
for number in range({len(STACKS)}):
    place = f"{{HOME}}/{{number}}"
    name = f"{{place}}/layout:{support.TAG}"
    subprocess.run(["umoci", "unpack", "--rootless", "--image", name, place + "/theirs"], check=True)
    with Image.open("oci:" + name) as image:
        image.unpack(place + "/ours")
""")
        yield {name: user.home / str(number) for number, name in enumerate(STACKS)}


@pytest.mark.parametrize("name", STACKS)
def test_an_ordinary_users_tree_is_umocis_too(ordinary: Mapping[str, Path], name: str) -> None:
    """With the owners that files should have in the attribute that umoci repacks them by."""
    ours, theirs = (told(tree(ordinary[name] / tool / "rootfs"), name) for tool in ("ours", "theirs"))
    for path in devices(STACKS[name]) & ours.keys():  # those empty files have a mode and owner of the tool's choice
        assert (ours[path].mode[0], ours[path].content) == ("-", theirs[path].content)
        ours[path] = theirs[path]
    assert ours == theirs


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_layers_may_be_compressed_in_every_way(tmp_path: Path, compression: Compression) -> None:
    layout = make_layout(tmp_path / "layout", TWO, compression=compression)
    found = unpacked(layout, tmp_path / "bundle")
    assert set(found) == {".", "one", "two", "both"}
    assert (tmp_path / "bundle/rootfs/both").read_bytes() == b"2"


def test_the_bundle_runs_as_the_image_says(tmp_path: Path) -> None:
    config = {"Entrypoint": ["sh", "-c"], "Cmd": ['echo "$WORD" $(pwd) $(id -u)'], "Env": ["PATH=/bin", "WORD=hello"]}
    layout = support.busybox_layout(tmp_path / "layout", config={**config, "WorkingDir": "/usr", "User": "alice"})
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        bundle = image.unpack(tmp_path / "bundle")
    assert run([], bundle=bundle, root=tmp_path / "state", text=True).stdout == "hello /usr 1000\n"
    assert run([], bundle=tmp_path / "bundle", root=tmp_path / "state", text=True).stdout == "hello /usr 1000\n"


def test_with_mapped_owners_the_bundle_runs_in_their_user_namespace(tmp_path: Path) -> None:
    layout = support.busybox_layout(tmp_path / "layout", config={"Cmd": ["stat", "-c", "%u", "/bin/busybox"]})
    maps = [IDMapping(0, 100_000, 65_536)]
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        bundle = image.unpack(tmp_path / "bundle", uid_map=maps, gid_map=maps)
    assert bundle.spec.linux is not None
    assert bundle.spec.linux.uid_mappings == tuple(maps)
    done = run([], bundle=bundle, root=tmp_path / "state", text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_configuration_of_the_callers_is_taken_as_it_is(tmp_path: Path) -> None:
    layout = support.busybox_layout(tmp_path / "layout")
    mine = Spec.default().evolve(hostname="mine")
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        image.unpack(tmp_path / "bundle", spec=mine)
    assert Bundle.load(tmp_path / "bundle").spec == mine.evolve(root=mine.root.evolve(path="rootfs"))


def test_the_bundle_is_its_owners_alone_and_records_what_it_came_from(tmp_path: Path) -> None:
    """It may hold set-user-ID programs that other users must not reach."""
    layout = make_layout(tmp_path / "layout", TWO)
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        image.unpack(tmp_path / "bundle")
        assert record.read(tmp_path / "bundle").image == image.descriptor
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o700


def test_progress_is_told(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", TWO)
    told: list[Progress] = []
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        image.unpack(tmp_path / "bundle", report=told.append)
        sizes = [layer.descriptor.size for layer in image.layers]
        what = {layer.what: size for layer, size in zip(image.layers, sizes, strict=True)}
    assert {each.action for each in told} == {"download", "unpack"}
    done = {each.what: each.done for each in told if each.action == "download"}
    assert done == what
    assert {(each.what, each.total) for each in told if each.action == "download"} == set(what.items())


def test_what_a_report_raises_ends_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    def enough(_: Progress) -> None:
        raise KeyboardInterrupt

    layout = make_layout(tmp_path / "layout", TWO)
    with Image.open(f"oci:{layout}:{support.TAG}") as image, pytest.raises(KeyboardInterrupt):
        image.unpack(tmp_path / "bundle", report=enough)
    assert os.listdir(tmp_path) == ["layout"]


@pytest.mark.parametrize("there", ["config.json", "rootfs", "other"])
def test_what_is_there_is_left_alone(tmp_path: Path, there: str) -> None:
    layout = make_layout(tmp_path / "layout", TWO)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / there).touch()
    with Image.open(f"oci:{layout}:{support.TAG}") as image, pytest.raises(BundleError, match="exists already"):
        image.unpack(tmp_path / "bundle")
    assert os.listdir(tmp_path / "bundle") == [there]
    (tmp_path / "bundle" / there).unlink()
    assert set(unpacked(layout, tmp_path / "bundle")) == {".", "one", "two", "both"}


Change = Callable[[Path, dict[str, bytes], dict[str, object]], None]


def flip_a_byte(layout: Path, blobs: dict[str, bytes], manifest: dict[str, object]) -> None:
    path = layout / "blobs/sha256" / layer_of(manifest, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_off(layout: Path, blobs: dict[str, bytes], manifest: dict[str, object]) -> None:
    path = layout / "blobs/sha256" / layer_of(manifest, 1)
    path.write_bytes(path.read_bytes()[:-1])


def more(layout: Path, blobs: dict[str, bytes], manifest: dict[str, object]) -> None:
    path = layout / "blobs/sha256" / layer_of(manifest, 1)
    path.write_bytes(path.read_bytes() + b"\0")


def another_layer(layout: Path, blobs: dict[str, bytes], manifest: dict[str, object]) -> None:
    path = layout / "blobs/sha256" / layer_of(manifest, 1)
    path.write_bytes((layout / "blobs/sha256" / layer_of(manifest, 0)).read_bytes())


def another_config(layout: Path, blobs: dict[str, bytes], manifest: dict[str, object]) -> None:
    digest = str(manifest["config"]["digest"]).partition(":")[2]  # type: ignore[index]  # JSON that was made here
    (layout / "blobs/sha256" / digest).write_bytes(blobs[digest].replace(b"linux", b"LINUX"))


def layer_of(manifest: dict[str, object], number: int) -> str:
    found = manifest["layers"][number]  # type: ignore[index]  # JSON that was made here
    return str(found["digest"]).partition(":")[2]


@pytest.mark.parametrize("change", [flip_a_byte, cut_off, more, another_layer, another_config])
def test_content_that_is_not_what_its_digest_says_is_refused_and_nothing_is_left(
    tmp_path: Path, change: Change
) -> None:
    image = make_image(TWO)
    manifest = json.loads(image.blobs[image.manifest])
    layout = write_layout(tmp_path / "layout", {"schemaVersion": 2, "manifests": [image.descriptor()]}, image.blobs)
    change(layout, dict(image.blobs), manifest)
    with pytest.raises((DigestMismatch, ImageError)) as caught:
        unpacked(layout, tmp_path / "bundle")
    assert isinstance(caught.value, DigestMismatch) or change is flip_a_byte  # which zlib may notice first
    assert os.listdir(tmp_path) == ["layout"]


def test_a_layer_that_is_not_what_its_diffid_says_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"]}
    layout = make_layout(tmp_path / "layout", TWO, rootfs=rootfs)
    with pytest.raises(DigestMismatch, match="uncompressed: should be sha256:0000"):
        unpacked(layout, tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["layout"]


def test_manifest_and_configuration_have_to_agree_on_the_layers(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", TWO, rootfs={"type": "layers", "diff_ids": []})
    with pytest.raises(ImageError, match="has 2 layers by its manifest, and 0 by its configuration"):
        unpacked(layout, tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["layout"]


def test_limits_hold_for_each_layer(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", TWO)
    with pytest.raises(ArchiveError, match="more than 1000 bytes"):
        unpacked(layout, tmp_path / "bundle", limits=ExtractLimits(bytes=1000))
    assert os.listdir(tmp_path) == ["layout"]


def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    """One layer makes the way out, the next goes it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("safe")
    stack = layers(
        [
            [("out", info(tarfile.SYMTYPE, linkname=str(outside))), ("up", info(tarfile.SYMTYPE, linkname="../.."))],
            [("out/new", b"x"), ("out/.wh.file", b""), ("up/outside/new", b"x"), ("../outside/new", b"x")],
        ]
    )
    unpacked(make_layout(tmp_path / "layout", stack), tmp_path / "bundle")
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"file": "safe"}


STALLING = """
import sys
from contextlib import contextmanager
from ocirt.image.image import Image, resolved
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_source

class Stalling:
    '''A place whose bytes stop coming at some point, for ever.'''
    def __init__(self, source, after):
        self.source, self.left, self.name = source, after, source.name
    def manifest(self, descriptor=None):
        return self.source.manifest(descriptor)
    @contextmanager
    def blob(self, descriptor):
        with self.source.blob(descriptor) as stream:
            if "layer" not in descriptor.media_type:
                yield stream
                return
            self.stream = stream
            yield self
    def read(self, size=-1):
        if self.left <= 0:
            print("stalled", flush=True)
            sys.stdin.read()
        data = self.stream.read(min(size, self.left, 1000) if size >= 0 else size)
        self.left -= len(data)
        return data
    def close(self):
        self.source.close()

def stalling(name, after):
    source = open_source(Location.parse(name), Access())
    return Image(Stalling(source, after), resolved(source, None))
"""


def killed_when_it_stalls(code: str, *args: str) -> None:
    """Run the code in another process, and end that by SIGKILL once it waits for bytes that never come."""
    command = [sys.executable, "-c", STALLING + code, *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stalled\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(SECONDS) == -signal.SIGKILL


def size_of_layers(layout: Path) -> list[int]:
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        return [layer.descriptor.size for layer in image.layers]


@pytest.mark.parametrize(
    "point", ["at once", "in the first layer", "between the layers", "in the second layer", "last"]
)
def test_a_killed_unpack_leaves_no_bundle_and_the_next_removes_what_it_left(tmp_path: Path, point: str) -> None:
    layout = make_layout(tmp_path / "layout", TWO, compression="none")
    first, second = size_of_layers(layout)
    after = {
        "at once": 0,
        "in the first layer": first // 2,
        "between the layers": first,
        "in the second layer": first + second // 2,
        "last": first + second - 1,
    }[point]
    code = "stalling(sys.argv[1], int(sys.argv[2])).unpack(sys.argv[3])"
    killed_when_it_stalls(code, f"oci:{layout}:{support.TAG}", str(after), str(tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()
    assert sorted(os.listdir(tmp_path)) == [f"{UNFINISHED}bundle", "layout"]
    assert not (tmp_path / f"{UNFINISHED}bundle/config.json").exists()
    assert set(unpacked(layout, tmp_path / "bundle")) == {".", "one", "two", "both"}
    assert sorted(os.listdir(tmp_path)) == ["bundle", "layout"]


def test_who_unpacks_to_the_same_place_at_the_same_time_is_told_so(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", TWO)
    code = "stalling(sys.argv[1], 0).unpack(sys.argv[2])"
    command = [sys.executable, "-c", STALLING + code, f"oci:{layout}:{support.TAG}", str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stalled\n"
        with pytest.raises(ImageError, match="somebody else is at work there"):
            unpacked(layout, tmp_path / "bundle")
        process.kill()
        process.wait(SECONDS)


def test_an_artifact_is_no_image(tmp_path: Path) -> None:
    image = make_image(TWO)
    manifest = json.loads(image.blobs[image.manifest])
    manifest["layers"][0]["mediaType"] = "application/vnd.example.thing"
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    entry = {"mediaType": image.media_type, "digest": f"sha256:{digest}", "size": len(data)}
    layout = write_layout(
        tmp_path / "layout", {"schemaVersion": 2, "manifests": [entry]}, {**image.blobs, digest: data}
    )
    with Image.open(f"oci:{layout}") as opened, pytest.raises(UnsupportedError, match=r"vnd\.example\.thing"):
        opened.unpack(tmp_path / "bundle")


def test_an_image_shows_itself(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", [tar({"f": b""})])
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        expected = f"<Image oci:{layout}:latest sha256:{image.digest.short} linux/amd64 (1 layer, 0.0 MB)>"
        assert repr(image) == expected
