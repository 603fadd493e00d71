"""The image that suits a machine is chosen as containerd chooses it."""

from __future__ import annotations

import json
import platform as python_platform
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image import media, platform
from ocirt.image.digest import Digest
from ocirt.image.documents import Descriptor, Platform
from ocirt.image.reference import Location
from ocirt.image.transport import Access, Source, open_source
from tests.image import support

ARCHITECTURES = ("386", "amd64", "arm", "arm64", "ppc64le", "riscv64", "s390x")
SPELLINGS = {
    "386": ("386", "i386"),
    "amd64": ("amd64", "x86_64", "x86-64", "AMD64"),
    "arm": ("arm",),
    "arm64": ("arm64", "aarch64"),
}

platforms = st.builds(
    Platform,
    architecture=st.sampled_from(ARCHITECTURES),
    os=st.sampled_from(("linux", "windows")),
    variant=st.sampled_from(("", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v9")),
)


def entry(wanted: Platform, number: int) -> Descriptor:
    return Descriptor(media.MANIFEST, Digest.of(b"%d" % number), number, platform=wanted)


def names(found: tuple[Platform, ...]) -> list[str]:
    return [str(one) for one in found]


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v1", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/armhf", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/6", ["linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v5", ["linux/arm/v5"]),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/aarch64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
        ("Windows/AMD64", ["windows/amd64", "windows/386"]),
    ],
)
def test_what_runs_where(text: str, order: list[str]) -> None:
    assert names(platform.preferred(platform.parse(text))) == order


def test_half_a_platform_is_completed_by_this_machine() -> None:
    here = platform.here()
    assert platform.parse("linux") == here
    assert platform.parse("arm64") == Platform("arm64", "linux")
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = python_platform.machine()
    assert here.architecture == known.get(machine, machine)


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/arm 64", "plan10", "linux/é"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        platform.parse(text)


def test_this_machine_takes_the_plain_image_before_one_for_newer_processors() -> None:
    order = names(platform.preferred_here())
    assert order[0] == str(platform.here())
    assert len(set(order)) == len(order)


@given(wanted=platforms, offered=st.lists(platforms, max_size=8))
def test_nothing_that_suits_better_is_passed_over(wanted: Platform, offered: list[Platform]) -> None:
    order = platform.preferred(wanted)
    entries = [entry(one, number) for number, one in enumerate(offered)]
    found = platform.best(entries, order)
    ranks = [order.index(normal) if (normal := platform.normalized(one)) in order else None for one in offered]
    good = [rank for rank in ranks if rank is not None]
    if not good:
        assert found is None
        return
    assert found is not None
    assert found.size == ranks.index(min(good))


@given(wanted=platforms, offered=platforms, others=st.lists(platforms, max_size=4))
def test_the_very_platform_is_always_taken(wanted: Platform, offered: Platform, others: list[Platform]) -> None:
    """However many run there too, and wherever it stands."""
    entries = [entry(one, number) for number, one in enumerate([*others, wanted, offered])]
    found = platform.best(entries, platform.preferred(wanted))
    assert found is not None
    assert found.platform is not None
    assert platform.normalized(found.platform) == platform.normalized(wanted)


@given(wanted=platforms, data=st.data())
def test_how_a_platform_is_spelt_does_not_matter(wanted: Platform, data: st.DataObject) -> None:
    spelling = data.draw(st.sampled_from(SPELLINGS.get(wanted.architecture, (wanted.architecture,))))
    other = Platform(spelling, wanted.os.upper(), variant=wanted.variant.removeprefix("v"))
    assert platform.normalized(other) == platform.normalized(wanted)
    assert platform.normalized(platform.normalized(other)) == platform.normalized(other)
    assert platform.preferred(other) == platform.preferred(wanted)


def test_windows_is_told_by_its_version() -> None:
    offered = [
        entry(Platform("amd64", "windows", os_version="10.0.17763.1"), 0),
        entry(Platform("amd64", "windows", os_version="10.0.20348.2"), 1),
    ]
    for version, number in (("10.0.20348", 1), ("10.0.17763", 0), ("", 0)):
        found = platform.best(offered, platform.preferred(Platform("amd64", "windows", os_version=version)))
        assert found is not None
        assert found.size == number
    assert platform.best(offered, platform.preferred(Platform("amd64", "windows", os_version="10.0.2"))) is None


