"""Options that are not the mount's alone, and sources and targets that are not what they seem (config.md, Mounts)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.errors import SetupError, SpecError, UnsupportedError
from ocirt.spec import IDMapping, Mount
from tests.lifecycle.test_mounts import SHOW, Seen, seen, with_mounts, writable
from tests.support import Lab, linux, namespaces, shell

pytestmark = pytest.mark.root

USER = (IDMapping(0, 200_000, 65_536),)
TYPES = ("pid", "ipc", "uts", "mount", "user")


def in_user_namespace(spec: Spec, *more: str, mapping: tuple[IDMapping, ...] = USER) -> Spec:
    members = {"uid_mappings": mapping, "gid_mappings": mapping, "namespaces": namespaces(*TYPES, *more)}
    return spec.evolve(linux=linux(**members))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of the host with a file in it, and a link to either."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "file").write_text("text\n")
    (tmp_path / "link").symlink_to("data/file")
    return directory


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("sync",), {"sync"}),
        (("dirsync",), {"dirsync"}),
        (("lazytime",), {"lazytime"}),
        (("sync", "async"), set()),
        (("lazytime", "nolazytime"), set()),
        (("sync", "dirsync", "lazytime"), {"sync", "dirsync", "lazytime"}),
        (("silent", "loud", "noiversion", "nomand", "defaults"), set()),
    ],
)
def test_flags_of_the_filesystem_reach_it(lab: Lab, options: tuple[str, ...], expected: set[str]) -> None:
    data = seen(lab, with_mounts(Mount("/tmp", "tmpfs", "tmpfs", options)))["/tmp"].data
    assert data & {"sync", "dirsync", "lazytime", "mand"} == expected


def test_version_counters_leave_all_other_options_as_they_are(lab: Lab) -> None:
    """The kernel takes this one in a remount, which would reset the others."""
    words = ("nosuid", "noexec", "noatime", "sync", "lazytime", "iversion", "mode=700", "size=64k", "ro")
    found = seen(lab, with_mounts(Mount("/tmp", "tmpfs", "tmpfs", words)))["/tmp"]
    assert found.options == {"ro", "nosuid", "noexec", "noatime"}
    assert found.data == {"rw", "sync", "lazytime", "mode=700", "size=64k"} | (found.data & {"inode64"})


def test_version_counters_that_a_later_word_takes_back_are_not_asked_for(lab: Lab) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", "mqueue", "mqueue", ("iversion", "noiversion", "nodev"))))["/tmp"]
    assert found.options == {"rw", "nodev", "relatime"}


@pytest.mark.parametrize("word", ["sync", "async", "dirsync", "lazytime", "nolazytime", "iversion", "mand", "nomand"])
def test_a_bind_mount_cannot_have_flags_of_its_sources_filesystem(lab: Lab, tree: Path, word: str) -> None:
    with pytest.raises(UnsupportedError, match="bind mounts cannot have any filesystem-specific options") as caught:
        lab.create(with_mounts(Mount("/tmp", None, str(tree), ("bind", "ro", word))))
    assert caught.value.origin == "mounts[7].options[2]"
    assert lab.remains() == []


def test_a_bind_mount_cannot_have_data(lab: Lab, tree: Path) -> None:
    with pytest.raises(SpecError, match="bind mounts cannot have any filesystem-specific options applied"):
        lab.create(with_mounts(Mount("/tmp", None, str(tree), ("bind", "size=1k"))))


@pytest.mark.parametrize(
    "options", [("bind", "silent"), ("bind", "loud"), ("bind", "noiversion"), ("bind", "defaults")]
)
def test_words_without_an_effect_are_fine_on_bind_mounts(lab: Lab, tree: Path, options: tuple[str, ...]) -> None:
    assert lab.output(with_mounts(Mount("/tmp", None, str(tree), options), script="cat /tmp/file")) == "text\n"


def test_a_remount_of_a_bind_mount_needs_no_source(lab: Lab, tree: Path) -> None:
    mounts = (Mount("/tmp", None, str(tree), ("bind",)), Mount("/tmp", options=("remount", "bind", "ro", "noexec")))
    assert seen(lab, with_mounts(*mounts))["/tmp"].options == {"ro", "noexec", "relatime"}


def test_a_source_that_is_a_link_leads_where_it_points(lab: Lab, tree: Path) -> None:
    spec = with_mounts(Mount("/tmp", None, str(tree), ("bind",)), script="cat /tmp/file")
    link = tree.parent / "to-data"
    link.symlink_to("data")
    assert lab.output(spec.evolve(mounts=(*spec.mounts[:-1], Mount("/tmp", None, str(link), ("bind",))))) == "text\n"


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize("user", [False, True])
def test_src_nofollow_mounts_the_link_itself(own_lab: Lab, tree: Path, user: bool) -> None:
    """Its text is the container's to follow: there it leads to another file."""
    (own_lab.rootfs / "data").mkdir()
    (own_lab.rootfs / "data/file").write_text("of the container\n")
    mount = Mount("/link", None, str(tree.parent / "link"), ("bind", "src-nofollow"))
    spec = writable(with_mounts(mount, script="cat /link; readlink /link"))
    if user:
        own(own_lab.rootfs)
        spec = in_user_namespace(spec, "network")
    assert own_lab.output(spec).splitlines() == ["of the container", "data/file"]


