"""A container's cgroups as directories: make them, join them, list, signal and freeze what is in them, remove them.

A ``Cgroup`` is a record of intent: it is stored before anything is made, and every operation on it works from any
point at which its maker may have died, in any process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ocirt.cgroups import tree
from ocirt.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.choice import Placement
    from ocirt.cgroups.devices import DeviceWrite

ORIGIN = "linux.cgroupsPath"

DELAYS = (0.0, *(0.001 * 2**n for n in range(10)))
"""How long to wait for a busy cgroup before each attempt, about a second in all: runc's numbers."""

_BATCH = 100
"""Processes to signal between two looks at the list; also bounds the descriptors that are open at once."""


class Directory(NamedTuple):
    """The container's cgroup in one hierarchy."""

    path: str
    controllers: tuple[str, ...]
    """Empty for version 2."""
    version: int
    parents: tuple[str, ...] = ()
    """What has to exist above it, outermost first."""
    missing: tuple[str, ...] = ()
    """Those parents that were not there before us, and so are ours to remove."""


class Cgroup(NamedTuple):
    """The container's cgroup in every hierarchy; without directories the container stays in its creator's."""

    directories: tuple[Directory, ...] = ()

    def to_json(self) -> list[dict[str, object]]:
        return [directory._asdict() for directory in self.directories]

    @classmethod
    def from_json(cls, record: Sequence[Mapping[str, object]]) -> Cgroup:
        """What ``to_json`` wrote; KeyError or TypeError where it did not."""
        return cls(tuple(map(_directory, record)))

    def make(self, but: int = 0) -> bool:
        """Create every directory; on any failure none of those that this call made stay.

        True if one of the container's own was there before, so that not all that happened in it is the container's.

        :param but: a process that may be there already, with the directory.
        """
        made: list[str] = []
        try:
            for directory in self.directories:
                _make(directory, made, but)
        except BaseException:
            for path in reversed(made):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            raise
        return any(directory.path not in made for directory in self.directories)

    def join(self, pid: int, *, versions: Iterable[int] = (1, 2)) -> None:
        """Move a process; ``versions=(1,)`` for one that CLONE_INTO_CGROUP put into version 2 already.

        One that is gone by then is no error: whoever waits for it learns what it died of.
        """
        try:
            for directory in self.directories:
                if directory.version in versions:
                    tree.write(f"{directory.path}/cgroup.procs", str(pid))
        except ProcessLookupError:
            return
        except OSError as error:
            raise _failed("JoinCgroup", "write", error) from error

    def open_v2(self) -> int | None:
        """A descriptor for CLONE_INTO_CGROUP (clone(2)), which the caller closes."""
        path = self._path(2)
        try:
            return None if path is None else os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _failed("OpenCgroup", "open", error) from error

    def allow_devices(self, writes: Iterable[DeviceWrite]) -> None:
        """Apply the device list (``devices.device_writes``) where there is a version 1 hierarchy for it."""
        path = self._path(1, "devices")
        if path is None:
            return
        for write in writes:
            try:
                tree.write(f"{path}/{write.file}", *write.rules)
            except OSError as error:
                raise _failed("AllowDevices", "write", error, write.origin) from error

    def processes(self) -> tuple[int, ...]:
        """The host pids of everything in the container, in order."""
        path = self._path(2) or (self.directories[0].path if self.directories else None)
        return () if path is None else tuple(sorted(tree.processes(path)))

    def frozen(self) -> bool:
        """Whether the container is paused."""
        freezers = ((self._path(1, "freezer"), 1), (self._path(2), 2))
        return any(tree.frozen(path, version) for path, version in freezers if path)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal every process in the container; with SIGKILL until none is left, or about a second has passed.

        They are frozen meanwhile, or a process that forks quickly enough would get away. A container that was
        paused stays so, but for SIGKILL, which version 1 delivers to the thawed alone.
        """
        if number != signal.SIGKILL:
            self._signal(number)
            return
        for delay in DELAYS:
            time.sleep(delay)
            if not self._sigkill():
                return

    def remove(self, *, kill: bool = False) -> None:
        """Remove every directory that is still there, and what we made above it unless others use it by now.

        ``kill`` ends those who keep it busy. That nobody does is for rmdir(2) to find out: asking first costs more.
        """
        left = [directory.path for directory in self.directories]
        try:
            for delay in DELAYS:
                if delay:
                    time.sleep(delay)
                left = [path for path in left if not tree.remove(path)]
                if not left:
                    break
                if kill:
                    self._sigkill()
            for directory in self.directories:
                _remove_parents(directory)
        except OSError as error:
            raise _failed("RemoveCgroup", "rmdir", error) from error
        if left:
            raise SetupError(ORIGIN, "RemoveCgroup", "rmdir", errno.EBUSY, left[0])

    def directory(self, version: int, controller: str = "") -> Directory | None:
        """Where a controller's files are; of version 2, every controller's."""
        for directory in self.directories:
            if directory.version == version and (not controller or controller in directory.controllers):
                return directory
        return None

    def _path(self, version: int, controller: str = "") -> str | None:
        directory = self.directory(version, controller)
        return None if directory is None else directory.path

    def _members(self) -> set[int]:
        """Everybody who is in any hierarchy: a container that can write to a cgroup mount may move in one only."""
        return set().union(*(tree.processes(directory.path) for directory in self.directories))

    def _sigkill(self) -> bool:
        """One attempt to end them all; false if there were none. Since Linux 5.14 version 2 does it at one stroke."""
        if path := self._path(2):
            with contextlib.suppress(FileNotFoundError):
                tree.write(f"{path}/cgroup.kill", "1")
        return self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> bool:
        """One pass over the processes; false if there were none."""
        # One who stands among them must not freeze itself: nobody would be left to thaw.
        members = self._members()
        if not members or members == {os.getpid()}:
            return False
        thawing = number == signal.SIGKILL
        with contextlib.nullcontext() if os.getpid() in members else self._freeze(thaw_always=thawing):
            pids = sorted(self._members() - {os.getpid()})
            for start in range(0, len(pids), _BATCH):
                self._signal_batch(pids[start : start + _BATCH], number)
        return True

    def _signal_batch(self, pids: Sequence[int], number: int) -> None:
        """Signal those who are still members once a pidfd holds them, since a pid may have a new owner by then."""
        with contextlib.ExitStack() as stack:
            held: dict[int, int] = {}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(pid)
                    stack.callback(os.close, held[pid])
            for pid in self._members() & held.keys():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(held[pid], number)

    @contextlib.contextmanager
    def _freeze(self, *, thaw_always: bool) -> Iterator[None]:
        """Freeze, as well as that works (a process in uninterruptible sleep resists), and restore."""
        file, freeze, thaw = self.freezer()
        if file is None:
            yield
            return
        before = thaw
        try:
            with contextlib.suppress(FileNotFoundError):
                before = tree.read(file).strip()
                tree.write(file, freeze)
                self._await_frozen()
            yield
        finally:
            if thaw_always or before == thaw:
                with contextlib.suppress(FileNotFoundError):
                    tree.write(file, thaw)

    def freezer(self) -> tuple[str | None, str, str]:
        """The file that freezes, and the words for on and off."""
        if path := self._path(1, "freezer"):
            return f"{path}/freezer.state", "FROZEN", "THAWED"
        path = self._path(2)
        return f"{path}/cgroup.freeze" if path else None, "1", "0"

    def _await_frozen(self) -> None:
        for _ in range(50):
            if self.frozen():
                return
            time.sleep(0.001)


def survey(placement: Placement, *, rootless: bool = False) -> Cgroup:
    """What is to be made at a place, having looked whether it may be: no process there, and a right to write.

    An ordinary user who asked for no particular place does without a cgroup where there is no permission.
    """
    directories = []
    for wanted in placement.directories:
        directory = _permitted_place(wanted, placement) if rootless else wanted
        if directory is None:
            if placement.explicit:
                raise UnsupportedError(
                    ORIGIN,
                    f"no permission to make {wanted.path}; leave the path out to run without a cgroup of its own, "
                    "or have a cgroup delegated to this user: systemd-run --user --scope -p Delegate=yes COMMAND",
                )
            continue
        if os.access(directory.path, os.F_OK):
            _check_unused(directory)
        missing = tuple([path for path in directory.parents if not os.access(path, os.F_OK)])
        directories.append(directory._replace(missing=missing))
    return Cgroup(tuple(directories))


def movable(cgroup: Cgroup, own: str) -> bool:
    """Whether the caller, whose cgroup of version 2 is ``own``, may move a process of its own there."""
    return all(_permitted(directory, own) for directory in cgroup.directories if directory.version == 2)


def _permitted_place(wanted: Directory, placement: Placement) -> Directory | None:
    below = (placement.below,) if placement.below is not None and wanted.version == 2 else ()
    return next((directory for directory in (wanted, *below) if _permitted(directory, placement.own)), None)


def _permitted(directory: Directory, own: str) -> bool:
    """Whether the caller may make the directory and, by the rules of version 2, move a process to it from its own."""
    path = directory.path
    while not os.access(path, os.F_OK, effective_ids=True):
        path = posixpath.dirname(path)
    files = [path]
    if directory.version == 2 or path == directory.path:
        files.append(f"{path}/cgroup.procs")
    if directory.version == 2 and own:
        files.append(f"{posixpath.commonpath((own, directory.path))}/cgroup.procs")
    return all(os.access(file, os.W_OK, effective_ids=True) for file in files)


def _make(directory: Directory, made: list[str], but: int) -> None:
    """Make one directory and its missing parents, appending to ``made`` what was not there before."""
    call = "mkdir"
    try:
        _make_path(directory, made, but)
        call = "write"
        if "cpuset" in directory.controllers:
            _inherit(directory.path, "cpuset.cpus")
            _inherit(directory.path, "cpuset.mems")
    except OSError as error:
        raise _failed("MakeCgroup", call, error) from error


def _make_path(directory: Directory, made: list[str], but: int) -> None:
    """Other containers' ends may remove a parent as long as it is empty, so once is not always enough."""
    for attempts_left in reversed(range(5)):
        try:
            for path in directory.parents:
                with contextlib.suppress(FileExistsError):
                    _mkdir(path, made)
            _mkdir(directory.path, made)
            break
        except FileExistsError:
            _check_unused(directory, but)
            break
        except FileNotFoundError:
            if not attempts_left:
                raise


