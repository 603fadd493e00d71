"""conversion.md, row by row, and what an image may say that nobody should believe."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt.errors import SpecError, UnsupportedError
from ocirt.image.conversion import Volumes, convert, to_spec
from ocirt.image.documents import ImageConfig
from ocirt.spec import IDMapping, Mount, Namespace, Process, Spec, User
from ocirt.spec.base import JSON
from tests.support import Lab

PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n"
GROUP = "root:x:0:\naudio:x:29:bob,alice\nstaff:x:50:alice\nalice:x:1001:alice\n"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """An open root filesystem with some users in it."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def config(said: dict[str, JSON] | None = None, **members: JSON) -> ImageConfig:
    document: dict[str, JSON] = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": said or {},
        **{name.replace("__", "."): value for name, value in members.items()},
    }
    return ImageConfig.loads(json.dumps(document).encode(), "image")


def made(image: int, said: dict[str, JSON] | None = None, **members: JSON) -> Spec:
    return to_spec(config(said, **members), image, rootless=False)


def process(image: int, **said: JSON) -> Process:
    found = made(image, said).process
    assert found is not None
    return found


def problems(image: int, **said: JSON) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        made(image, said)
    return [(problem.path, problem.rule) for problem in caught.value.problems]


# Verbatim fields.


def test_the_working_directory_is_cwd_and_absent_it_is_the_root(image: int) -> None:
    assert process(image, WorkingDir="/srv/app").cwd == "/srv/app"
    assert process(image).cwd == "/"


def test_the_environment_is_copied_and_only_what_it_lacks_is_added(image: int) -> None:
    assert process(image, Env=["B=2", "PATH=/opt/bin", "A=", "B=3"]).env == ("B=2", "PATH=/opt/bin", "A=", "B=3")
    assert process(image, Env=["A=1"]).env == (
        "A=1",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )


def test_a_terminal_brings_its_type_along(image: int) -> None:
    shown = to_spec(config({"Env": ["PATH=/bin"]}), image, terminal=True, rootless=False).process
    assert shown is not None
    assert (shown.terminal, shown.env) == (True, ("PATH=/bin", "TERM=xterm"))
    own = to_spec(config({"Env": ["PATH=/bin", "TERM=dumb"]}), image, terminal=True, rootless=False).process
    assert own is not None
    assert own.env == ("PATH=/bin", "TERM=dumb")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "args"),
    [
        (["/init", "-v"], ["serve"], ("/init", "-v", "serve")),
        (["/init"], None, ("/init",)),
        (None, ["sh", "-c", "true"], ("sh", "-c", "true")),
        ([], [], ("sh",)),
    ],
)
def test_entrypoint_and_cmd_are_the_arguments_one_after_the_other(
    image: int, entrypoint: JSON, cmd: JSON, args: tuple[str, ...]
) -> None:
    assert process(image, Entrypoint=entrypoint, Cmd=cmd).args == args


# Annotations.


def test_each_field_has_its_annotation(image: int) -> None:
    spec = made(
        image,
        {"StopSignal": "SIGINT", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "53/udp": {}}},
        variant="v2",
        os__version="10.0",
        os__features=["one", "two"],
        author="somebody",
        created="2024-05-06T07:08:09.123456789Z",
    )
    assert spec.annotations == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.variant": "v2",
        "org.opencontainers.image.os.version": "10.0",
        "org.opencontainers.image.os.features": "one,two",
        "org.opencontainers.image.author": "somebody",
        "org.opencontainers.image.created": "2024-05-06T07:08:09.123456789Z",
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "443/tcp,53/udp,80/tcp",
    }


def test_what_is_absent_has_none(image: int) -> None:
    assert made(image).annotations == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "amd64",
    }


@pytest.mark.parametrize(
    "name",
    ["os", "architecture", "variant", "os.version", "os.features", "author", "created", "stopSignal", "exposedPorts"],
)
def test_a_label_of_the_same_name_wins(image: int, name: str) -> None:
    said: dict[str, JSON] = {
        "Labels": {f"org.opencontainers.image.{name}": " mine\n"},
        "StopSignal": "SIGINT",
        "ExposedPorts": {"80/tcp": {}},
    }
    spec = made(
        image, said, variant="v2", os__version="1", os__features=["a"], author="b", created="2024-01-01T00:00:00Z"
    )
    assert spec.annotations[f"org.opencontainers.image.{name}"] == " mine\n"
    assert len(spec.annotations) == 9


