"""What is known of each container, in files below one root, for every process of this user.

::

    <root>/<id>/intent.json   what is about to be made, and the configuration: written before anything is made
                state.json    what came of it: init's identity; there once the container is created
                start.sock    open while the container waits for its start

A status is not stored but computed (runtime.md, State): from whether init lives, and whether it still listens. The
directory itself is the lock: whoever works on the container holds flock(2) on it, so a killed creator has let go.

This module does without attrs and cattrs, so that one-shot commands need not import them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ocirt.cgroups.files import Cgroup
from ocirt.errors import ExistsError, NotFoundError, StateError

if TYPE_CHECKING:
    import socket

    from ocirt.cgroups.units import Unit

INTENT: Final = "intent.json"
STATE: Final = "state.json"
START: Final = "start.sock"
SCRATCH: Final = "scratch"
NOTIFY: Final = "notify"
ID: Final = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]{0,199}")
"""No leading dot (crun's rule), nothing that is not a plain file name (runc's), and short enough for one."""

SUN_PATH: Final = 108
"""Bytes for a socket's path, with the NUL at its end."""

OUTCOME: Final = ("created", "pid", "start_time", "boot")

Json = Mapping[str, object]


class Status(StrEnum):
    """Of the OCI runtime specification, and ``paused``, which every runtime adds."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Record(NamedTuple):
    """One container. Without a ``pid`` it is about to be created, or its creator was killed."""

    id: str
    bundle: str
    rootfs: str
    oci_version: str
    annotations: Mapping[str, str]
    cgroup: Cgroup
    created: str = ""
    """RFC 3339, UTC."""
    pid: int = 0
    start_time: int = 0
    """Of init, in clock ticks since boot (field 22 of proc_pid_stat(5)): a pid alone may be somebody else's by now."""
    boot: str = ""
    """Which boot pid and start time belong to."""
    rdt_groups: tuple[str, ...] = ()
    """Directories of resctrl that list the container's processes."""
    rdt_made: tuple[str, ...] = ()
    """Those that go with the container, innermost first."""
    keyring: bool = True
    """It has a session keyring of its own, for whoever is executed in it to join."""
    used_before: tuple[float, ...] = ()
    """What others had used in its cgroup (``cgroups.verdict.Facts``), where that was there before it."""
    unit: Unit | None = None
    """What of systemd's goes with the container."""
    plain: tuple[str, ...] = ()
    """Commands for which nothing of the configuration matters: ``start``, ``kill`` (by SIGKILL), ``delete``.

    These the program ``ocirt`` does without Python (``command/ocirt.c``). It reads this record in the very form in
    which it is written here: another order of fields is for ``command/record.c`` to know."""

    def intent(self) -> dict[str, object]:
        """What is known before anything is made."""
        usual = self._field_defaults
        given = ((name, value) for name, value in self.to_json().items() if name not in OUTCOME)
        return {name: value for name, value in given if name not in usual or value != usual[name]}

    def outcome(self) -> dict[str, object]:
        """What is known afterwards."""
        known: dict[str, object] = {name: getattr(self, name) for name in OUTCOME}
        return {**known, "used_before": self.used_before} if self.used_before else known

    def to_json(self) -> dict[str, object]:
        unit = self.unit._asdict() if self.unit is not None else None
        return {**self._asdict(), "cgroup": self.cgroup.to_json(), "unit": unit}

    @classmethod
    def from_json(cls, value: Json) -> Record:
        members = {name: value[name] for name in cls._fields if name in value or name not in cls._field_defaults}
        members["cgroup"] = Cgroup.from_json(cast("list[Json]", members["cgroup"]))
        for name in ("rdt_groups", "rdt_made", "used_before", "plain"):
            members[name] = tuple(cast("list[object]", members.get(name, ())))
        if members.get("unit") is not None:
            from ocirt.cgroups.units import Unit

            members["unit"] = Unit(**cast("dict[str, str]", members["unit"]))  # type: ignore[arg-type]  # as below
        return cls(**members)  # type: ignore[arg-type]  # our own file; a damaged one fails above or on use


def describe(record: Record, status: Status) -> Mapping[str, object]:
    """The state as runtime.md defines it: what hooks get and ``state`` shows."""
    state: dict[str, object] = {"ociVersion": record.oci_version, "id": record.id, "status": str(status)}
    state["pid"] = 0 if status is Status.STOPPED else record.pid
    state["bundle"] = record.bundle
    state["annotations"] = dict(record.annotations)
    return state


