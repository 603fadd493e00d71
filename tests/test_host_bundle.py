"""``Bundle.from_host``: this host's software in a bundle, and nothing that is not everybody's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Bundle, BundleError, run
from tests.rootless.user import User, make_user
from tests.support import Lab

pytestmark = pytest.mark.root


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def said(lab: Lab, bundle: Bundle, script: str) -> list[str]:
    assert bundle.spec.process is not None
    program = bundle.spec.process.evolve(args=("sh", "-c", script))
    document = bundle.spec.evolve(process=program, root=bundle.spec.root.evolve(path=str(bundle.rootfs)))
    return lab.output(document).splitlines()


def test_it_shows_the_hosts_software_and_configuration(lab: Lab, tmp_path: Path) -> None:
    bundle = Bundle.from_host(tmp_path / "host")
    version = subprocess.run(["uname", "-o"], capture_output=True, text=True, check=True).stdout.strip()
    script = "uname -o; cat /etc/passwd | wc -l; ls -d /home/* /root/* /var/* 2>/dev/null; hostname; ls /sys/class"
    lines = said(lab, bundle, script)
    assert lines[:2] == [version, str(len(Path("/etc/passwd").read_text().splitlines()))]
    assert lines[2:4] == ["/var/tmp", "ocirt"]


def test_nothing_of_the_host_can_be_written_to_and_its_secrets_are_not_there(lab: Lab, tmp_path: Path) -> None:
    bundle = Bundle.from_host(tmp_path / "host")
    script = "touch /etc/x /usr/x /bin/x 2>&1 | grep -c Read-only; wc -c </etc/shadow; touch /tmp/x /var/tmp/x; echo $?"
    assert said(lab, bundle, script) == ["3", "0", "0"]
    assert (tmp_path / "host/rootfs/tmp/x").exists()
    assert oct((tmp_path / "host/rootfs/tmp").stat().st_mode) == "0o41777"


def test_its_program_is_run_by_name(tmp_path: Path) -> None:
    bundle = Bundle.from_host(tmp_path / "host", args=("echo", "here"))
    assert run((), bundle=bundle, text=True).stdout == "here\n"
    assert Bundle.load(tmp_path / "host").spec == bundle.spec


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(BundleError, match="exists already"):
        Bundle.from_host(tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"]
    (tmp_path / "taken/file").unlink()
    assert Bundle.from_host(tmp_path / "taken").path == tmp_path / "taken"


@pytest.mark.rootless
def test_an_ordinary_user_has_one_too(user: User) -> None:
    code = """
script = "id -u; ls /usr/bin | wc -l; touch /usr/x 2>&1; cat /etc/shadow 2>&1"
bundle = Bundle.from_host(HOME + "/host", args=["sh", "-c", script])
print(run((), bundle=bundle, root=STATE, text=True).stdout)
"""
    lines = user.python(code).splitlines()
    assert (lines[0], int(lines[1]) > 50) == ("0", True)
    assert "Read-only" in lines[2]
    assert "denied" in lines[3]