def test_labels_are_annotations_never_altered(image: int) -> None:
    labels: dict[str, JSON] = {"a": "", "b.c/d": "äöü \u0000", "e": " x "}
    spec = made(image, {"Labels": labels})
    assert {name: value for name, value in spec.annotations.items() if name in labels} == labels


@pytest.mark.parametrize(
    "name", ["run.oci.keep_original_groups", "org.criu.config", "org.systemd.property.DeviceAllow"]
)
def test_a_label_that_a_runtime_would_act_on_is_left_out_and_told(
    image: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """conversion.md, Annotations: feedback is due."""
    found = convert(config({"Labels": {name: "1", "harmless": "2"}}), image, rootless=False)
    assert name not in found.spec.annotations
    assert found.spec.annotations["harmless"] == "2"
    (note,) = found.notes
    assert (note.path, note.value, note.became) == (f"config.Labels[{name!r}]", "1", "left out")
    with caplog.at_level(logging.WARNING, "ocirt.image"):
        to_spec(config({"Labels": {name: "1"}}), image, rootless=False)
    assert name in caplog.text


# User.


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("", User(0, 0)),
        ("alice", User(1000, 1001, additional_gids=(29, 50))),
        ("bob", User(1002, 1002, additional_gids=(29,))),
        ("alice:staff", User(1000, 50)),
        ("alice:7", User(1000, 7)),
        ("1000", User(1000, 1001)),
        ("4711", User(4711, 0)),
        ("4711:29", User(4711, 29)),
        ("4711:audio", User(4711, 29)),
        (":audio", User(0, 29)),
        ("0", User(0, 0)),
    ],
)
def test_whom_a_user_means(image: int, text: str, user: User) -> None:
    """Other groups come with a name alone: not with a number, nor where a group is given."""
    assert process(image, User=text).user == user


@pytest.mark.parametrize(
    "text", ["carol", "carol:staff", "alice:nobody", "-1", "4294967295", "99999999999999999999999"]
)
def test_a_user_who_is_not_there_is_an_error_with_its_path(image: int, text: str) -> None:
    ((path, rule),) = problems(image, User=text)
    assert path == "config.User"
    assert rule


def test_a_number_is_no_name(tmp_path: Path) -> None:
    """CVE-2016-3697: a line called 1000 with the IDs of root."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("1000:x:0:0::/:/bin/sh\n99999999999:x:0:0::/:/bin/sh\n")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert process(fd, User="1000").user == User(1000, 0)
        assert problems(fd, User="99999999999") == [("config.User", "is more than an ID can be")]
    finally:
        os.close(fd)


@pytest.mark.parametrize("file", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "outside", "magic", "zero", "huge", "loop", "socket"])
def test_hostile_files_are_errors_and_nobody_waits(tmp_path: Path, file: str, kind: str) -> None:
    """An image whose /etc/passwd is a FIFO, a way out, or endless (security.md, S8)."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (tmp_path / "secret").write_text("eve:x:0:0::/:/bin/sh\n")
    target = root / "etc" / file
    target.unlink()
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    elif kind == "outside":
        target.symlink_to("../../secret")  # the root's parent is the root: there is no such file
    elif kind == "magic":
        target.symlink_to("/proc/self/root/etc/passwd")
    elif kind == "zero":
        os.mknod(target, 0o020666, os.makedev(1, 5)) if os.geteuid() == 0 else os.mkfifo(target)
    elif kind == "huge":
        with target.open("wb") as huge:
            huge.truncate(1 << 40)
    elif kind == "loop":
        target.symlink_to(file)
    elif kind == "socket":
        os.mknod(target, 0o140666)
    fd = os.open(root, os.O_PATH)
    try:
        paths = [path for path, _ in problems(fd, User="eve" if file == "passwd" else "alice:eve")]
        assert process(fd, User="7:8").user == User(7, 8)  # numbers need no file
    finally:
        os.close(fd)
    assert paths == ["config.User"]


