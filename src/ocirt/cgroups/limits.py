"""Writing limits into a container's cgroups.

The kernel refuses with EINVAL what does not fit beside another file's value (a limit of memory above that of memory
and swap, a period too short for the quota): such a setting is tried again once others of its controller are written,
so that no order has to be known for a change from any values to any others.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ocirt.cgroups import tree
from ocirt.cgroups.settings import CORE, Controllers, Setting
from ocirt.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.files import Cgroup, Directory
    from ocirt.cgroups.layout import Layout

OPERATION: Final = "LimitResources"
THREADED: Final = frozenset(("cpu", "cpuset", "perf_event", "pids"))
"""Controllers that can be where processes are as well (cgroups(7), Threaded controllers)."""

_DEAF: Final = "memory.kmem.limit_in_bytes"
"""Since Linux 6.6 it takes any value and does nothing."""


def available(there: Layout, cgroup: Cgroup, *, rootless: bool) -> Controllers:
    """The controllers that a container could have.

    Of version 2, an ordinary user has those alone that somebody has given to the cgroup above the container's.
    """
    named = frozenset(name for hierarchy in there.hierarchies for name in hierarchy.controllers)
    top = top_of(there)
    if top is None:
        return Controllers(named)
    directory = cgroup.directory(2)
    place = _nearest(os.path.dirname(directory.path)) if rootless and directory is not None else top
    return Controllers(named, frozenset(tree.read(f"{place}/cgroup.controllers").split()), unified=True)


def top_of(layout: Layout) -> str | None:
    """Where version 2 is mounted."""
    return next((hierarchy.mountpoint for hierarchy in layout.hierarchies if hierarchy.version == 2), None)


def _nearest(path: str) -> str:
    while not os.access(path, os.F_OK):
        path = os.path.dirname(path)
    return path


def check_permitted(cgroup: Cgroup, settings: Sequence[Setting]) -> None:
    """:raises UnsupportedError: an ordinary user has no cgroup there that the limits could be written to."""
    for setting in settings:
        if _place(cgroup, setting) is None:
            raise UnsupportedError(
                setting.origin,
                "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: "
                f"have a cgroup of version 2 with the {setting.controller} controller delegated to this user "
                "(systemd-run --user --scope -p Delegate=yes COMMAND), or leave limits out",
            )


def apply(cgroup: Cgroup, settings: Sequence[Setting], top: str | None) -> None:
    """Write them; ``top`` is where version 2 is mounted.

    :raises SetupError: what was written so far stays written.
    """
    _enable(cgroup, settings, top)
    for _, group in groupby(settings, key=lambda setting: setting.controller):
        _write_group(cgroup, list(group))


@contextlib.contextmanager
def replaced(cgroup: Cgroup, settings: Sequence[Setting], top: str | None) -> Iterator[None]:
    """The same in a cgroup that has limits already: after an error, of the block too, they are what they were."""
    before = [_present(cgroup, setting) for setting in settings]
    try:
        apply(cgroup, settings, top)
        yield
    except BaseException:
        _restore(cgroup, [setting for setting in before if setting is not None])
        raise


# Version 2: a cgroup has the controllers that the one above it hands on.


def _enable(cgroup: Cgroup, settings: Sequence[Setting], top: str | None) -> None:
    """Have every cgroup above ours hand on what we need, as far as they do not already."""
    directory = cgroup.directory(2)
    if directory is None or top is None:
        return
    wanted = {
        setting.controller: setting.origin
        for setting in settings
        if setting.version == 2 and setting.controller != CORE
    }
    if wanted:
        for above, path in _levels(top, directory.path):
            _hand_on(above, wanted)
            _suit_type(path, wanted, directory)


def _levels(top: str, path: str) -> Iterator[tuple[str, str]]:
    """Each cgroup from the mount down to ``path``, with the one above it."""
    above = top
    for name in path[len(top) :].strip("/").split("/"):
        yield above, f"{above}/{name}"
        above = f"{above}/{name}"


def _hand_on(above: str, wanted: Mapping[str, str]) -> None:
    file = f"{above}/cgroup.subtree_control"
    enabled = tree.read(file).split()
    for controller, origin in wanted.items():
        if controller in enabled:
            continue
        try:
            tree.write(file, f"+{controller}")
        except OSError as error:
            hint = f"the {controller} controller cannot be handed on to the container's cgroup"
            if error.errno == errno.EBUSY:
                hint += ", because there are processes in this one (cgroups(7), no internal processes)"
            raise _failed("EnableControllers", origin, error, hint) from error


def _suit_type(path: str, wanted: Mapping[str, str], directory: Directory) -> None:
    """A cgroup below a threaded one must be threaded too, which most controllers cannot be."""
    try:
        kind = tree.read(f"{path}/cgroup.type").strip()
    except FileNotFoundError:  # a parent that somebody has removed: joining will tell
        return
    if kind == "domain":
        return
    for controller, origin in wanted.items():
        if controller not in THREADED and not (kind == "domain threaded" and path == directory.path):
            state = "an invalid state" if kind == "domain invalid" else f"{kind} mode"
            words = f'cannot enter cgroupv2 "{path}" with domain controllers -- it is in {state}'
            raise SetupError(origin, "EnableControllers", "", errno.EOPNOTSUPP, words)
    if kind == "domain invalid":
        with contextlib.suppress(OSError):  # joining will tell
            tree.write(f"{path}/cgroup.type", "threaded")


# Files.


def _place(cgroup: Cgroup, setting: Setting) -> str | None:
    directory = cgroup.directory(setting.version, setting.controller if setting.version == 1 else "")
    return None if directory is None else directory.path


def _write_group(cgroup: Cgroup, pending: list[Setting]) -> None:
    while pending:
        refused: list[tuple[Setting, SetupError]] = []
        for setting in pending:
            try:
                _write(cgroup, setting)
            except SetupError as error:
                if error.errno != errno.EINVAL:
                    raise
                refused.append((setting, error))
        if len(refused) == len(pending):
            raise refused[0][1]
        pending = [setting for setting, _ in refused]


def _write(cgroup: Cgroup, setting: Setting) -> None:
    place = _place(cgroup, setting)
    path = f"{place}/{setting.file}"
    try:
        if setting.above:
            _check_usage(setting, int(tree.read(f"{place}/{setting.above}")))
        tree.write(path, *setting.values)
    except FileNotFoundError as error:
        if os.path.lexists(path):  # tree cannot tell a device that is missing from a cgroup that is gone
            words = "there is no such block device"
            raise SetupError(setting.origin, OPERATION, "write", errno.ENODEV, path, words) from error
        if setting.otherwise is not None:
            _write(cgroup, setting.otherwise)
        elif not setting.optional or not os.path.isdir(f"{place}"):
            raise _failed(OPERATION, setting.origin, error, _missing(setting)) from error
        return
    except OSError as error:
        raise _failed(OPERATION, setting.origin, error, _reason(setting, f"{place}", error)) from error
    if setting.file in ("cpu.shares", _DEAF):
        _check_taken(setting, path)


def _check_usage(setting: Setting, usage: int) -> None:
    """Version 2 would make room by killing, where version 1 refuses (config-linux.md, checkBeforeUpdate)."""
    value = int(setting.values[0])
    if value <= usage:
        what = "memory+swap" if setting.file == "memory.swap.max" else "memory"
        words = f"rejecting {what} limit {value} <= usage {usage}"
        raise SetupError(setting.origin, OPERATION, "", errno.EBUSY, setting.file, words)


def _check_taken(setting: Setting, path: str) -> None:
    """Some values the kernel changes without a word."""
    wanted, taken = int(setting.values[0]), int(tree.read(path))
    if setting.file == _DEAF:
        if taken > wanted:
            words = "this kernel ignores limits of kernel memory, which counts as memory"
            raise SetupError(setting.origin, OPERATION, "write", errno.EOPNOTSUPP, path, words)
        return
    if wanted != taken:
        bound = "maximum" if wanted > taken else "minimum"
        words = f"the {bound} allowed cpu-shares is {taken}"
        raise SetupError(setting.origin, OPERATION, "write", errno.ERANGE, path, words)


def _missing(setting: Setting) -> str:
    """What it may mean that there is no such file."""
    if setting.file.startswith("hugetlb.") and "hugepageLimits" in setting.origin:
        return "this machine has no huge pages of that size"
    if setting.file in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
        return "the kernel does not count swap (swapaccount=1 on its command line)"
    if setting.controller in ("blkio", "io") and "weight" in setting.file:
        return "this kernel weighs no block devices by cgroup: it wants BFQ, or of version 2 io.cost"
    return "this kernel has no such file"


def _reason(setting: Setting, place: str, error: OSError) -> str:
    """What to do about it, or runc's words, which engines show."""
    if "weight" in setting.file and error.errno == errno.EOPNOTSUPP:
        return "the device's I/O scheduler does not weigh (BFQ would)"
    if setting.file != "memory.limit_in_bytes" or error.errno != errno.EBUSY:
        return ""
    usage, peak = (tree.read(f"{place}/memory.{name}").strip() for name in ("usage_in_bytes", "max_usage_in_bytes"))
    return f"unable to set memory limit to {setting.values[0]} (current usage: {usage}, peak usage: {peak})"


