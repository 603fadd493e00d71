"""An image of busybox, made here: no registry is needed, and nobody else's files are in it.

Engines take it as a ``docker-archive`` (``docker load``, ``podman load``, ``ctr images import``) or as an OCI image
layout (image-layout.md of the OCI image specification); both hold the same one layer and the same configuration.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from tests import support

NAME = "localhost/busybox:latest"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names for what uname(2) says, as image configurations have them; others agree."""

PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
GROUP = "root:x:0:\ndaemon:x:1:\nalice:x:1000:\naudio:x:29:alice\n"


@frozen
class Image:
    """One layer and how to run it."""

    layer: bytes = field(repr=False)
    """A tar file."""
    config: bytes
    """application/vnd.oci.image.config.v1+json, which Docker's own kind is a superset of."""

    def docker_archive(self, path: Path, name: str = NAME) -> Path:
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        path.write_bytes(
            tar({"manifest.json": _json(manifest), "config.json": self.config, "layer.tar": self.layer}),
        )
        return path

    def oci_layout(self, directory: Path, name: str = NAME) -> Path:
        """``skopeo``, ``podman pull oci:DIRECTORY`` and containerd (as a tar file) read it."""
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True)

        def descriptor(kind: str, blob: bytes) -> dict[str, object]:
            digest = hashlib.sha256(blob).hexdigest()
            (blobs / digest).write_bytes(blob)
            media_type = f"application/vnd.oci.image.{kind}"
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}

        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", self.config),
            "layers": [descriptor("layer.v1.tar", self.layer)],
        }
        entry = descriptor("manifest.v1+json", _json(manifest))
        entry["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
        (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
        (directory / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
        return directory


def busybox_image(config: Mapping[str, object] | None = None) -> Image:
    """All of busybox's names, and a user ``alice`` beside root; ``config`` is added to what says how to run it."""
    layer = _busybox_layer()
    document = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/sbin:/usr/bin"], "Cmd": ["sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "tests/engines/images.py"}],
    }
    return Image(layer, _json(document))


def tar(files: Mapping[str, bytes]) -> bytes:
    """An archive of plain files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            _add(archive, name, content)
    return made.getvalue()


def _busybox_layer() -> bytes:
    program = support.busybox()
    assert program is not None
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var"):
            _add(archive, name, None, mode=0o1777 if name == "tmp" else 0o755)
        _add(archive, "home/alice", None, owner=1000)
        _add(archive, "bin/busybox", Path(program).read_bytes(), mode=0o755)
        for name in support.busybox_names(program):
            _link(archive, f"bin/{name}", "busybox")
        _add(archive, "etc/passwd", PASSWD.encode())
        _add(archive, "etc/group", GROUP.encode())
    return made.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes | None, *, mode: int = 0o644, owner: int = 0) -> None:
    """A file, or a directory if it has no content."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    entry.mode = 0o755 if content is None and mode == 0o644 else mode
    entry.uid = entry.gid = owner
    entry.size = len(content or b"")
    archive.addfile(entry, io.BytesIO(content or b""))


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(entry)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