def test_lines_that_are_none_count_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(
        b"#eve:x:1:1::/:\n+eve:x:2:2::/:\neve:x:-3:3::/:\neve:x:4294967295:4::/:\neve:x\n\xff\xfe\0:x:5:5\n"
        b"eve:x:6:6::/:\neve:x:0:0::/:\n" + b"x" * 100_000
    )
    (tmp_path / "etc/group").write_bytes(b"g:x:five:eve\ng:x:7:eve, bob,\nh:x:8:eve\ni:x:8:eve\n:x:9:eve\n")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert process(fd, User="eve").user == User(6, 6, additional_gids=(7, 8))
    finally:
        os.close(fd)


def test_an_image_without_accounts_has_numbers(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    try:
        assert process(fd, User="1000").user == User(1000, 0)
        assert problems(fd, User="root") == [("config.User", "is no user in /etc/passwd")]
    finally:
        os.close(fd)


# Volumes.


def volumes(image: int, how: Volumes, *paths: str) -> tuple[Mount, ...]:
    made = to_spec(config({"Volumes": {path: {} for path in paths}}), image, volumes=how, rootless=False).mounts
    return made[len(Spec.default().mounts) :]


def test_a_volume_is_an_empty_tmpfs_a_copy_or_nothing(image: int) -> None:
    assert volumes(image, "tmpfs", "/data") == (Mount("/data", "tmpfs", "tmpfs", ("nosuid", "nodev")),)
    assert volumes(image, "seed", "/data") == (Mount("/data", "tmpfs", "tmpfs", ("nosuid", "nodev", "tmpcopyup")),)
    assert volumes(image, "ignore", "/data") == ()


def test_outer_volumes_come_before_inner_ones_and_each_once(image: int) -> None:
    made = volumes(image, "tmpfs", "/b/c/d", "/b//c/", "/b/c", "/a/", "/b")
    assert [mount.destination for mount in made] == ["/a", "/b", "/b/c", "/b/c/d"]


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/self", "/sys", "/dev/shm", "a b", "", "/a/../proc", "//proc/"])
def test_a_volume_does_not_cover_what_a_container_needs(image: int, path: str) -> None:
    """CVE-2019-16884: VOLUME /proc put an ordinary directory there."""
    ((where, rule),) = problems(image, Volumes={path: {}})
    assert where == f"config.Volumes[{path!r}]"
    assert "volumes='ignore'" in rule
    assert volumes(image, "ignore", path) == ()


@pytest.mark.root
def test_volumes_belong_to_whom_the_image_says(lab: Lab, rootfs: Path) -> None:
    """A program that is not root can write to its volume, empty or with what the image has in it."""
    data = rootfs / "data"
    data.mkdir()
    (data / "file").write_text("content\n")
    data.chmod(0o750)
    for path in (data, data / "file"):
        os.chown(path, 1000, 1001)
    fd = os.open(rootfs, os.O_PATH)
    script = "ls /data; touch /data/new && stat -c '%a %u %g' /data"
    said: dict[str, JSON] = {"Volumes": {"/data": {}}, "User": "1000:1001", "Cmd": ["sh", "-c", script]}
    try:
        empty, seeded = (to_spec(config(said), fd, volumes=how) for how in ("tmpfs", "seed"))
    finally:
        os.close(fd)
    root = empty.root.evolve(path=str(rootfs))
    assert lab.output(empty.evolve(root=root)) == "750 1000 1001\n"
    assert lab.output(seeded.evolve(root=root)) == "file\n750 1000 1001\n"
    assert sorted(os.listdir(data)) == ["file"]


def test_owners_are_looked_for_in_the_containers_ids(image: int, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs to be root: files of others are made")
    (tmp_path / "image/mapped").mkdir()
    (tmp_path / "image/foreign").mkdir()
    os.chown(tmp_path / "image/mapped", 100_070, 100_000)
    base = Spec.default()
    assert base.linux is not None
    mapping = (IDMapping(0, 100_000, 1000),)
    base = base.evolve(
        linux=base.linux.evolve(
            uid_mappings=mapping, gid_mappings=mapping, namespaces=(*base.linux.namespaces, Namespace("user"))
        )
    )
    made = to_spec(config({"Volumes": {"/mapped": {}, "/foreign": {}}}), image, base=base).mounts[-2:]
    assert [mount.options for mount in made] == [("nosuid", "nodev"), ("nosuid", "nodev", "uid=70")]


# Everything else.


def test_without_a_base_it_is_what_spec_writes_but_for_images(image: int) -> None:
    spec, default = made(image), Spec.default()
    assert default.process is not None
    assert spec.process is not None
    assert spec.root == default.root.evolve(readonly=False)
    assert (spec.mounts, spec.linux, spec.hostname) == (default.mounts, default.linux, default.hostname)
    assert spec.process.terminal is False
    assert spec.process.rlimits == default.process.rlimits
    assert spec.process.capabilities is not None
    assert "CAP_SETUID" in spec.process.capabilities.bounding


def test_a_base_keeps_what_the_image_does_not_say(image: int) -> None:
    base = Spec.default()
    assert base.process is not None
    program = base.process.evolve(args=("top",), env=("A=base", "B=base"), user=User(5, 6), cwd="/base")
    base = base.evolve(process=program, annotations={"kept": "1"}, hostname="base")
    plain = to_spec(config(), image, base=base)
    assert plain.process == program
    assert plain.hostname == "base"
    said = to_spec(config({"Env": ["A=image"], "Cmd": ["sh"], "User": "bob", "WorkingDir": "/w"}), image, base=base)
    assert said.process == program.evolve(
        env=("A=image", "B=base"), args=("sh",), user=User(1002, 1002, additional_gids=(29,)), cwd="/w"
    )
    assert said.annotations["kept"] == "1"


def test_a_rootless_one_maps_whom_the_image_wants(image: int) -> None:
    found = convert(config({"User": "alice"}), image, rootless=True)
    spec, default = found.spec, Spec.default(rootless=True)
    assert spec.linux is not None
    assert spec.process is not None
    assert spec.process.user == User(1000, 1001)
    assert spec.linux.uid_mappings == (IDMapping(1000, os.geteuid(), 1),)
    assert spec.linux.gid_mappings == (IDMapping(1001, os.getegid(), 1),)
    assert spec.mounts == default.mounts
    (note,) = found.notes
    assert (note.path, note.became) == ("config.User", "without other groups")


def test_all_problems_are_told_at_once(image: int) -> None:
    found = problems(image, User="carol", Env=["=x"], WorkingDir="rel", Volumes={"/": {}}, Entrypoint=[""])
    assert [path for path, _ in found] == [
        "config.User",
        "config.Entrypoint[0]",
        "config.WorkingDir",
        "config.Env[0]",
        "config.Volumes['/']",
    ]


def test_an_image_for_another_system_is_refused(image: int) -> None:
    with pytest.raises(UnsupportedError, match="windows"):
        to_spec(config(os="windows"), image)


@pytest.mark.root
def test_a_container_is_as_its_image_says(own_lab: Lab) -> None:
    """The working directory is made, the user and groups are those of the image, and the environment is its."""
    etc = own_lab.rootfs / "etc"
    (etc / "passwd").write_text(PASSWD)
    (etc / "group").write_text(GROUP)
    fd = os.open(own_lab.rootfs, os.O_PATH)
    script = "pwd; id -u; id -g; id -G; echo $A $HOME; echo $0 $1"
    said: dict[str, JSON] = {
        "User": "alice",
        "WorkingDir": "/made/here",
        "Env": ["A=1", "PATH=/bin"],
        "Entrypoint": ["sh", "-c", script],
        "Cmd": ["zero", "one"],
    }
    try:
        spec = to_spec(config(said), fd)
    finally:
        os.close(fd)
    output = own_lab.output(spec.evolve(root=spec.root.evolve(path=str(own_lab.rootfs))))
    assert output.splitlines() == ["/made/here", "1000", "1001", "1001 29 50", "1 /home/alice", "zero one"]
