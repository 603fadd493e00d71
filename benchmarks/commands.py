"""The commands, as engines call them: each in a process of its own, ocirt's installed as a user would install it.

What a command needs to find, and what it leaves, is made and removed beside the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Final

from attrs import frozen

from benchmarks.contender import Comparison, Contender, Once, Unable
from benchmarks.measure import command
from benchmarks.place import Place, need_root, program

ROOT: Final = Path(__file__).resolve().parent.parent
STOP_SECONDS: Final = 10.0

Words = tuple[str, ...]


@frozen
class Runtime:
    """One runtime's program with a state directory of ours, and the container that it is asked about."""

    args: Words
    log: IO[bytes]
    id: str
    sleep: str
    """A bundle whose program goes on until it is killed."""
    true: str
    """One whose program ends at once."""

    def time(self, *words: str) -> float:
        """:raises Unable: it failed, with its last words."""
        return command((*self.args, *words), self.log)()

    def create(self, bundle: str) -> None:
        self.time("create", "--bundle", bundle, self.id)

    def delete(self) -> None:
        self.time("delete", "--force", self.id)

    def state(self) -> bytes:
        return subprocess.run((*self.args, "state", self.id), capture_output=True, check=True).stdout

    def run_to_its_end(self) -> None:
        self.create(self.true)
        self.time("start", self.id)
        deadline = time.monotonic() + STOP_SECONDS
        while b'"stopped"' not in self.state():
            if time.monotonic() > deadline:
                raise Unable(f"{self.id} did not stop")


Turn = Callable[[Runtime], float]


def _in_running(*words: str) -> Turn:
    return lambda runtime: runtime.time(*(runtime.id if word == "ID" else word for word in words))


def _create(runtime: Runtime) -> float:
    took = runtime.time("create", "--bundle", runtime.sleep, runtime.id)
    runtime.delete()
    return took


def _start(runtime: Runtime) -> float:
    runtime.create(runtime.sleep)
    took = runtime.time("start", runtime.id)
    runtime.delete()
    return took


def _delete(runtime: Runtime) -> float:
    runtime.run_to_its_end()
    return runtime.time("delete", runtime.id)


def _run(runtime: Runtime) -> float:
    return runtime.time("run", "--bundle", runtime.true, runtime.id)


RUNNING: Final[Mapping[str, Turn]] = {
    "state": _in_running("state", "ID"),
    "list": _in_running("list"),
    "kill": _in_running("kill", "ID", "CONT"),
    "exec": _in_running("exec", "ID", "/bin/true"),
    "features": _in_running("features"),
}
"""What is asked of a container that runs meanwhile."""

ALONE: Final[Mapping[str, Turn]] = {"create": _create, "start": _start, "delete": _delete, "run": _run}
"""What makes or ends the container."""

TARGETS: Final = {**dict.fromkeys(("state", "list", "kill", "start", "delete"), 1.0), "create": 1.5, "run": 1.5}
"""Beside runc."""

NAMES: Final = ("create", "start", "state", "kill", "delete", "list", "run", "exec", "features")


def compared(name: str) -> Callable[[Place], Comparison]:
    return partial(_comparison, name)


def _comparison(name: str, place: Place) -> Comparison:
    return Comparison(
        f"command-{name}",
        f"the command {name}, with runc's default config.json",
        (
            Contender("ocirt, as installed by pip", partial(_contender, place, name, "ocirt")),
            Contender("runc", partial(_contender, place, name, "runc"), at_most=TARGETS.get(name)),
            Contender("crun", partial(_contender, place, name, "crun")),
        ),
    )


def _contender(place: Place, name: str, runtime: str, stack: ExitStack) -> Once:
    need_root()
    path = str(installed(place.directory / "venv")) if runtime == "ocirt" else program(runtime)
    made = Runtime(
        (path, "--root", str(place.state / runtime)),
        place.log,
        f"benchmark-{name}-{runtime}-{os.getpid()}",
        str(place.bundle("sleep", "/bin/sleep", "100000").path),
        str(place.bundle("true", "/bin/true").path),
    )
    if name in RUNNING:
        made.time("run", "--detach", "--bundle", made.sleep, made.id)
        stack.callback(made.delete)
        return partial(RUNNING[name], made)
    return partial(ALONE[name], made)


def installed(directory: Path) -> Path:
    """The command of a virtual environment with a wheel of this tree and what that depends on, precompiled by pip.

    :raises Unable: it cannot be built here, or its dependencies cannot be had.
    """
    path = directory / "bin" / "ocirt"
    if path.exists():
        return path
    venv.create(directory, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    wheels = directory / "wheels"
    _must((*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)))
    _must((*pip, "--python", str(directory / "bin" / "python"), "install", *map(str, wheels.iterdir())))
    return path


def _must(args: Sequence[str]) -> None:
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unable(done.stderr.strip().rpartition("\n")[2])
