"""Mounts that show other owners than the disk has (config.md, Mounts, uidMappings; mount_setattr(2))."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.errors import OCIError, SetupError, SpecError, UnsupportedError
from ocirt.host import Host
from ocirt.spec import IDMapping, Mount, Namespace
from tests.lifecycle.test_mounts import with_mounts, writable
from tests.support import Lab, linux, namespaces

pytestmark = pytest.mark.root

OWNERS = "stat -c %u:%g"
USER = (IDMapping(0, 200_000, 65_536),)
tmpfs_can = pytest.mark.skipif(Host.probe().kernel < (6, 3), reason="tmpfs maps IDs since Linux 6.3")
TYPES = ("pid", "network", "ipc", "uts", "mount")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of the host with a file in it, both of user 1000 and group 1001."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "file").write_text("text\n")
    for path in (directory, directory / "file"):
        os.chown(path, 1000, 1001)
        path.chmod(0o777)
    return directory


def bound(source: Path, *options: str, uids: tuple[IDMapping, ...] = (), gids: tuple[IDMapping, ...] = ()) -> Mount:
    return Mount("/tmp", None, str(source), ("bind", *options), uids, gids)


def in_user_namespace(spec: Spec, **changes: object) -> Spec:
    members = {"uid_mappings": USER, "gid_mappings": USER, "namespaces": namespaces(*TYPES, "user"), **changes}
    return spec.evolve(linux=linux(**members))


@pytest.mark.covers("mounts[].uidMappings.**", "mounts[].gidMappings.**")
@pytest.mark.parametrize("options", [("idmap",), ("ridmap",), ()])
def test_a_file_shows_the_owner_that_it_is_mapped_to(lab: Lab, tree: Path, options: tuple[str, ...]) -> None:
    """Mappings alone are enough, as runc reads them."""
    mount = bound(tree, *options, uids=(IDMapping(1000, 7, 1),), gids=(IDMapping(1001, 8, 1),))
    assert lab.output(with_mounts(mount, script=f"{OWNERS} /tmp /tmp/file; cat /tmp/file")).splitlines() == [
        "7:8",
        "7:8",
        "text",
    ]
    assert (tree / "file").stat().st_uid == 1000


def test_what_the_container_makes_is_on_disk_the_users_who_is_mapped(lab: Lab, tree: Path) -> None:
    mount = bound(tree, "idmap", uids=(IDMapping(1000, 0, 10),), gids=(IDMapping(1001, 0, 10),))
    assert lab.output(with_mounts(mount, script="touch /tmp/new")) == ""
    made = (tree / "new").stat()
    assert (made.st_uid, made.st_gid) == (1000, 1001)


def test_who_is_not_mapped_is_nobody_and_can_make_nothing(lab: Lab, tree: Path) -> None:
    mount = bound(tree, "idmap", uids=(IDMapping(5, 0, 1),), gids=(IDMapping(5, 0, 1),))
    printed = lab.output(with_mounts(mount, script=f"{OWNERS} /tmp/file"))
    assert printed == "65534:65534\n"


@pytest.mark.covers("mounts[].uidMappings", "mounts[].gidMappings")
def test_the_mappings_of_a_mount_are_absolute_and_those_of_the_container_come_after(lab: Lab, tree: Path) -> None:
    """As runc and crun do: on disk 1000, on the host 200003, in the container 3."""
    mount = bound(tree, "idmap", uids=(IDMapping(1000, 200_003, 1),), gids=(IDMapping(1001, 200_004, 1),))
    assert lab.output(in_user_namespace(with_mounts(mount, script=f"{OWNERS} /tmp/file"))) == "3:4\n"


@pytest.mark.covers("mounts[].options")
def test_without_mappings_of_its_own_a_mount_takes_those_of_the_container(lab: Lab, tree: Path) -> None:
    os.chown(tree, 0, 0)
    spec = in_user_namespace(with_mounts(bound(tree, "idmap"), script=f"{OWNERS} /tmp /tmp/file; touch /tmp/new"))
    assert lab.output(spec).splitlines() == ["0:0", "1000:1001"]
    assert (tree / "new").stat().st_uid == 0


def test_without_the_option_the_same_files_are_nobodys(lab: Lab, tree: Path) -> None:
    assert lab.output(in_user_namespace(with_mounts(bound(tree), script=f"{OWNERS} /tmp/file"))) == "65534:65534\n"


def test_a_joined_user_namespace_lends_its_mappings(lab: Lab, tree: Path) -> None:
    with lab.start(in_user_namespace(with_mounts(script="sleep 60"))) as first:
        joined = Namespace("user", f"/proc/{first.pid}/ns/user")
        others = tuple(map(Namespace, TYPES))
        spec = with_mounts(bound(tree, "idmap"), script=f"{OWNERS} /tmp/file")
        spec = spec.evolve(linux=linux(namespaces=(*others, joined)))
        assert lab.output(spec) == "1000:1001\n"
        first.kill(9)
        assert first.process is not None
        first.process.communicate()


@pytest.fixture
def nested(own_lab: Lab, tree: Path) -> tuple[Lab, tuple[Mount, ...]]:
    """A tree of two mounts, in the container, and no mount of the host's."""
    (tree / "below").mkdir()
    (own_lab.rootfs / "whole").mkdir()
    return (
        own_lab,
        (
            Mount("/whole", None, str(tree), ("bind",)),
            Mount("/whole/below", None, str(tree), ("bind",)),
        ),
    )


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize(("option", "below"), [("idmap", "1000:1001"), ("ridmap", "7:8")])
def test_ridmap_reaches_the_mounts_below(nested: tuple[Lab, tuple[Mount, ...]], option: str, below: str) -> None:
    lab, mounts = nested
    source, mapping = str(lab.rootfs / "whole"), ((IDMapping(1000, 7, 1),), (IDMapping(1001, 8, 1),))
    again = Mount("/tmp", None, source, ("rbind", option), *mapping)
    spec = writable(with_mounts(*mounts, again, script=f"{OWNERS} /tmp/file /tmp/below/file"))
    assert lab.output(spec).splitlines() == ["7:8", below]


