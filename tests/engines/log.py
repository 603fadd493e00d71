"""Which runtime an engine called, and how: the proof that it was ocirt, and only ocirt.

Engines are given a script named ``ocirt`` that notes its arguments and becomes the installed command. Other runtimes
of the machine are covered, in the mount namespace that the engine runs in, by scripts that note that they were called
and fail.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from attrs import frozen

RUNTIMES = ("crun", "kata-runtime", "krun", "runc", "runsc", "youki")
FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/lib/cri-o-runc/sbin")
"""Where engines look for them, whatever PATH says (containers.conf(5), engine.runtimes)."""

SEPARATOR = "\x1f"
"""ASCII's own, which no argument has."""


@frozen
class Log:
    """A directory with the script, the stand-ins for other runtimes, and what they noted."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Log:
        """Writable by everybody: an engine may be run by an ordinary user."""
        directory.mkdir()
        directory.chmod(0o755)
        log = cls(directory)
        log.file.touch()
        log.file.chmod(0o666)
        _script(log.program, log.file, f'exec {shlex.quote(str(installed()))} "$@"')
        for name in RUNTIMES:
            _script(directory / name, log.file, 'echo "not to be called here: $0" >&2; exit 1')
        return log

    @property
    def file(self) -> Path:
        return self.directory / "calls"

    @property
    def program(self) -> Path:
        """What to tell an engine."""
        return self.directory / "ocirt"

    def calls(self) -> list[list[str]]:
        """All calls so far, oldest first: the runtime's name, and its arguments."""
        lines = self.file.read_text("utf-8").split(f"{SEPARATOR}\n")
        return [line.split(SEPARATOR) for line in lines if line]

    def commands(self) -> list[str]:
        """The commands of ocirt that were called, one a call: ``create``, ``start``, …"""
        return [_command(arguments) for name, *arguments in self.calls() if name == "ocirt"]

    def others(self) -> list[list[str]]:
        """Calls of anything else."""
        return [call for call in self.calls() if call[0] != "ocirt"]

    def stand_ins(self) -> dict[Path, Path]:
        """What is to be mounted on what."""
        return {
            real.resolve(): self.directory / name
            for name in RUNTIMES
            for folder in FOLDERS
            if (real := Path(folder) / name).exists()
        }


def installed() -> Path:
    """The command as pip installed it."""
    return Path(sys.prefix) / "bin/ocirt"


def _script(path: Path, log: Path, then: str) -> None:
    """Of the shell's own commands alone: engines hand runtimes no PATH. One call is one write(2), so one line."""
    note = f'IFS={SEPARATOR}; set -- {path.name} "$@"; printf \'%s{SEPARATOR}\\n\' "$*" >>{log}; shift; unset IFS'
    path.write_text(f"#!/bin/sh\n{note}\n{then}\n")
    path.chmod(0o755)


def _command(arguments: list[str]) -> str:
    """The first that is neither a global flag nor the value of one."""
    valued = {"--root", "--log", "--log-format", "--cgroup-manager", "--rootless"}
    skip = False
    for argument in arguments:
        if skip or argument.startswith("-"):
            skip = not skip and argument in valued
            continue
        return argument
    return " ".join(arguments)
