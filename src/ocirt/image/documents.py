"""The JSON documents of images: descriptors, manifests, indexes and configurations (image-spec 1.1).

Values, in the order of the OCI documents. Read as config.json is (``spec/convert.py``): every problem is told with its
path, and members that this version does not know are kept; but null is absence, since Go writes its empty lists so.
A document is called by the digest of its bytes, so whoever hands one on hands on those (``transport.Raw``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, TypeVar

from attrs import field, frozen

from ocirt.errors import ImageError, Problem, SpecError
from ocirt.image.digest import Digest
from ocirt.spec import convert
from ocirt.spec.base import Bounds, FreeText, Int64, OCIObject, strings
from ocirt.spec.text import NotJSON, parse

D = TypeVar("D", bound="ImageDocument")

MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""Bytes of a document: what registries take at the most (distribution-spec, Pushing manifests)."""

MAX_PARTS: Final = 1 << 17
"""Commas of a document. Each part of it that is wrong is told, so that small ones by the million would take all memory;
a document of 4 MiB that is right has some 110,000."""

Size = Annotated[int, Bounds("size", 0, 2**63 - 1)]
"""descriptor.md has it signed; no content has fewer bytes than none."""


def _named(key: str) -> dict[str, str]:
    """Metadata of a member whose name in JSON is not what its name here makes."""
    return {"key": key}


@frozen(repr=False)
class ImageObject(OCIObject):
    """An object of these documents."""

    NULL_IS_ABSENT: ClassVar[bool] = True


@frozen(repr=False)
class ImageDocument(ImageObject):
    """An object that is a blob of its own."""

    @classmethod
    def loads(cls: type[D], data: bytes, what: str) -> D:
        """Read its bytes; ``what`` names it for people.

        :raises SpecError: it is wrong, with every problem.
        """
        if len(data) > MAX_DOCUMENT:
            raise ImageError(what, f"has {len(data)} bytes, and no document of an image more than {MAX_DOCUMENT}")
        if data.count(b",") > MAX_PARTS:
            raise ImageError(what, f"has more than {MAX_PARTS} parts, which no document of an image has")
        try:
            value, found = parse(data)
        except NotJSON as error:
            raise SpecError([Problem("", None, f"is not JSON: {error}")], what) from error
        try:
            document = convert.HOOKS[cls](value, None)
        except convert.Broken as broken:
            raise SpecError([*found, *broken.problems], what) from None
        if found:
            raise SpecError(found, what)
        assert isinstance(document, cls)
        return document

    def dumps(self) -> bytes:
        """Compact JSON: of equal values the same bytes, and so the same digest."""
        return convert.compact(self)


@frozen(repr=False)
class Platform(ImageObject):
    """What an image is made for (image-index.md, ``platform``), in Go's words."""

    architecture: str = ""
    os: str = ""
    os_version: str = field(default="", metadata=_named("os.version"))
    os_features: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("os.features"))
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@frozen(repr=False)
class Descriptor(ImageObject):
    """Some content and its use: its type, digest and size in bytes (descriptor.md)."""

    media_type: str
    digest: Digest
    size: Size
    urls: tuple[str, ...] = field(default=(), converter=strings)
    annotations: Mapping[str, FreeText] = field(factory=dict, hash=False)
    data: str | None = None
    artifact_type: str | None = None
    platform: Platform | None = None

    def __str__(self) -> str:
        return str(self.digest)


@frozen(repr=False)
class Manifest(ImageDocument):
    """One image: its configuration, and its layers from the bottom up (manifest.md)."""

    schema_version: int
    media_type: str | None = field(default=None, kw_only=True)
    artifact_type: str | None = field(default=None, kw_only=True)
    config: Descriptor
    layers: tuple[Descriptor, ...] = field(converter=tuple[Descriptor, ...])
    subject: Descriptor | None = None
    annotations: Mapping[str, FreeText] = field(factory=dict, hash=False)


@frozen(repr=False)
class Index(ImageDocument):
    """Several manifests: one for each platform, or one for each name (image-index.md)."""

    schema_version: int
    media_type: str | None = field(default=None, kw_only=True)
    artifact_type: str | None = field(default=None, kw_only=True)
    manifests: tuple[Descriptor, ...] = field(converter=tuple[Descriptor, ...])
    subject: Descriptor | None = None
    annotations: Mapping[str, FreeText] = field(factory=dict, hash=False)


@frozen(repr=False)
class Empty(ImageObject):
    """Go's ``struct{}``: what is said is that it is there."""


@frozen(repr=False)
class Healthcheck(ImageObject):
    """Docker's; times in nanoseconds. OCI has none, and engines alone run it."""

    test: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("Test"))
    interval: Int64 = field(default=0, metadata=_named("Interval"))
    timeout: Int64 = field(default=0, metadata=_named("Timeout"))
    start_period: Int64 = field(default=0, metadata=_named("StartPeriod"))
    start_interval: Int64 = field(default=0, metadata=_named("StartInterval"))
    retries: Int64 = field(default=0, metadata=_named("Retries"))


@frozen(repr=False)
class ContainerConfig(ImageObject):
    """How a container of the image is run unless its user wants it otherwise (config.md, ``config``)."""

    user: str = field(default="", metadata=_named("User"))
    exposed_ports: Mapping[str, Empty] = field(factory=dict, hash=False, metadata=_named("ExposedPorts"))
    env: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("Env"))
    entrypoint: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("Entrypoint"))
    cmd: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("Cmd"))
    volumes: Mapping[str, Empty] = field(factory=dict, hash=False, metadata=_named("Volumes"))
    working_dir: str = field(default="", metadata=_named("WorkingDir"))
    labels: Mapping[str, FreeText] = field(factory=dict, hash=False, metadata=_named("Labels"))
    stop_signal: str = field(default="", metadata=_named("StopSignal"))
    args_escaped: bool = field(default=False, metadata=_named("ArgsEscaped"))
    healthcheck: Healthcheck | None = field(default=None, metadata=_named("Healthcheck"))


@frozen(repr=False)
class RootFS(ImageObject):
    """The layers once more, by the digests of what they are uncompressed (config.md, ``rootfs``)."""

    type: str
    diff_ids: tuple[Digest, ...] = field(converter=tuple[Digest, ...], metadata=_named("diff_ids"))


@frozen(repr=False)
class History(ImageObject):
    """How a layer came about, or something that made none (config.md, ``history``)."""

    created: str | None = None
    created_by: str | None = field(default=None, metadata=_named("created_by"))
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = field(default=False, metadata=_named("empty_layer"))


@frozen(repr=False)
class ImageConfig(ImageDocument):
    """What is said of an image as a whole (config.md)."""

    architecture: str
    os: str
    rootfs: RootFS
    created: str | None = None
    author: str | None = None
    os_version: str = field(default="", metadata=_named("os.version"))
    os_features: tuple[str, ...] = field(default=(), converter=strings, metadata=_named("os.features"))
    variant: str = ""
    config: ContainerConfig = field(factory=ContainerConfig)
    history: tuple[History, ...] = field(default=(), converter=tuple[History, ...])

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, self.os_version, self.os_features, self.variant)
