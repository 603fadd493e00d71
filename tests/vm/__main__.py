"""``python -m tests.vm``: run the tests for virtual machines there, and end as pytest does."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.vm import needs
from tests.vm.guests import FILES, GUESTS, Guest
from tests.vm.kernel import Kernel, kernel

CACHE: Final = needs.ROOT / "build/vm"
MINUTES: Final = 20


def main() -> int:
    options, arguments = _parser().parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the machines are ended with us
    deadline = time.monotonic() + options.minutes * 60
    try:
        needs.check()
        unpacked = kernel(CACHE)
        if not options.guest and not arguments:
            return _side_by_side(options.minutes)
        return _run(GUESTS[options.guest or FILES.name], arguments, unpacked, deadline, options.label)
    except needs.VMError as error:
        sys.stderr.write(f"vm-test: {error}\n")
        return 1


def _side_by_side(minutes: float) -> int:
    """All machines: tests keep one processor of a machine busy. Each has a program of its own, to be ended alone."""
    own = [sys.executable, "-m", __package__]
    width = max(map(len, GUESTS))
    running = [
        subprocess.Popen([*own, f"--guest={name}", f"--minutes={minutes}", f"--label={name:{width}} | "])
        for name in GUESTS
    ]
    try:
        codes = [program.wait() for program in running]
    finally:
        for program in running:
            program.terminate()
            program.wait()
    return next(filter(None, codes), 0)


def _run(guest: Guest, arguments: Sequence[str], unpacked: Kernel, deadline: float, label: str) -> int:
    machine = guest.machine(unpacked, CACHE)
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    words = [f"--guest={guest.name}", *arguments, *(() if named else guest.paths())]
    return machine.run(words, deadline - time.monotonic(), label)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description="Run the tests for virtual machines there.",
        epilog="All other arguments are pytest's.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--guest", choices=GUESTS, help=f"one machine (all of them; with arguments for pytest, {FILES.name})"
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long it may take (%(default)s)")
    parser.add_argument("--label", default="", help="what its lines begin with")
    return parser


if __name__ == "__main__":
    sys.exit(main())
