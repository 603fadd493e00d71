"""Look at a container while it lives: what it uses, and what happens to it; whoever created it.

The kernel wakes us wherever it can: by the pidfd at the end; in version 2 by POLLPRI on ``memory.events`` and
``cgroup.events`` (cgroup-v2.rst, "File notification"); in version 1 by an eventfd when memory runs out below the
container's own limit (memcg_test.rst, "cgroup.event_control"). The freezer of version 1 tells nobody, nor does its
memory controller where another limit or the host ran out: there we look again, as often as ``REAP_SECONDS`` says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Self, cast

from attrs import evolve, frozen

from ocirt.cgroups import accounts, tree, verdict
from ocirt.cgroups.files import Cgroup
from ocirt.cgroups.place import Place
from ocirt.cgroups.stats import Stats
from ocirt.errors import ExitStatusUnknown, StateError
from ocirt.process import REAP_SECONDS, reap_ended
from ocirt.state import open_init
from ocirt.usage import network, resctrl

if TYPE_CHECKING:
    from ocirt.container import Container
    from ocirt.ending import ExitStatus
    from ocirt.state import Record

KILL_LOOKS: Final = 20
"""How many milliseconds the OOM killer of version 1 may take from the notice of it to the count of it."""


STATUS_SECONDS: Final = 1.0
"""Far more than its status takes to be there, once a process has ended."""


@frozen
class Event:
    """Something that happened to a container."""

    container_id: str
    time_seconds: float
    """When we heard of it, since the epoch."""


@frozen
class OutOfMemory(Event):
    """The kernel's OOM killer was called for: memory ran out, and nothing could be freed."""

    kills_count: int
    """Processes of the container that it has ended, in all."""


@frozen
class Paused(Event):
    pass


@frozen
class Resumed(Event):
    pass


@frozen
class Exited(Event):
    """Init ended, which is the last event."""

    status: ExitStatus | None
    """``None`` where the kernel does not tell (``ExitStatusUnknown``)."""


def stats(container: Container) -> Stats:
    """What it uses now, or of one that has ended: used."""
    return _stats(_record(container, "stats"))


def every(container: Container, seconds: float) -> Iterator[Stats]:
    """At once, and then each time as many seconds have passed."""
    return cast("Iterator[Stats]", Watch(container, seconds, only_stats=True))


def events(container: Container) -> Iterator[Event]:
    return cast("Iterator[Event]", Watch(container))


def watch(container: Container, interval: float) -> Iterator[Event | Stats]:
    """Both; the first stats after the first interval (runc events)."""
    return Watch(container, interval)


def _record(container: Container, operation: str) -> Record:
    with container._store.open(container.id, operation) as directory:  # one thing in two files
        record = container._read(directory)
    if record is None or not record.pid:
        raise StateError(container.id, container.status, operation, "the container is still being created")
    return record


def _stats(record: Record) -> Stats:
    found = accounts.read(record.cgroup, time.time())
    return evolve(found, network=network(record), rdt=resctrl(record))


class Memory:
    """Where the news of the OOM killer comes from."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._place = place = Place.of(record.cgroup, "memory")
        self._file = self.fd = -1
        self.wanted = select.POLLIN if place.version == 1 else select.POLLPRI
        self.looks = place.version == 1
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not to be told is no reason not to look
            self._open()
        self._kills = verdict.oom_kills(place) or 0  # afterwards: what happens from here on we are told

    def _open(self) -> None:
        if self._place.version != 1:
            self.fd = _opened(f"{self._place.path}/memory.events")
            return
        self._file = _opened(f"{self._place.path}/memory.oom_control")
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        tree.write(f"{self._place.path}/cgroup.event_control", f"{self.fd} {self._file}")

    def news(self, told: bool) -> Iterator[Callable[[str, float], Event]]:
        before, stuck = self._kills, False
        if told and self._place.version == 1:
            stuck = self._await_kill()
        self._kills = self._count() or before
        if stuck or self._kills > before:
            kills = self._kills
            yield lambda container_id, seconds: OutOfMemory(container_id, seconds, kills)

    def _count(self) -> int | None:
        """How many so far, also if the cgroup was removed before we looked: systemd does so when the last one ends."""
        found = verdict.oom_kills(self._place)
        if found is None and self._place.version:
            known = verdict.facts(self._record.cgroup, self._record.start_time)
            found = known.since(self._record.used_before).oom_kills
        return found

    def _await_kill(self) -> bool:
        """Version 1 notifies first and kills then. True if it will not, because that is switched off."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        for _ in range(KILL_LOOKS):
            control = self._place.table("memory.oom_control")  # empty once the cgroup is gone, which notifies as well
            if control.get("oom_kill_disable", 1) or control.get("oom_kill", 0) > self._kills:
                return bool(control.get("oom_kill_disable") and control.get("under_oom"))
            time.sleep(0.001)
        return False

    def close(self) -> None:
        for fd in {self.fd, self._file} - {-1}:
            os.close(fd)
        self.fd = self._file = -1


