"""Errors in the words that engines search for: runc's, where it has some for the case.

podman, containerd and docker tell a missing program, a forbidden one and a missing container apart by these texts
alone, so they are kept although ours say more; what runc has no words for keeps ours.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final

from ocirt.errors import (
    BundleError,
    HookError,
    OCIError,
    Problem,
    SetupError,
    SpecError,
    StateError,
    UnsupportedError,
)

STARTING: Final = "unable to start container process: "
IN_INIT: Final = "error during container init: "
AGENT: Final = "failed to connect with seccomp agent specified in the seccomp profile"

SENTENCES: Final = (
    ("", "must not be null", "config cannot be null"),
    ("root", "is required", "root must be specified"),
    (r"mounts\[\d+\]\..*", "NUL", "mount field contains null byte"),
    (r"linux\.namespaces\[\d+\]\.type", "is not a namespace", 'namespace "{value}" does not exist'),
    (r"linux\.rootfsPropagation", "is not a mount propagation", "rootfsPropagation={value} is not supported"),
)
"""runc's words for problems of a configuration: the member, a part of our rule, and what runc says."""


def of(error: OCIError | OSError) -> str:
    """One line."""
    match error:
        case StateError():
            return error.reason
        case BundleError():
            return _bundle(error)
        case SpecError():
            return f"{error.source}: " + "; ".join(map(_problem, error.problems))
        case UnsupportedError(needs=needs) if "needs a mount namespace" in needs:
            return f"unable to restrict sys entries without a private MNT namespace: {error}"
        case HookError():
            return f"{STARTING}{IN_INIT}{_hook(error)}"
        case SetupError(operation="FindProgram"):
            return STARTING + _missing(error) + _suspicion(error)
        case SetupError(operation="Exec"):
            return f"exec {error.detail}: {reason(error.errno)}{_suspicion(error)}"
        case SetupError(operation="LimitResources" | "EnableControllers" | "FreezeCgroup" | "ThawCgroup"):
            return f"unable to apply cgroup configuration: {_setup(error)}"
        case SetupError(mounting=(source, target)):
            return f'{STARTING}{IN_INIT}error mounting "{source}" to rootfs at "{target}": {_setup(error)}'
        case SetupError(origin="linux.seccomp.listenerPath", call="connect"):
            return f"{STARTING}{IN_INIT}{AGENT}: {_setup(error)}"
        case SetupError():
            return f"{STARTING}{IN_INIT}{_setup(error)}"
        case OSError():
            return _system(error)
    return str(error)


def reason(number: int) -> str:
    """strerror(3) as Go writes it, in lower case."""
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


def _bundle(error: BundleError) -> str:
    if "JSON specification file" in error.reason:
        return error.reason
    prefix = "invalid rootfs: " if error.origin == "root.path" else ""
    return f"{prefix}{error.origin}: {error.path}: {error.reason[:1].lower()}{error.reason[1:]}"


def _problem(problem: Problem) -> str:
    """runc's sentence first, if it has one for the case and ours does not hold it anyway."""
    text = str(problem)
    for place, rule, sentence in SENTENCES:
        found = re.fullmatch(place, problem.path)
        if found and rule in problem.rule:
            return f"{sentence.format(*found.groups(), value=problem.value)}: {text}"
    return text


def _hook(error: HookError) -> str:
    """``hooks.prestart[0]``: the name and the number."""
    place = re.fullmatch(r"hooks\.(\w+)\[(\d+)\]", error.hook)
    if place is None:
        return str(error)
    output = f", output: {error.output.strip()}" if error.output.strip() else ""
    cause = error.__cause__
    why = error.reason
    if isinstance(cause, OSError) and cause.errno:
        why = why.replace(os.strerror(cause.errno), reason(cause.errno))
    return f"error running {place[1]} hook #{place[2]}: {error.path}: {why}{output}"


def _missing(error: SetupError) -> str:
    """What Go's exec.LookPath says."""
    name = error.detail
    if error.errno == errno.ENOENT and error.call == "PATH":
        return f'exec: "{name}": executable file not found in $PATH'
    if error.errno == errno.EISDIR:  # EACCES to execve(2), and Docker's 126 is for "permission denied" alone
        return f'exec: "{name}": {reason(errno.EISDIR)}: {reason(errno.EACCES)}'
    if error.errno == errno.EACCES:
        return f'exec: "{name}": {reason(error.errno)}'
    return f'exec: "{name}": stat {name}: {reason(error.errno)}'


def _suspicion(error: SetupError) -> str:
    return " (possibly OOM-killed)" if error.oom_suspected else ""


def _setup(error: SetupError) -> str:
    text = str(error)
    return text.replace(os.strerror(error.errno), reason(error.errno)) if error.errno else text


def _system(error: OSError) -> str:
    text = reason(error.errno) if error.errno else str(error)
    return f"{error.filename}: {text}" if error.filename else text
