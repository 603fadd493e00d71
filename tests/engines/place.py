"""A place of its own for an engine: what it mounts, starts and keeps is gone with it.

A private mount namespace, so that storage and covered files concern nobody else; a PID namespace, whose first process
takes all others with it: monitors, network helpers and containers that an engine has left, however a test ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import frozen

from tests.engines.log import Log
from tests.support import SECONDS

# Orphans are its children, and SIGCHLD ignored is how they are reaped without a loop (waitid(2), execve(2)). It ends
# when the tests let go of its standard input, be it because they were killed.
FIRST_PROCESS = "trap '' CHLD; echo ready; exec cat"


@frozen
class Place:
    """Two namespaces and a directory."""

    directory: Path
    """Seen under the same name from outside."""
    log: Log
    _first: subprocess.Popen[str]

    def command(
        self, *args: str, env: Mapping[str, str] | None = None, user: tuple[int, int] | None = None
    ) -> list[str]:
        """One that runs ``args`` there, with these variables alone, as this user and group."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--pid", f"--wd={self.directory}"]
        variables = {"PATH": os.defpath, "HOME": str(self.directory), "TERM": "xterm", **(env or {})}
        become = [] if user is None else ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]
        return [*inside, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *become, *args]

    def tried(
        self,
        *args: str,
        input: str = "",
        env: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """How it ended. What takes too long ends with all that is there."""
        command = self.command(*args, env=env, user=user)
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            pass_fds=pass_fds,
        ) as process:
            try:
                output, errors = process.communicate(input, timeout=2 * SECONDS)
            except BaseException:
                self.end()
                raise
        return subprocess.CompletedProcess(args, process.returncode, output, errors)

    def run(
        self,
        *args: str,
        input: str = "",
        env: Mapping[str, str] | None = None,
        user: tuple[int, int] | None = None,
    ) -> str:
        """What it printed; it must succeed."""
        done = self.tried(*args, input=input, env=env, user=user)
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def memory_on(self, *directories: str) -> None:
        """A tmpfs on each, made if need be; nothing written there is left."""
        for directory in directories:
            Path(directory).mkdir(parents=True, exist_ok=True)
            self.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)

    def cover(self, path: Path | str, by: Path | str) -> None:
        self.run("mount", "--bind", str(by), str(path))

    def end(self) -> None:
        """The kernel kills whoever is there, and then lets the first process go (pid_namespaces(7))."""
        self._first.communicate("")

    @property
    def pid(self) -> int:
        """unshare's child is the first in the new PID namespace."""
        (child,) = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        return int(child)


@contextmanager
def place() -> Iterator[Place]:
    """Make one, with other runtimes covered and ``/run`` empty; and remove it."""
    for program in ("busybox", "nsenter", "setpriv", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: apt-get install busybox-static util-linux)")
    directory = Path(tempfile.mkdtemp(prefix="oe-", dir="/tmp"))  # short: a socket's path has 107 bytes (unix(7))
    directory.chmod(0o755)
    first = subprocess.Popen(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", FIRST_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = Place(directory, Log.make(directory / "bin"), first)
    try:
        assert first.stdout is not None
        if first.stdout.readline() != "ready\n":
            pytest.skip(f"no namespaces here: {first.communicate()[1].strip()}")
        made.memory_on("/run")
        for real, stand_in in made.log.stand_ins().items():
            made.cover(real, stand_in)
        yield made
    finally:
        made.end()
        shutil.rmtree(directory)
