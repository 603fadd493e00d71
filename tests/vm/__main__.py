"""``python -m tests.vm``: run the tests for virtual machines there, and end as pytest does."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.vm import needs
from tests.vm.guests import FILES, GUESTS, Guest
from tests.vm.kernel import kernel

CACHE: Final = needs.ROOT / "build/vm"
MINUTES: Final = 20


def main() -> int:
    """One machine at a time: side by side, each on two processors of its own, two take four times as long."""
    options, arguments = _parser().parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the machine is ended with us
    names = [options.guest] if options.guest else [FILES.name] if arguments else list(GUESTS)
    try:
        needs.check()
        codes = [_run(GUESTS[name], arguments, options.minutes * 60) for name in names]
    except needs.VMError as error:
        sys.stderr.write(f"vm-test: {error}\n")
        return 1
    return next(filter(None, codes), 0)


def _run(guest: Guest, arguments: Sequence[str], seconds: float) -> int:
    machine = guest.machine(kernel(CACHE), CACHE)
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    words = [f"--guest={guest.name}", *arguments, *(() if named else guest.paths())]
    return machine.run(words, seconds)


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
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long a machine may take (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
