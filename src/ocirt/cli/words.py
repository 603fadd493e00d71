"""Errors in the words that engines search for: runc's, where it has some for the case.

podman, containerd and docker tell a missing program, a forbidden one and a missing container apart by these texts
alone, so they are kept although ours say more; what runc has no words for keeps ours.
"""

from __future__ import annotations

import errno
import os
import re

from ocirt.errors import BundleError, HookError, OCIError, SetupError, SpecError, StateError

STARTING = "unable to start container process: "
IN_INIT = "error during container init: "


def of(error: OCIError | OSError) -> str:
    """One line."""
    match error:
        case StateError():
            return error.reason
        case BundleError():
            return _bundle(error)
        case SpecError():
            return f"{error.source}: " + "; ".join(map(str, error.problems))
        case HookError():
            return f"{STARTING}{IN_INIT}{_hook(error)}"
        case SetupError(operation="FindProgram"):
            return STARTING + _missing(error) + _suspicion(error)
        case SetupError(operation="Exec"):
            return f"exec {error.detail}: {reason(error.errno)}{_suspicion(error)}"
        case SetupError(operation="LimitResources" | "EnableControllers" | "FreezeCgroup" | "ThawCgroup"):
            return f"unable to apply cgroup configuration: {_setup(error)}"
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
    return error.reason if "JSON specification file" in error.reason else str(error)


def _hook(error: HookError) -> str:
    """``hooks.prestart[0]``: the name and the number."""
    place = re.fullmatch(r"hooks\.(\w+)\[(\d+)\]", error.hook)
    if place is None:
        return str(error)
    output = f", output: {error.output.strip()}" if error.output.strip() else ""
    return f"error running {place[1]} hook #{place[2]}: {error.path}: {error.reason}{output}"


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
