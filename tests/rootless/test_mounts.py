"""Mounts of an ordinary user: what the host has forbidden for its mounts stays forbidden for views of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.rootless.user import PRELUDE, User
from tests.support import SECONDS

pytestmark = [pytest.mark.root, pytest.mark.rootless]

LIFE = """
def shown(*options, **members):
    spec = document("sh", "-c", "grep ' /tmp ' /proc/self/mountinfo")
    spec = spec.evolve(mounts=(*spec.mounts, Mount("/tmp", None, HOME + "/locked", options, **members)))
    try:
        return lived(spec)[1].split()[5]
    except OCIError as error:
        return str(error)
"""


def with_locked_mount(user: User, code: str) -> str:
    """What the code prints where ``locked`` is a mount with flags of root's."""
    (user.home / "locked").mkdir()
    script = user.home / "script.py"
    script.write_text(PRELUDE + LIFE + code)
    mount = f"mount -t tmpfs -o nosuid,nodev,noexec,noatime none {user.home}/locked"
    arguments = [sys.executable, str(script), str(user.home), str(user.rootfs), str(user.home / "state")]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_locked_flags_stay_whatever_else_is_asked_for(user: User) -> None:
    printed = with_locked_mount(user, 'print(shown("bind", "ro"))')
    assert set(printed.split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime"}


@pytest.mark.parametrize("word", ["suid", "dev", "exec", "rexec"])
def test_locked_flags_cannot_be_cleared(user: User, word: str) -> None:
    printed = with_locked_mount(user, f'print(shown("bind", "{word}"))')
    assert printed.startswith("mounts[7]: BindMount")
    assert f"cannot clear locked flags ({word.removeprefix('r')})" in printed


def test_locked_access_times_cannot_be_changed(user: User) -> None:
    assert "cannot change locked atime flags" in with_locked_mount(user, 'print(shown("bind", "relatime"))')


def test_owners_cannot_be_mapped(user: User) -> None:
    code = 'one = (IDMapping(0, 0, 1),)\nprint(shown("bind", "idmap", uid_mappings=one, gid_mappings=one))'
    assert with_locked_mount(user, code) == (
        "mounts[7].uidMappings: id-mapped mounts are not supported for rootless containers"
    )


def test_a_group_that_is_not_mapped_is_an_error_at_its_option(user: User) -> None:
    code = """
spec = document("true")
spec = spec.evolve(mounts=(*spec.mounts, Mount("/tmp", "tmpfs", None, ("nosuid", "gid=5"))))
try:
    lived(spec)
except OCIError as error:
    print(error)
"""
    assert user.python(code).startswith(
        "mounts[7].options[1]: cannot specify gid=5 mount option for rootless container: "
    )
