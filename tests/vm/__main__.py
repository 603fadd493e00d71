"""``python -m tests.vm``: run the tests for a virtual machine in one, and end as pytest does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from tests.vm import needs
from tests.vm.guests import FILES, GUESTS, ROOT
from tests.vm.kernel import kernel
from tests.vm.machine import Machine

CACHE: Final = ROOT / "build/vm"
MINUTES: Final = 20


def main() -> int:
    options, arguments = _parser().parse_known_args()
    guest = GUESTS[options.guest]
    try:
        needs.check()
        machine = Machine(kernel(CACHE), CACHE / guest.name)
        named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
        paths = () if named else guest.paths()
        command = (str(ROOT), str(machine.kernel.directory), f"--guest={guest.name}", *arguments, *paths)
        return machine.run(guest.script, command, options.minutes * 60)
    except needs.VMError as error:
        sys.stderr.write(f"vm-test: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description="Run the tests for a virtual machine in one.",
        epilog="All other arguments are pytest's.",
        allow_abbrev=False,
    )
    parser.add_argument("--guest", choices=GUESTS, default=FILES.name, help="which machine (%(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long it may take (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
