"""Log lines as runc writes them, which is what engines read errors from."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from typing import Final, NamedTuple

from ocirt.cli.parse import UsageError

FORMATS: Final = ("text", "json")
LEVELS: Final = ("error", "warning", "info", "debug")
"""crun's; ours says errors, and at the last of them more."""


class Log(NamedTuple):
    """Where messages go and how they look: to a file where there is one, else to standard error."""

    path: str = ""
    format: str = "text"
    debugging: bool = False

    @classmethod
    def of(cls, path: str, format: str, debugging: bool) -> Log:
        """With its file made, before anything is done whose failure could not be told.

        :raises UsageError: there is no such format, or the file cannot be written.
        """
        if format not in FORMATS:
            raise UsageError(f"invalid log-format: {format}")
        if not path:
            return cls("", format, debugging)
        absolute = os.path.abspath(path)
        try:
            _make(absolute)
        except OSError as error:
            raise UsageError(f"open {absolute}: {(error.strerror or '').lower()}") from error
        return cls(absolute, format, debugging)

    def error(self, message: str) -> None:
        """Said once to whoever reads the log; with a log file, people are told on standard error too."""
        self._write("error", message)
        if self.path:
            print(message, file=sys.stderr)

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        line = self._line(level, message)
        if not self.path:
            sys.stderr.write(line)
            return
        try:
            with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)
        except OSError as error:
            print(f"open {self.path}: {error.strerror}", file=sys.stderr)

    def _line(self, level: str, message: str) -> str:
        if self.format == "json":
            return json.dumps({"level": level, "msg": message, "time": now()}, separators=(",", ":")) + "\n"
        return f'time="{now()}" level={level} msg={json.dumps(message, ensure_ascii=False)}\n'


def _make(path: str) -> None:
    """Not kept open: its number may be one that the caller counts as its own (``--preserve-fds``).

    A FIFO is left alone until there is something to say, or its reader would see the end of it.
    """
    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        pass  # that is what we are here for
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))


def now() -> str:
    """RFC 3339, in UTC whatever the local zone: containerd parses it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
