"""What of the host is shown, and what of that is hidden, as seen by whoever looks it up and by a container."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from ocirt import host_files
from ocirt.spec import Mount
from tests.support import SECONDS

OPTIONS = ("rbind", "rro", "nosuid", "nodev")

TABLE = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:6 / /dev rw - devtmpfs devtmpfs rw
40 27 254:1 / /usr/local\040software rw shared:5 - ext4 /dev/vdb rw
41 40 254:2 / /usr/local\040software/games rw - ext4 /dev/vdc rw
42 27 254:3 / /etc/hosts rw - ext4 /dev/vdd rw
43 27 254:4 / /home rw - ext4 /dev/vde rw
44 27 254:5 / /usrlocal rw - ext4 /dev/vdf rw
45 27 254:6 / /opt rw - ext4 /dev/vdg rw
""".strip()


def test_filesystems_below_what_is_shown_are_bound_and_no_others() -> None:
    """Each whole tree once; spaces come back from their escapes (proc_pid_mountinfo(5))."""
    assert host_files.submounts(TABLE) == (
        Mount("/etc/hosts", "none", "/etc/hosts", OPTIONS),
        Mount("/opt", "none", "/opt", OPTIONS),
        Mount("/usr/local software", "none", "/usr/local software", OPTIONS),
    )


def test_a_host_of_one_filesystem_needs_no_binds() -> None:
    assert host_files.submounts("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw") == ()


@pytest.mark.root
def test_a_filesystem_of_its_own_below_usr_is_seen_and_stays_readonly() -> None:
    """Overlayfs would show the empty directory beneath it."""
    code = (
        "import ocirt; result = ocirt.run(['sh', '-c', 'cat /usr/src/mark; echo x > /usr/src/mark'], text=True);"
        "print(result.stdout, end=''); print('Read-only' in result.stderr)"
    )
    script = 'mount -t tmpfs none /usr/src && echo "from the host" > /usr/src/mark && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout == "from the host\nTrue\n", done.stderr


@pytest.mark.root
def test_secrets_are_what_not_everybody_may_read() -> None:
    found = host_files.secrets()
    assert "/etc/shadow" in found
    assert "/etc/passwd" not in found
    assert not any(os.lstat(path).st_mode & stat.S_IROTH for path in found)


def test_where_all_of_procfs_and_sysfs_is_seen() -> None:
    """Whatever lies on others first; parts of them do not count (proc_pid_mountinfo(5))."""
    table = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime shared:7 master:1 - sysfs sysfs rw
24 27 0:22 /kernel /srv/kernel rw - sysfs sysfs rw
25 22 0:30 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw
26 27 0:31 / /srv/a\040b/proc rw - proc none rw
""".strip()
    assert host_files.full_views(table) == ("/srv/a b/proc", "/sys", "/proc")
