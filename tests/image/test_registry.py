"""``docker://`` with Debian's registry, and skopeo on its other side."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import subprocess
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from attrs import frozen

from ocirt.errors import DigestMismatch, ImageError, ImageNotFound, RegistryError
from ocirt.image import media
from ocirt.image.digest import Digest, Readable, Verified
from ocirt.image.documents import Descriptor, Index, Manifest
from ocirt.image.reference import Location
from ocirt.image.registry import RegistrySource, delete, list_tags
from ocirt.image.transport import Access, Destination, Raw, Source, open_destination, open_source
from tests.image.servers import HTPASSWD, PASSWORD, USER, Certificates, TokenServer, needs, registry, serving
from tests.support import SECONDS, eventually

pytestmark = pytest.mark.usefixtures("home")

OPEN = Access(http=True)
BIG = 3 * 1024 * 1024 + 17


@frozen
class Content:
    """An image in memory. Its layers are noise, compressed, or skopeo would compress it; nobody here unpacks them."""

    blobs: dict[Digest, bytes]
    manifest: Raw

    @classmethod
    @lru_cache
    def make(cls, seed: int = 0) -> Content:
        noise = random.Random(seed)
        plain = [noise.randbytes(size) for size in (100, BIG)]
        layers = [gzip.compress(data, mtime=0) for data in plain]
        rootfs = {"type": "layers", "diff_ids": [str(Digest.of(data)) for data in plain]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}).encode()
        manifest = Manifest(
            2,
            _descriptor(media.CONFIG, config),
            tuple(_descriptor(f"{media.LAYER}+gzip", layer) for layer in layers),
            media_type=media.MANIFEST,
        )
        blobs = {Digest.of(data): data for data in (config, *layers)}
        return cls(blobs, Raw(manifest.dumps(), media.MANIFEST))

    def descriptors(self) -> tuple[Descriptor, ...]:
        manifest = Manifest.loads(self.manifest.data, "m")
        return (manifest.config, *manifest.layers)


def _descriptor(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


class Hidden:
    """A stream of which nobody can tell the length."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)


def push(content: Content, name: str, access: Access, *, told: bool = True) -> None:
    """``told`` is whether it is said beforehand what the blobs are."""
    with open_destination(Location("docker", name), access) as destination:
        for descriptor in content.descriptors():
            stream = Hidden(content.blobs[descriptor.digest])
            put = destination.put_blob(stream, descriptor if told else None)
            assert put == (descriptor.digest, descriptor.size)
        destination.put_manifest(content.manifest)
        destination.commit()


def pull(name: str, access: Access) -> Content:
    """All blobs at once, each in a thread."""
    with open_source(Location("docker", name), access) as source:
        raw = source.manifest()
        content = Content({}, raw)
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=_fetch, args=(source, one, content, failures)) for one in content.descriptors()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return content


def _fetch(source: Source, descriptor: Descriptor, content: Content, failures: list[BaseException]) -> None:
    try:
        content.blobs[descriptor.digest] = fetched(source, descriptor)
    except BaseException as error:  # noqa: BLE001  # told by who joins us
        failures.append(error)


def fetched(source: Source, descriptor: Descriptor) -> bytes:
    with source.blob(descriptor) as stream:
        verified: Readable = Verified(stream, descriptor.digest, descriptor.size, "blob")
        return b"".join(iter(lambda: verified.read(100_000), b""))


