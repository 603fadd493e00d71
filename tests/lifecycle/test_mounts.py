"""Mounts as the container sees them (config.md, Mounts; config-linux.md, Rootfs Mount Propagation)."""

from __future__ import annotations

import posixpath
from pathlib import Path

import pytest
from attrs import frozen

from ocirt import Spec
from ocirt.errors import OCIError, SetupError
from ocirt.host import Host
from ocirt.plan.overlay import ONE_BY_ONE
from ocirt.spec import Mount, Root
from tests.support import Lab, document, linux, shell

pytestmark = pytest.mark.root

SHOW = "cat /proc/self/mountinfo"


@frozen
class Seen:
    """A line of /proc/self/mountinfo."""

    root: str
    options: frozenset[str]
    propagation: str
    type: str
    source: str
    data: frozenset[str]

    @classmethod
    def parse(cls, line: str) -> tuple[str, Seen]:
        before, after = line.split(" - ")
        _, _, _, root, target, options, *propagation = before.split()
        type_, source, data = after.split(" ", 2)
        words = frozenset(options.split(",")), " ".join(word.split(":")[0] for word in propagation)
        return target, cls(root, *words, type_, source, frozenset(data.split(",")))


def seen(lab: Lab, spec: Spec) -> dict[str, Seen]:
    """Mounts by their targets, the topmost where several are on one."""
    return dict(Seen.parse(line) for line in lab.output(spec).splitlines())


def with_mounts(*mounts: Mount, script: str = SHOW) -> Spec:
    spec = shell(script)
    return spec.evolve(mounts=(*spec.mounts, *mounts))