def _mkdir(path: str, made: list[str]) -> None:
    os.mkdir(path, 0o755)
    made.append(path)


def _inherit(path: str, name: str) -> str:
    """Give an empty cpuset what its nearest non-empty parent has: nobody may join one without (cpuset(7))."""
    value = tree.read(f"{path}/{name}").strip()
    if not value:
        value = _inherit(posixpath.dirname(path), name)
        tree.write(f"{path}/{name}", value)
    return value


def _check_unused(directory: Directory, but: int = 0) -> None:
    """An existing cgroup will do, but not one that somebody uses: limits and a delete would hit them as well."""
    reason = ""
    if found := len(tree.processes(directory.path) - {but}):
        reason = f"container's cgroup is not empty: {found} process(es) found"
    elif tree.frozen(directory.path, directory.version):
        reason = "container's cgroup unexpectedly frozen"
    if reason:
        raise SetupError(ORIGIN, "MakeCgroup", "", errno.EBUSY, reason, f"choose another path than {directory.path}")


def _remove_parents(directory: Directory) -> None:
    for path in reversed(directory.missing):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in tree.BUSY:
                raise
            return


def _failed(operation: str, call: str, error: OSError, origin: str = ORIGIN) -> SetupError:
    return SetupError(origin, operation, call, error.errno or 0, str(error.filename or ""))


def _directory(record: Mapping[str, object]) -> Directory:
    path, version = record["path"], record["version"]
    if not (isinstance(path, str) and isinstance(version, int)):
        raise TypeError(f"not the record of a cgroup: {record}")
    return Directory(
        path, _strings(record["controllers"]), version, _strings(record["parents"]), _strings(record["missing"])
    )


def _strings(value: object) -> tuple[str, ...]:
    if not (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)):
        raise TypeError(f"not a list of strings: {value!r}")
    return tuple(value)