def own(rootfs: Path) -> None:
    """Give it to root of the user namespace."""
    for path in (rootfs, *rootfs.rglob("*")):
        os.chown(path, 200_000, 200_000, follow_symlinks=False)


@pytest.mark.covers("mounts[].options")
def test_dest_nofollow_covers_the_link_and_not_what_it_leads_to(own_lab: Lab, tree: Path) -> None:
    (own_lab.rootfs / "etc/real").write_text("real\n")
    (own_lab.rootfs / "etc/link").symlink_to("real")
    mount = Mount("/etc/link", None, str(tree / "file"), ("bind", "dest-nofollow"))
    assert own_lab.output(writable(with_mounts(mount, script="cat /etc/link /etc/real"))).splitlines() == [
        "text",
        "real",
    ]


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize("user", [False, True])
def test_copy_symlink_makes_the_link_again(own_lab: Lab, tree: Path, user: bool) -> None:
    mount = Mount("/new/link", None, str(tree.parent / "link"), ("bind", "copy-symlink"))
    spec = writable(with_mounts(mount, script=f"readlink /new/link; {SHOW}"))
    if user:
        own(own_lab.rootfs)
        spec = in_user_namespace(spec, "network")
    link, *lines = own_lab.output(spec).splitlines()
    assert link == "data/file"
    assert "/new/link" not in dict(map(Seen.parse, lines))
    assert os.readlink(own_lab.rootfs / "new/link") == "data/file"
    assert own_lab.output(spec).splitlines()[0] == "data/file"  # it is there already, and the same


def test_copy_symlink_mounts_what_is_no_link(lab: Lab, tree: Path) -> None:
    mount = Mount("/tmp", None, str(tree), ("bind", "copy-symlink"))
    assert lab.output(with_mounts(mount, script="cat /tmp/file")) == "text\n"


@pytest.mark.parametrize("there", ["file", "another link"])
def test_copy_symlink_replaces_nothing(own_lab: Lab, tree: Path, there: str) -> None:
    place = own_lab.rootfs / "etc/link"
    if there == "file":
        place.touch()
    else:
        place.symlink_to("elsewhere")
    with pytest.raises(SetupError) as caught:
        own_lab.create(
            writable(with_mounts(Mount("/etc/link", None, str(tree.parent / "link"), ("bind", "copy-symlink"))))
        )
    assert (caught.value.origin, caught.value.call) == ("mounts[7]", "symlinkat")


@pytest.mark.parametrize("word", ["src-nofollow", "dest-nofollow", "copy-symlink"])
def test_words_for_bind_mounts_are_for_nothing_else(lab: Lab, word: str) -> None:
    with pytest.raises(SpecError, match="bind mounts alone") as caught:
        lab.create(with_mounts(Mount("/tmp", "tmpfs", None, (word,))))
    assert [problem.path for problem in caught.value.problems] == ["mounts[7].options[0]"]


