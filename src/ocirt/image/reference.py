"""How people name images: ``debian:12``, ``docker://registry.example/team/app@sha256:…``, ``oci:layout:tag``.

The syntax is skopeo's (containers-transports(5)) with Docker's for what names no transport. Two kinds of names: a
``Location`` is where an image is, by a transport; a ``Reference`` is what a registry calls it.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from ocirt.errors import ImageError
from ocirt.image.digest import Digest

TRANSPORTS: Final = ("docker", "docker-archive", "docker-daemon", "oci", "oci-archive", "tarball")

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

# distribution/reference: regexp.go. A host is told from a path's first component by a dot, a colon, or ``localhost``.
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL: Final = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_HOST: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:.]+\])(?::[0-9]+)?", re.ASCII)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
MAX_NAME: Final = 255


@frozen
class Reference:
    """A repository of a registry, and a tag or a digest in it."""

    registry: str
    """Host, and port if it is another than HTTPS's."""
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """As docker reads it: ``debian`` is docker.io/library/debian:latest.

        :raises ImageError: it is no name of an image.
        """
        name, at, digest_text = text.partition("@")
        name, tag = _without_tag(name)
        digest = _digest(text, digest_text) if at else None
        registry, repository = _split(name)
        if _HOST.fullmatch(registry) is None:
            raise ImageError(text, f"{registry!r} is no host")
        if _PATH.fullmatch(repository) is None or len(repository) > MAX_NAME:
            lower = "; names are in lower case" if repository != repository.lower() else ""
            raise ImageError(text, f"{repository!r} is no name of a repository{lower}")
        if tag is not None and _TAG.fullmatch(tag) is None:
            raise ImageError(text, f"{tag!r} is no tag")
        return cls(registry, repository, tag if tag or digest else DEFAULT_TAG, digest)

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest if there is one, which says more than a tag."""
        return str(self.digest) if self.digest is not None else self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


@frozen
class Location:
    """Where an image is or shall be: one of ``TRANSPORTS``, and the rest in that one's own words."""

    transport: str
    rest: str

    @classmethod
    def parse(cls, text: str) -> Location:
        """Any name; one without a transport is a registry's.

        :raises ImageError: it is none.
        """
        transport, colon, rest = text.partition(":")
        if not colon or transport not in TRANSPORTS:
            Reference.parse(text)
            return cls("docker", text)
        if transport == "docker":
            if not rest.startswith("//"):
                raise ImageError(text, "docker: is followed by two slashes, docker://NAME")
            rest = rest.removeprefix("//")
            if "@" in rest and Reference.parse(rest).tag is not None:
                raise ImageError(text, "has both a tag and a digest; say which is meant")
        if not rest:
            raise ImageError(text, "names nothing")
        return cls(transport, rest)

    @property
    def path(self) -> str:
        """Of a transport whose words begin with a path: up to the first colon (skopeo)."""
        return self.rest.partition(":")[0]

    @property
    def name(self) -> str:
        """What follows that path: a tag, a reference, or nothing."""
        return self.rest.partition(":")[2]

    def __str__(self) -> str:
        return f"{self.transport}:{'//' if self.transport == 'docker' else ''}{self.rest}"


def _without_tag(name: str) -> tuple[str, str | None]:
    """A colon behind the last slash begins a tag; one before it, a port."""
    head, slash, last = name.rpartition("/")
    base, colon, tag = last.partition(":")
    return f"{head}{slash}{base}", tag if colon else None


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:") or first != first.lower()):
        registry = DEFAULT_REGISTRY if first == "index.docker.io" else first
        repository = rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        return registry, f"{DEFAULT_NAMESPACE}/{repository}"
    return registry, repository


def _digest(whole: str, text: str) -> Digest:
    try:
        return Digest.from_text(text)
    except ValueError as error:
        raise ImageError(whole, f"{text!r} {error}") from error