def index_layout(path: Path, entries: list[dict[str, object]], blobs: dict[str, bytes]) -> Source:
    """A layout with one index, of these."""
    data = support.to_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})
    digest = Digest.of(data)
    blobs[digest.hex] = data
    top = {"mediaType": media.INDEX, "digest": str(digest), "size": len(data)}
    support.write_layout(path, {"schemaVersion": 2, "manifests": [top]}, blobs)
    return open_source(Location("oci", str(path)), Access())


def described(image: support.MadeImage, os: str, architecture: str, **members: object) -> dict[str, object]:
    return image.descriptor(None, platform={"os": os, "architecture": architecture}, **members)


def chosen(source: Source, text: str) -> str:
    with source:
        return str(platform.choose(source, source.manifest(), platform.parse(text)).raw.digest)


def test_an_index_in_an_index_is_looked_into_and_attestations_are_not(tmp_path: Path) -> None:
    one, two, lie = (support.make_image([], config={"User": user}) for user in "abc")
    inner = support.to_json(
        {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [described(two, "linux", "arm64")]}
    )
    entries = [
        described(lie, "unknown", "unknown"),
        {**described(lie, "linux", "arm64"), "annotations": {platform.ATTESTATION: "attestation-manifest"}},
        {"mediaType": media.INDEX, "digest": str(Digest.of(inner)), "size": len(inner)},
        described(one, "linux", "s390x"),
    ]
    blobs = {**one.blobs, **two.blobs, **lie.blobs, Digest.of(inner).hex: inner}
    assert chosen(index_layout(tmp_path / "l", entries, blobs), "linux/arm64/v8") == two.digest
    source = open_source(Location("oci", str(tmp_path / "l")), Access())
    assert chosen(source, "linux/s390x") == one.digest


def test_what_there_is_is_told(tmp_path: Path) -> None:
    image = support.make_image([])
    entries = [described(image, "linux", "s390x"), described(image, "linux", "arm")]
    with pytest.raises(ImageNotFound, match=r"no image for linux/amd64; there is linux/arm/v7, linux/s390x"):
        chosen(index_layout(tmp_path / "l", entries, dict(image.blobs)), "linux/amd64")


def test_an_image_of_no_platform_is_taken_if_it_is_the_only_one(tmp_path: Path) -> None:
    image = support.make_image([])
    plain = image.descriptor(None)
    assert chosen(index_layout(tmp_path / "one", [plain], dict(image.blobs)), "linux/arm") == image.digest
    two = index_layout(tmp_path / "two", [plain, described(image, "linux", "s390x")], dict(image.blobs))
    with pytest.raises(ImageNotFound, match="nobody knows"):
        chosen(two, "linux/arm")


def test_indexes_do_not_nest_without_end(tmp_path: Path) -> None:
    """None can hold itself, since it would have to know its own digest; but a chain may be long."""
    blobs: dict[str, bytes] = {}
    entries: list[dict[str, object]] = []
    for _ in range(200):
        data = support.to_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": entries})
        blobs[Digest.of(data).hex] = data
        entries = [{"mediaType": media.INDEX, "digest": str(Digest.of(data)), "size": len(data)}]
    with pytest.raises(ImageError, match="in one another"):
        chosen(index_layout(tmp_path / "l", entries, blobs), "linux/arm")


@pytest.mark.parametrize(
    "change", [{"config": {}}, {"layers": []}, {"mediaType": media.MANIFEST}, {"schemaVersion": 1}]
)
def test_an_index_that_could_be_something_else_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """CVE-2021-41190: the same bytes would be two images."""
    source = index_layout(tmp_path / "l", [], {})
    data = support.to_json({**json.loads(source.manifest().data), **change})
    source.close()
    support.write_layout(
        tmp_path / "m",
        {
            "schemaVersion": 2,
            "manifests": [{"mediaType": media.INDEX, "digest": str(Digest.of(data)), "size": len(data)}],
        },
        {Digest.of(data).hex: data},
    )
    with pytest.raises(ImageError):
        chosen(open_source(Location("oci", str(tmp_path / "m")), Access()), "linux/arm")
