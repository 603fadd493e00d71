"""A place of its own for an engine: what it mounts, starts and keeps is gone with it.

A private mount namespace, so that storage and covered files concern nobody else; a network of its own, for bridges and
packet filters; and a PID namespace, whose first process takes all others with it: monitors, network helpers and
containers that an engine has left, however a test ended.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve, frozen

from tests.engines.log import Log
from tests.support import SECONDS

# Orphans are its children, and SIGCHLD ignored is how they are reaped without a loop (waitid(2), execve(2)). It ends
# when the tests let go of its standard input, be it because they were killed.
FIRST_PROCESS = "trap '' CHLD; busybox ip link set lo up; echo ready; exec cat"

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@frozen
class Person:
    """Who runs a command, and with which variables."""

    home: Path
    env: Mapping[str, str]
    ids: tuple[int, int] | None = None
    """User and group; ``None`` is root."""


@frozen
class Place:
    """Namespaces, a directory, and somebody who works there."""

    directory: Path
    """Seen under the same name from outside."""
    log: Log
    person: Person
    _first: subprocess.Popen[str]

    def command(self, *args: str) -> list[str]:
        """One that runs ``args`` there, with the person's variables alone."""
        person = self.person
        become = [] if person.ids is None else ["setpriv", *map("--{}={}".format, ("reuid", "regid"), person.ids)]
        variables = {"PATH": PATH, "HOME": str(person.home), "TERM": "xterm", **person.env}
        return [
            *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid"),
            *(become and [*become, "--clear-groups"]),
            *("env", f"--chdir={person.home}", "-i", *map("{0[0]}={0[1]}".format, variables.items())),
            *args,
        ]

    def tried(self, *args: str, input: str = "", pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """How it ended. What takes too long ends with all that is there."""
        with subprocess.Popen(
            self.command(*args),
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

    def run(self, *args: str, input: str = "", pass_fds: Sequence[int] = ()) -> str:
        """What it printed; it must succeed."""
        done = self.tried(*args, input=input, pass_fds=pass_fds)
        assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def by(self, person: Person) -> Place:
        """The same place for somebody else."""
        return evolve(self, person=person)

    def memory_on(self, *directories: Path | str, options: str = "mode=755") -> None:
        """A tmpfs on each, made if need be; nothing written there is left."""
        for directory in directories:
            Path(directory).mkdir(parents=True, exist_ok=True)
            self.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))

    def cover(self, path: Path | str, by: Path | str) -> None:
        self.run("mount", "--bind", str(by), str(path))

    def end(self) -> None:
        """The kernel kills whoever is there, and then lets the first process go (pid_namespaces(7))."""
        self._first.communicate("")

    @property
    def pid(self) -> int:
        """Of the first process there: unshare's child."""
        (child,) = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        return int(child)


@contextmanager
def place() -> Iterator[Place]:
    """Make one for root, with other runtimes covered and nothing in ``/run``; and remove it."""
    for program in ("busybox", "nsenter", "setpriv", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: apt-get install busybox-static util-linux)")
    directory = Path(tempfile.mkdtemp(prefix="oe-", dir="/tmp"))  # short: a socket's path has 107 bytes (unix(7))
    directory.chmod(0o755)
    first = subprocess.Popen(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", FIRST_PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    made = Place(directory, Log.make(directory / "bin"), Person(directory, {}), first)
    try:
        assert first.stdout is not None
        if first.stdout.readline() != "ready\n":
            pytest.skip(f"no namespaces here: {first.communicate()[1].strip()}")
        made.memory_on("/run")
        made.memory_on("/dev/shm", "/var/tmp", options="mode=1777")
        for real, stand_in in made.log.stand_ins().items():
            made.cover(real, stand_in)
        yield made
    finally:
        made.end()
        shutil.rmtree(directory)
