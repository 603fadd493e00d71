"""How a container ended, and why: what ``Container.wait`` gives.

The facts are its cgroup's, and go away with it. Most callers look at the return code alone and should not pay for
more; so they are read when somebody asks for the first time, and before a delete only if somebody still can ask.
"""

from __future__ import annotations

import signal as signals
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ocirt.cgroups.verdict import Facts, facts
from ocirt.errors import NotFoundError

if TYPE_CHECKING:
    from ocirt.state import Record, StateStore


class Ending:
    """The facts about one container's end, which several ``ExitStatus`` may share."""

    def __init__(self, read: Callable[[], Facts]) -> None:
        self._read = read
        self._facts: Facts | None = None

    def facts(self) -> Facts:
        """What was known when this was asked first."""
        if self._facts is None:
            self._facts = self._read()
        return self._facts


class ExitStatus(int):
    """A return code, negative for a signal, that knows more: ``container.wait() == 0`` is true as ever.

    What is ``None`` nobody can tell: the container had no cgroup of its own, or it was deleted by somebody else, or
    systemd was quicker, which removes one when the last process of it ends (of an OOM kill the kernel's log may tell).
    """

    _ending: Ending

    def __new__(cls, code: int, ending: Ending | None = None) -> ExitStatus:
        status = super().__new__(cls, code)
        status._ending = ending or Ending(Facts)
        return status

    @property
    def signal(self) -> signals.Signals | int | None:
        """What killed it, if a signal did."""
        return named(-self) if self < 0 else None

    @property
    def oom_killed(self) -> bool | None:
        """The kernel's OOM killer hit the container: init, or another of its processes."""
        kills = self._ending.facts().oom_kills
        return None if kills is None else kills > 0

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that was in use at one time, page cache included."""
        return self._ending.facts().peak_bytes

    @property
    def cpu_seconds(self) -> float | None:
        """Of all its processors and processes together."""
        return self._ending.facts().cpu_seconds

    @property
    def reason(self) -> str:
        """In words."""
        how = ended(self)
        found = self._ending.facts()
        if not found.oom_kills:
            return how
        if self == -signals.SIGKILL:
            return found.cause
        return f"{how} after {_killed(found.oom_kills)}: {found.cause}"

    def __repr__(self) -> str:
        return f"ExitStatus({int(self)}, {self.reason!r})"

    __str__ = int.__repr__

    def __reduce__(self) -> tuple[Callable[[int, Facts], ExitStatus], tuple[int, Facts]]:
        """Where it is sent to, there is no cgroup to ask."""
        return _known, (int(self), self._ending.facts())


def _known(code: int, known: Facts) -> ExitStatus:
    return ExitStatus(code, Ending(lambda: known))


def ended(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    found = named(-code)
    return f"killed by {found.name if isinstance(found, signals.Signals) else f'signal {found}'}"


def named(number: int) -> signals.Signals | int:
    """A real-time signal has no name of its own."""
    try:
        return signals.Signals(number)
    except ValueError:
        return number


def _killed(count: int) -> str:
    return "another process was OOM-killed" if count == 1 else f"{count} other processes were OOM-killed"


class Endings:
    """What one ``Container`` has told about its end, and to whom it still matters."""

    def __init__(self) -> None:
        self._asked: weakref.ref[Ending] | None = None
        self._kept: Ending | None = None

    def status(self, code: int, record: Record | None, store: StateStore) -> ExitStatus:
        """What ``wait`` gives."""
        if record is None or not record.cgroup.directories:
            return ExitStatus(code)
        ending = self._kept or self._held()
        if ending is None:
            ending = Ending(lambda: _unless_replaced(record, store))
            self._asked = weakref.ref(ending)
        return ExitStatus(code, ending)

    def settle(self, code: int | None, record: Record) -> None:
        """The cgroup is about to go: read what may still be asked for.

        That is so where somebody holds a status; and after a SIGKILL a later ``wait`` should know whose it was.
        """
        ending = self._held()
        if ending is None:
            killed = code == -signals.SIGKILL and record.cgroup.directories
            ending = Ending((lambda: _facts(record)) if killed else Facts)
        ending.facts()
        self._kept = ending

    def _held(self) -> Ending | None:
        return self._asked() if self._asked is not None else None


def _facts(record: Record) -> Facts:
    return facts(record.cgroup, record.start_time).since(record.used_before)


def _unless_replaced(record: Record, store: StateStore) -> Facts:
    """The cgroup may be another container's by now; but not as long as there is this one's record."""
    found = _facts(record)
    try:
        with store.open(record.id) as directory:
            now = directory.read_record()
    except NotFoundError:
        return Facts()
    return found if now is not None and (now.pid, now.start_time) == (record.pid, record.start_time) else Facts()
