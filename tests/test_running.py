"""One call runs a program in a container of its own and leaves nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Unpack

import pytest

import ocirt
from ocirt import Bundle, SetupError, bind, containers, run
from ocirt.running import Options
from tests.support import document

pytestmark = pytest.mark.root


def shell(script: str, **options: Unpack[Options]) -> str:
    done = run(["sh", "-c", script], text=True, **options)
    assert done.returncode == 0, done
    return done.stdout


def test_the_hosts_own_software_runs_without_an_image() -> None:
    done = ocirt.run(["python3", "-c", "print(6 * 7)"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"42\n", b"")
    assert done.args == ("python3", "-c", "print(6 * 7)")
    assert done.wall_seconds > 0


def test_the_hosts_private_directories_are_empty() -> None:
    assert shell("ls -A /root /home /run /tmp /var/tmp /srv /mnt 2>/dev/null | grep -v :$ || true").strip() == ""


def test_nothing_of_the_hosts_top_is_shown_but_software() -> None:
    shown = set(shell("ls /").split())
    assert shown >= {"bin", "etc", "usr", "tmp", "home", "root", "proc", "dev"}
    allowed = {"bin", "dev", "etc", "home", "opt", "proc", "root", "run", "sbin", "tmp", "usr", "var"}
    assert {name for name in shown if not name.startswith("lib")} <= allowed


def test_secrets_in_etc_are_hidden() -> None:
    if not Path("/etc/shadow").exists():
        pytest.skip("this host keeps no /etc/shadow")
    assert shell("cat /etc/shadow") == ""


def test_writes_are_thrown_away() -> None:
    assert shell("echo x > /usr/ocirt-test && cat /usr/ocirt-test") == "x\n"
    assert not Path("/usr/ocirt-test").exists()
    assert shell("test -e /usr/ocirt-test || echo gone") == "gone\n"


def test_a_rootfs_is_left_as_it_was(rootfs: Path) -> None:
    before = sorted(os.walk(rootfs))
    assert shell("echo y > /new && mkdir /more && ls /", rootfs=rootfs).split() >= ["bin", "dev"]
    assert sorted(os.walk(rootfs)) == before


def test_a_bundle_runs_as_its_configuration_says(busybox_rootfs: Path, tmp_path: Path) -> None:
    bundle = Bundle.create(tmp_path / "bundle", rootfs=busybox_rootfs, spec=document("hostname"))
    assert run([], bundle=bundle).stdout == b"runc\n"
    assert run(["echo", "other"], bundle=bundle).stdout == b"other\n"


def test_input_output_and_errors_are_kept_apart() -> None:
    done = run(["sh", "-c", "cat; echo no >&2; exit 3"], input="hello", text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "hello", "no\n")


def test_check_raises_for_a_failure() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(["sh", "-c", "echo why >&2; exit 3"], check=True)
    assert (caught.value.returncode, caught.value.stderr) == (3, b"why\n")


def test_a_timeout_kills_inside_and_keeps_what_came(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run(["sh", "-c", "echo partly; sleep 1000"], timeout=0.3, root=tmp_path / "state")
    assert caught.value.output == b"partly\n"
    assert containers(root=tmp_path / "state") == []


def test_the_callers_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    names = {line.partition("=")[0] for line in shell("env", env={"MINE": "2"}).splitlines()}
    assert "SECRET" not in names
    assert {"MINE", "PATH", "LANG", "HOME"} <= names


def test_the_network_is_its_own_unless_the_hosts_is_asked_for() -> None:
    assert shell("ls /proc/sys/net/ipv4/conf").split() == ["all", "default", "lo"]
    assert shell("readlink /proc/self/ns/net", network="host").strip() == os.readlink("/proc/self/ns/net")


def test_mounts_show_more_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("data")
    assert shell("cat /data/file; touch /data/x || echo refused", mounts=[bind(tmp_path, "/data")]).splitlines() == [
        "datarefused"
    ]
    shell("touch /data/x", mounts=[bind(tmp_path, "/data", readonly=False)])
    assert (tmp_path / "x").exists()


def test_a_user_is_who_was_asked_for() -> None:
    assert shell("id -u; id -g", user=(12, 34)).split() == ["12", "34"]


def test_a_missing_program_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        run(["no-such-program"], root=tmp_path / "state")
    assert (caught.value.origin, caught.value.errno) == ("process.args[0]", 2)
    assert containers(root=tmp_path / "state") == []
