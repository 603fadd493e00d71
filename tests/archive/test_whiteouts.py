"""Whiteouts remove what lower layers have, and nothing of their own layer, whatever the order (layer.md, Whiteouts)."""

from __future__ import annotations

import itertools
import os
import stat

import pytest

from ocirt.archive.results import Extracted
from ocirt.errors import ArchiveError
from tests.archive.building import character, directory, extended, file, hardlink, layer, symlink
from tests.archive.conftest import Place

pytestmark = pytest.mark.root

LOWER = layer(
    directory("./", mtime=10),
    directory("d", mtime=11),
    file("d/low", b"low"),
    directory("d/sub", mtime=12),
    file("d/sub/low", b"low"),
    file("f", b"low"),
)


def test_a_whiteout_removes_a_file_and_a_tree(place: Place) -> None:
    place.extract(LOWER, layer(file(".wh.f"), file("d/.wh.sub")))
    assert place.names() == {"d", "d/low"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_the_same_layer_makes_stays_in_any_order(place: Place, order: tuple[int, ...]) -> None:
    parts = (file(".wh.d"), directory("d", mtime=20), file("d/sub/new", b"new"), file("d/.wh..wh..opq"))
    place.extract(LOWER, layer(*(parts[number] for number in order)))
    assert place.names() == {"f", "d", "d/sub", "d/sub/new"}


def test_an_opaque_directory_shows_its_own_layer_alone(place: Place) -> None:
    place.extract(LOWER, layer(file("d/new", b"1"), file("d/.wh..wh..opq"), file("d/newer", b"2")))
    assert place.names() == {"d", "d/new", "d/newer", "f"}


def test_a_file_that_replaces_is_not_whited_out(place: Place) -> None:
    place.extract(LOWER, layer(file("f", b"new"), file(".wh.f")))
    assert (place.root / "f").read_bytes() == b"new"


def test_a_new_file_through_a_symlink_is_not_whited_out(place: Place) -> None:
    place.extract(layer(directory("d"), file("d/low"), symlink("l", "d")))
    place.extract(layer(file("l/new", b"1"), file("d/.wh.new"), file("d/.wh.low")))
    assert place.names() == {"d", "d/new", "l"}


def test_hard_links_and_implied_directories_are_of_their_layer(place: Place) -> None:
    place.extract(LOWER, layer(hardlink("d/h", "f"), file("d/a/b/c"), file(".wh.d"), file("d/a/.wh.b")))
    assert place.names() == {"d", "d/h", "d/a", "d/a/b", "d/a/b/c", "f"}


def test_a_later_layer_removes_what_this_one_made(place: Place) -> None:
    place.extract(LOWER, layer(file("new"), file(".wh.new")), layer(file(".wh.new")))
    assert "new" not in place.names()


def test_directories_keep_their_times(place: Place) -> None:
    place.extract(LOWER, layer(file("d/.wh.low"), file("d/sub/new"), file("top")))
    times = {path: os.stat(place.root / path).st_mtime for path in (".", "d", "d/sub")}
    assert times == {".": 10, "d": 11, "d/sub": 12}


def test_a_directory_that_stays_for_what_is_in_it_keeps_its_times(place: Place) -> None:
    place.extract(LOWER, layer(file("d/sub/new"), file(".wh.d")))
    assert place.names() == {"f", "d", "d/sub", "d/sub/new"}
    assert [os.stat(place.root / path).st_mtime for path in ("d", "d/sub")] == [11, 12]


def test_whiteouts_are_counted_and_leave_no_trace(place: Place) -> None:
    assert place.extract(LOWER, layer(file(".wh.f"), file(".wh.absent")))[1].whiteouts == 2
    assert not any(".wh." in name for name in place.names())


def overlay(place: Place, *parts: bytes, **options: object) -> Extracted:
    return place.extract(layer(*parts), whiteouts="overlay", **options)[0]


def is_whiteout(place: Place, path: str) -> bool:
    status = os.lstat(place.root / path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def opaque(place: Place, path: str, name: str = "trusted.overlay.opaque") -> bool:
    return name in os.listxattr(place.root / path) and os.getxattr(place.root / path, name) == b"y"


def test_overlayfs_has_devices_and_an_attribute(place: Place) -> None:
    found = overlay(place, file("d/.wh.gone", mtime=7), directory("e"), file("e/.wh..wh..opq"), file("e/x"))
    assert is_whiteout(place, "d/gone")
    assert os.lstat(place.root / "d/gone").st_mtime == 7
    assert opaque(place, "e")
    assert not opaque(place, "d")
    assert found.implied == ("d",)
    assert not found.opaque_root


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_directory_in_the_place_of_a_whiteout_is_opaque(place: Place, order: tuple[int, ...]) -> None:
    parts = (file(".wh.d"), directory("d"))
    overlay(place, *(parts[number] for number in order), file("d/x"))
    assert opaque(place, "d")
    assert place.names() == {"d", "d/x"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_in_the_place_of_a_whiteout_is_a_file(place: Place, order: tuple[int, ...]) -> None:
    parts = (file(".wh.f"), file("f", b"1"))
    overlay(place, *(parts[number] for number in order))
    assert (place.root / "f").read_bytes() == b"1"


def test_a_directory_that_was_a_file_in_its_layer_is_opaque(place: Place) -> None:
    overlay(place, file("d"), directory("d"))
    assert opaque(place, "d")


def test_metadata_that_comes_later_leaves_a_directory_opaque(place: Place) -> None:
    overlay(place, file("d/.wh..wh..opq"), directory("d", 0o700))
    assert opaque(place, "d")


def test_ordinary_users_have_an_attribute_of_their_own(place: Place) -> None:
    overlay(place, file("d/.wh..wh..opq"), userxattr=True)
    assert opaque(place, "d", "user.overlay.opaque")
    assert not opaque(place, "d")


def test_an_opaque_root_is_told(place: Place) -> None:
    assert overlay(place, file(".wh..wh..opq")).opaque_root


def test_an_archive_cannot_speak_to_overlayfs(place: Place) -> None:
    xattrs = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y"}
    found = overlay(place, extended(xattrs), directory("d"), extended(xattrs), file("f"))
    assert os.listxattr(place.root / "d") == os.listxattr(place.root / "f") == []
    assert dict(found.skipped_xattrs) == {"trusted.overlay.redirect": 2, "user.overlay.opaque": 2}
    assert found.notes[0] == "the attribute trusted.overlay.redirect was not set on 2 files"


def test_a_hard_link_to_what_its_layer_removed_is_refused(place: Place) -> None:
    with pytest.raises(ArchiveError, match="which was removed"):
        overlay(place, file(".wh.f"), hardlink("h", "f"))


def test_a_device_0_0_is_nothing_special_elsewhere(place: Place) -> None:
    place.extract(layer(character("c", 0, 0)))
    assert is_whiteout(place, "c")


def test_an_implied_directory_in_the_place_of_a_whiteout_is_opaque(place: Place) -> None:
    found = overlay(place, file("a/.wh.d"), file("a/d/e/x", b"1"), file("a/d/.wh.y"))
    assert opaque(place, "a/d")
    assert not opaque(place, "a/d/e")
    assert found.implied == ("a", "a/d", "a/d/e")
    assert place.names() == {"a", "a/d", "a/d/e", "a/d/e/x"}


def test_a_file_is_no_directory_in_a_layer_either(place: Place) -> None:
    with pytest.raises(ArchiveError, match="Not a directory"):
        overlay(place, file("f"), file("f/x"))


def test_below_a_file_there_is_nothing_to_hide(place: Place) -> None:
    overlay(place, file("f", b"1"), file("f/.wh.x"), file("f/g/.wh..wh..opq"))
    assert (place.root / "f").read_bytes() == b"1"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nothing_is_hidden_where_nothing_shows(place: Place, order: tuple[int, ...]) -> None:
    """overlayfs lists the whiteouts of a directory that it does not merge."""
    parts = (file("d/.wh..wh..opq"), file("d/e/.wh.x", mtime=4) + file("d/.wh.y") + directory("d/e", mtime=5))
    overlay(place, *(parts[number] for number in order), file("d/.wh.z"), file("d/z", b"1"), file("q/.wh.kept"))
    assert place.names() == {"d", "d/e", "d/z", "q", "q/kept"}
    assert os.stat(place.root / "d/e").st_mtime == 5