def has_pid_namespace(config: object) -> bool:
    """One of its own, by the configuration as JSON (which has been checked)."""
    linux = cast("Json", cast("Json", config).get("linux") or {})
    namespaces = cast("list[Json]", linux.get("namespaces", ()))
    return any(entry["type"] == "pid" and not entry.get("path") for entry in namespaces)


def default_root() -> str:
    """``/run/ocirt`` for root, below ``$XDG_RUNTIME_DIR`` for others (or in /tmp, where that is not set).

    Root of a user namespace counts among the others, unless it says that it has its own /run (``$USER``): rootless
    engines call us there. As with runc, so that both look at the same place.
    """
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if user == 0 and (not runtime or os.environ.get("USER") == "root" or not in_user_namespace()):
        return "/run/ocirt"
    return f"{runtime}/ocirt" if runtime else f"/tmp/ocirt-{user}"


def in_user_namespace() -> bool:
    """Another one than the first, which has all IDs (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def check_id(container_id: str) -> None:
    """:raises StateError: it could not be a directory's name, or not everywhere."""
    if not container_id:
        raise StateError(container_id, "absent", "create", "container id cannot be empty")
    if not ID.fullmatch(container_id):
        raise StateError(
            container_id, "absent", "create", "invalid container ID format: letters, digits, _ + - . and no leading dot"
        )


