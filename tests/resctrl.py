"""A directory that behaves like resctrl, for machines whose processor has nothing to control.

What the kernel does there beyond keeping files: a new directory is born with its files in it, and goes away with them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from attrs import frozen

from ocirt import rdt

SCHEMATA = "    MB:0= 100;1= 100\n    L3:0=fffff;1=fffff\n"

REAL_MKDIR, REAL_RMDIR = os.mkdir, os.rmdir


@frozen
class Resctrl:
    """The tree, and what its classes are asked about."""

    root: Path

    def populate(self, directory: Path) -> None:
        (directory / "tasks").touch()
        (directory / "schemata").write_text(SCHEMATA)
        if directory.parent.name != "mon_groups":
            REAL_MKDIR(directory / "mon_groups")

    def mkdir(self, path: str | Path, mode: int = 0o777, **at: int | None) -> None:
        REAL_MKDIR(path, mode, **at)
        if self.holds(path):
            self.populate(Path(path))

    def rmdir(self, path: str | Path, **at: int | None) -> None:
        if self.holds(path) and Path(path).exists():
            shutil.copytree(path, self.root.parent / "removed" / Path(path).name, dirs_exist_ok=True)
            for entry in Path(path).iterdir():
                if entry.is_dir():
                    REAL_RMDIR(entry)
                else:
                    entry.unlink()
        REAL_RMDIR(path, **at)

    def holds(self, path: str | Path) -> bool:
        return str(path).startswith(f"{self.root}/")

    def tasks(self, *name: str) -> list[int]:
        return [int(pid) for pid in self.root.joinpath(*name, "tasks").read_text().split()]

    def schemata(self, name: str) -> str:
        return (self.root / name / "schemata").read_text()

    def classes(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.name not in ("info", "mon_groups"))


def mounted(directory: Path, monkeypatch: pytest.MonkeyPatch, *, options: str = "rw") -> Resctrl:
    """A machine with two caches, whose resctrl is mounted at a path with a blank in it."""
    made = Resctrl(directory / "sys fs" / "resctrl")
    made.root.mkdir(parents=True)
    for resource in ("L3", "MB", "L3_MON"):
        (made.root / "info" / resource).mkdir(parents=True)
    (made.root / "info/MB/bandwidth_gran").write_text("10\n")
    (made.root / "info/last_cmd_status").write_text("ok\n")
    made.populate(made.root)
    mountinfo = directory / "mountinfo"
    escaped = str(made.root).replace(" ", r"\040")
    mountinfo.write_text(
        f"22 1 0:20 / /proc rw - proc proc rw\n90 1 0:40 / {escaped} rw,relatime shared:5 - resctrl resctrl {options}\n"
    )
    monkeypatch.setattr(rdt, "MOUNTINFO", str(mountinfo))
    monkeypatch.setattr(os, "mkdir", made.mkdir)
    monkeypatch.setattr(os, "rmdir", made.rmdir)
    return made