def _failed(operation: str, origin: str, error: OSError, hint: str) -> SetupError:
    call = "open" if isinstance(error, FileNotFoundError) else "write"
    return SetupError(origin, operation, call, error.errno or 0, str(error.filename or ""), hint)


# What was there before.

_KEYED: Final = frozenset(("rdma.max", "net_prio.ifpriomap"))


def _present(cgroup: Cgroup, setting: Setting) -> Setting | None:
    """What would write the value that the file has now; ``None`` where there is no such file."""
    place = _place(cgroup, setting)
    try:
        text = tree.read(f"{place}/{setting.file}")
    except OSError:
        return None if setting.otherwise is None else _present(cgroup, setting.otherwise)
    if setting.file == "memory.oom_control":
        return setting._replace(values=(text.split()[1],), above="")
    keyed = setting.file in _KEYED or ":" in setting.values[0]
    general = text.partition("\n")[0] or "\n"
    values = tuple(_line(setting.file, text, value) for value in setting.values) if keyed else (general,)
    return setting._replace(values=values, above="")


def _line(file: str, text: str, value: str) -> str:
    """Of a file with a line for each device, the line for the one that ``value`` is about; or one that means none."""
    key, *words = value.split()
    for line in text.splitlines():
        if line.split()[:1] == [key]:
            return line
    if file.startswith("blkio.throttle.") or file == "net_prio.ifpriomap":
        return f"{key} 0"
    names = [f"{name}=max" for name, equals, _ in (word.partition("=") for word in words) if equals]
    return " ".join([key, *(names or ["default"])])


def _restore(cgroup: Cgroup, settings: Sequence[Setting]) -> None:
    """As well as that can be done; why it has to be is the better error."""
    for _, group in groupby(settings, key=lambda setting: setting.controller):
        pending = list(group)
        for _ in range(2):
            failed = []
            for setting in pending:
                try:
                    _write(cgroup, setting)
                except SetupError:
                    failed.append(setting)
            pending = failed
