"""The CRIU that is installed, and one request to it (``criu swrk``): it asks questions of its own until it answers."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Collection, Sequence
from typing import Final, Self

from attrs import define, field, frozen

from ocirt.criu.messages import Decoded, Field, Request, decode, encode, nested, number, text
from ocirt.errors import CriuError, UnsupportedError
from ocirt.host import TRUSTED_PATH
from ocirt.process import REAP_SECONDS, reap_ended

BUFFER: Final = 1 << 16
OLDEST: Final = 30000
"""3.0 was the first that tells its version."""

LOG_LINES: Final = 5
LOG_BYTES: Final = 1 << 26
"""So much of a log is searched for errors."""


@frozen
class Notification:
    """CRIU has come to a point of its work where others may do theirs (criu(8), --action-script)."""

    script: str
    pid: int
    """Of the restored init, from ``setup-namespaces`` on."""
    fd: int = -1
    """Came with ``orphan-pts-master``."""


Listener = Callable[[Notification], None]


@frozen
class Criu:
    """Where the program is."""

    path: str

    @classmethod
    def find(cls, name: str | os.PathLike[str] | None = None) -> Self:
        """In PATH, or where the system's programs are: some engines give no PATH.

        :raises UnsupportedError: there is none.
        """
        wanted = os.fspath(name) if name else "criu"
        path = shutil.which(wanted) or shutil.which(wanted, path=TRUSTED_PATH)
        if path is None:
            raise UnsupportedError(
                "criu", f'exec: "{wanted}": executable file not found in $PATH: install CRIU (package criu)'
            )
        return cls(path)

    def version(self) -> int:
        """3.17.1 as 31701.

        :raises UnsupportedError: it is too old to be used.
        """
        answer = self._ask(Request.VERSION, [])
        told = nested(answer, 10)
        found = number(told, 1) * 10000 + number(told, 2) * 100 + number(told, 4)
        if found < OLDEST:
            raise UnsupportedError("criu", f"CRIU version {found} must be {OLDEST} or higher")
        return found

    def need_version(self, least: int, origin: str) -> None:
        """:raises UnsupportedError: what ``origin`` asked for came with a later version."""
        found = self.version()
        if found < least:
            raise UnsupportedError(origin, f"CRIU version {found} must be {least} or higher")

    def need_feature(self, feature: int, name: str, origin: str) -> None:
        """:param feature: the number of a field of criu_features.

        :raises UnsupportedError: this CRIU or this kernel has no such thing.
        """
        answer = self._ask(Request.FEATURE_CHECK, [(5, [(feature, True)])])
        if not number(nested(answer, 8), feature):
            raise UnsupportedError(origin, f"criu is missing features: {name} (criu check --all says why)")

    def _ask(self, request: Request, fields: Sequence[Field]) -> Decoded:
        with Conversation.begin([self.path], stderr=subprocess.PIPE) as conversation:
            return conversation.ask(request, fields, lambda notification: None)


@define
class Conversation:
    """One ``criu swrk``. As a context manager it is over at the end: without us CRIU gives up."""

    socket: socket.socket
    process: subprocess.Popen[bytes]
    log: str = ""
    """The file that CRIU writes to, for errors to name."""
    pids: list[int] = field(factory=list)
    """Every init that CRIU told of."""

    @classmethod
    def begin(
        cls,
        command: Sequence[str],
        stdio: Sequence[int] | None = None,
        pass_fds: Collection[int] = (),
        stderr: int | None = None,
    ) -> Self:
        """Start CRIU by a command that it is the end of, with these standard streams, or none."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdin, stdout, err = stdio if stdio is not None else (subprocess.DEVNULL, subprocess.DEVNULL, stderr)
        try:
            process = subprocess.Popen(
                [*command, "swrk", str(theirs.fileno())],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL if err is None else err,
                pass_fds=(theirs.fileno(), *pass_fds),
                env=_environment(),
            )
        except OSError as error:
            ours.close()
            raise UnsupportedError("criu", f"{command[0]} cannot be run: {error.strerror}") from error
        finally:
            theirs.close()
        return cls(ours, process)

    def ask(self, request: Request, fields: Sequence[Field], listener: Listener) -> Decoded:
        """Send a request and have its answer; what the listener raises is raised once CRIU has cleaned up.

        :raises CriuError: CRIU could not do it.
        """
        self._send([(1, request), *fields])
        failure: BaseException | None = None
        while True:
            answer, fd = self._receive(request)
            if number(answer, 1) != Request.NOTIFY:
                break
            try:
                self._hear(answer, fd, listener)
            except BaseException as error:  # noqa: BLE001  # raised below: CRIU has to hear of it first
                failure = error
            self._send([(1, Request.NOTIFY), (3, failure is None)])
        if failure is not None:
            raise failure
        if not number(answer, 2):
            raise CriuError(request.name, number(answer, 7), self.log, self._reasons(text(answer, 9)))
        return answer

    def _hear(self, answer: Decoded, fd: int, listener: Listener) -> None:
        told = nested(answer, 5)
        notification = Notification(text(told, 1), number(told, 2), fd)
        if notification.pid and notification.pid not in self.pids:
            self.pids.append(notification.pid)
        try:
            listener(notification)
        finally:
            if fd >= 0:
                os.close(fd)

    def _send(self, message: Sequence[Field]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its silence will tell
            self.socket.send(encode(message))

    def _receive(self, request: Request) -> tuple[Decoded, int]:
        """One message, and the descriptor that came with it or -1.

        CRIU waits until the init that it has killed is gone, and that waits for us (``reap_ended``).
        """
        waiter = select.poll()
        waiter.register(self.socket, select.POLLIN)
        while not waiter.poll(REAP_SECONDS * 1000):
            reap_ended()
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, BUFFER, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            raise CriuError(request.name, 0, self.log, self._reasons(""))
        return decode(data), fds[0] if fds else -1

    def _last_words(self) -> str:
        """What it wrote where we read it; else only how it ended."""
        said = b""
        if self.process.stderr is not None:
            said = self.process.stderr.read()
        status = self.process.wait()
        ending = f"it ended with status {status}" if status else ""
        return said.decode("utf-8", "replace").strip() or ending

    def _reasons(self, told: str) -> tuple[str, ...]:
        """Its log has the best ones; a request without one is told in standard error."""
        if found := log_errors(self.log):
            return found
        self.socket.close()  # or it would wait for more
        return errors_in(self._last_words() or told.partition("\0")[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process.wait()


def _environment() -> dict[str, str]:
    """The caller's, with a PATH that leads to what CRIU needs itself: ip, iptables, tar."""
    paths = [*filter(None, os.environ.get("PATH", "").split(":")), TRUSTED_PATH]
    return {**os.environ, "PATH": ":".join(paths)}


def log_errors(path: str) -> tuple[str, ...]:
    """The first errors of a log, since the first one is the reason of the others; without their times."""
    if not path:
        return ()
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return errors_in(file.read(LOG_BYTES), only=True)
    except OSError:
        return ()


def errors_in(text: str, *, only: bool = False) -> tuple[str, ...]:
    """The lines that tell of errors; where there is none, unless ``only`` those will do, the last lines."""
    lines = text.splitlines()
    found = [line.partition("Error ")[2].strip() for line in lines if "Error " in line]
    return tuple(found[:LOG_LINES] or ([] if only else lines[-LOG_LINES:]))


def make_directory(path: str) -> str:
    """One that only we may enter, unless it is there: images hold all that was in memory."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    return path


def open_directory(path: str, stack: contextlib.ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd
