"""Run the hooks that belong to the host's namespaces (config.md, POSIX-platform Hooks)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ocirt.errors import HookError, ended

if TYPE_CHECKING:
    from ocirt.spec import Hook


def run_all(hooks: Sequence[Hook], kind: str, state: Mapping[str, object]) -> None:
    """Each in its order; the first failure ends it.

    :raises HookError: naming the hook as ``hooks.KIND[N]``.
    """
    for index, hook in enumerate(hooks):
        run(hook, f"hooks.{kind}[{index}]", state)


def run(hook: Hook, origin: str, state: Mapping[str, object]) -> None:
    """One hook, with the state on its standard input.

    State and output are files rather than pipes: a hook that does not read costs nobody anything, and one that leaves
    a process behind is not waited for. A hook without an environment gets the caller's, as with runc: many rely on
    PATH.
    """
    stdin, output = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("state", "output"))
    try:
        os.write(stdin, json.dumps(state).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        _run(hook, origin, stdin, output)
    finally:
        os.close(stdin)
        os.close(output)


def _run(hook: Hook, origin: str, stdin: int, output: int) -> None:
    try:
        returncode = subprocess.run(
            hook.args or [hook.path],
            executable=hook.path,
            env=dict(entry.partition("=")[::2] for entry in hook.env) if hook.env else None,
            stdin=stdin,
            stdout=output,
            stderr=output,
            timeout=hook.timeout,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired as error:
        reason = f"hook ran past specified timeout of {hook.timeout:.1f}s"
        raise HookError(origin, hook.path, None, _last_words(output), reason) from error
    except OSError as error:
        raise HookError(origin, hook.path, None, "", f"cannot be run: {error.strerror}") from error
    if returncode:
        raise HookError(origin, hook.path, returncode, _last_words(output), ended(returncode))


def _last_words(output: int) -> str:
    size = os.fstat(output).st_size
    return os.pread(output, 4096, max(0, size - 4096)).decode("utf-8", "replace")