def layout(content: Content, directory: Path) -> str:
    """An OCI layout, as skopeo names it."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    for data in (*content.blobs.values(), content.manifest.data):
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    manifest = _descriptor(media.MANIFEST, content.manifest.data)
    named = manifest.evolve(annotations={"org.opencontainers.image.ref.name": "it"})
    (directory / "index.json").write_bytes(Index(2, (named,)).dumps())
    return f"oci:{directory}:it"


def skopeo(*args: str) -> str:
    command = [needs("skopeo", "skopeo"), "--insecure-policy", "--command-timeout", f"{SECONDS}s", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skopeo_pull(name: str, directory: Path, *options: str) -> Content:
    skopeo("copy", *options, f"docker://{name}", f"oci:{directory}:it")
    index = Index.loads((directory / "index.json").read_bytes(), "index")
    files = {Digest("sha256", file.name): file.read_bytes() for file in (directory / "blobs/sha256").iterdir()}
    return Content(files, Raw(files.pop(index.manifests[0].digest), media.MANIFEST))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry without TLS or passwords; each test has repositories of its own."""
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def locked(tmp_path: Path, certificates: Certificates) -> Iterator[str]:
    """A registry with TLS, for USER alone."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    with registry(tmp_path, certificates, auth) as host:
        yield host


@pytest.fixture
def certs_dir(tmp_path: Path, certificates: Certificates) -> str:
    """For skopeo, which takes client certificates only of directories."""
    directory = tmp_path / "certs"
    directory.mkdir()
    (directory / "ca.crt").write_bytes(certificates.ca.read_bytes())
    return str(directory)


@pytest.mark.parametrize("told", [True, False])
def test_what_is_pushed_is_pulled(place: str, told: bool) -> None:
    content = Content.make()
    push(content, f"{place}/pushed/{told}".lower(), OPEN, told=told)
    assert pull(f"{place}/pushed/{told}".lower(), OPEN) == content


def test_what_we_push_skopeo_pulls(place: str, tmp_path: Path) -> None:
    content = Content.make()
    push(content, f"{place}/team/app:v1", OPEN)
    assert skopeo_pull(f"{place}/team/app:v1", tmp_path / "layout", "--src-tls-verify=false") == content


def test_what_skopeo_pushes_we_pull(place: str, tmp_path: Path) -> None:
    content = Content.make()
    skopeo("copy", "--dest-tls-verify=false", layout(content, tmp_path / "layout"), f"docker://{place}/skopeo:v1")
    found = pull(f"{place}/skopeo:v1", OPEN)
    assert (found.blobs.keys(), found.manifest.digest) == (content.blobs.keys(), content.manifest.digest)


def test_with_password_and_tls_in_both_directions(
    locked: str, certificates: Certificates, certs_dir: str, tmp_path: Path
) -> None:
    access = Access(username=USER, password=PASSWORD, ca=certificates.ca)
    content, other = Content.make(), Content.make(1)
    push(content, f"{locked}/ours", access)
    creds = f"{USER}:{PASSWORD}"
    pulled = skopeo_pull(f"{locked}/ours", tmp_path / "ours", "--src-creds", creds, "--src-cert-dir", certs_dir)
    assert pulled == content
    options = ("--dest-creds", creds, "--dest-cert-dir", certs_dir)
    skopeo("copy", *options, layout(other, tmp_path / "theirs"), f"docker://{locked}/theirs")
    assert pull(f"{locked}/theirs", access) == other


def test_a_login_of_skopeo_is_ours_too(locked: str, certs_dir: str, certificates: Certificates, tmp_path: Path) -> None:
    auth_file = str(tmp_path / "auth.json")
    options = ("--username", USER, "--password", PASSWORD, "--authfile", auth_file, "--cert-dir", certs_dir)
    skopeo("login", *options, locked)
    access = Access(auth_file=auth_file, ca=certificates.ca)
    push(Content.make(), f"{locked}/app", access)
    assert pull(f"{locked}/app", access) == Content.make()


@pytest.mark.parametrize("password", [None, "another one"])
def test_without_the_password_there_is_a_remedy(locked: str, certificates: Certificates, password: str | None) -> None:
    access = Access(username=USER if password else None, password=password, ca=certificates.ca)
    with pytest.raises(RegistryError, match="log in") as caught:
        push(Content.make(), f"{locked}/app", access)
    assert (caught.value.status, caught.value.code) == (401, "UNAUTHORIZED")
    assert not password or password not in f"{caught.value!r} {caught.value}"


def test_a_stranger_is_not_trusted(locked: str) -> None:
    with pytest.raises(RegistryError, match=r"certificate is not trusted.*verify=False") as caught:
        pull(f"{locked}/app", Access(username=USER, password=PASSWORD))
    assert caught.value.status == 0


def test_unless_that_is_asked_for(locked: str) -> None:
    access = Access(username=USER, password=PASSWORD, verify=False)
    push(Content.make(), f"{locked}/app", access)
    assert pull(f"{locked}/app", access) == Content.make()


def test_certificates_of_a_registry_are_found_in_certs_d(locked: str, home: Path, certificates: Certificates) -> None:
    directory = home / ".config/containers/certs.d" / locked
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(certificates.ca.read_bytes())
    access = Access(username=USER, password=PASSWORD)
    push(Content.make(), f"{locked}/app", access)
    assert pull(f"{locked}/app", access) == Content.make()


def test_plain_http_only_when_asked(place: str) -> None:
    with pytest.raises(RegistryError, match=r"does not speak TLS.*http=True"):
        pull(f"{place}/app", Access())


def tokens(tmp_path: Path, certificates: Certificates, server: str) -> dict[str, object]:
    """How the registry is told to trust a token server."""
    return {
        "token": {
            "realm": f"{server}/token?kept=1",
            "service": "test",
            "issuer": "test",
            "rootcertbundle": str(certificates.ca),
        }
    }


def test_with_tokens(tmp_path: Path, certificates: Certificates, certs_dir: str) -> None:
    giver = TokenServer(certificates)
    access = Access(username=USER, password=PASSWORD, ca=certificates.ca)
    content = Content.make()
    with (
        serving(giver, certificates) as server,
        registry(tmp_path, certificates, tokens(tmp_path, certificates, server.url)) as host,
    ):
        push(content, f"{host}/ours/app", access)
        assert giver.granted == [("repository:ours/app:pull,push",)]
        assert all(path.startswith("/token?kept=1&") for path in server.asked())
        creds = f"{USER}:{PASSWORD}"
        pulled = skopeo_pull(f"{host}/ours/app", tmp_path / "p", "--src-creds", creds, "--src-cert-dir", certs_dir)
        assert pulled == content
        giver.granted.clear()
        assert pull(f"{host}/ours/app", access) == content
        assert giver.granted == [("repository:ours/app:pull",)]
        with pytest.raises(RegistryError, match="a token: HTTP 401: incorrect username or password; log in"):
            pull(f"{host}/ours/app", Access(username=USER, password="wrong", ca=certificates.ca))


def test_with_anonymous_tokens(tmp_path: Path, certificates: Certificates) -> None:
    giver = TokenServer(certificates, anonymous=True)
    access = Access(ca=certificates.ca)
    with (
        serving(giver, certificates) as server,
        registry(tmp_path, certificates, tokens(tmp_path, certificates, server.url)) as host,
    ):
        push(Content.make(), f"{host}/app", access)
        assert pull(f"{host}/app", access) == Content.make()
        assert giver.granted == [("repository:app:pull,push",), ("repository:app:pull",)]
        assert {request.headers.get("Authorization") for request in server.requests} == {None}


def test_with_an_identity_token(tmp_path: Path, certificates: Certificates) -> None:
    giver = TokenServer(certificates)
    with (
        serving(giver, certificates) as server,
        registry(tmp_path, certificates, tokens(tmp_path, certificates, server.url)) as host,
    ):
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: {"identitytoken": "an identity token"}}}))
        access = Access(auth_file=tmp_path / "auth.json", ca=certificates.ca)
        push(Content.make(), f"{host}/app", access)
        assert pull(f"{host}/app", access) == Content.make()
        assert {request.method for request in server.requests} == {"POST"}


def test_a_blob_of_another_repository_is_not_sent_again(place: str) -> None:
    content = Content.make(7)
    push(content, f"{place}/mount/from", OPEN)
    with (
        open_source(Location("docker", f"{place}/mount/from"), OPEN) as source,
        open_destination(Location("docker", f"{place}/mount/to"), OPEN) as destination,
    ):
        for descriptor in content.descriptors():
            assert not destination.has_blob(descriptor)  # nobody reads it yet
        destination.put_manifest(source.manifest())
        for descriptor in content.descriptors():
            assert destination.has_blob(descriptor)
        destination.commit()
    assert pull(f"{place}/mount/to", OPEN) == content


def test_with_tokens_a_mount_may_read_the_other_repository(tmp_path: Path, certificates: Certificates) -> None:
    giver = TokenServer(certificates)
    access = Access(username=USER, password=PASSWORD, ca=certificates.ca)
    content = Content.make()
    with (
        serving(giver, certificates) as server,
        registry(tmp_path, certificates, tokens(tmp_path, certificates, server.url)) as host,
    ):
        push(content, f"{host}/from", access)
        with (
            open_source(Location("docker", f"{host}/from"), access) as source,
            open_destination(Location("docker", f"{host}/to"), access) as destination,
        ):
            source.manifest()
            assert all(map(destination.has_blob, content.descriptors()))
        assert ("repository:from:pull", "repository:to:pull,push") in giver.granted


def test_a_mount_that_comes_to_nothing_is_an_upload(tmp_path: Path) -> None:
    missing, unused = _descriptor(media.LAYER, b"absent"), _descriptor(media.LAYER, b"unused")
    with registry(tmp_path) as host:
        push(Content.make(), f"{host}/from", OPEN)
        with (
            open_source(Location("docker", f"{host}/from"), OPEN) as source,
            open_destination(Location("docker", f"{host}/to"), OPEN) as destination,
        ):
            assert isinstance(source, RegistrySource)
            source.manifest()
            source.offers |= {str(missing.digest), str(unused.digest)}  # as of a registry that has lost them
            assert not destination.has_blob(missing)
            assert not destination.has_blob(unused)
            assert destination.put_blob(Hidden(b"absent"), missing) == (missing.digest, 6)
            assert destination.has_blob(missing)
        assert [path for path in (tmp_path / "data").glob("**/_uploads/*/data") if "to" in path.parts] == []
        log = (tmp_path / "registry.log").read_text()
        assert log.count('"POST /v2/to/blobs/uploads/') == 2


def test_nothing_has_a_name_before_commit(place: str) -> None:
    content = Content.make()
    name = Location("docker", f"{place}/early:v1")
    with open_destination(name, OPEN) as destination:
        for descriptor in content.descriptors():
            destination.put_blob(Hidden(content.blobs[descriptor.digest]), descriptor)
        destination.put_manifest(content.manifest)
        with open_source(name, OPEN) as source, pytest.raises(ImageNotFound, match="MANIFEST_UNKNOWN"):
            source.manifest()
        destination.commit()
    assert pull(f"{place}/early:v1", OPEN) == content


def test_an_index_and_its_children(place: str) -> None:
    contents = [Content.make(1), Content.make(2)]
    index = Index(
        2,
        tuple(_descriptor(media.MANIFEST, content.manifest.data) for content in contents),
        media_type=media.INDEX,
    )
    raw = Raw(index.dumps(), media.INDEX)
    with open_destination(Location("docker", f"{place}/index"), OPEN) as destination:
        for content in contents:
            for descriptor in content.descriptors():
                destination.put_blob(Hidden(content.blobs[descriptor.digest]), descriptor)
            destination.put_manifest(content.manifest, child=True)
        destination.put_manifest(raw)
        destination.commit()
    with open_source(Location("docker", f"{place}/index"), OPEN) as source:
        assert source.manifest() == raw
        assert [source.manifest(child) for child in index.manifests] == [content.manifest for content in contents]
    by_digest = f"{place}/index@{index.manifests[1].digest}"
    assert pull(by_digest, OPEN) == contents[1]


def test_a_digest_is_what_is_pushed_by_it(place: str) -> None:
    content = Content.make()
    name = f"{place}/by-digest@{content.manifest.digest}"
    push(content, name, OPEN)
    assert pull(name, OPEN) == content
    with open_destination(Location("docker", name), OPEN) as destination, pytest.raises(DigestMismatch):
        destination.put_manifest(Content.make(1).manifest)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, BIG])
@pytest.mark.parametrize("told", [True, False])
def test_blobs_of_any_size(place: str, size: int, told: bool) -> None:
    data = random.Random(size).randbytes(size)
    descriptor = _descriptor(media.LAYER, data)
    with (
        open_destination(Location("docker", f"{place}/sizes/{told}".lower()), OPEN) as destination,
        open_source(Location("docker", f"{place}/sizes/{told}".lower()), OPEN) as source,
    ):
        assert destination.put_blob(Hidden(data), descriptor if told else None) == (descriptor.digest, size)
        assert destination.has_blob(descriptor)
        assert fetched(source, descriptor) == data


@pytest.mark.parametrize("size", [100, BIG])
@pytest.mark.parametrize("data", [b"too short", b"wrong" * BIG], ids=["short", "long"])
def test_a_wrong_stream_leaves_nothing(place: str, tmp_path: Path, size: int, data: bytes) -> None:
    wanted = _descriptor(media.LAYER, random.Random(size).randbytes(size))
    with open_destination(Location("docker", f"{place}/wrong"), OPEN) as destination:
        with pytest.raises(DigestMismatch):
            destination.put_blob(Hidden(data), wanted)
        same_size = Hidden(bytes(size))
        with pytest.raises(DigestMismatch):
            destination.put_blob(same_size, wanted)
        assert not destination.has_blob(wanted)


class Failing:
    """A stream whose disk breaks."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._left = BIG

    def read(self, size: int = -1, /) -> bytes:
        if self._left <= 0:
            raise self._error
        self._left -= size
        return bytes(size)


