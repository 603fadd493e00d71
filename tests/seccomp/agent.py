"""An agent for SCMP_ACT_NOTIFY: it takes listeners on a socket and answers for them (seccomp_unotify(2))."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

RECEIVE, SEND = 0xC0502100, 0xC0182101
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags, and struct seccomp_data."""
ANSWER = struct.Struct("=QqiI")
CONTINUE = 1


class Agent:
    """Answers every system call with an error, or lets it go on where that is 0."""

    def __init__(self, path: Path, error: int = errno.EXDEV) -> None:
        self.path = path
        self.states: list[Mapping[str, object]] = []
        self.calls: list[int] = []
        self._error = error
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listeners: list[int] = []
        self._end, self._begin = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        here = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY)
        self._socket.bind(f"/proc/self/fd/{here}/{self.path.name}")
        os.close(here)
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._begin)
        self._thread.join()
        self._socket.close()
        for fd in (self._end, *self._listeners):
            os.close(fd)

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._end, self._socket.fileno(), *self._listeners], [], [])
            if self._end in ready:
                return
            for fd in ready:
                if fd == self._socket.fileno():
                    self._accept()
                else:
                    self._answer(fd)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            text, rights, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
            while part := connection.recv(65536):
                text += part
        self.states.append(json.loads(text))
        ((_, _, data),) = rights
        self._listeners.extend(array.array("i", data))

    def _answer(self, listener: int) -> None:
        notification = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, RECEIVE, notification)
        except OSError:  # whoever asked is gone, and perhaps nobody is left to ask
            self._listeners.remove(listener)
            os.close(listener)
            return
        cookie, _, _, number, *_ = NOTIFICATION.unpack(notification)
        self.calls.append(number)
        answer = ANSWER.pack(cookie, 0, -self._error, 0 if self._error else CONTINUE)
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(listener, SEND, answer)
