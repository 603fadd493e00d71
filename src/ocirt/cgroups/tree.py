"""The few operations on cgroup directories that everything else is made of.

Rules of this file: no symbolic link is followed, file names come from the code (those of ``unified`` have no slash),
and what a container may have made below its cgroup is walked by file descriptors, so that no depth of it is too deep.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY = _READ | os.O_DIRECTORY

BUSY = frozenset((errno.EBUSY, errno.ENOTEMPTY))
"""What rmdir(2) says of a cgroup that has processes or children."""


def read(path: str, dir_fd: int | None = None) -> str:
    """A whole file, however long the kernel makes it."""
    fd = _open(path, _READ, dir_fd)
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
    except OSError as error:
        raise _with_path(error, path) from None
    finally:
        os.close(fd)
    return os.fsdecode(b"".join(chunks))


def write(path: str, *values: str) -> None:
    """Each value by a write(2) of its own, which is how cgroup files take commands."""
    fd = _open(path, _WRITE)
    try:
        for value in values:
            os.write(fd, value.encode())
    except OSError as error:
        raise _with_path(error, path) from None
    finally:
        os.close(fd)


def below(top: str) -> Iterator[tuple[int, str]]:
    """Every cgroup below ``top``, children before parents, as its parent's descriptor and its name."""
    here = _open(top, _DIRECTORY)
    names: list[str] = []
    try:
        pending = [_children(here)]
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                with contextlib.suppress(FileNotFoundError):
                    here = _moved(here, name)
                    pending.append(_children(here))
                    names.append(name)
            elif names:
                here = _moved(here, "..")
                pending.pop()
                yield here, names.pop()
            else:
                return
    finally:
        os.close(here)


def processes(top: str) -> set[int]:
    """Who is in the cgroup or below it, by the pids of our own namespace; none if it is gone."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        found.update(_pids(f"{top}/cgroup.procs"))
        for parent, name in below(top):
            found.update(_pids(f"{name}/cgroup.procs", parent))
    return found - {0}  # 0 is a process of a pid namespace that we cannot see into


def frozen(path: str, version: int) -> bool:
    """Whether all of the cgroup stands still; in version 1 only the freezer's hierarchy knows."""
    file, line = ("cgroup.events", "frozen 1") if version == 2 else ("freezer.state", "FROZEN")
    try:
        return line in read(f"{path}/{file}").splitlines()
    except FileNotFoundError:
        return False


def remove(path: str) -> bool:
    """Remove a cgroup and what is below it, in one attempt; false if it is busy, true once it is gone."""
    if _rmdir(path):
        return True
    with contextlib.suppress(FileNotFoundError):
        for parent, name in below(path):
            _rmdir(name, parent)
    return _rmdir(path)


def _rmdir(path: str, dir_fd: int | None = None) -> bool:
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in BUSY:
            raise
        return False
    return True


def _pids(path: str, dir_fd: int | None = None) -> Iterator[int]:
    try:
        return map(int, read(path, dir_fd).split())
    except FileNotFoundError:
        return iter(())
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a threaded cgroup, whose processes its parent lists (cgroups(7))
            return iter(())
        raise


def _children(fd: int) -> list[str]:
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # removed while it was open
        return []


def _moved(fd: int, name: str) -> int:
    """The descriptor of a neighbour, in exchange for ours."""
    other = _open(name, _DIRECTORY, fd)
    os.close(fd)
    return other


def _open(path: str, flags: int, dir_fd: int | None = None) -> int:
    try:
        return os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        raise _with_path(error, path) from None


def _with_path(error: OSError, path: str) -> OSError:
    """The same error, with the path that read(2) and write(2) do not know.

    ENODEV is what they say of a cgroup that was removed since the file was opened, and open(2) of one that is just
    being removed: it is gone like any other.
    """
    number = errno.ENOENT if error.errno == errno.ENODEV else error.errno or errno.EIO
    return OSError(number, os.strerror(number), path)
