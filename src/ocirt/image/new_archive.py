"""A tar archive of image files, written by several threads at once and seen only once it is whole.

A member's place is known as soon as its size is, so each is written where it will be; what nobody knows the size of
is kept in a file of its own until it is. Equal members in equal order are equal bytes: no time, nobody's name.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ocirt.errors import ImageError
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest, Hashed, Readable
from ocirt.image.files import Directory, NewFile, Section, copy, failing, spool, spool_directory, sweep
from ocirt.image.members import BLOCK
from ocirt.image.threads import PIECE


class Spooled:
    """An archive without a name, for who hands its bytes on."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        self._file = self._closing.enter_context(spool())
        self.fd = self._file.fileno()

    def publish(self) -> None:
        """Nobody sees it."""

    def close(self) -> None:
        self._closing.close()


class _Piped(Spooled):
    """One that goes to what is no file: a pipe, a terminal's program behind /dev/stdout."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def publish(self) -> None:
        with failing(self._path, "cannot be written"), open(self._path, "wb", buffering=0) as out:
            stream = Section(self.fd, 0, os.fstat(self.fd).st_size, self._path)
            while data := stream.read(PIECE):
                rest = memoryview(data)
                while rest:
                    rest = rest[out.write(rest) or 0 :]


class _Named:
    """One that takes the place of whatever file has its name."""

    def __init__(self, path: str) -> None:
        directory, self._name = os.path.split(os.path.realpath(path))
        with ExitStack() as closing:
            self._directory = closing.enter_context(Directory.open(directory))
            sweep(self._directory)
            self._file = closing.enter_context(NewFile(self._directory))
            self._closing = closing.pop_all()
        self.fd = self._file.fd

    def publish(self) -> None:
        self._file.publish(self._name)

    def close(self) -> None:
        self._closing.close()


@contextmanager
def spooled_blob(stream: Readable) -> Iterator[tuple[Section, Digest, int]]:
    """All of a stream that nobody knows yet, with its digest and size."""
    with spool() as file:
        hashed = Hashed(stream)
        size = copy(hashed, file.fileno(), 0, spool_directory())
        yield Section(file.fileno(), 0, size, "a blob"), hashed.digest, size


class NewArchive(Closing):
    """The archive ``path`` will be: any number of ``put``, then ``publish``."""

    def __init__(self, file: Spooled | _Named, path: str) -> None:
        self._file = file
        self._path = path
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._end = 0
        self._broken = False

    @classmethod
    def at(cls, path: str) -> NewArchive:
        """:raises ImageError: nothing can be written there."""
        try:
            special = not stat.S_ISREG(os.stat(path).st_mode)
        except OSError:
            special = False
        if os.path.isdir(path):
            raise ImageError(path, "is a directory, and an archive is a file")
        return cls(_Piped(path) if special else _Named(path), path)

    @classmethod
    def spooled(cls, what: str) -> NewArchive:
        return cls(Spooled(), what)

    def directory(self, name: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        self._place(entry)

    def has(self, name: str) -> bool:
        """A member of this name is there, or being written."""
        with self._lock:
            return name in self._names

    def put(self, name: str, stream: Readable, size: int) -> None:
        """One member, all of a stream; unless there is one of this name already, as no name is twice in an archive."""
        with self._lock:
            if name in self._names:
                return
            self._names.add(name)
        self._put(name, stream, size)

    @property
    def size(self) -> int:
        """Bytes that it has once it is published."""
        return self._end + 2 * BLOCK

    def publish(self) -> None:
        """Let it be seen, if it has a name."""
        if self._broken:
            raise ImageError(self._path, "a part of it could not be written")
        with failing(self._path, "cannot be written"):
            os.ftruncate(self._file.fd, self.size)
        self._file.publish()

    def read(self) -> Section:
        """All of it, once it is published."""
        return Section(self._file.fd, 0, self.size, self._path)

    def close(self) -> None:
        self._file.close()

    def _put(self, name: str, stream: Readable, size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = size
        try:
            offset = self._place(entry)
            if copy(stream, self._file.fd, offset, self._path) != size:
                raise ImageError(f"{self._path}: {name}", f"should have {size} bytes, and has not")
        except BaseException:
            self._broken = True
            raise

    def _place(self, entry: tarfile.TarInfo) -> int:
        """Where its data goes, behind its header."""
        header = entry.tobuf(tarfile.PAX_FORMAT)
        with self._lock:
            offset = self._end
            self._end += len(header) + -(-entry.size // BLOCK) * BLOCK
        return offset + copy(io.BytesIO(header), self._file.fd, offset, self._path)
