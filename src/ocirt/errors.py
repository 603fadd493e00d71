"""What may go wrong, as exceptions that carry facts.

::

    OCIError
    ├── SpecError            config.json is wrong: every problem, each with its path
    ├── UnsupportedError     valid, but this ocirt, kernel or caller cannot do it
    ├── BundleError          no config.json, or no rootfs, where one should be
    ├── StateError           the operation does not fit the container's status
    │   ├── NotFoundError    there is no such container
    │   └── ExistsError      there already is one
    ├── SetupError           an operation of the plan failed, in the container or on the host
    │   └── InitDied         the container's init ended before its plan did
    ├── HookError            a hook failed or ran out of time
    ├── CriuError            CRIU could not make a checkpoint, or restore one
    ├── ImageError           an image, or where it is, is not as it should be
    │   ├── ImageNotFound    there is no such image, tag, platform or blob
    │   ├── DigestMismatch   some content is not what its name says
    │   └── RegistryError    a registry refused, with its status and its own words
    ├── ArchiveError         a tar archive is broken, or wants what no archive may
    └── ExitStatusUnknown    the process is gone and the kernel no longer tells how

The words are made in ``__str__`` from fields; ``__cause__`` is the OSError where there was one.
"""

from __future__ import annotations

import errno as _errno
import os
import signal as _signal
from collections.abc import Sequence
from typing import NamedTuple


class OCIError(Exception):
    """The root of every error that ocirt raises on purpose."""


class Problem(NamedTuple):
    """One thing that is wrong with a configuration."""

    path: str
    """Where, as in ``mounts[3].options[1]``; empty for the document itself."""
    value: object
    """What stands there (``None`` where something is missing)."""
    rule: str
    """What should, in words, with the remedy where it is known."""

    def __str__(self) -> str:
        where = self.path or "config.json"
        return f"{where}: {self.rule}" if self.value is None else f"{where}: {_shown(self.value)} {self.rule}"


class SpecError(OCIError):
    """A configuration breaks the OCI runtime specification; ``problems`` lists every breach."""

    def __init__(self, problems: Sequence[Problem], source: str = "config.json") -> None:
        super().__init__(problems, source)
        self.problems = tuple(problems)
        self.source = source

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"{self.source}: {count} problem{'s' if count != 1 else ''}"
        return "\n  ".join([head, *map(str, self.problems)])


class UnsupportedError(OCIError):
    """A valid value that cannot be honoured here: ``origin`` asked for it, ``needs`` says what is missing."""

    def __init__(self, origin: str, needs: str) -> None:
        super().__init__(origin, needs)
        self.origin = origin
        self.needs = needs

    def __str__(self) -> str:
        return f"{self.origin}: {self.needs}"


class BundleError(OCIError):
    """A bundle lacks what its format asks for (bundle.md)."""

    def __init__(self, origin: str, path: str, reason: str) -> None:
        super().__init__(origin, path, reason)
        self.origin = origin
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.origin}: {self.path}: {self.reason}"


class StateError(OCIError):
    """An operation that the container's status does not allow (runtime.md, Operations)."""

    def __init__(self, container_id: str, status: str, operation: str, reason: str) -> None:
        super().__init__(container_id, status, operation, reason)
        self.container_id = container_id
        self.status = status
        self.operation = operation
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} {self.container_id!r}: {self.reason}"


class NotFoundError(StateError):
    """There is no container of this id below this root."""

    def __init__(self, container_id: str, operation: str = "load") -> None:
        super().__init__(container_id, "absent", operation, "container does not exist")
        self.args = (container_id, operation)


class ExistsError(StateError):
    """The id is taken."""

    def __init__(self, container_id: str) -> None:
        super().__init__(container_id, "present", "create", "container with given ID already exists")
        self.args = (container_id,)


class SetupError(OCIError):
    """One operation of a plan failed.

    ``origin`` is the field of config.json that asked for it, ``operation`` the plan's word for it, ``call`` the
    system call (or step) and ``errno`` its error; ``detail`` is what the failing side added, ``hint`` the remedy.
    """

    def __init__(self, origin: str, operation: str, call: str, errno: int, detail: str = "", hint: str = "") -> None:
        super().__init__(origin, operation, call, errno, detail, hint)
        self.origin = origin
        self.operation = operation
        self.call = call
        self.errno = errno
        self.detail = detail
        self.hint = hint
        self.mounting: tuple[str, str] | None = None
        """Source and mount point in the container, where it is a mount that failed."""
        self.oom_suspected = False
        """Meanwhile the kernel's OOM killer ended some process of the container: perhaps this one."""

    def __str__(self) -> str:
        text = f"{self.origin}: {self.operation}"
        if self.detail:
            text += f" {self.detail}"
        if self.call:
            text += f": {self.call}"
        if self.errno:
            text += f": {os.strerror(self.errno)} ({_errno.errorcode.get(self.errno, self.errno)})"
        if self.oom_suspected:
            text += " (possibly OOM-killed)"
        return f"{text}; {self.hint}" if self.hint else text