@pytest.mark.parametrize("user", [False, True])
def test_a_source_may_lie_on_what_an_earlier_mount_has_put_there(own_lab: Lab, tree: Path, user: bool) -> None:
    """Sources are opened in their order: the directory of the image below is another one."""
    (own_lab.rootfs / "tmp/file").write_text("of the image\n")
    mounts = (
        Mount("/tmp", None, str(tree), ("bind",)),
        Mount("/root", None, str(own_lab.rootfs / "tmp"), ("bind",)),
    )
    spec = writable(with_mounts(*mounts, script="cat /root/file"))
    if user:
        own(own_lab.rootfs)
        spec = in_user_namespace(spec, "network")
    assert own_lab.output(spec) == "text\n"


def test_a_source_in_the_container_does_not_lead_out_of_it(own_lab: Lab, tree: Path) -> None:
    (tree / "out").symlink_to("/usr")
    mounts = (
        Mount("/tmp", None, str(tree), ("bind",)),
        Mount("/root", None, str(own_lab.rootfs / "tmp/out"), ("bind",)),
    )
    with pytest.raises(SetupError) as caught:
        own_lab.create(writable(with_mounts(*mounts)))
    assert caught.value.origin == "mounts[8].source"


def test_sysfs_of_the_hosts_network_is_shown_by_a_bind_mount_that_nobody_can_write_to(lab: Lab) -> None:
    """The kernel refuses the real one; crun does the same. CVE-2023-25809: cgroups too are read-only."""
    spec = in_user_namespace(shell(SHOW))
    found = seen(lab, spec)
    below = [mount for target, mount in found.items() if target == "/sys" or target.startswith("/sys/")]
    assert found["/sys"].type == "sysfs"
    assert all("ro" in mount.options for mount in below)


def test_sysfs_with_a_network_namespace_is_the_real_one(lab: Lab) -> None:
    assert lab.output(in_user_namespace(shell("ls /sys/class/net"), "network")) == "lo\n"


def test_sysfs_that_cannot_be_had_writable_is_an_error_with_a_remedy(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match="network namespace") as caught:
        lab.create(in_user_namespace(with_mounts(Mount("/sys", "sysfs", "sysfs"))))
    assert caught.value.origin == "mounts[7].type"


@pytest.mark.skipif(not Path("/sys/fs/cgroup/unified").is_dir(), reason="needs version 2 beside version 1")
def test_cgroups_of_version_2_alone_can_be_had_beside_version_1(lab: Lab) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", "cgroup2", "cgroup", ("ro",))))["/tmp"]
    assert (found.type, found.options >= {"ro"}) == ("cgroup2", True)


def test_mqueue_shows_the_containers_own_queues(lab: Lab) -> None:
    assert seen(lab, in_user_namespace(shell(SHOW), "network"))["/dev/mqueue"].type == "mqueue"


def test_mqueue_of_the_hosts_ipc_namespace_is_not_to_be_had_in_a_user_namespace(lab: Lab) -> None:
    members = {"uid_mappings": USER, "gid_mappings": USER, "namespaces": namespaces("pid", "network", "mount", "user")}
    with pytest.raises(SetupError, match="also needs its own pid, network or ipc namespace") as caught:
        lab.create(shell("true").evolve(hostname=None, linux=linux(**members)))
    assert caught.value.origin == "mounts[4]"


def test_a_group_that_the_user_namespace_has_not_is_an_error_at_its_option(lab: Lab) -> None:
    mapping = (IDMapping(0, 200_000, 1),)
    with pytest.raises(UnsupportedError, match="cannot specify gid=5 mount option") as caught:
        lab.create(in_user_namespace(shell("true"), "network", mapping=mapping))
    assert caught.value.origin == "mounts[2].options[5]"


def test_mandatory_locks_are_no_more(lab: Lab) -> None:
    with pytest.raises(UnsupportedError, match="no mandatory locks") as caught:
        lab.create(with_mounts(Mount("/tmp", "tmpfs", "tmpfs", ("mand",))))
    assert caught.value.origin == "mounts[7].options[0]"
