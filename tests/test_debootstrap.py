"""``Bundle.from_debootstrap``: a Debian for a container, as root and as an ordinary user; and what is left of none.

tests/lifecycle/test_debian.py has one that debootstrap makes as root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Bundle, BundleError, OCIError, run
from tests.lifecycle.test_debian import mirror
from tests.rootless.user import FIRST, UID, User, make_user
from tests.support import SECONDS, eventually, host_mounts

pytestmark = pytest.mark.root

SEE = """
apt-get --version | head -n 1; id -u; ls -A /var/lib/apt/lists; ls /etc/resolv.conf /etc/hostname 2>/dev/null
policy-rc.d; echo $?; stat -c '%u %g %a' /usr/bin/su /var/mail /tmp; su -s /bin/sh -c 'id -un' nobody
"""
SEEN = ["0", "101", "0 0 4755", "0 8 2775", "0 0 1777", "nobody"]


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def need(program: str) -> str:
    """Where packages come from on this machine."""
    where = mirror()
    if shutil.which(program) is None or where is None:
        pytest.skip(f"needs {program} and a Debian mirror in /etc/apt (Debian: apt-get install {program})")
    return where


@pytest.mark.slow
def test_root_makes_one(tmp_path: Path) -> None:
    where = need("mmdebstrap")
    (tmp_path / "debian").mkdir()  # an empty directory is as good as none
    made = Bundle.from_debootstrap(
        tmp_path / "debian", "bookworm", mirror=where, include=["hello"], program="mmdebstrap"
    )
    assert os.listdir(tmp_path) == ["debian"]
    assert sorted(os.listdir(made.path)) == ["config.json", "rootfs"]
    assert os.listdir(made.rootfs / "dev") == []
    done = run(["sh", "-c", f"{SEE} hello"], bundle=made, text=True)
    apt, *lines = done.stdout.splitlines()
    assert apt.startswith("apt 2.6")
    assert lines == [*SEEN, "Hello, world!"]
    assert not any(str(tmp_path) in line for line in host_mounts())


@pytest.mark.slow
@pytest.mark.rootless
@pytest.mark.parametrize(("program", "variant"), [("debootstrap", "minbase"), ("mmdebstrap", "essential")])
def test_an_ordinary_user_makes_one(user: User, program: str, variant: str) -> None:
    """Files of others are there, owned by subordinate IDs; the container has them all."""
    where = need(program)
    code = f"""
bundle = Bundle.from_debootstrap(HOME + "/debian", "bookworm", mirror={where!r}, variant={variant!r},
                                 program={program!r})
assert sorted(os.listdir(bundle.path)) == ["config.json", "rootfs"]
assert os.listdir(str(bundle.rootfs) + "/dev") == []
owner = os.stat(str(bundle.rootfs) + "/var/mail")
print(owner.st_uid, owner.st_gid)
print(run(["sh", "-c", {SEE!r}], bundle=bundle, root=STATE, text=True).stdout)
print([name for name in os.listdir(HOME) if name.startswith(".")])
"""
    owner, *lines = user.python(code, subordinate=True, patience=10).split("\n")
    assert owner == f"{UID} {FIRST + 7}"
    assert [line for line in lines if line and not line.startswith("apt ")] == [*SEEN, "[]"]
    assert not any(str(user.home) in line for line in host_mounts())


def test_a_failure_shows_what_was_written_and_leaves_nothing(tmp_path: Path) -> None:
    need("debootstrap")
    with pytest.raises(OCIError) as caught:
        Bundle.from_debootstrap(
            tmp_path / "debian", "bookworm", mirror=f"file://{tmp_path}/nowhere", program="debootstrap"
        )
    assert "debootstrap ended with status" in str(caught.value)
    assert "nowhere" in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.rootless
def test_an_ordinary_users_failure_leaves_nothing(user: User) -> None:
    need("debootstrap")
    code = """
try:
    Bundle.from_debootstrap(HOME + "/debian", "bookworm", mirror=f"file://{HOME}/nowhere", program="debootstrap")
except OCIError as error:
    print("nowhere" in str(error))
print([name for name in os.listdir(HOME) if "debian" in name])
"""
    assert user.python(code, subordinate=True).splitlines() == ["True", "[]"]
    assert "subordinate IDs" in user.python(
        "try:\n    Bundle.from_debootstrap(HOME + '/debian', 'bookworm')\nexcept UnsupportedError as e: print(e)"
    )


def test_what_is_there_stays(tmp_path: Path) -> None:
    need("debootstrap")
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="exists already"):
        Bundle.from_debootstrap(tmp_path, "bookworm")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "words",
    [
        {"suite": "--print-debs"},
        {"suite": "book worm"},
        {"suite": "bookworm", "include": ["--help"]},
        {"suite": "bookworm", "variant": "a,b"},
        {"suite": "bookworm", "components": ["main,contrib"]},
        {"suite": "bookworm", "mirror": "--foreign"},
    ],
)
def test_a_word_is_no_option(tmp_path: Path, words: dict[str, str]) -> None:
    need("debootstrap")
    with pytest.raises(ValueError, match="is no"):
        Bundle.from_debootstrap(tmp_path / "debian", **words)  # type: ignore[arg-type]  # as Python's users may
    assert os.listdir(tmp_path) == []


def test_without_the_programs_the_error_names_their_package(tmp_path: Path) -> None:
    """In a mount namespace where nothing can be executed under these names."""
    programs = "$(which -a debootstrap mmdebstrap)"
    hide = f"for path in {programs}; do mount --bind /dev/null $path; done"
    code = f"""
from ocirt import Bundle, UnsupportedError
try:
    Bundle.from_debootstrap({str(tmp_path / "debian")!r}, "bookworm")
except UnsupportedError as error:
    print(error)
"""
    command = ["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    assert done.stdout == "debootstrap: needs mmdebstrap or debootstrap (Debian: apt-get install mmdebstrap)\n"


def test_a_killed_caller_leaves_nothing_that_runs_or_looks_whole(tmp_path: Path) -> None:
    """All processes end with it, and their mounts; what is left is hidden."""
    where = need("debootstrap")
    code = f"""
from ocirt import Bundle
Bundle.from_debootstrap({str(tmp_path / "debian")!r}, "bookworm", mirror={where!r}, program="debootstrap")
"""
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        eventually(lambda: list(tmp_path.glob(".debian.*/rootfs/debootstrap")), "it has begun")
        caller.send_signal(signal.SIGKILL)
    eventually(lambda: _working_for(tmp_path) == [], f"all have ended: {_working_for(tmp_path)}")
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".debian.")
    assert not any(str(tmp_path) in line for line in host_mounts())


def _working_for(directory: Path) -> list[str]:
    """The command lines of processes that name it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode("utf-8", "replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(directory) in line:
            found.append(line)
    return found