def writable(spec: Spec) -> Spec:
    return spec.evolve(root=Root(spec.root.path, readonly=False))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of the host with a file in it."""
    directory = tmp_path / "data"
    (directory / "below").mkdir(parents=True)
    (directory / "file").write_text("text\n")
    return directory


@pytest.mark.covers("mounts", "mounts[].type", "mounts[].options")
def test_the_default_mounts_are_there_with_their_options(lab: Lab) -> None:
    found = seen(lab, shell(SHOW))
    quiet = {"nosuid", "nodev", "noexec", "relatime"}
    assert found["/proc"].type == "proc"
    assert found["/dev"].type == "tmpfs"
    assert found["/dev"].options == {"rw", "nosuid"}
    assert {"size=65536k", "mode=755"} <= found["/dev"].data
    assert found["/dev/pts"].type == "devpts"
    assert found["/dev/pts"].options == {"rw", "nosuid", "noexec", "relatime"}
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= found["/dev/pts"].data
    assert (found["/dev/shm"].type, found["/dev/shm"].source) == ("tmpfs", "shm")
    assert found["/dev/shm"].options == {"rw", *quiet}
    assert found["/dev/mqueue"].type == "mqueue"
    assert found["/sys"].type == "sysfs"
    assert found["/sys"].options == {"ro", *quiet}
    assert found["/"].options >= {"ro"}


def test_nothing_of_the_host_is_mounted_besides(lab: Lab) -> None:
    targets = set(seen(lab, shell(SHOW).evolve(linux=linux(masked_paths=(), readonly_paths=()))))
    outside = {target for target in targets if not target.startswith("/sys/fs/cgroup")}
    assert outside == {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"}


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("ro",), {"ro", "relatime"}),
        (("nosuid",), {"rw", "nosuid", "relatime"}),
        (("nodev", "noexec"), {"rw", "nodev", "noexec", "relatime"}),
        (("noatime",), {"rw", "noatime"}),
        (("strictatime",), {"rw"}),
        (("nodiratime",), {"rw", "nodiratime", "relatime"}),
        (("nosymfollow",), {"rw", "nosymfollow", "relatime"}),
        (("ro", "rw"), {"rw", "relatime"}),
        (("nosuid", "suid", "noexec", "exec", "nodev", "dev"), {"rw", "relatime"}),
        (("defaults",), {"rw", "relatime"}),
    ],
)
def test_an_option_becomes_a_mount_attribute(lab: Lab, options: tuple[str, ...], expected: set[str]) -> None:
    assert seen(lab, with_mounts(Mount("/tmp", "tmpfs", "tmpfs", options)))["/tmp"].options == expected


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("bind",), {"rw", "relatime"}),
        (("bind", "ro"), {"ro", "relatime"}),
        (("rbind", "ro"), {"ro", "relatime"}),
        (("bind", "nosuid", "nodev", "noexec"), {"rw", "nosuid", "nodev", "noexec", "relatime"}),
        (("bind", "noatime"), {"rw", "noatime"}),
        (("rbind", "rro"), {"ro", "relatime"}),
    ],
)
def test_a_bind_mount_has_its_own_attributes(
    lab: Lab, tree: Path, options: tuple[str, ...], expected: set[str]
) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", None, str(tree), options)))["/tmp"]
    assert found.options == expected
    assert posixpath.basename(found.root) == "data"


@pytest.mark.covers("mounts[].options")
def test_options_that_are_no_attributes_go_to_the_filesystem(lab: Lab) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", "tmpfs", "scratch", ("size=4k", "mode=0700", "uid=7", "nr_inodes=99"))))
    assert found["/tmp"].source == "scratch"
    assert {"size=4k", "mode=700", "uid=7", "nr_inodes=99"} <= found["/tmp"].data


def test_an_option_that_the_filesystem_does_not_know_is_an_error_at_its_place(lab: Lab) -> None:
    with pytest.raises(SetupError) as caught:
        lab.create(with_mounts(Mount("/tmp", "tmpfs", "tmpfs", ("nosuid", "shark=7"))))
    assert caught.value.origin.startswith("mounts[7]")
    assert caught.value.operation == "MountFilesystem"
    assert "shark" in str(caught.value)
    assert lab.remains() == []


def test_rbind_takes_the_mounts_below_along_and_bind_does_not(lab: Lab) -> None:
    assert "/tmp/pts" in seen(lab, with_mounts(Mount("/tmp", None, "/dev", ("rbind",))))
    assert "/tmp/pts" not in seen(lab, with_mounts(Mount("/tmp", None, "/dev", ("bind",))))


def test_rro_makes_the_whole_tree_readonly_and_ro_the_top(lab: Lab) -> None:
    whole = seen(lab, with_mounts(Mount("/tmp", None, "/dev", ("rbind", "rro"))))
    top = seen(lab, with_mounts(Mount("/tmp", None, "/dev", ("rbind", "ro"))))
    assert "ro" in whole["/tmp"].options & whole["/tmp/pts"].options
    assert "ro" in top["/tmp"].options
    assert "rw" in top["/tmp/pts"].options


@pytest.mark.covers("mounts[].options")
def test_recursive_attributes_reach_every_mount_below(lab: Lab) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", None, "/dev", ("rbind", "rnoexec", "rnosuid", "rnoatime"))))
    for target in ("/tmp", "/tmp/pts"):
        assert found[target].options >= {"noexec", "nosuid", "noatime"}


def test_a_file_can_be_mounted_on_a_file(lab: Lab, tree: Path) -> None:
    spec = with_mounts(Mount("/etc/passwd", "bind", str(tree / "file"), ("bind", "ro")), script="cat /etc/passwd")
    assert lab.output(writable(spec)) == "text\n"


@pytest.mark.covers("mounts[].destination")
def test_missing_mount_points_are_made(own_lab: Lab, tree: Path) -> None:
    spec = with_mounts(
        Mount("/new/a/directory", None, str(tree), ("bind",)),
        Mount("/new/a/file", None, str(tree / "file"), ("bind",)),
        Mount("/new/fs", "tmpfs", "tmpfs"),
        script="cat /new/a/directory/file /new/a/file; stat -c '%a %u' /new /new/a",
    )
    assert own_lab.output(spec).splitlines() == ["text", "text", "755 0", "755 0"]
    assert (own_lab.rootfs / "new/a/file").stat().st_size == 0


@pytest.mark.covers("mounts[].source")
def test_a_relative_source_is_below_the_bundle(own_lab: Lab) -> None:
    bundle = own_lab.bundle(with_mounts(Mount("/tmp", None, "etc", ("bind",)), script="ls /tmp"))
    (bundle.path / "etc").mkdir()
    (bundle.path / "etc/of-the-bundle").touch()
    from ocirt import Container

    with Container.create(own_lab.new_id(), bundle, root=own_lab.root, stdout=-1) as container:
        container.start()
        assert container.process is not None
        assert container.process.communicate(timeout=60)[0] == b"of-the-bundle\n"


@pytest.mark.covers("mounts[].destination")
def test_symlinks_in_a_target_stay_in_the_container(own_lab: Lab, tree: Path) -> None:
    (own_lab.rootfs / "link").symlink_to("/etc")
    spec = with_mounts(Mount("/link/below", None, str(tree), ("bind",)), script="cat /etc/below/file")
    assert own_lab.output(spec) == "text\n"
    assert not Path("/etc/below").exists()


@pytest.mark.covers("mounts")
def test_mounts_are_made_in_their_order(lab: Lab, tree: Path) -> None:
    spec = with_mounts(
        Mount("/tmp", "tmpfs", "tmpfs"), Mount("/tmp/data", None, str(tree), ("bind",)), script="cat /tmp/data/file"
    )
    assert lab.output(spec) == "text\n"


def test_a_readonly_tmpfs_is_made_so_after_everything_below_it(lab: Lab, tree: Path) -> None:
    spec = with_mounts(
        Mount("/tmp", "tmpfs", "tmpfs", ("ro",)),
        Mount("/tmp/data", None, str(tree), ("bind",)),
        script="cat /tmp/data/file; touch /tmp/x; touch /tmp/data/x && echo wrote",
    )
    assert lab.output(spec).splitlines() == ["text", "touch: /tmp/x: Read-only file system", "wrote"]


def test_a_tmpfs_looks_like_the_directory_that_it_covers(own_lab: Lab) -> None:
    (own_lab.rootfs / "tmp").chmod(0o1751)
    spec = with_mounts(
        Mount("/tmp", "tmpfs", "tmpfs"), Mount("/root", "tmpfs", "t", ("mode=700",)), script="stat -c %a /tmp /root"
    )
    assert own_lab.output(spec).split() == ["1751", "700"]


def test_a_remount_changes_what_was_mounted(lab: Lab) -> None:
    spec = with_mounts(Mount("/tmp", "tmpfs", "tmpfs"), Mount("/tmp", None, None, ("remount", "ro", "noexec")))
    assert seen(lab, spec)["/tmp"].options == {"ro", "noexec", "relatime"}


def test_nothing_can_be_mounted_inside_proc(lab: Lab, tree: Path) -> None:
    with pytest.raises(OCIError, match="inside /proc"):
        lab.create(with_mounts(Mount("/proc/self", None, str(tree), ("bind",))))
    assert lab.remains() == []


def test_reports_below_proc_can_be_covered_as_lxcfs_does(lab: Lab, tree: Path) -> None:
    spec = with_mounts(Mount("/proc/meminfo", None, str(tree / "file"), ("bind",)), script="cat /proc/meminfo")
    assert lab.output(spec) == "text\n"


@pytest.mark.covers("linux.rootfsPropagation")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "master"),
        ("slave", "master"),
        ("rslave", "master"),
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ],
)
def test_the_root_has_the_propagation_that_was_asked_for(lab: Lab, wanted: str | None, expected: str) -> None:
    """A slave has a master only where the host's mount is shared; else it is as good as private."""
    found = seen(lab, shell(SHOW).evolve(linux=linux(rootfs_propagation=wanted)))["/"].propagation
    assert found in ({expected, ""} if expected == "master" else {expected, f"{expected} master", f"master {expected}"})


