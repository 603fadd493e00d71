"""A person at a terminal: types when asked, and reads what comes."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import define

from tests.support import SECONDS

ROWS, COLUMNS = 33, 77


@define
class Terminal:
    """The master's side of a pseudo-terminal, on whose other side a command runs as the session's leader."""

    process: subprocess.Popen[bytes]
    _master: int
    _shown: str = ""

    def expect(self, text: str) -> None:
        """Wait until it is shown, and forget what was shown before."""
        deadline = time.monotonic() + SECONDS
        while text not in self._shown:
            assert select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0], self._shown
            self._shown += self._read()
        self._shown = self._shown.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def left(self) -> int:
        """The exit status of a command that ends now."""
        return self.process.wait(timeout=SECONDS)

    def _read(self) -> str:
        try:
            return os.read(self._master, 4096).decode()
        except OSError as error:  # EIO: nobody has the other side open any more
            raise AssertionError(f"ended after {self._shown!r}") from error


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[Terminal]:
    """A command on a terminal of its own."""
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], stdin=slave, stdout=slave, stderr=slave, start_new_session=False
        )
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(master)