class StateStore:
    """The directory of all containers of one user."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        path = os.fspath(root) if root is not None else default_root()
        self.root = path if path.startswith("/") else os.path.abspath(path)

    def claim(self, container_id: str) -> StateDirectory:
        """Take an id: of all who try, one gets the directory (mkdir(2) is the lock), locked.

        :raises ExistsError: it is taken.
        """
        check_id(container_id)
        path = f"{self.root}/{container_id}"
        self._check_root()
        while True:
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                raise ExistsError(container_id) from None
            # Between the two calls somebody may have found an abandoned directory and removed it.
            with contextlib.suppress(NotFoundError):
                return self.open(container_id, "create").lock()

    def open(self, container_id: str, operation: str = "load") -> StateDirectory:
        """:raises NotFoundError: there is none of this id."""
        if not ID.fullmatch(container_id):
            raise NotFoundError(container_id, operation)
        path = f"{self.root}/{container_id}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(container_id, operation) from error
        return StateDirectory(container_id, path, fd)

    def ids(self) -> list[str]:
        """Of every container, sorted."""
        try:
            return sorted(name for name in os.listdir(self.root) if ID.fullmatch(name))
        except FileNotFoundError:
            return []

    def _check_root(self) -> None:
        """Nobody else may own or enter it: what lies there decides what a later ``kill`` hits."""
        try:
            info = os.lstat(self.root)
        except FileNotFoundError:
            os.makedirs(self.root, 0o1700, exist_ok=True)  # sticky: $XDG_RUNTIME_DIR is tidied of all else
            info = os.lstat(self.root)
        if info.st_uid != os.geteuid() or not stat.S_ISDIR(info.st_mode) or info.st_mode & 0o022:
            raise StateError("", "absent", "create", f"state root {self.root} is not ours alone (owner or mode)")


class StateDirectory:
    """One container's directory, open; a context manager that closes it (and so lets go of the lock)."""

    def __init__(self, container_id: str, path: str, fd: int) -> None:
        self.id = container_id
        self.path = path
        self.fd = fd

    def __enter__(self) -> StateDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def lock(self, timeout: float | None = None, operation: str = "lock") -> StateDirectory:
        """Wait until nobody else works on this container.

        :raises NotFoundError: it is gone by then.
        :raises StateError: it is still being worked on after ``timeout`` seconds.
        """
        if timeout is None:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        else:
            self._try_lock(timeout, operation)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or not os.path.samestat(there, os.fstat(self.fd)):
            self.close()
            raise NotFoundError(self.id, operation)
        return self

    def _try_lock(self, timeout: float, operation: str) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateError(self.id, "busy", operation, "another operation is still at work on it") from None
                time.sleep(0.005)
            else:
                return

    def is_locked(self) -> bool:
        """Somebody works on it right now."""
        with contextlib.ExitStack() as stack:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # deleted since it was opened
                raise NotFoundError(self.id) from None
            stack.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def write(self, name: str, data: bytes) -> None:
        """A file that nobody looks at yet."""
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self.fd)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)

    def intend(self, record: Record, config: bytes) -> None:
        """Write down what is about to be made, before any of it is, and the configuration it follows."""
        self.write(INTENT, b'{"record":%b,"config":%b}' % (_dumped(record.intent()), config))

    def reconfigure(self, config: bytes) -> None:
        """Another configuration for the same container; whoever reads meanwhile sees the one or the other."""
        record = json.loads(self.read(INTENT))["record"]
        self.write(f".{INTENT}", b'{"record":%b,"config":%b}' % (_dumped(record), config))
        os.rename(f".{INTENT}", INTENT, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def prepare(self, record: Record) -> None:
        """Write what ``commit`` will make known, while there is time."""
        self.write(f".{STATE}", _dumped(record.outcome()))

    def commit(self) -> None:
        """Init has become the container: from here on it is found by whoever looks."""
        os.rename(f".{STATE}", STATE, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def read(self, name: str) -> bytes:
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, dir_fd=self.fd)) as file:
            return file.read()

    def read_record(self) -> Record | None:
        """``None`` where a creator was killed before it wrote one, or the file is damaged."""
        try:
            intent = json.loads(self.read(INTENT))["record"]
            with contextlib.suppress(FileNotFoundError, ValueError):  # damaged: the cgroup still leads to the processes
                intent |= json.loads(self.read(STATE))
            return Record.from_json(intent)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def read_config(self) -> object:
        """The configuration as it was at create, as JSON.

        :raises NotFoundError: it has been deleted since the directory was opened, or its creator was killed early.
        """
        try:
            return json.loads(self.read(INTENT))["config"]
        except FileNotFoundError:
            raise NotFoundError(self.id) from None

    def listen(self, listener: socket.socket) -> None:
        """Where a start request arrives."""
        listener.bind(self._start_path())
        listener.listen(16)

    def _start_path(self) -> str:
        """Below /proc/self/fd where it would be too long for a socket (unix(7)).

        By its own path it is found sooner; and as long as we hold the lock, that is this directory's.
        """
        path = f"{self.path}/{START}"
        return path if len(os.fsencode(path)) < SUN_PATH else f"/proc/self/fd/{self.fd}/{START}"

    def connect(self) -> socket.socket | None:
        """To an init that waits for its start; ``None`` if none does."""
        import socket

        start = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            start.connect(self._start_path())
        except OSError as error:
            start.close()
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return None
            raise
        return start

    def has_start(self) -> bool:
        try:
            os.stat(START, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def forget_start(self) -> None:
        """The container has started; its status follows from that already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(START, dir_fd=self.fd)

    def remove(self) -> None:
        """Last of all: as long as the directory is there, somebody can find and delete the rest."""
        for name in (INTENT, STATE):  # most often there is nothing else
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(self.path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                self._remove_all()
                os.rmdir(self.path)

    def _remove_all(self) -> None:
        with os.scandir(self.fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    import shutil  # which follows no symlink: who may write there may have left any

                    shutil.rmtree(entry.name, dir_fd=self.fd)
                else:
                    os.unlink(entry.name, dir_fd=self.fd)

    def status(self, record: Record | None) -> Status:
        """What is the case right now."""
        if record is None or not record.pid:
            return Status.CREATING if self.is_locked() else Status.STOPPED
        if not is_alive(record):
            return Status.STOPPED
        if record.cgroup.frozen():
            return Status.PAUSED
        if not self.has_start():
            return Status.RUNNING
        start = self.connect()
        if start is None:
            return Status.RUNNING
        start.close()
        return Status.CREATED


def _dumped(value: Json) -> bytes:
    return _encoder.encode(value).encode()


def open_init(record: Record) -> int | None:
    """A pidfd of init, if it is still the same process; a zombie counts, so that its parent can wait for it."""
    if not record.pid or record.boot != boot_id():
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if start_time(record.pid)[1] != record.start_time:
        os.close(pidfd)
        return None
    return pidfd


def is_alive(record: Record) -> bool:
    """Init runs: same boot, same start time, no zombie."""
    state, started = start_time(record.pid)
    return started == record.start_time and started != 0 and state not in "ZX" and record.boot == boot_id()


def start_time(pid: int) -> tuple[str, int]:
    """State letter and start time of a process; ``("X", 0)`` for one that is gone.

    The name in the second field may hold anything, a closing parenthesis too: the last one ends it.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "X", 0
    try:
        fields = os.read(fd, 4096).rpartition(b") ")[2].split()
    except ProcessLookupError:
        return "X", 0
    finally:
        os.close(fd)
    return fields[0].decode(), int(fields[19])


def boot_id() -> str:
    """Of this boot of the kernel."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot_id = file.read().strip()
    return _boot_id


_boot_id = ""

_encoder = json.JSONEncoder(separators=(",", ":"))


def now() -> str:
    """RFC 3339 with nanoseconds, UTC."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