class Freezer:
    """Where the news of pauses comes from."""

    wanted = select.POLLPRI

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self.looks = Place.of(cgroup, "freezer").version == 1
        place = Place.of_v2(cgroup)
        self.fd = -1
        with contextlib.suppress(FileNotFoundError):
            self.fd = _opened(f"{place.path}/cgroup.events") if place.version else -1
        self._frozen = cgroup.frozen()

    def news(self, told: bool) -> Iterator[Callable[[str, float], Event]]:
        del told
        before, self._frozen = self._frozen, self._cgroup.frozen()
        if before != self._frozen:
            yield Paused if self._frozen else Resumed

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def _opened(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    _rearm(fd)
    return fd


def _rearm(fd: int) -> bool:
    """The kernel tells of what changes after a read; false if it cannot any more, since the cgroup is gone."""
    try:
        os.pread(fd, 4096, 0)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


class Watch:
    """An iterator that waits for what comes next. It watches from when it is made, so nothing of later is missed.

    It wakes up every now and then also for what every wait does (``reap_ended``).
    """

    def __init__(self, container: Container, interval: float | None = None, *, only_stats: bool = False) -> None:
        if interval is not None and not interval > 0:
            raise ValueError("duration interval must be greater than 0")
        self._container = container
        self._record = _record(container, "stats" if only_stats else "events")
        self._interval = interval
        self._next_stats = time.monotonic() + (interval or 0)
        self._ready: deque[Event | Stats] = deque()
        self._only_stats = only_stats
        self._sources: list[Memory | Freezer] = []
        self._pidfd = -1
        self._over = False
        self._poll = select.poll()
        try:
            self._watch()
        except BaseException:
            self.close()
            raise

    def _watch(self) -> None:
        init = open_init(self._record)
        if init is not None:
            self._pidfd = init
            self._poll.register(init, select.POLLIN)
        if self._only_stats:
            self._ready.append(_stats(self._record))
            return
        cgroup = self._record.cgroup
        if cgroup.directories:
            self._sources += [Memory(self._record), Freezer(cgroup)]
        for source in self._sources:
            if source.fd >= 0:
                self._poll.register(source.fd, source.wanted)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event | Stats:
        while not self._ready:
            if self._over:
                raise StopIteration
            self._wait()
        return self._ready.popleft()

    def _wait(self) -> None:
        """Until something happens, or time has passed."""
        seconds = REAP_SECONDS
        if self._interval is not None:
            seconds = max(0.0, min(seconds, self._next_stats - time.monotonic()))
        told = {fd for fd, _ in self._poll.poll(seconds * 1000 if self._pidfd >= 0 else 0)}
        ended = self._pidfd in told or self._pidfd < 0
        for source in self._sources:
            if source.fd in told and source.wanted == select.POLLPRI and not _rearm(source.fd):
                self._poll.unregister(source.fd)
            if source.looks or ended or source.fd in told:
                self._ready += (make(self._record.id, time.time()) for make in source.news(source.fd in told))
        if ended:
            self._end()
            return
        now = time.monotonic()
        if self._interval is not None and now >= self._next_stats:
            late = now >= self._next_stats + self._interval  # what was missed is not made up for
            self._next_stats = (now if late else self._next_stats) + self._interval
            self._ready.append(_stats(self._record))
        reap_ended()

    def _end(self) -> None:
        self._over = True
        self.close()
        if self._only_stats:
            return
        process = self._container.process
        status: ExitStatus | None = None
        if process is not None and (process.fileno() >= 0 or process.returncode is not None):
            with contextlib.suppress(ExitStatusUnknown):
                status = self._container.wait(STATUS_SECONDS)
        self._ready.append(Exited(self._record.id, time.time(), status))

    def close(self) -> None:
        """Watch no longer."""
        self._over = True
        for source in self._sources:
            source.close()
        self._sources.clear()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # __init__ may have failed early; the interpreter may be on its way out
            self.close()
