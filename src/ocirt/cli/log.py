"""Log lines as runc writes them, which is what engines read errors from."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NamedTuple

from ocirt.cli.parse import UsageError

FORMATS = ("text", "json")


class Log(NamedTuple):
    """Where messages go and how they look: to a file where there is one, else to standard error."""

    path: str = ""
    format: str = "text"
    debugging: bool = False

    @classmethod
    def of(cls, path: str, format: str, debugging: bool) -> Log:
        """:raises UsageError: there is no such format."""
        if format not in FORMATS:
            raise UsageError(f"invalid log-format: {format}")
        return cls(os.path.abspath(path) if path else "", format, debugging)

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
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            print(f"open {self.path}: {error.strerror}", file=sys.stderr)

    def _line(self, level: str, message: str) -> str:
        if self.format == "json":
            return json.dumps({"level": level, "msg": message, "time": now()}, separators=(",", ":")) + "\n"
        return f'time="{now()}" level={level} msg={json.dumps(message, ensure_ascii=False)}\n'


def now() -> str:
    """RFC 3339, in UTC whatever the local zone: containerd parses it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
