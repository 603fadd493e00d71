"""Compiled filters of system calls, kept below the state root for the next process.

libseccomp takes longer over an engine's profile than all else takes in a create, and every container of an engine has
the same. What a program depends on is in its name: the profile, libseccomp's version, the machine, and the age of our
own part in it. A program is read back only from directories that nobody else may write to, and only whole.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
from threading import get_ident
from typing import TYPE_CHECKING, Final

from ocirt.seccomp import profile_of

try:  # the same function; hashlib would load OpenSSL, for 3 ms of each command
    from _blake2 import blake2b
except ImportError:  # Python can be built without its own
    from hashlib import blake2b

if TYPE_CHECKING:
    from ocirt.spec import Seccomp, Spec

NAME: Final = ".seccomp"
"""No container's, as ids do not begin with a dot."""

KEPT: Final = 64
"""So many programs are kept at most."""

DIGEST_SIZE: Final = 32
INSTRUCTION_SIZE: Final = 8


def program_of(document: Spec, root: str) -> bytes:
    """The compiled profile; empty where there is none.

    :raises UnsupportedError: no libseccomp, or one that does not know what the profile asks for.
    """
    profile = profile_of(document.linux)
    return b"" if profile is None else _program(profile, root)


@functools.lru_cache(maxsize=16)
def _program(profile: Seccomp, root: str) -> bytes:
    directory = f"{root}/{NAME}"
    name = _name(profile)
    if _is_ours(root) and _is_ours(directory):
        program = _read(f"{directory}/{name}")
        if program:
            return program
    from ocirt.seccomp.compile import compile_profile

    program = compile_profile(profile)
    if _is_ours(root):
        with contextlib.suppress(OSError):  # the next process compiles it again
            _keep(directory, name, program)
    return program


def _name(profile: Seccomp) -> str:
    from ocirt.seccomp import library
    from ocirt.spec import convert

    with os.scandir(os.path.dirname(library.__file__)) as entries:
        ours = sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.is_file())
    about = (convert.plain(profile), library.version(), os.uname().machine, ours)
    return blake2b(json.dumps(about).encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE).hexdigest()


def _is_ours(directory: str) -> bool:
    """Nobody else may have written there."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _read(path: str) -> bytes | None:
    """``None`` where there is none, or not all of one."""
    try:
        with open(path, "rb") as file:
            digest, program = file.read(DIGEST_SIZE), file.read()
    except OSError:
        return None
    return program if digest == _digest(program) else None


def _digest(program: bytes) -> bytes:
    return blake2b(program, digest_size=DIGEST_SIZE).digest()


def _keep(directory: str, name: str, program: bytes) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    if not _is_ours(directory):
        return
    known = os.listdir(directory)
    if len(known) >= KEPT:
        for other in known:
            with contextlib.suppress(FileNotFoundError):  # somebody else does the same
                os.unlink(f"{directory}/{other}")
    new = f"{directory}/{name}.{os.getpid()}.{get_ident()}"
    with open(new, "xb") as file:
        file.write(_digest(program) + program)
    os.rename(new, f"{directory}/{name}")
