"""Files of a place that others can write to, read and written without following anybody's links.

What is read may be hostile, so a name is opened component by component, only what is a regular file is read, and a
FIFO makes nobody wait. What is written has a temporary name until it is whole; the writer holds flock(2) on it, so
that whoever finds one that nobody holds knows its writer is gone, and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image.closing import Closing
from ocirt.image.digest import Readable
from ocirt.image.threads import PIECE

if TYPE_CHECKING:
    from typing import BinaryIO

TEMPORARY: Final = ".ocirt-"
_UNFOLLOWED: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def failing(what: str, how: str) -> Iterator[None]:
    """Errors of the system's are told as an image's; for what calls nobody else, whose errors are their own."""
    try:
        yield
    except OSError as error:
        raise ImageError(what, f"{how}: {error.strerror or error}") from error


class Section:
    """Some bytes of a file, read by pread(2): several threads may read one file."""

    def __init__(self, fd: int, offset: int, size: int, what: str) -> None:
        self._fd = fd
        self._offset = offset
        self._end = offset + size
        self._what = what

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        wanted = min(size, self._end - self._offset, 1 << 30)
        with failing(self._what, "cannot be read"):
            data = os.pread(self._fd, wanted, self._offset)
        if wanted and not data:
            raise ImageError(self._what, "has been cut off")
        self._offset += len(data)
        return data


class Directory(Closing):
    """An open directory; names in it are relative and have no ``..``."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        """For people."""

    @classmethod
    def open(cls, path: str) -> Directory:
        """The path itself is its caller's: links in it are followed."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)
        except FileNotFoundError as error:
            raise ImageNotFound(path, "no such directory") from error
        except OSError as error:
            raise ImageError(path, f"cannot be opened: {error.strerror}") from error

    def below(self, name: str, *, make: bool = False) -> Directory:
        """A directory in it; no link."""
        if make:
            with failing(f"{self.path}/{name}", "cannot be made"), suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self.fd)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _UNFOLLOWED, dir_fd=self.fd)
        except OSError as error:
            raise ImageError(f"{self.path}/{name}", _unreadable(error)) from error
        return Directory(fd, f"{self.path}/{name}")

    @contextmanager
    def read(self, name: str) -> Iterator[Section]:
        """A regular file below it.

        :raises ImageNotFound: it is not there.
        :raises ImageError: it is anything else.
        """
        what = f"{self.path}/{name}"
        try:
            fd = self._opened(name)
        except FileNotFoundError as error:
            raise ImageNotFound(what, "no such file") from error
        except OSError as error:
            raise ImageError(what, _unreadable(error)) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(what, "is no regular file")
            yield Section(fd, 0, status.st_size, what)
        finally:
            os.close(fd)

    def size(self, name: str) -> int | None:
        """Of a regular file below it; ``None`` if there is none."""
        try:
            fd = self._opened(name)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            return status.st_size if stat.S_ISREG(status.st_mode) else None
        finally:
            os.close(fd)

    def _opened(self, name: str) -> int:
        *parents, last = name.split("/")
        fd = os.dup(self.fd)
        for part in parents:
            try:
                inner = os.open(part, os.O_PATH | os.O_DIRECTORY | _UNFOLLOWED, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        try:
            return os.open(last, os.O_RDONLY | _UNFOLLOWED | os.O_NOCTTY, dir_fd=fd)
        finally:
            os.close(fd)

    @contextmanager
    def locked(self, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
        """flock(2) on it, by a description of its own: threads exclude each other too."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            fcntl.flock(fd, operation)
            yield
        finally:
            os.close(fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _unreadable(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "is, or is in, a symbolic link, which is not followed, or no directory"
    if error.errno == errno.ENXIO:
        return "is no regular file"
    return f"cannot be read: {error.strerror}"


class NewFile(Closing):
    """A file in ``directory`` under a temporary name, until it is whole."""

    def __init__(self, directory: Directory, prefix: str = TEMPORARY) -> None:
        self._directory = directory
        while True:
            self._name = prefix + secrets.token_hex(8)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with failing(directory.path, "cannot be written"):
                self.fd = os.open(self._name, flags, 0o644, dir_fd=directory.fd)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            if os.fstat(self.fd).st_nlink:  # else it was swept away before it was locked
                return
            os.close(self.fd)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        with failing(self._directory.path, "cannot be written"):
            while rest:
                rest = rest[os.write(self.fd, rest) :]

    def publish(self, name: str, directory: Directory | None = None) -> None:
        """Let it be seen under this name, on the disk and whole."""
        target = self._directory if directory is None else directory
        with failing(f"{target.path}/{name}", "cannot be written"):
            os.fsync(self.fd)
            os.rename(self._name, name, src_dir_fd=self._directory.fd, dst_dir_fd=target.fd)
        self._name = ""

    def close(self) -> None:
        """Gone, unless it was published."""
        if self.fd < 0:
            return
        if self._name:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._directory.fd)
        os.close(self.fd)
        self.fd = -1


def sweep(directory: Directory, prefix: str = TEMPORARY) -> None:
    """Remove the temporary files whose writers are gone."""
    for name in os.listdir(directory.fd):
        if name.startswith(prefix):
            with suppress(OSError):
                _remove_if_left(directory, name)


def _remove_if_left(directory: Directory, name: str) -> None:
    fd = os.open(name, os.O_RDONLY | _UNFOLLOWED, dir_fd=directory.fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory.fd)
    finally:
        os.close(fd)


def whole(stream: Readable, limit: int, what: str) -> bytes:
    """All of it, if that is no more than ``limit``."""
    parts: list[bytes] = []
    while limit >= 0 and (data := stream.read(min(PIECE, limit + 1))):
        parts.append(data)
        limit -= len(data)
    if limit < 0:
        raise ImageError(what, "is larger than any such file")
    return b"".join(parts)


def spool_directory() -> str:
    """/var/tmp, since /tmp may be memory (hier(7)), unless the caller says where."""
    return os.environ.get("TMPDIR") or next(filter(os.path.isdir, ("/var/tmp", "/tmp")), ".")


def spool() -> BinaryIO:
    """A file without a name for what has to be kept meanwhile."""
    directory = spool_directory()
    with failing(directory, "cannot be written"):
        return tempfile.TemporaryFile(dir=directory, buffering=0)


def copy(stream: Readable, fd: int, offset: int, what: str) -> int:
    """Write all of a stream there; how much it was. ``what`` is where, for people."""
    start = offset
    while data := stream.read(PIECE):
        rest = memoryview(data)
        with failing(what, "cannot be written"):
            while rest:
                written = os.pwrite(fd, rest, offset)
                rest, offset = rest[written:], offset + written
    return offset - start
