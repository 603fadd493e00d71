"""A tmpfs that begins with what the image has at its place (config.md, Linux mount options, tmpcopyup)."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.errors import SetupError
from ocirt.spec import IDMapping, Mount
from tests.lifecycle.test_mounts import seen, with_mounts, writable
from tests.support import Lab, error_of, linux, namespaces

pytestmark = pytest.mark.root


def copied(script: str, *options: str, target: str = "/etc") -> Spec:
    return writable(with_mounts(Mount(target, "tmpfs", "tmpfs", ("tmpcopyup", *options)), script=script))


def output(lab: Lab, script: str, *options: str, target: str = "/etc") -> str:
    return lab.output(copied(script, *options, target=target))


@pytest.mark.covers("mounts[].options")
def test_files_come_with_content_mode_owner_and_time(own_lab: Lab) -> None:
    etc = own_lab.rootfs / "etc"
    (etc / "below/deeper").mkdir(parents=True)
    (etc / "below/deeper/file").write_text("text\n")
    (etc / "set-id").write_text("x")
    os.chown(etc / "set-id", 7, 8)
    (etc / "set-id").chmod(0o6751)
    os.utime(etc / "set-id", (1, 1_000_000_000))
    os.chown(etc / "below", 9, 10)
    (etc / "below").chmod(0o2715)
    printed = output(
        own_lab, "cat /etc/below/deeper/file; stat -c '%a %u:%g %Y' /etc/set-id; stat -c '%a %u:%g' /etc/below"
    )
    assert printed.splitlines() == ["text", "6751 7:8 1000000000", "2715 9:10"]


def test_the_directory_itself_looks_as_it_did(own_lab: Lab) -> None:
    os.chown(own_lab.rootfs / "etc", 7, 8)
    (own_lab.rootfs / "etc").chmod(0o1751)
    assert output(own_lab, "stat -c '%a %u:%g' /etc") == "1751 7:8\n"


def test_options_have_the_last_word_on_the_directory(own_lab: Lab) -> None:
    os.chown(own_lab.rootfs / "etc", 7, 8)
    assert output(own_lab, "stat -c '%a %u:%g' /etc", "mode=700", "uid=5") == "700 5:0\n"


def test_what_the_container_changes_the_image_does_not_see(own_lab: Lab) -> None:
    (own_lab.rootfs / "etc/file").write_text("before\n")
    assert output(own_lab, "echo after > /etc/file; rm -r /etc/*; ls /etc") == ""
    assert (own_lab.rootfs / "etc/file").read_text() == "before\n"


def test_a_read_only_copy_has_its_content(own_lab: Lab) -> None:
    (own_lab.rootfs / "etc/file").write_text("text\n")
    assert output(own_lab, "cat /etc/file; touch /etc/new", "ro").splitlines() == [
        "text",
        "touch: /etc/new: Read-only file system",
    ]


def test_links_stay_links(own_lab: Lab) -> None:
    etc = own_lab.rootfs / "etc"
    (etc / "one").write_text("text\n")
    (etc / "below").mkdir()
    os.link(etc / "one", etc / "two")
    os.link(etc / "one", etc / "below/three")
    (etc / "soft").symlink_to("/nowhere")
    os.chown(etc / "soft", 7, 8, follow_symlinks=False)
    printed = output(
        own_lab,
        "stat -c '%h' /etc/one; for n in two below/three; do test /etc/one -ef /etc/$n && echo same; done;"
        " readlink /etc/soft; stat -c %u:%g /etc/soft",
    )
    assert printed.splitlines() == ["3", "same", "same", "/nowhere", "7:8"]


def test_extended_attributes_come_along(own_lab: Lab) -> None:
    etc = own_lab.rootfs / "etc"
    (etc / "file").write_text("x")
    try:
        os.setxattr(etc / "file", "trusted.test", b"value")
    except OSError as error:
        pytest.skip(f"this filesystem has no extended attributes: {error}")
    os.setxattr(etc, "trusted.top", b"top")
    # cap_net_raw=ep, in the form of version 2 (capabilities(7))
    os.setxattr(etc / "file", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    with own_lab.start(copied("sleep 60")) as container:
        root = Path(f"/proc/{container.pid}/root/etc")
        assert os.getxattr(root / "file", "trusted.test") == b"value"
        assert os.getxattr(root, "trusted.top") == b"top"
        assert os.getxattr(root / "file", "security.capability")[:5] == bytes.fromhex("0100000200")
        container.kill(9)
        assert container.process is not None
        container.process.communicate()


def test_special_files_are_made_and_never_opened(own_lab: Lab) -> None:
    """A FIFO that was opened would hold the container up for ever."""
    etc = own_lab.rootfs / "etc"
    os.mkfifo(etc / "fifo", 0o640)
    os.mknod(etc / "null", 0o604 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(etc / "socket"))
        printed = output(own_lab, "cd /etc; stat -c '%n %F' *; stat -c '%t:%T %a' null")
    assert printed.splitlines() == [
        "fifo fifo",
        "null character special file",
        "socket socket",
        "1:3 604",
    ]


def test_a_link_out_of_the_image_is_copied_and_not_followed(own_lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    (own_lab.rootfs / "etc/link").symlink_to(secret)
    assert output(own_lab, "readlink /etc/link; cat /etc/link/file").splitlines() == [
        str(secret),
        "cat: can't open '/etc/link/file': No such file or directory",
    ]


def test_what_is_forbidden_where_the_content_comes_from_stays_so(own_lab: Lab, tmp_path: Path) -> None:
    """Or a device node of an image on a mount without devices would come to life."""
    source = tmp_path / "data"
    source.mkdir()
    mounts = (
        Mount("/etc", None, str(source), ("bind", "nosuid", "nodev", "noexec")),
        Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup",)),
    )
    assert seen(own_lab, with_mounts(*mounts))["/etc"].options >= {"nosuid", "nodev", "noexec"}


ROUNDS = 30


def test_what_is_exchanged_while_it_is_copied_never_leads_out(own_lab: Lab, tmp_path: Path) -> None:
    """A directory and a file that turn into links, and back, as fast as another thread can."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    for number in range(50):
        here = own_lab.rootfs / "etc" / str(number)
        here.mkdir()
        (here / "file").write_text("open")
    done = threading.Event()

    def exchange() -> None:
        etc = own_lab.rootfs / "etc"
        while not done.is_set():
            for number in range(50):
                (etc / str(number)).rename(etc / "aside")
                (etc / str(number)).symlink_to(secret)
                (etc / str(number)).unlink()
                (etc / "aside").rename(etc / str(number))

    script = "for f in /etc/*/file; do cat $f; echo; done 2>/dev/null"
    attacker = threading.Thread(target=exchange)
    attacker.start()
    try:
        for _ in range(ROUNDS):
            found: list[str] = []
            error = error_of(lambda found=found: found.append(output(own_lab, script)))  # type: ignore[misc]  # a default is no annotation
            assert error is None or "tmpcopyup" in str(error)
            assert set("".join(found).split()) <= {"open"}
    finally:
        done.set()
        attacker.join()


def test_holes_stay_holes(own_lab: Lab) -> None:
    """A file of a terabyte that holds one page."""
    with (own_lab.rootfs / "etc/sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate(1 << 40)
    printed = output(
        own_lab,
        "head -c5 /etc/sparse; dd if=/etc/sparse bs=1M skip=1024 count=1 2>/dev/null | head -c6;"
        " stat -c ' %s' /etc/sparse",
        "size=1m",
    )
    assert printed == "beginmiddle 1099511627776\n"


def test_many_entries_and_long_names_are_copied(own_lab: Lab) -> None:
    for number in range(300):
        (own_lab.rootfs / "etc" / f"{number:03}{'x' * 250}").touch()
    assert output(own_lab, "ls /etc | wc -l") == "300\n"


def test_what_does_not_fit_is_an_error_that_names_it(own_lab: Lab) -> None:
    (own_lab.rootfs / "etc/below").mkdir()
    (own_lab.rootfs / "etc/below/large").write_bytes(b"x" * 100_000)
    with pytest.raises(SetupError, match="tmpcopyup: /etc/below/large") as caught:
        output(own_lab, "true", "size=8k")
    assert caught.value.origin == "mounts[7]"
    assert own_lab.remains() == []


def test_a_tree_without_end_is_an_error(own_lab: Lab) -> None:
    here = own_lab.rootfs / "etc"
    for _ in range(130):
        here = here / "d"
        here.mkdir()
    with pytest.raises(SetupError, match="Too many levels"):
        output(own_lab, "true")
    assert own_lab.remains() == []


def test_where_the_image_has_nothing_the_tmpfs_is_empty(own_lab: Lab) -> None:
    assert output(own_lab, "ls -A /new", target="/new") == ""


def test_it_works_in_a_user_namespace(own_lab: Lab) -> None:
    for path in (own_lab.rootfs, *own_lab.rootfs.rglob("*")):
        os.chown(path, 200_000, 200_000, follow_symlinks=False)
    (own_lab.rootfs / "etc/file").write_text("text\n")
    os.chown(own_lab.rootfs / "etc/file", 200_007, 200_000)
    mapping = (IDMapping(0, 200_000, 65_536),)
    mount = Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup",))
    spec = writable(with_mounts(mount, script="cat /etc/file; stat -c %u /etc/file")).evolve(
        linux=linux(
            namespaces=namespaces("pid", "network", "ipc", "uts", "mount", "user"),
            uid_mappings=mapping,
            gid_mappings=mapping,
        )
    )
    assert own_lab.output(spec).splitlines() == ["text", "7"]