@pytest.mark.covers("mounts[].options")
@pytest.mark.parametrize(
    ("option", "expected"),
    [("rshared", "shared"), ("shared", "shared"), ("private", ""), ("rprivate", ""), ("unbindable", "unbindable")],
)
def test_a_mount_has_its_own_propagation(lab: Lab, tree: Path, option: str, expected: str) -> None:
    found = seen(lab, with_mounts(Mount("/tmp", None, str(tree), ("rbind", option))))["/tmp"].propagation
    assert found.replace(" master", "") == expected


@pytest.mark.covers("mounts[].type")
@pytest.mark.parametrize("type_", ["tmpfs", "proc", "sysfs", "devpts", "mqueue", "ramfs"])
def test_filesystems_are_mounted_by_type(lab: Lab, type_: str) -> None:
    assert seen(lab, with_mounts(Mount("/tmp", type_, type_)))["/tmp"].type == type_


def test_an_overlay_is_mounted_with_its_layers(own_lab: Lab, tmp_path: Path) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/below").touch()
    layers = [f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work")]
    spec = with_mounts(Mount("/tmp", "overlay", "overlay", tuple(layers)), script="ls /tmp; touch /tmp/above")
    assert own_lab.output(spec) == "below\n"
    assert (tmp_path / "upper/above").exists()


@pytest.mark.covers("linux.maskedPaths")
def test_masked_paths_show_nothing(lab: Lab, tree: Path) -> None:
    spec = with_mounts(
        Mount("/tmp", None, str(tree), ("bind",)),
        script="cat /tmp/file; ls /tmp/below; touch /tmp/below/x; echo x > /tmp/file; cat /tmp/file",
    )
    (tree / "below/secret").touch()
    masked = linux(masked_paths=("/tmp/file", "/tmp/below", "/tmp/absent", "/tmp/file"))
    assert lab.output(spec.evolve(linux=masked)) == "touch: /tmp/below/x: Read-only file system\n"
    assert (tree / "file").read_text() == "text\n"


@pytest.mark.covers("linux.readonlyPaths")
def test_readonly_paths_can_be_read_and_not_written(lab: Lab, tree: Path) -> None:
    spec = with_mounts(
        Mount("/tmp", None, str(tree), ("bind",)),
        script="cat /tmp/file; touch /tmp/below/x; touch /tmp/free && echo free",
    )
    restricted = linux(readonly_paths=("/tmp/below", "/tmp/file", "/tmp/absent"))
    assert lab.output(spec.evolve(linux=restricted)).splitlines() == [
        "text",
        "touch: /tmp/below/x: Read-only file system",
        "free",
    ]


def test_the_default_masks_are_in_place(lab: Lab) -> None:
    spec = shell("cat /proc/keys; ls /proc/acpi /sys/firmware 2>/dev/null; echo 1 > /proc/sys/vm/swappiness")
    assert "Read-only file system" in lab.output(spec)


@pytest.mark.covers("root", "root.readonly")
def test_a_writable_root_can_be_written_to_and_a_readonly_one_not(own_lab: Lab) -> None:
    assert "Read-only" in own_lab.output(shell("touch /x"))
    assert not (own_lab.rootfs / "x").exists()
    assert own_lab.output(writable(shell("touch /x"))) == ""
    assert (own_lab.rootfs / "x").exists()


@pytest.mark.covers("mounts[].destination")
def test_a_relative_target_is_below_the_root(lab: Lab) -> None:
    assert seen(lab, with_mounts(Mount("tmp", "tmpfs", "tmpfs")))["/tmp"].type == "tmpfs"


def test_mounts_need_a_mount_namespace(lab: Lab) -> None:
    alone = tuple(entry for entry in linux().namespaces if entry.type != "mount")
    with pytest.raises(OCIError, match='"type": "mount"'):
        lab.create(document("true").evolve(linux=linux(namespaces=alone)))


def layers(directory: Path, count: int) -> list[Path]:
    """Directories with a file each, all of which have one besides that tells whose it is."""
    made = [directory / f"layer-{'long' * 10}-{number}" for number in range(count)]
    for number, layer in enumerate(made):
        layer.mkdir()
        (layer / f"only-{number}").write_text("")
        (layer / "common").write_text(f"{number}\n")
    return made


@pytest.mark.parametrize("count", [1, 40])
def test_an_overlay_on_the_root_is_the_root(lab: Lab, tmp_path: Path, count: int) -> None:
    """So a bundle's layers need nobody to mount them; as many as an image has, whose paths no parameter would hold."""
    if not supports_separate_lowers():
        pytest.skip("needs Linux 6.8")
    upper, work, empty = (tmp_path / name for name in ("upper", "work", "empty"))
    for path in (upper, work, empty):
        path.mkdir()
    stack = [*map(str, layers(tmp_path, count)), str(lab.rootfs)]
    overlay = Mount("/", "overlay", "overlay", (f"lowerdir={':'.join(stack)}", f"upperdir={upper}", f"workdir={work}"))
    spec = shell("cat /common; ls -d /only-* | wc -l; echo new > /written; ls /proc/self/fd > /dev/null && pwd")
    spec = spec.evolve(root=Root(str(empty), readonly=False), mounts=(overlay, *spec.mounts))
    assert lab.output(spec) == f"0\n{count}\n/\n"
    assert (upper / "written").read_text() == "new\n"
    assert list(empty.iterdir()) == []


def test_a_bind_mount_on_the_root_is_the_root(lab: Lab, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    spec = shell("ls -d /bin /proc/self/exe")
    bind = Mount("/", None, str(lab.rootfs), ("bind",))
    spec = spec.evolve(root=Root(str(empty), readonly=False), mounts=(bind, *spec.mounts))
    assert lab.output(spec) == "/bin\n/proc/self/exe\n"
    assert list(empty.iterdir()) == []


def supports_separate_lowers() -> bool:
    return Host.probe().kernel >= ONE_BY_ONE
