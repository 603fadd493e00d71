"""A directory that is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator

from ocirt.archive.removal import remove_tree


@contextlib.contextmanager
def made_beside(path: str) -> Iterator[str]:
    """A directory of mode 0700 under another name, which becomes ``path`` when the block ends without an error.

    Otherwise it is removed, whatever is in it. Killed, we leave it with a name that begins with a dot.

    :raises FileExistsError: something else than an empty directory is at ``path``, now or at the end.
    """
    parent, name = os.path.split(os.path.abspath(path))
    _refuse_occupied(path)
    os.makedirs(parent, exist_ok=True)
    made = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
    try:
        yield made
        try:
            os.rename(made, path)
        except (FileExistsError, NotADirectoryError) as error:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
    except BaseException:
        fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_tree(fd, os.path.basename(made))
        finally:
            os.close(fd)
        raise


def _refuse_occupied(path: str) -> None:
    try:
        with os.scandir(path) as found:
            if not any(True for _ in found) and not os.path.islink(path):
                return
    except FileNotFoundError:
        if not os.path.lexists(path):
            return
    except NotADirectoryError:
        pass
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
