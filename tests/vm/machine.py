"""A virtual machine that runs one script of ours, says what the script says, and ends."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.vm.kernel import Kernel
from tests.vm.needs import VMError, program

MEMORY: Final = "2G"
PROCESSORS: Final = 2
ACCELERATION: Final = "tcg,thread=single"
"""One thread plays all processors in turn. A thread for each is no faster, since they wait for each other; and two such
machines side by side take four times as long."""

BEGIN, END = "== begin", "== end"
"""Lines of the script: what stands between them is for people to see, and the rest of the console for the log."""

TAIL: Final = 20
"""So many lines say why there was nothing to see."""


@frozen
class Machine:
    """One kernel, one script."""

    kernel: Kernel
    shared: Path
    """A directory that the machine can write to: its result goes there."""
    script: tuple[str, ...]
    """What makes the machine ready and runs pytest; pytest's arguments come after."""
    options: tuple[str, ...]
    """More of virtme-run's, the last of all."""

    def run(self, arguments: Sequence[str], seconds: float) -> int:
        """The exit status that the script left.

        :raises VMError: it left none, or not in time.
        """
        self.shared.mkdir(parents=True, exist_ok=True)
        result = self.shared / "status"
        result.unlink(missing_ok=True)
        # On the kernel's command line is little room, so what to do stands in a file.
        (self.shared / "command").write_text(shlex.join([*self.script, *arguments]) + "\n")
        try:
            self._show(self._lines(time.monotonic() + seconds))
        except VMError as error:
            raise VMError(f"{error}; the console's log is {self.log}") from None
        if not result.is_file():
            last = self.log.read_text().splitlines()[-TAIL:]
            raise VMError("\n".join([f"the machine ended without a result; {self.log} ends:", *last]))
        return int(result.read_text())

    @property
    def log(self) -> Path:
        return self.shared / "console.log"

    def _show(self, lines: Iterator[str]) -> None:
        shown = False
        with self.log.open("w") as log:
            for line in lines:
                log.write(line)
                shown = line.strip() != END if shown else line.strip() == BEGIN
                if shown and line.strip() != BEGIN:
                    sys.stdout.write(line)
                    sys.stdout.flush()

    def command(self) -> list[str]:
        """How virtme-run is called."""
        return [
            program("virtme-run"),
            *("--kimg", str(self.kernel.image), "--mods", "auto"),
            *("--disable-kvm", "--memory", MEMORY, "--cpus", str(PROCESSORS)),
            *("--qemu-opt=-accel", f"--qemu-opt={ACCELERATION}"),
            *self.options,
        ]

    def _lines(self, deadline: float) -> Iterator[str]:
        """What the machine says until it is off.

        It is a session of its own, so that it can be ended with all its processes, whatever ends us.
        """
        machine = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert machine.stdout is not None
        try:
            yield from _read(machine.stdout.fileno(), deadline)
            machine.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(machine.pid, signal.SIGKILL)
            machine.stdout.close()
            machine.wait()


def _read(descriptor: int, deadline: float) -> Iterator[str]:
    """Lines as they come.

    :raises VMError: the deadline is over.
    """
    pending = b""
    with selectors.DefaultSelector() as ready:
        ready.register(descriptor, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise VMError("it took too long, so the machine was switched off")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                break
            *lines, pending = (pending + chunk).split(b"\n")
            yield from (_text(line) for line in lines)
    if pending:
        yield _text(pending)


def _text(line: bytes) -> str:
    """A serial console ends lines with a carriage return, too."""
    return line.decode(errors="replace").rstrip("\r") + "\n"
