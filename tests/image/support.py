"""Small images made here, so that no test of images needs a network or somebody else's files."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import field, frozen

from ocirt.image import media
from ocirt.image.media import Compression
from tests import support
from tests.engines.images import busybox_image

Entry = bytes | tarfile.TarInfo
"""What a tar archive holds under a name: a plain file's content, or an entry without any."""

TAG = "latest"
REF_NAME = "org.opencontainers.image.ref.name"


def need(*programs: str) -> None:
    """Skip the test where one of them is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: apt-get install {program})")


def skopeo(*args: str | Path) -> str:
    """What it prints."""
    return _run("skopeo", "--insecure-policy", *args)


def umoci(*args: str | Path) -> str:
    """What it prints."""
    return _run("umoci", *args)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def tar(entries: Mapping[str, Entry] | Iterable[tuple[str, Entry]]) -> bytes:
    """An archive; pairs may have a name twice."""
    made = io.BytesIO()
    pairs = entries.items() if isinstance(entries, Mapping) else entries
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, entry in pairs:
            info = tarfile.TarInfo(name) if isinstance(entry, bytes) else entry
            info.name = name
            info.size = len(entry) if isinstance(entry, bytes) else 0
            archive.addfile(info, io.BytesIO(entry) if isinstance(entry, bytes) else None)
    return made.getvalue()


def symlink(target: str) -> tarfile.TarInfo:
    return _entry(tarfile.SYMTYPE, target)


def hardlink(target: str) -> tarfile.TarInfo:
    return _entry(tarfile.LNKTYPE, target)


def directory(mode: int = 0o755) -> tarfile.TarInfo:
    info = _entry(tarfile.DIRTYPE)
    info.mode = mode
    return info


def _entry(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def compressed(data: bytes, compression: Compression) -> bytes:
    """By the library itself, so that what reads it is not tested by what wrote it."""
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    if compression == "zstd":
        return _zstd(data)
    return data


def _zstd(data: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        from backports import zstd
    made: bytes = zstd.compress(data)
    return made


@frozen
class MadeImage:
    """The blobs of one image, by their digests' hexadecimal digits, and its manifest among them."""

    blobs: Mapping[str, bytes] = field(repr=False)
    manifest: str
    config: str
    layers: tuple[str, ...]
    media_type: str = media.MANIFEST

    @property
    def digest(self) -> str:
        return f"sha256:{self.manifest}"

    def descriptor(self, name: str | None = TAG, **members: object) -> dict[str, object]:
        """How an index refers to it."""
        made: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.blobs[self.manifest]),
            **members,
        }
        return {**made, "annotations": {REF_NAME: name}} if name is not None else made


def make_image(
    layers: Sequence[bytes] = (),
    *,
    config: Mapping[str, object] | None = None,
    compression: Compression = "gzip",
    docker: bool = False,
    platform: tuple[str, str] = ("linux", "amd64"),
    **members: object,
) -> MadeImage:
    """An image of these layers (tar archives); ``config`` says how to run it, ``members`` are the configuration's."""
    blobs: dict[str, bytes] = {}

    def kept(media_type: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    document = {
        "architecture": platform[1],
        "os": platform[0],
        "config": {"Env": ["PATH=/bin:/sbin:/usr/bin"], "Cmd": ["sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        **members,
    }
    kind = media.layer(compression, docker=docker)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.DOCKER_MANIFEST if docker else media.MANIFEST,
        "config": kept(media.DOCKER_CONFIG if docker else media.CONFIG, to_json(document)),
        "layers": [kept(kind, compressed(layer, compression)) for layer in layers],
    }
    entry = kept(str(manifest["mediaType"]), to_json(manifest))
    hexes = [str(layer["digest"]).partition(":")[2] for layer in manifest["layers"]]  # type: ignore[attr-defined]  # made above
    return MadeImage(
        blobs,
        str(entry["digest"]).partition(":")[2],
        str(manifest["config"]["digest"]).partition(":")[2],  # type: ignore[index]  # made above
        tuple(hexes),
        str(manifest["mediaType"]),
    )


def write_layout(path: Path, index: Mapping[str, object], blobs: Mapping[str, bytes]) -> Path:
    """An OCI image layout of these blobs, by their sha256's digits."""
    (path / "blobs/sha256").mkdir(parents=True)
    for digest, data in blobs.items():
        (path / "blobs/sha256" / digest).write_bytes(data)
    (path / "index.json").write_bytes(to_json(index))
    (path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    return path


def make_layout(
    path: Path,
    layers: Sequence[bytes] = (),
    *,
    tag: str | None = TAG,
    config: Mapping[str, object] | None = None,
    compression: Compression = "gzip",
    **members: object,
) -> Path:
    """An OCI image layout with one image, ``tag``, of these layers (tar archives); its path."""
    image = make_image(layers, config=config, compression=compression, **members)  # type: ignore[arg-type]  # the configuration's
    return write_layout(path, {"schemaVersion": 2, "manifests": [image.descriptor(tag)]}, image.blobs)


def busybox_layout(path: Path, tag: str = TAG, config: Mapping[str, object] | None = None) -> Path:
    """The same with busybox and a user ``alice``, for what has to run; skips the test where there is no busybox."""
    if support.busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    image = busybox_image(config)
    document = json.loads(image.config)
    return make_layout(
        path, [image.layer], tag=tag, config=document["config"], platform=("linux", document["architecture"])
    )


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()
