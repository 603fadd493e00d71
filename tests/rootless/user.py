"""Python code run by an ordinary user, with subordinate IDs or without.

The interpreter may lie where only root can read it: so a process starts as root, imports what will be needed, and then
becomes the user for good.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.support import SECONDS, make_rootfs

UID, GID = 64111, 64112
FIRST, COUNT = 3_000_000, 65536
"""Its subordinate IDs, where it has any."""

PRELUDE = f"""
import ctypes, importlib, os, pkgutil, resource, shutil, subprocess, sys, tempfile
from subprocess import DEVNULL, PIPE
import ocirt, cattrs
"example".encode("idna")  # whoever connects to a name does
for module in pkgutil.walk_packages(ocirt.__path__, "ocirt."):
    if module.name not in ("ocirt.__main__", "ocirt._native.libocirt"):
        importlib.import_module(module.name)
from ocirt import *
from ocirt import run
from ocirt.spec import *
Spec.loads(Spec.default().dumps())
run(["true"], root=sys.argv[1] + "/root-state")
os.setgroups([])
os.setresgid({GID}, {GID}, {GID})
os.setresuid({UID}, {UID}, {UID})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: becoming a user took it, a login gives it
HOME, ROOTFS, STATE = sys.argv[1:]
os.environ.clear()
os.chdir(HOME)

def document(*args, uid_mappings=(IDMapping(0, {UID}, 1),), gid_mappings=(IDMapping(0, {GID}, 1),), **changes):
    base = Spec.default(rootless=True, uid={UID}, gid={GID})
    linux = base.linux.evolve(uid_mappings=uid_mappings, gid_mappings=gid_mappings)
    process = base.process.evolve(terminal=False, args=args, **changes)
    return base.evolve(process=process, linux=linux)

def lived(spec, **streams):
    with Container.create("c", Bundle(HOME, spec.evolve(root=spec.root.evolve(path=ROOTFS))), root=STATE,
                          stdin=DEVNULL, stdout=PIPE, stderr=PIPE) as container:
        container.start()
        output, errors = container.process.communicate(timeout=30)
    assert not containers(root=STATE)
    return container.process.returncode, output.decode(), errors.decode()
"""


@frozen
class User:
    """An ordinary user with a directory, a rootfs and a place for state."""

    home: Path
    rootfs: Path

    def python(self, code: str, *, subordinate: bool = False, cgroup: Path | None = None, patience: int = 1) -> str:
        """What the code printed; any error fails the test. ``cgroup``, of version 2, is where it runs.

        ``patience`` is for what takes long: a factor of the usual seconds.
        """
        script = self.home / "script.py"
        script.write_text(PRELUDE + code)
        state = self.home / "state"
        command = [sys.executable, str(script), str(self.home), str(self.rootfs), str(state)]
        if subordinate:
            command = self._with_subordinate_ids(command)
        if cgroup is not None:
            command = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh", *command]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=patience * SECONDS, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _with_subordinate_ids(self, command: list[str]) -> list[str]:
        """In a mount namespace where /etc says so; the host's own files are left alone."""
        for name in ("subuid", "subgid"):
            (self.home / name).write_text(f"{UID}:{FIRST}:{COUNT}\n")
        # newuidmap looks its caller up, and this user is known to nobody else.
        passwd = Path("/etc/passwd").read_text() + f"tester:x:{UID}:{GID}::/:/bin/sh\n"
        (self.home / "passwd").write_text(passwd)
        binds = " && ".join(f"mount --bind {self.home}/{name} /etc/{name}" for name in ("subuid", "subgid", "passwd"))
        return ["unshare", "--mount", "sh", "-c", f'{binds} && exec "$@"', "sh", *command]


def make_user() -> Iterator[User]:
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    home = Path(tempfile.mkdtemp(prefix="ocirt-user-"))
    try:
        rootfs = make_rootfs(home / "rootfs")
        for path in (home, rootfs, *rootfs.rglob("*")):
            os.chown(path, UID, GID, follow_symlinks=False)
        home.chmod(0o755)
        yield User(home, rootfs)
    finally:
        shutil.rmtree(home)
