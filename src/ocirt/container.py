"""A container and its operations (runtime.md, Operations).

Long, because all that can be asked of a container is one class; what takes more than a few lines is done in the
modules that it imports when they are needed. Loading, starting, signalling and deleting one reads no configuration
as classes and so imports neither attrs nor cattrs: a command that does one of these lives as long as its imports take.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack, cast, overload

from ocirt.allowed import TABLE
from ocirt.ending import Endings, ExitStatus
from ocirt.errors import ExitStatusUnknown, HookError, OCIError, StateError
from ocirt.state import INTENT, Record, StateDirectory, StateStore, Status, describe, has_pid_namespace, open_init

if TYPE_CHECKING:
    import socket

    from ocirt.answers import Answers, Handler
    from ocirt.bundle import Bundle
    from ocirt.cgroups.stats import Stats
    from ocirt.criu.dump import DumpOptions
    from ocirt.execution import Plans
    from ocirt.observation import Event
    from ocirt.preparation import CgroupManager, Request
    from ocirt.process import Process
    from ocirt.spec import JSON, Resources, Spec, User
    from ocirt.spec import Process as ProcessSpec
    from ocirt.streams import Stream

REAP_MILLISECONDS: Final = 5
"""How soon delete looks whether it has to reap something first."""

KILL_SECONDS: Final = 10.0
"""How long delete waits for what it has killed, as runc."""


class Container:
    """One container: made by ``create``, found by ``load``.

    As a context manager it deletes the container at the end, by force. Several of these objects, threads and processes
    may work on one container: of those that exclude each other, one wins, and the others get a ``StateError``.
    """

    def __init__(self, store: StateStore, container_id: str, record: Record | None, process: Process | None) -> None:
        self.id: Final = container_id
        self.process = process
        """Its init with the streams that were asked for, where this object created it."""
        self._store = store
        self._record = record
        self._spec: Spec | None = None
        self._plans: Plans = {}
        self._lifeline: int | None = None
        self._answers: Answers | None = None
        self._begun: socket.socket | None = None
        """A connection to init over which somebody has said go, and not heard how it went."""
        self._endings = Endings()

    @classmethod
    def create(
        cls,
        id: str,
        bundle: Bundle | str | os.PathLike[str],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        root: str | os.PathLike[str] | None = None,
        cgroup_manager: CgroupManager = "cgroupfs",
        die_with_parent: bool = False,
        new_keyring: bool = True,
        strict_resources: bool = True,
        pivot_root: bool = True,
        on_syscall: Handler | None = None,
        pass_fds: Collection[int] = (),
    ) -> Container:
        """Make a container that waits for ``start``.

        :param bundle: one, or its path.
        :param stdin, stdout, stderr: as for ``subprocess.Popen``; ``None`` is the caller's own.
        :param root: where the state is kept, for all of this user's processes.
        :param cgroup_manager: who makes cgroups: ``systemd`` a unit for each container (an ordinary user's own systemd
            for theirs); ``disabled`` leaves the container in the caller's.
        :param die_with_parent: kill the container when this process ends, however it ends.
        :param new_keyring: a session keyring of its own (keyrings(7)), or else the caller's.
        :param strict_resources: limits that only version 1 of cgroups knows are an error on version 2, or left out.
        :param pivot_root: or else the container's root covers the host's, as in an initramfs, where nothing else can
            be done; whatever the container should break out of, it finds more behind it.
        :param on_syscall: answers the system calls that the profile leaves to others (SCMP_ACT_NOTIFY), in a thread.
        :param pass_fds: what the program, but no hook, finds open at the same numbers; a directory is a way out.
        :raises SpecError, UnsupportedError, BundleError, SetupError, HookError, ExistsError: nothing is left then.
        """
        from ocirt.bundle import Bundle
        from ocirt.preparation import Request
        from ocirt.streams import passed

        kept = passed(pass_fds)
        loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        request = Request(
            id,
            loaded,
            cgroup_manager,
            new_keyring=new_keyring,
            strict_resources=strict_resources,
            pivots=pivot_root,
            answers=_answers(on_syscall),
            kept=kept,
        )
        return cls._create(request, StateStore(root), stdin, stdout, stderr, die_with_parent)

    @classmethod
    def _create(
        cls,
        request: Request,
        store: StateStore,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        die_with_parent: bool = False,
    ) -> Container:
        from ocirt.creation import create
        from ocirt.streams import opened

        with opened(stdin, stdout, stderr) as streams:
            record, process = create(store, request, streams)
        container = cls(store, request.container_id, record, process)
        container._spec = request.bundle.spec
        container._answers = request.answers
        if die_with_parent:
            with container._deleted_on_error():
                from ocirt.lifeline import watch

                container._lifeline = watch(process.fileno())
        return container

    @classmethod
    def load(cls, id: str, *, root: str | os.PathLike[str] | None = None) -> Container:
        """The container of this id, whoever created it.

        :raises NotFoundError: there is none.
        """
        container = cls._find(id, root)
        record = container._record
        if record is not None and (pidfd := open_init(record)) is not None:
            from ocirt.process import Process

            container.process = Process((), record.pid, pidfd)
        return container

    @classmethod
    def _find(cls, id: str, root: str | os.PathLike[str] | None) -> Container:
        """The same, for whoever will not wait for it."""
        store = StateStore(root)
        with store.open(id) as directory:
            return cls(store, id, directory.read_record(), None)

    @property
    def bundle(self) -> str:
        """The bundle's absolute path."""
        return self._record.bundle if self._record else ""

    @property
    def rootfs(self) -> str:
        """The root filesystem on the host."""
        return self._record.rootfs if self._record else ""

    @property
    def annotations(self) -> Mapping[str, str]:
        return self._record.annotations if self._record else {}

    @property
    def spec(self) -> Spec:
        """The configuration as it was at create."""
        if self._spec is None:
            from ocirt.spec import Spec

            with self._store.open(self.id) as directory:
                self._spec = Spec.from_json(cast("JSON", directory.read_config()))
        return self._spec

    @property
    def pid(self) -> int:
        """Of init, on the host; 0 once it has ended."""
        return self._record.pid if self._record and self.status is not Status.STOPPED else 0

    @property
    def status(self) -> Status:
        """Computed now.

        :raises NotFoundError: it has been deleted.
        """
        with self._store.open(self.id, "state") as directory:
            return directory.status(self._read(directory))

    def state(self) -> Mapping[str, object]:
        """The state of runtime.md, with runc's additions: rootfs and created."""
        with self._store.open(self.id, "state") as directory:
            record = self._read(directory)
            status = directory.status(record)
        if record is None:
            return {"ociVersion": "", "id": self.id, "status": str(status), "pid": 0, "bundle": "", "annotations": {}}
        return {**describe(record, status), "rootfs": record.rootfs, "created": record.created}

    def start(self) -> None:
        """Run the user's program.

        :raises StateError: it is not waiting for that, or has no process.
        :raises SetupError, HookError: the program could not be executed, or a hook failed; the container is gone then.
        """
        from ocirt.starting import Wishes, start

        with self._store.open(self.id, "start") as directory:
            directory.lock(operation="start")
            record = self._read(directory)
            connection = self._connection(directory, record)
            if connection is None or record is None:
                self._check("start", directory, record)
                raise StateError(self.id, Status.RUNNING, "start", TABLE["start"][Status.RUNNING])
            try:
                wishes = Wishes.of(self._spec) if self._spec is not None else Wishes.read(directory.read_config())
                start(connection, directory, record, wishes, lambda: self.spec, self._answers)
            except (OCIError, OSError) as error:
                if not isinstance(error, StateError):
                    self._destroy(directory, record)
                raise

    def _connection(self, directory: StateDirectory, record: Record | None) -> socket.socket | None:
        """To an init that waits for its start."""
        if record is None or not record.pid or record.cgroup.frozen() or not directory.has_start():
            return None
        starter, self._begun = self._begun, None
        if starter is None and self.process is not None:
            starter = self.process._take_starter()
        return starter or directory.connect()

    def wait(self, timeout: float | None = None) -> ExitStatus:
        """Wait until init ends: its return code, negative for a signal, which also knows the reason and what was used.

        :raises subprocess.TimeoutExpired: after ``timeout`` seconds; the container goes on.
        :raises ExitStatusUnknown: another process was its parent and this kernel keeps no status (before Linux 6.15).
        """
        if self.process is None:
            raise StateError(self.id, Status.STOPPED, "wait", "it ended before this process heard of it")
        return self._endings.status(self.process.wait(timeout), self._record, self._store)

    @overload
    def stats(self) -> Stats: ...
    @overload
    def stats(self, interval: float) -> Iterator[Stats]: ...
    def stats(self, interval: float | None = None) -> Stats | Iterator[Stats]:
        """What it uses; with an ``interval`` in seconds again and again, until it ends.

        :raises StateError: it is still being created.
        """
        from ocirt import observation

        return observation.stats(self) if interval is None else observation.every(self, interval)

    def events(self) -> Iterator[Event]:
        """What happens from now on, as it happens: ``OutOfMemory``, ``Paused``, ``Resumed``, and ``Exited`` at the end.

        :raises StateError: it is still being created.
        """
        from ocirt import observation

        return observation.events(self)

    def kill(self, signal: int = signal.SIGTERM, *, all: bool = False) -> None:
        """Signal init; with SIGKILL and no pid namespace of its own, every process of the container.

        :param all: signal every process of the container's cgroup, also what an init that has ended left behind.
        :raises StateError: it does not run.
        """
        with self._store.open(self.id, "kill") as directory:
            record = self._read(directory)
            if all and record is not None and record.cgroup.directories:
                record.cgroup.kill(signal)
                return
            self._check("kill", directory, record)
        if record is not None:
            self._signal(record, signal)

    def _signal(self, record: Record, number: int) -> None:
        # Asked beforehand: whoever waits for its end may have deleted it a moment later, with its configuration.
        leaves_others = number == signal.SIGKILL and not self._has_pid_namespace()
        pidfd = open_init(record)
        if pidfd is None:
            raise StateError(self.id, Status.STOPPED, "kill", "container not running")
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            raise StateError(self.id, Status.STOPPED, "kill", "container not running") from None
        finally:
            os.close(pidfd)
        if leaves_others or (number == signal.SIGKILL and record.cgroup.frozen()):
            record.cgroup.kill()

    def _has_pid_namespace(self) -> bool:
        """Of its own. Where nobody has loaded the configuration yet, the JSON says as much."""
        if self._spec is None:
            with self._store.open(self.id, "kill") as directory:
                return has_pid_namespace(directory.read_config())
        linux = self._spec.linux
        return linux is not None and any(entry.type == "pid" and not entry.path for entry in linux.namespaces)

    def pause(self) -> None:
        """Stop every process of the container where it is, until ``resume``.

        :raises StateError: it does not run.
        :raises SetupError: they would not all stop, and go on.
        """
        from ocirt.cgroups.freezing import freeze

        with self._store.open(self.id, "pause") as directory:
            freeze(self._checked("pause", directory).cgroup)

    def resume(self) -> None:
        """Let a paused container go on.

        :raises StateError: it is not paused.
        """
        from ocirt.cgroups.freezing import thaw

        with self._store.open(self.id, "resume") as directory:
            thaw(self._checked("resume", directory).cgroup)

    def update(
        self,
        resources: Resources | None = None,
        *,
        l3_cache_schema: str | None = None,
        mem_bw_schema: str | None = None,
        strict_resources: bool = True,
    ) -> None:
        """Change limits: those that are given, and no others; all of them, or after an error none.

        :param resources: 0 and empty texts mean "as it is", as members that are left out do; devices never change.
        :param l3_cache_schema, mem_bw_schema: of the container's class of resctrl (``linux.intelRdt``).
        :raises StateError: it does not run.
        :raises SpecError, UnsupportedError, SetupError: they cannot be had.
        """
        from ocirt.spec import Resources
        from ocirt.updating import Schemata, update

        schemata = Schemata(l3_cache_schema, mem_bw_schema)
        with self._store.open(self.id, "update") as directory:
            directory.lock(operation="update")
            record = self._checked("update", directory)
            self._spec = update(directory, record, resources or Resources(), schemata, strict=strict_resources)

    def _checked(self, operation: str, directory: StateDirectory) -> Record:
        record = self._read(directory)
        self._check(operation, directory, record)
        assert record is not None  # neither creating nor stopped
        return record

    def checkpoint(self, path: str | os.PathLike[str], **options: Unpack[DumpOptions]) -> str:
        """Write all its processes to files in a directory, from which ``ocirt.restore`` makes a container again.

        Then it is deleted, but not with ``leave_running`` or ``pre_dump``; after an error it goes on as it was. The
        directory is made if it is missing, for its owner alone.

        :param path: the directory, given back as an absolute path.
        :param options: ``leave_running``; ``pre_dump`` (its memory alone, for a later checkpoint with ``parent_path``,
            a directory relative to ``path``); ``work_path`` (for CRIU's log), ``tcp_established``,
            ``tcp_skip_in_flight``, ``ext_unix_sk``, ``shell_job`` (its terminal is the caller's), ``file_locks``,
            ``link_remap``, ``manage_cgroups_mode``, ``empty_network``, ``auto_dedup``, ``lazy_pages``, ``page_server``
            (address and port), ``status_fd``, ``network_lock`` and ``criu`` (the program). criu(8) has their meaning.
        :raises StateError: it is neither running nor paused.
        :raises UnsupportedError: there is no CRIU, or it, the kernel or the caller cannot do this.
        :raises CriuError: CRIU failed.
        """
        from ocirt.criu.dump import dump

        images = os.path.abspath(path)
        with self._store.open(self.id, "checkpoint") as directory:
            directory.lock(operation="checkpoint")
            record = self._checked("checkpoint", directory)
            dump(record, self.spec, images, options)
            if not (options.get("leave_running") or options.get("pre_dump")):
                self._destroy(directory, record)
        return images

    def delete(self, force: bool = False) -> None:
        """Remove everything that create made. A created container is killed; ``force`` kills any.

        :raises StateError: it runs, or would not die.
        """
        with self._store.open(self.id, "delete") as directory:
            if force:
                self._interrupt_creator(directory)
            directory.lock(KILL_SECONDS if force else None, "delete")
            record = self._read(directory)
            if not force and not self._has_ended():
                self._check("delete", directory, record)
            self._destroy(directory, record)

    def _has_ended(self) -> bool:
        """We are its parent and have its return code: quicker than to ask the system."""
        return self.process is not None and self.process.returncode is not None

    def _interrupt_creator(self, directory: StateDirectory) -> None:
        """Whoever starts or creates it may be stuck in a hook; without its init that comes to an end."""
        record = directory.read_record()
        if record is not None and directory.is_locked():
            _kill_init(record, 0)

    def _destroy(self, directory: StateDirectory, record: Record | None) -> None:
        """The end of every life: what was recorded is made absent, the state directory last; then poststop hooks."""
        spec = self._poststop_spec(directory)
        if record is not None:
            if not self._has_ended() and not _kill_init(record, KILL_SECONDS):
                raise StateError(self.id, Status.RUNNING, "delete", "container init still running")
            self._endings.settle(self.process.returncode if self.process is not None else None, record)
            record.cgroup.remove(kill=True)
            if record.unit is not None:
                from ocirt.cgroups import systemd

                systemd.stop(record.unit)
            if record.rdt_made:
                from ocirt import rdt

                rdt.remove(record.rdt_made)
        if self.process is not None:
            with contextlib.suppress(ExitStatusUnknown):
                self.process.poll()
        directory.remove()
        self._close_lifeline()
        if self._answers is not None:
            self._answers.join()
        if spec is None or spec.hooks is None or record is None:
            return
        from ocirt import hooks

        for index, hook in enumerate(spec.hooks.poststop):
            with contextlib.suppress(HookError):  # runtime.md: log a warning, but go on
                hooks.run(hook, f"hooks.poststop[{index}]", describe(record, Status.STOPPED))

    def _poststop_spec(self, directory: StateDirectory) -> Spec | None:
        """Only where there is a hook to run: parsing the whole configuration is slow."""
        if self._spec is not None:
            return self._spec
        with contextlib.suppress(OSError, OCIError):
            if b"poststop" in directory.read(INTENT):
                return self.spec
        return None

    def exec(
        self,
        args: Sequence[str] | ProcessSpec,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: User | int | tuple[int, int] | None = None,
        capabilities: Sequence[str] | None = None,
        no_new_privileges: bool | None = None,
        terminal: bool = False,
        size: tuple[int, int] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        cgroup: Mapping[str, str] | str | None = None,
        ignore_paused: bool = False,
        pass_fds: Collection[int] = (),
    ) -> Process:
        """Start one more process in the container.

        :param args: the program and its arguments, or a whole process of config.json's kind.
        :param env: added to the container's environment.
        :param user: a uid, (uid, gid), or a ``User``; by default the container's.
        :param capabilities: by default the container's.
        :param terminal: give it one; ``size`` is (columns, lines).
        :param cgroup: a path below the container's cgroup that is there already; of version 1, one for a controller.
        :param ignore_paused: wait for a paused container to be resumed, instead of failing.
        :param pass_fds: what the program finds open at the same numbers; a directory is a way out of the container.
        :raises StateError: the container does not run.
        :raises SetupError: for example the program is not there; ``origin`` says which member is to blame.
        """
        from ocirt.execution import Execution
        from ocirt.execution import describe as describe_process
        from ocirt.spec import Process as ProcessSpec
        from ocirt.streams import opened, passed

        kept = passed(pass_fds)
        with self._store.open(self.id, "exec") as directory:
            record = self._read(directory)
            self._check("exec", directory, record, tolerated=Status.PAUSED if ignore_paused else None)
        assert record is not None  # neither creating nor stopped
        program = (
            args
            if isinstance(args, ProcessSpec)
            else describe_process(
                self.spec,
                args,
                env=env,
                cwd=cwd,
                user=user,
                capabilities=capabilities,
                terminal=terminal,
                size=size,
                no_new_privileges=no_new_privileges,
            )
        )
        with opened(stdin, stdout, stderr) as streams:
            paths = {"": cgroup} if isinstance(cgroup, str) else cgroup
            return Execution(
                self.spec, program, record, streams, self._plans, paths, self._answers, kept, self._store.root
            ).run()

    def processes(self) -> tuple[int, ...]:
        """Host pids of everything in the container, by its cgroup; of init alone where it has none."""
        with self._store.open(self.id, "ps") as directory:
            record = self._read(directory)
            if record is None or directory.status(record) is Status.STOPPED:
                return ()
        return record.cgroup.processes() or (record.pid,)

    def _read(self, directory: StateDirectory) -> Record | None:
        """The record does not change any more once there is a pid in it."""
        if self._record is None or not self._record.pid:
            self._record = directory.read_record()
        return self._record

    def _check(
        self, operation: str, directory: StateDirectory, record: Record | None, tolerated: Status | None = None
    ) -> None:
        status = directory.status(record)
        words = TABLE[operation].get(status)
        if words is not None and status is not tolerated:
            raise StateError(self.id, status, operation, words.replace("%s", self.id))

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    @contextlib.contextmanager
    def _deleted_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.delete(force=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the container, running or not; it may be gone already."""
        from ocirt.errors import NotFoundError

        with contextlib.suppress(NotFoundError):
            self.delete(force=True)
        if self.process is not None:
            self.process.close()

    def __repr__(self) -> str:
        try:
            status: str = self.status
        except StateError:
            status = "deleted"
        return f"<Container {self.id!r} {status}>"


def containers(*, root: str | os.PathLike[str] | None = None) -> list[Container]:
    """Every container below the state root, in the order of their ids."""
    found = []
    for container_id in StateStore(root).ids():
        with contextlib.suppress(StateError):  # deleted meanwhile
            found.append(Container.load(container_id, root=root))
    return found


def _kill_init(record: Record, seconds: float) -> bool:
    """SIGKILL to init and wait for its end; true if it has ended."""
    pidfd = open_init(record)
    if pidfd is None:
        return True
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if record.cgroup.frozen():
            record.cgroup.kill()
        return _has_ended(pidfd, seconds)
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int, seconds: float) -> bool:
    import select

    waiter = select.poll()
    waiter.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while not waiter.poll(REAP_MILLISECONDS if seconds else 0):
        if time.monotonic() >= deadline:
            return False
        from ocirt.process import reap_ended  # it takes longer than most ends

        reap_ended()
    return True


def _answers(handler: Handler | None) -> Answers | None:
    if handler is None:
        return None
    from ocirt.answers import Answers

    return Answers(handler)
