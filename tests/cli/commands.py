"""ocirt's command in a process of its own, and a bundle for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from ocirt import Bundle
from tests.support import SECONDS, document


@frozen
class Commands:
    """A state root and a bundle; commands on them."""

    root: Path
    bundle: Path
    id: str
    """Of the container; nobody else's, since cgroups are not kept apart by state roots."""

    def line(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ocirt", "--root", str(self.root), *words]

    def run(self, *words: str, status: int = 0, input: str = "") -> str:
        """What it printed; its exit status must be the expected one."""
        done = self.tried(*words, input=input)
        assert done.returncode == status, done
        return done.stdout

    def tried(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*words),
            input=input,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=self.bundle,
        )

    def detached(self, *words: str) -> None:
        """For commands whose container keeps the streams."""
        subprocess.run(
            self.line(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
            cwd=self.bundle,
        )

    def configure(self, args: Sequence[str], **changes: object) -> None:
        (self.bundle / "config.json").unlink(missing_ok=True)
        spec = document(*args)
        Bundle.create(self.bundle, rootfs=self.bundle / "rootfs", spec=spec.evolve(**changes))

    def state(self, container_id: str) -> dict[str, object]:
        state = json.loads(self.run("state", container_id))
        assert isinstance(state, dict)
        return state
