"""Manifests and configurations are read strictly, and written back with all that they held."""

from __future__ import annotations

import contextlib
import io
import json

import pytest

from ocirt.errors import DigestMismatch, ImageError, SpecError
from ocirt.image.digest import Digest, Verified
from ocirt.image.documents import ImageConfig, Index, Manifest

DIGEST = f"sha256:{'a' * 64}"
DESCRIPTOR = {"mediaType": "application/x", "digest": DIGEST, "size": 3}
MANIFEST = {"schemaVersion": 2, "config": DESCRIPTOR, "layers": [DESCRIPTOR], "later": {"x": [1]}}


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def test_what_was_read_is_written_back() -> None:
    assert json.loads(Manifest.loads(text(MANIFEST), "m").dumps()) == MANIFEST


def test_the_names_of_a_configuration_are_those_of_its_two_styles() -> None:
    value = {
        "architecture": "amd64",
        "os": "linux",
        "os.version": "1",
        "config": {"User": "1", "Env": ["A=b"], "Labels": {"l": "v"}, "Volumes": {"/v": {}}, "StopSignal": "TERM"},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "x", "empty_layer": True}],
    }
    config = ImageConfig.loads(text(value), "c")
    assert config.rootfs.diff_ids == (Digest("sha256", "a" * 64),)
    assert (config.config.user, config.config.stop_signal, config.history[0].empty_layer) == ("1", "TERM", True)
    assert json.loads(config.dumps()) == value


def test_null_is_absence() -> None:
    config = ImageConfig.loads(
        b'{"architecture":"a","os":"l","config":null,"rootfs":{"type":"layers","diff_ids":[]},"history":null}', "c"
    )
    assert config.history == ()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({**MANIFEST, "layers": [{**DESCRIPTOR, "size": "3"}]}, "layers[0].size"),
        ({**MANIFEST, "layers": [{**DESCRIPTOR, "digest": "sha256:aa"}]}, "layers[0].digest"),
        ({**MANIFEST, "layers": [{**DESCRIPTOR, "size": -1}]}, "layers[0].size"),
        ({**MANIFEST, "config": None}, "config"),
        ({**MANIFEST, "annotations": {"a": 1}}, "annotations.a"),
        ([], ""),
    ],
)
def test_what_is_wrong_is_told_with_its_path(value: object, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        Manifest.loads(text(value), "m")
    assert [problem.path for problem in caught.value.problems] == [path]


def test_nobody_reads_endless_documents() -> None:
    with pytest.raises(ImageError):
        Index.loads(b" " * (4 * 1024 * 1024 + 1), "i")
    with pytest.raises(ImageError, match="parts"):
        Index.loads(b'{"schemaVersion":2,"manifests":[' + b"{}," * 1_000_000 + b"{}]}", "i")
    entry = json.dumps(DESCRIPTOR).replace(" ", "").encode()
    many = b",".join([entry] * (4 * 1024 * 1024 // (len(entry) + 1) - 1))
    assert len(Index.loads(b'{"schemaVersion":2,"manifests":[' + many + b"]}", "i").manifests) > 30_000


@pytest.mark.parametrize("size", [1, 7, -1])
@pytest.mark.parametrize(
    ("data", "good"), [(b"abc" * 9, True), (b"abc" * 8, False), (b"abc" * 10, False), (b"abd" * 9, False)]
)
def test_a_stream_is_believed_at_its_end(data: bytes, good: bool, size: int) -> None:
    stream = Verified(io.BytesIO(data), Digest.of(b"abc" * 9), 27, "it")
    with contextlib.nullcontext() if good else pytest.raises(DigestMismatch):
        assert b"".join(iter(lambda: stream.read(size), b"")) == data
