"""What users wait for besides a container's life: a large caller's containers, ``ocirt.run``, and the import."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import ocirt
from benchmarks.contender import Comparison, Contender, Once, Relation, Unable
from benchmarks.measure import Coprocess, command, timed
from benchmarks.place import Place, need_root, program

LARGE_MIB: Final = 4096
SMALL_MIB: Final = 8
"""With the interpreter and what it imported, about 30."""
NEEDED_MIB: Final = 6144
HERE: Final = Path(__file__).resolve().parent.parent

BUBBLEWRAP: Final = (
    *("--ro-bind", "/", "/", "--tmpfs", "/tmp", "--tmpfs", "/root", "--tmpfs", "/home", "--tmpfs", "/run"),
    *("--proc", "/proc", "--dev", "/dev", "--unshare-all", "true"),
)

ALL_NAMES: Final = "import ocirt; [getattr(ocirt, name) for name in ocirt.__all__]"


def large_caller(place: Place) -> Comparison:
    return Comparison(
        "caller",
        "a life (as above, with cgroups) from a caller that has 4 GiB of touched memory",
        (
            Contender("ocirt, a caller with 4 GiB", partial(_caller, place, LARGE_MIB)),
            Contender("ocirt, a caller with 30 MiB", partial(_caller, place, SMALL_MIB), at_most=1.2),
        ),
    )


def one_call(place: Place) -> Comparison:
    return Comparison(
        "run",
        "true on this host's own files, with what it wrote captured",
        (
            Contender("ocirt.run, in this process", partial(_run, place)),
            Contender("bwrap", partial(_bubblewrap, place), at_most=0.8),
        ),
    )


def bare_import(place: Place) -> Comparison:
    return Comparison(
        "import",
        "python -c 'import ocirt', with no more than that",
        (
            Contender("import ocirt", partial(_python, place, "import ocirt")),
            Contender("pass", partial(_python, place, "pass"), at_most=60),
        ),
        Relation.DIFFERENCE,
    )


def whole_import(place: Place) -> Comparison:
    return Comparison(
        "import-all",
        "the same, and every name of ocirt's used",
        (
            Contender("import ocirt, and use it all", partial(_python, place, ALL_NAMES)),
            Contender("pass", partial(_python, place, "pass")),
        ),
        Relation.DIFFERENCE,
    )


def _caller(place: Place, mebibytes: int, stack: ExitStack) -> Once:
    need_root()
    if mebibytes == LARGE_MIB and _available_mebibytes() < NEEDED_MIB:
        raise Unable(f"needs {NEEDED_MIB} MiB of free memory")
    bundle = place.bundle("true", "/bin/true")
    args = (sys.executable, "-m", "benchmarks.caller", str(bundle.path), str(place.state / "ocirt"), str(mebibytes))
    return stack.enter_context(Coprocess(args, cwd=str(HERE))).once


def _available_mebibytes() -> int:
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _run(place: Place, stack: ExitStack) -> Once:
    del stack
    return timed(partial(ocirt.run, ["true"], check=True, root=place.state / "ocirt"))


def _bubblewrap(place: Place, stack: ExitStack) -> Once:
    del stack
    return command((program("bwrap"), *BUBBLEWRAP), place.log, captured=True)


def _python(place: Place, statement: str, stack: ExitStack) -> Once:
    """With all bytecode cached, as installing a package leaves it, whatever this process was told about that."""
    del stack
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(place.directory / "bytecode")
    return command((sys.executable, "-c", statement), place.log, env=env)