@pytest.mark.parametrize("error", [OSError(5, "the disk"), KeyboardInterrupt(), ImageError("a", "b")], ids=repr)
@pytest.mark.parametrize("told", [True, False])
def test_the_failure_of_a_stream_is_told_as_it_is(tmp_path: Path, error: BaseException, told: bool) -> None:
    with registry(tmp_path) as host:
        descriptor = _descriptor(media.LAYER, b"x").evolve(size=2 * BIG) if told else None
        with open_destination(Location("docker", f"{host}/failing"), OPEN) as destination:
            with pytest.raises(type(error)) as caught:
                destination.put_blob(Failing(error), descriptor)
            assert caught.value is error
        log = tmp_path / "registry.log"
        eventually(lambda: '"DELETE /v2/failing/blobs/uploads/' in log.read_text(), "told that nothing comes of it")


def test_what_is_not_there_is_not_found(place: str) -> None:
    with open_source(Location("docker", f"{place}/none"), OPEN) as source:
        with pytest.raises(ImageNotFound, match="MANIFEST_UNKNOWN"):
            source.manifest()
        with pytest.raises(ImageNotFound, match=r"BLOB_UNKNOWN|NAME_UNKNOWN"), source.blob(_descriptor("x", b"x")):
            pass


def test_tags_are_listed(place: str) -> None:
    for tag in ("v1", "v2", "v3"):
        push(Content.make(), f"{place}/tags:{tag}", OPEN)
    assert sorted(list_tags(f"{place}/tags", OPEN)) == ["v1", "v2", "v3"]
    with pytest.raises(ImageNotFound, match="NAME_UNKNOWN"):
        list(list_tags(f"{place}/no-tags", OPEN))


def test_a_deleted_image_is_gone(place: str) -> None:
    push(Content.make(), f"{place}/deleted:v1", OPEN)
    delete(Location("docker", f"{place}/deleted:v1"), OPEN)
    with pytest.raises(ImageNotFound):
        pull(f"{place}/deleted:v1", OPEN)


def test_nothing_is_committed_of_nothing(place: str) -> None:
    with open_destination(Location("docker", f"{place}/nothing"), OPEN) as destination:
        assert _offers_everything(destination)
        with pytest.raises(ImageError, match="no manifest yet"):
            destination.commit()


def _offers_everything(destination: Destination) -> bool:
    return destination.compressions == ("gzip", "zstd", "none") and media.INDEX in destination.manifest_types
