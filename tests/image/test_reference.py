"""Names of images are read as docker and skopeo read them."""

from __future__ import annotations

import pytest

from ocirt.errors import ImageError
from ocirt.image.reference import Location, Reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("index.docker.io/debian", "docker.io/library/debian:latest"),
        ("docker.io/team/app", "docker.io/team/app:latest"),
        ("team/app", "docker.io/team/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/a/b/c:d", "localhost:5000/a/b/c:d"),
        ("registry.example/app", "registry.example/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (f"h:1/app:tag@{DIGEST}", f"h:1/app:tag@{DIGEST}"),
    ],
)
def test_a_reference_is_completed_as_docker_does(text: str, whole: str) -> None:
    assert str(Reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    ["", ":tag", "App", "a//b", "a/", "/a", "a:", "a:-x", "a b", "a@sha256:12", "a@md5:00", "ho st/a", "x" * 300, "ä"],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "transport", "rest"),
    [
        ("docker://debian:12", "docker", "debian:12"),
        ("debian:12", "docker", "debian:12"),
        ("oci:dir/of/it:tag", "oci", "dir/of/it:tag"),
        ("docker-archive:/tmp/x.tar", "docker-archive", "/tmp/x.tar"),
    ],
)
def test_a_location_is_a_transport_and_its_words(text: str, transport: str, rest: str) -> None:
    assert Location.parse(text) == Location(transport, rest)


def test_a_path_ends_at_the_first_colon() -> None:
    location = Location.parse("oci:a:b:c")
    assert (location.path, location.name) == ("a", "b:c")


@pytest.mark.parametrize("text", ["docker:debian", "docker://", "oci:", f"docker://a:b@{DIGEST}"])
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        Location.parse(text)
