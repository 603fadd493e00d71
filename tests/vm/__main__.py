"""``python -m tests.vm``: run the tests for virtual machines there, and end as pytest does."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.vm import needs
from tests.vm.guests import FILES, GUESTS, Guest
from tests.vm.kernel import kernel

CACHE: Final = needs.ROOT / "build/vm"
MINUTES: Final = 20


def main() -> int:
    """All machines side by side, each on one processor: the first is watched, the others are shown afterwards."""
    options, arguments = _parser().parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the machine is ended with us
    names = [options.guest] if options.guest else [FILES.name] if arguments else list(GUESTS)
    try:
        needs.check()
        kernel(CACHE)
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(_beside(name, options.minutes)) for name in names[1:]]
            codes = [_run(GUESTS[names[0]], arguments, options.minutes * 60)]
            codes += [finish() for finish in others]
    except needs.VMError as error:
        sys.stderr.write(f"vm-test: {error}\n")
        return 1
    return next(filter(None, codes), 0)


@contextlib.contextmanager
def _beside(name: str, minutes: float) -> Iterator[Callable[[], int]]:
    """Another machine, by a process of its own; what it gives waits for that and shows it, and is its status."""
    words = [sys.executable, "-m", "tests.vm", "--guest", name, "--minutes", str(minutes)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, cwd=needs.ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

        def finish() -> int:
            code = process.wait()
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout.buffer)
            return code

        try:
            yield finish
        finally:
            process.terminate()
            process.wait()


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