def test_mapped_ids_go_with_read_only(lab: Lab, tree: Path) -> None:
    mount = bound(tree, "idmap", "rro", uids=(IDMapping(1000, 0, 1),), gids=(IDMapping(1001, 0, 1),))
    printed = lab.output(with_mounts(mount, script=f"{OWNERS} /tmp/file; touch /tmp/new"))
    assert printed.splitlines() == ["0:0", "touch: /tmp/new: Read-only file system"]


@tmpfs_can
def test_a_tmpfs_can_be_mapped_too(lab: Lab) -> None:
    """Which runc refuses; its root is 5's within, and 2005's to who looks."""
    uids = (IDMapping(0, 2000, 10),)
    mount = Mount("/tmp", "tmpfs", "tmpfs", ("mode=0700", "uid=5"), uids, uids)
    assert lab.output(with_mounts(mount, script=f"{OWNERS} /tmp")) == "2005:2000\n"


@tmpfs_can
def test_a_source_on_tmpfs_can_be_mapped(lab: Lab) -> None:
    uids = (IDMapping(0, 2000, 10),)
    mounts = (Mount("/tmp", "tmpfs"), Mount("/root", None, str(lab.rootfs / "tmp"), ("bind", "idmap"), uids, uids))
    assert lab.output(with_mounts(*mounts, script=f"{OWNERS} /root")) == "2000:2000\n"


def test_a_filesystem_that_cannot_is_an_error_at_the_mapping(lab: Lab) -> None:
    mount = bound(Path("/proc"), "idmap", uids=USER, gids=USER)
    with pytest.raises(SetupError, match="does not support id-mapped mounts") as caught:
        lab.create(with_mounts(mount))
    assert (caught.value.origin, caught.value.operation) == ("mounts[7].uidMappings", "MapOwners")
    assert lab.remains() == []


def test_mappings_that_the_kernel_refuses_are_an_error_at_their_mount(lab: Lab, tree: Path) -> None:
    many = tuple(IDMapping(2 * number, 2 * number, 1) for number in range(341))
    with pytest.raises(OCIError) as caught:
        lab.create(with_mounts(bound(tree, "idmap", uids=many, gids=many)))
    assert "mounts[7].uidMappings" in str(caught.value)


def test_an_option_can_hold_the_mappings_as_crun_reads_them(lab: Lab, tree: Path) -> None:
    mount = bound(tree, "idmap=uids=1000-7-1#2000-9-1;gids=1001-8-5")
    assert lab.output(with_mounts(mount, script=f"{OWNERS} /tmp/file")) == "7:8\n"


def test_such_mappings_can_be_relative_to_the_containers(lab: Lab, tree: Path) -> None:
    mount = bound(tree, "ridmap=uids=@1000-3-1;gids=@1001-4-1")
    assert lab.output(in_user_namespace(with_mounts(mount, script=f"{OWNERS} /tmp/file"))) == "3:4\n"


def test_what_is_relative_to_nothing_is_an_error(lab: Lab, tree: Path) -> None:
    with pytest.raises(UnsupportedError, match="maps no such range") as caught:
        lab.create(in_user_namespace(with_mounts(bound(tree, "idmap=uids=0-0-1;gids=@0-65530-10"))))
    assert caught.value.origin == "mounts[7].options[1]"


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("uids=0-1-1", "both uids and gids"),
        ("uids=0-1;gids=0-1-1", "not three numbers"),
        ("uids=0-1-x;gids=0-1-1", "not three numbers"),
        ("uids=0-1-0;gids=0-1-1", "an empty range"),
        ("uids=0-4294967295-1;gids=0-1-1", "beyond the last ID"),
        ("uids=0-1-1;uids=0-1-1", "each once"),
        ("", "each once"),
    ],
)
def test_what_is_no_mapping_is_a_problem_of_its_option(lab: Lab, tree: Path, words: str, rule: str) -> None:
    with pytest.raises(SpecError, match=rule) as caught:
        lab.create(with_mounts(bound(tree, f"idmap={words}")))
    assert [problem.path for problem in caught.value.problems] == ["mounts[7].options[1]"]


def test_without_any_mapping_there_is_nothing_to_apply(lab: Lab, tree: Path) -> None:
    with pytest.raises(SpecError) as caught:
        lab.create(with_mounts(bound(tree, "ridmap")))
    assert [problem.path for problem in caught.value.problems] == ["mounts[7].options[1]"]
