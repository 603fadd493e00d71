"""What mount options mean, in bits of MOUNT_ATTR_* (mount_setattr(2))."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.spec.options import ATIME_UNDONE, ATTRIBUTES, KNOWN, MountOptions, parse_options


@pytest.mark.parametrize(
    ("options", "set_bits", "clear_bits"),
    [
        ((), 0, 0),
        (("defaults",), 0, 0),
        (("ro",), 0x1, 0),
        (("rw",), 0, 0x1),
        (("nosuid",), 0x2, 0),
        (("suid",), 0, 0x2),
        (("nodev",), 0x4, 0),
        (("dev",), 0, 0x4),
        (("noexec",), 0x8, 0),
        (("exec",), 0, 0x8),
        (("nodiratime",), 0x80, 0),
        (("diratime",), 0, 0x80),
        (("nosymfollow",), 0x200000, 0),
        (("symfollow",), 0, 0x200000),
        (("relatime",), 0, 0x70),
        (("noatime",), 0x10, 0x70),
        (("strictatime",), 0x20, 0x70),
        (("atime",), 0, 0x70),
        (("norelatime",), 0, 0x70),
        (("nostrictatime",), 0, 0x70),
        (("nosuid", "strictatime", "mode=755", "size=65536k"), 0x22, 0x70),
    ],
)
def test_an_attribute_is_set_or_cleared(options: tuple[str, ...], set_bits: int, clear_bits: int) -> None:
    parsed = parse_options(options)
    assert (parsed.set, parsed.clear) == (set_bits, clear_bits)
    assert (parsed.recursive_set, parsed.recursive_clear) == (0, 0)


@pytest.mark.parametrize("name", [*ATTRIBUTES, *ATIME_UNDONE])
def test_a_recursive_attribute_is_the_same_for_the_whole_tree(name: str) -> None:
    one, tree = parse_options((name,)), parse_options((f"r{name}",))
    assert (tree.recursive_set, tree.recursive_clear) == (one.set, one.clear)
    assert (tree.set, tree.clear) == (0, 0)


@pytest.mark.parametrize(
    ("options", "set_bits", "clear_bits"),
    [
        (("ro", "rw"), 0, 0x1),
        (("rw", "ro"), 0x1, 0),
        (("noatime", "strictatime"), 0x20, 0x70),
        (("noatime", "relatime"), 0, 0x70),
        (("noatime", "atime"), 0, 0x70),
        (("strictatime", "atime"), 0x20, 0x70),  # atime takes noatime back, and nothing else
        (("noatime", "norelatime"), 0x10, 0x70),
        (("strictatime", "nostrictatime", "ro"), 0x1, 0x70),
    ],
)
def test_the_last_option_wins(options: tuple[str, ...], set_bits: int, clear_bits: int) -> None:
    parsed = parse_options(options)
    assert (parsed.set, parsed.clear) == (set_bits, clear_bits)


@given(st.lists(st.sampled_from(sorted(KNOWN))))
def test_whoever_sets_an_access_time_clears_the_whole_field(options: list[str]) -> None:
    """mount_setattr(2) answers EINVAL otherwise, and takes no bit that is set and cleared outside that field."""
    parsed = parse_options(options)
    for set_bits, clear_bits in (
        (parsed.set, parsed.clear),
        (parsed.recursive_set, parsed.recursive_clear),
    ):
        assert clear_bits & 0x70 in (0, 0x70)
        assert not set_bits & 0x70 or clear_bits & 0x70 == 0x70
        assert set_bits & clear_bits & ~0x70 == 0
    assert parsed.data == ()


def test_binds() -> None:
    assert parse_options(("bind",)) == MountOptions(bind=True)
    assert parse_options(("rbind", "rro")) == MountOptions(bind=True, recursive=True, recursive_set=1)


def test_propagation_keeps_its_order() -> None:
    """Slave and then shared is a mount that receives and passes on."""
    assert parse_options(("slave", "ro", "shared")).propagation == ("slave", "shared")


def test_the_filesystem_gets_its_flags_and_parameters_in_order() -> None:
    parsed = parse_options(("mode=755", "sync", "newinstance", "dirsync", "async", "lowerdir=a=b", "silent"))
    assert parsed.superblock == ("async", "dirsync")
    assert parsed.data == (("mode", "755"), ("newinstance", None), ("lowerdir", "a=b"))


def test_version_counters_are_off_unless_asked_for() -> None:
    assert parse_options(("noiversion",)).superblock == ()
    assert parse_options(("iversion",)).superblock == ("iversion",)
    assert parse_options(("iversion", "noiversion")).superblock == ()


@pytest.mark.parametrize(
    ("options", "idmap"), [((), None), (("idmap",), "idmap"), (("idmap", "ro", "ridmap"), "ridmap")]
)
def test_the_last_kind_of_id_mapping_wins(options: tuple[str, ...], idmap: str | None) -> None:
    assert parse_options(options).idmap == idmap


def test_what_is_no_attribute_of_the_mount() -> None:
    assert parse_options(("remount", "tmpcopyup")) == MountOptions(remount=True, tmpcopyup=True)


def test_podmans_words_about_volumes_say_nothing_of_a_bind_mount() -> None:
    assert parse_options(("rbind", "nocopy", "copy")) == MountOptions(bind=True, recursive=True)
    assert parse_options(("nocopy",)).data == (("nocopy", None),)


def test_every_option_of_the_specification_is_known() -> None:
    """The tables of config.md, Linux mount options."""
    listed = (
        "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime"
        " noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev"
        " rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid"
        " rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw"
        " shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap"
    ).split()
    of_crun = {"src-nofollow", "dest-nofollow", "copy-symlink"}
    assert {*listed, *of_crun} == set(KNOWN)
