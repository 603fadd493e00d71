"""One more process in a running container."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field

from ocirt import notify
from ocirt.cgroups import layout, verdict
from ocirt.cgroups.below import below
from ocirt.cgroups.files import Cgroup, movable
from ocirt.cgroups.place import Place
from ocirt.creation import open_descriptors, set_rlimit
from ocirt.errors import SetupError, SpecError, StateError
from ocirt.filters import program_of
from ocirt.host import Host
from ocirt.launch import Launch, Prepared, launch
from ocirt.plan import Site, plan_exec
from ocirt.plan.ops import Purpose
from ocirt.plan.scheduling import numbers
from ocirt.process import Process, Terminal, executed, reap_abandoned
from ocirt.spec import Capabilities, ConsoleSize, Spec, User
from ocirt.spec import Process as ProcessSpec
from ocirt.state import Record, Status, open_init
from ocirt.state import describe as describe_state
from ocirt.streams import Streams
from ocirt.wire import ListenerOpened, SyncRequested, TerminalOpened

if TYPE_CHECKING:
    from ocirt.answers import Answers

Plans = dict[tuple[ProcessSpec, int, tuple[int, ...]], Prepared]
"""By program, by which of its streams are ours, and by what else it finds open."""

PLANS_KEPT: Final = 64


def describe(
    document: Spec,
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: User | int | tuple[int, int] | None = None,
    capabilities: Sequence[str] | None = None,
    terminal: bool = False,
    size: tuple[int, int] | None = None,
    no_new_privileges: bool | None = None,
) -> ProcessSpec:
    """The container's own process with other arguments; what is not given stays as it is there (as runc exec)."""
    base = document.process or ProcessSpec(cwd="/")
    changes: dict[str, object] = {"args": tuple(args), "terminal": terminal, "console_size": None}
    if size is not None:
        changes["console_size"] = ConsoleSize(height=size[1], width=size[0])
    if env is not None:
        changes["env"] = (*base.env, *(f"{name}={value}" for name, value in env.items()))
    if cwd is not None:
        changes["cwd"] = cwd
    if user is not None:
        changes["user"] = as_user(user)
    if capabilities is not None:
        names = tuple(capabilities)
        # Never into the inheritable set: a file capability could then bring them back to others (CVE-2022-29162).
        changes["capabilities"] = Capabilities(bounding=names, effective=names, permitted=names)
    if no_new_privileges is not None:
        changes["no_new_privileges"] = no_new_privileges
    return base.evolve(**changes)


def as_user(user: User | int | tuple[int, int]) -> User:
    """A bare uid goes with the gid of the same number: unlike 0, that grants nothing unexpected."""
    if isinstance(user, User):
        return user
    if isinstance(user, int):
        return User(uid=user, gid=user)
    return User(uid=user[0], gid=user[1])


