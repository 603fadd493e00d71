"""The command's program without the script beside it, so that what it does not answer itself has no answer at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from tests.distributions import ROOT
from tests.support import SECONDS

COMMAND = ROOT / "command" / "ocirt"
SCRIPT = ROOT / "command" / "ocirt_python.py"

Done = subprocess.CompletedProcess[bytes]


@frozen
class Program:
    """A copy of it, and a state root."""

    path: Path
    root: Path

    def tried(self, *words: str, environment: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE) -> Done:
        return run([str(self.path), "--root", str(self.root), *words], environment, stdout)

    def answer(self, *words: str) -> bytes:
        """Its own, since nobody else is there to give one."""
        done = self.tried(*words)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    def leaves(self, *words: str, environment: Mapping[str, str] | None = None) -> bool:
        """It would have started Python."""
        done = self.tried(*words, environment=environment)
        if done.returncode == 0:
            return False
        assert is_left(done), done
        return True

    def by_python(self, *words: str) -> bytes:
        """What there is to be compared with."""
        done = run([sys.executable, "-m", "ocirt", "--root", str(self.root), *words])
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    def agrees(self, *words: str) -> bytes:
        answer = self.answer(*words)
        assert answer == self.by_python(*words)
        return answer


def is_left(done: Done) -> bool:
    return done.returncode == 127 and done.stderr.endswith(b"-python: does not name its interpreter: error 2\n")


def run(args: list[str], environment: Mapping[str, str] | None = None, stdout: int = subprocess.PIPE) -> Done:
    return subprocess.run(
        args,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={} if environment is None else environment,
        timeout=SECONDS,
        check=False,
    )


def install(directory: Path, root: Path) -> Program:
    """With its script, as an installer would write that."""
    directory.mkdir()
    made = Program(Path(shutil.copy(COMMAND, directory / "ocirt")), root)
    text = SCRIPT.read_text().partition("\n")[2]
    Path(f"{made.path}-python").write_text(f"#!{sys.executable}\n{text}")
    return made