class InitDied(SetupError):
    """The container's init ended while its plan was running: ``signal`` or ``status`` says how, ``after`` where."""

    def __init__(self, origin: str, after: str, returncode: int | None) -> None:
        super().__init__(origin, after, "", 0)
        self.args = (origin, after, returncode)
        self.after = after
        self.returncode = returncode
        self.signal = -returncode if returncode is not None and returncode < 0 else None
        self.oom_killed: bool | None = None
        """By the kernel's OOM killer; ``None`` where nobody can tell."""

    def __str__(self) -> str:
        how = "ended"
        if self.oom_killed:
            return f"{self.origin}: container init was OOM-killed (memory limit too low?), during {self.after}"
        if self.signal is not None:
            how = f"was killed by {_signal_name(self.signal)}"
        elif self.returncode is not None:
            how = f"exited with {self.returncode}"
        return f"{self.origin}: the container's init {how} during {self.after}"


class HookError(OCIError):
    """A hook failed: ``hook`` is its place (``hooks.prestart[0]``), ``returncode`` ``None`` when it ran out of time."""

    def __init__(self, hook: str, path: str, returncode: int | None, output: str, reason: str) -> None:
        super().__init__(hook, path, returncode, output, reason)
        self.hook = hook
        self.path = path
        self.returncode = returncode
        self.output = output
        self.reason = reason

    def __str__(self) -> str:
        text = f"{self.hook}: {self.path}: {self.reason}"
        return f"{text}: {self.output.strip()}" if self.output.strip() else text


class CriuError(OCIError):
    """CRIU failed: ``request`` is what it was asked for, ``log`` the file where it tells all, ``reasons`` its words."""

    def __init__(self, request: str, errno: int, log: str, reasons: Sequence[str]) -> None:
        super().__init__(request, errno, log, reasons)
        self.request = request
        self.errno = errno
        self.log = log
        self.reasons = tuple(reasons)

    def __str__(self) -> str:
        text = f"criu failed: type {self.request} errno {self.errno}"
        if self.reasons:
            text += f": {'; '.join(self.reasons)}"
        if any("kerndat" in reason for reason in self.reasons):
            text += "; this CRIU does not get along with this kernel (criu check says the same): a newer one may"
        return f"{text} (log file: {self.log})" if self.log else text


class ImageError(OCIError):
    """Something of an image is wrong: ``subject`` is what (an image, a document, a member of it), ``reason`` how."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.subject}: {self.reason}"


class ImageNotFound(ImageError):
    """There is nothing of that name."""


class DigestMismatch(ImageError):
    """Content whose size or digest is another than its descriptor's: what came is not what was asked for."""

    def __init__(self, subject: str, expected: str, found: str) -> None:
        super().__init__(subject, f"should be {expected}, and is {found}")
        self.args = (subject, expected, found)
        self.expected = expected
        self.found = found


class RegistryError(ImageError):
    """A registry said no: ``status`` of HTTP, and ``code`` of the distribution specification where it gave one.

    A status of 0 is no answer at all: a connection that could not be made, or broke.
    """

    def __init__(self, subject: str, status: int, code: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.args = (subject, status, code, reason)
        self.status = status
        self.code = code


class ArchiveError(OCIError):
    """A tar archive cannot be unpacked: ``member`` is the name of the entry, empty for the archive as a whole."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(member, reason)
        self.member = member
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.member!r}: {self.reason}" if self.member else f"archive: {self.reason}"


class ExitStatusUnknown(OCIError):
    """Process ``pid`` ended, somebody else reaped it, and this kernel does not keep its status (Linux < 6.15)."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.pid = pid

    def __str__(self) -> str:
        return f"process {self.pid} ended, and its exit status went to another waiter"


def ended(returncode: int) -> str:
    """How a hook came to its end, in words."""
    return f"exited with {returncode}" if returncode > 0 else f"was killed by signal {-returncode}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _signal_name(number: int) -> str:
    try:
        return _signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