@define
class Execution:
    """A process on its way into a container."""

    document: Spec
    program: ProcessSpec
    record: Record
    streams: Streams
    plans: Plans
    below: Mapping[str, str] | None = None
    """Where in the container's cgroups it goes (``cgroups.below``)."""
    answers: Answers | None = None
    kept: tuple[int, ...] = ()
    """See ``Site``."""
    root: str = ""
    """Of the containers' states."""
    terminal: Terminal | None = None
    cgroup: Cgroup = field(init=False)
    by_systemd: bool = field(init=False, default=False)
    """The caller's cgroup and the container's are apart in a place that is not the user's: systemd has to move it."""

    def __attrs_post_init__(self) -> None:
        self.cgroup = below(self.record.cgroup, self.below) if self.below else self.record.cgroup
        if self.record.unit is not None and self.record.unit.bus == "user":
            own = (directory for hierarchy, directory in layout.here().directories if hierarchy.version == 2)
            self.by_systemd = not movable(self.cgroup, next(own, ""))

    def run(self) -> Process:
        """:raises OCIError: and nothing is left."""
        reap_abandoned()
        prepared = self._prepare()
        with contextlib.ExitStack() as stack:
            init = open_init(self.record)
            if init is None:
                raise StateError(self.record.id, "stopped", "exec", "cannot exec in a stopped container")
            stack.callback(os.close, init)
            kills = self._oom_kills()
            launched = self._launch(prepared, init, stack)
            try:
                self._attend(launched)
            except BaseException as error:
                if isinstance(error, SetupError) and self._oom_kills() > kills:
                    error.oom_suspected = True
                if self.terminal is not None:
                    self.terminal.close()
                launched.abort()
                raise
            launched.events.close()
            launched.settle()
        return self._process(launched)

    def _prepare(self) -> Prepared:
        """The plan for this program; whoever polls a container asks for the same one again and again."""
        key = (self.program, self.streams.ours, self.kept)
        if (known := self.plans.get(key)) is not None:
            return known
        if problems := self.program.check():
            raise SpecError(problems, "process")
        prepared = Prepared.of(plan_exec(self.program, self.document, Host.probe(), self._site()))
        if len(self.plans) >= PLANS_KEPT:
            self.plans.clear()
        self.plans[key] = prepared
        return prepared

    def _oom_kills(self) -> int:
        """Asked only where a limit makes it likely enough."""
        resources = self.document.linux.resources if self.document.linux is not None else None
        if resources is None or not (resources.memory or resources.unified):
            return 0
        return verdict.oom_kills(Place.of(self.record.cgroup, "memory")) or 0

    @property
    def _moves(self) -> bool:
        """It is moved to all of its cgroups; or else, where there is version 2 alone, born into the one.

        Not so one that is to have other CPUs until then.
        """
        if self._initial is not None or self.by_systemd:
            return True
        return any(directory.version == 1 for directory in self.cgroup.directories)

    @property
    def _initial(self) -> str | None:
        affinity = self.program.exec_cpu_affinity
        return affinity.initial or None if affinity is not None else None

    def _site(self) -> Site:
        return Site(
            self.record.id,
            self.record.bundle,
            f"/proc/{self.record.pid}/root",
            streams=self.streams.ours,
            joins_cgroups=self._moves or bool(self.record.rdt_groups),
            keyring=self.record.keyring,
            filter=program_of(self.document, self.root),
            kept=self.kept,
        )

    def _launch(self, prepared: Prepared, init: int, stack: contextlib.ExitStack) -> Launch:
        descriptors = open_descriptors(prepared.plan.descriptors, stack, init=init)
        cgroup = None if self._moves else self.cgroup.open_v2()
        if cgroup is not None:
            stack.callback(os.close, cgroup)
        return launch(prepared, descriptors, self.streams.child, -1 if cgroup is None else cgroup)

    def _attend(self, launched: Launch) -> None:
        """Until it says no more, which is what execve(2) looks like from here."""
        if self._moves:
            self._place(launched.pid)
            self._join(launched.pid)
        if self.record.rdt_groups:
            from ocirt import rdt

            rdt.join(self.record.rdt_groups, launched.pid)
        launched.done(Purpose.JOINED)
        for event in launched.heard():
            match event:
                case TerminalOpened(fd):
                    self.terminal = Terminal(fd)
                case SyncRequested(Purpose.RLIMITS):
                    for index, limit in enumerate(self.program.rlimits):
                        number = getattr(resource, limit.type)
                        set_rlimit(launched.pid, number, limit.soft, limit.hard, f"process.rlimits[{index}]")
                    launched.go()
                case ListenerOpened():
                    state = describe_state(self.record, Status.RUNNING)
                    notify.hand_over(self.document, self.answers, launched.pidfd, event, launched.pid, state)
                    launched.go()

    def _join(self, pid: int) -> None:
        if not self.by_systemd or self.record.unit is None:
            self.cgroup.join(pid)
            return
        from ocirt.cgroups import systemd, units

        (place,) = self.cgroup.directories
        systemd.attach(self.record.unit, pid, units.below(self.record.unit, place.path))

    def _place(self, pid: int) -> None:
        """config.md, execCPUAffinity: initial is what it has before it is in the container's cgroups."""
        if self._initial is None:
            return
        try:
            os.sched_setaffinity(pid, numbers(self._initial))
        except ProcessLookupError:
            return  # why it has ended, it tells in a moment
        except OSError as error:
            origin = "process.execCPUAffinity.initial"
            raise SetupError(origin, "SetAffinity", "sched_setaffinity", error.errno or 0, self._initial) from error

    def _process(self, launched: Launch) -> Process:
        process = executed(Process(self.program.args, launched.pid, launched.pidfd))
        process.terminal = self.terminal
        self.streams.give_to(process)
        return process
