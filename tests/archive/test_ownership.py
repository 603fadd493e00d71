"""An owner in an archive is a certain one here, and the other way round."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.archive.ownership import NOBODY, Ownership, decode_owner, encode_owner
from ocirt.errors import ArchiveError
from ocirt.spec import IDMapping

IDS = st.integers(0, NOBODY - 1)
SHIFTED = Ownership((IDMapping(0, 100000, 1000), IDMapping(1000, 5000, 1)), (IDMapping(0, 200000, 65536),))


def owned(uid: int, gid: int) -> os.stat_result:
    return os.stat_result((0o100644, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@given(IDS, IDS)
def test_without_mappings_an_id_is_itself(uid: int, gid: int) -> None:
    assert Ownership().host_ids(uid, gid) == (uid, gid)
    assert Ownership().container_ids(owned(uid, gid)) == (uid, gid)
    assert Ownership().kept(uid, gid) is None


def test_mappings_lead_to_the_host_and_back() -> None:
    assert SHIFTED.host_ids(999, 65535) == (100999, 265535)
    assert SHIFTED.host_ids(1000, 0) == (5000, 200000)
    assert SHIFTED.container_ids(owned(5000, 200005)) == (1000, 5)


def test_an_unmapped_id_names_the_member_and_the_mapping() -> None:
    with pytest.raises(ArchiveError, match=r"'etc/x'.*uid 1001.*0:100000:1000, 1000:5000:1"):
        SHIFTED.host_ids(1001, 0, "etc/x")
    with pytest.raises(ArchiveError, match=r"'etc/x'.*gid 5.*200000:0:65536"):
        SHIFTED.container_ids(owned(5000, 5), None, "etc/x")


@pytest.mark.parametrize("number", [-1, NOBODY, 1 << 40])
def test_what_is_no_id_is_refused(number: int) -> None:
    with pytest.raises(ArchiveError, match="uid"):
        Ownership().host_ids(number, 0, "x")


def test_a_rootless_file_is_the_callers_and_remembers_its_owner() -> None:
    mine = Ownership(rootless=True)
    assert mine.host_ids(33, 42) == (os.geteuid(), os.getegid())
    assert mine.kept(0, 0) is None
    assert mine.kept(33, 0) == b"\x08\x21"
    assert mine.kept(0, 1000) == b"\x10\xe8\x07"
    assert mine.container_ids(owned(7, 7)) == (0, 0)
    assert mine.container_ids(owned(7, 7), b"\x08\x21\x10\xe8\x07") == (33, 1000)


def test_an_omitted_owner_is_root() -> None:
    omitted = encode_owner(NOBODY, 42)
    assert omitted == b"\x08\xff\xff\xff\xff\x0f\x10\x2a"
    assert Ownership(rootless=True).container_ids(owned(7, 7), omitted) == (0, 42)


@given(IDS, IDS)
def test_the_attribute_is_read_as_it_was_written(uid: int, gid: int) -> None:
    assert decode_owner(encode_owner(uid, gid)) == (uid, gid)


def test_fields_of_later_versions_are_passed_over() -> None:
    later = b"\x1a\x03abc\x25\0\0\0\0\x29\0\0\0\0\0\0\0\0\xa0\x01\x05"
    assert decode_owner(later + encode_owner(1, 2)) == (1, 2)


@given(st.binary(max_size=30))
def test_any_attribute_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ArchiveError):
        uid, gid = Ownership(rootless=True).container_ids(owned(7, 7), data, "x")
        assert 0 <= uid < NOBODY
        assert 0 <= gid < NOBODY


def test_rootless_and_mappings_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="rootless"):
        Ownership((IDMapping(0, 1000, 1),), rootless=True)
