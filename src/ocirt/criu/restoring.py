"""Make a container of a checkpoint: CRIU makes namespaces, mounts and processes, and we what is around them.

CRIU works in a mount namespace of its own, where the rootfs is mounted on a directory of ours (it has to be a mount
point): so nothing is left to be unmounted, whatever becomes of us.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import Final, cast

from attrs import define, evolve, field

from ocirt.bundle import Bundle
from ocirt.creation import Creation, rdt_group
from ocirt.criu import external
from ocirt.criu.dump import EXTERNAL_NAMESPACES, LAZY_PAGES
from ocirt.criu.messages import Field, Option, Request
from ocirt.criu.options import DESCRIPTORS, Common, check_privileges, common, config_file, places
from ocirt.criu.program import Conversation, Criu, Notification
from ocirt.errors import BundleError, SetupError, SpecError, UnsupportedError
from ocirt.host import NAMESPACE_FILES
from ocirt.launch import Launch
from ocirt.preparation import Request as Wanted
from ocirt.preparation import prepare
from ocirt.process import Process, Terminal
from ocirt.spec import Linux, Namespace
from ocirt.state import Record, StateStore, check_id
from ocirt.streams import Streams, opened

LOG: Final = "restore.log"
ROOT: Final = "criu-root"
"""In the state directory: where CRIU finds the rootfs."""

LSM_SINCE: Final = 31600
IN_OWN_MOUNTS: Final = 'mount -n --rbind "$1" "$2" && echo >/proc/self/fd/$3 && shift 3 && exec "$@"'

KEPT_NAMESPACES: Final = ("mount", "pid", "ipc", "uts", "user")
"""What mounts need to be made."""


class RestoreOptions(Common, total=False):
    """What ``restore`` takes besides where the image is and what it becomes."""

    tcp_close: bool
    lsm_profile: str | None
    lsm_mount_context: str | None


@define
class Restoration(Creation):
    """A container that CRIU makes: the same steps of the host's, around another program."""

    criu: Criu = field(kw_only=True)
    images: str = field(kw_only=True)
    options: RestoreOptions = field(kw_only=True)
    pid: int = field(init=False, default=0)
    pidfd: int = field(init=False, default=-1)

    def run(self) -> tuple[Record, Process]:
        with self.listener, contextlib.ExitStack() as stack:
            wanted = [*self._fields()]
            inherited, files = self._inherited(stack)
            self._record()
            self.directory.forget_start()  # nobody will wait for a start
            os.mkdir(ROOT, 0o755, dir_fd=self.directory.fd)
            conversation = self._begin(files, stack)
            root = f"/proc/{conversation.process.pid}/root"
            where, conversation.log = places(self.images, self.options.get("work_path"), LOG, stack, root)
            self.undo.callback(self._take_back, conversation)
            launched = self._place(conversation, stack)
            wanted += [*where, *inherited]
            wanted += [(Option.CG_ROOT, entry) for entry in _cgroups(conversation.process.pid)]
            conversation.ask(Request.RESTORE, [(2, wanted)], lambda event: self._hear(event, launched))
            self.streams.release()
        os.rmdir(ROOT, dir_fd=self.directory.fd)
        return self.record, self._restored()

    def _fields(self) -> Iterator[Field]:
        """What can be said before anything is made."""
        options, document = self.options, self.document
        yield from common(options, self.criu)
        yield from config_file(document.annotations)
        yield Option.EVASIVE_DEVICES, True
        yield Option.RST_SIBLING, True
        yield Option.ROOT, os.path.realpath(f"{self.store.root}/{self.request.container_id}/{ROOT}")
        for name, option in (("lsm_profile", Option.LSM_PROFILE), ("lsm_mount_context", Option.LSM_MOUNT_CONTEXT)):
            if value := options.get(name):
                self.criu.need_version(LSM_SINCE, name)
                yield option, str(value)
        if options.get("lazy_pages"):
            self.criu.need_feature(LAZY_PAGES, "LazyPages", "lazy_pages")
        for index, namespace in enumerate((document.linux or Linux()).namespaces):
            yield from _joined(namespace, f"linux.namespaces[{index}]")
        cgroup = self.prepared.cgroup(self.request.container_id)
        for entry in external.at_restore(document, str(self.request.bundle.path), cgroup):
            yield Option.EXTERNAL, entry

    def _inherited(self, stack: contextlib.ExitStack) -> tuple[list[Field], list[int]]:
        """Ours in the place of what was named: namespaces, and the pipes that the streams were."""
        fields: list[Field] = []
        files: list[int] = []
        for index, namespace in enumerate((self.document.linux or Linux()).namespaces):
            if namespace.path and namespace.type in EXTERNAL_NAMESPACES:
                files.append(_opened(namespace.path, f"linux.namespaces[{index}]", stack))
                fields.append((Option.INHERIT_FD, [(1, EXTERNAL_NAMESPACES[namespace.type][1]), (2, files[-1])]))
        for number, name in enumerate(_descriptors(self.images)):
            if name.startswith("pipe:"):
                fields.append((Option.INHERIT_FD, [(1, name), (2, number)]))
        return fields, files

    def _begin(self, files: Sequence[int], stack: contextlib.ExitStack) -> Conversation:
        """CRIU, once it is in its mount namespace."""
        root = os.path.realpath(f"{self.directory.path}/{ROOT}")
        ready, write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, ready)
        try:
            shell = ("sh", "-c", IN_OWN_MOUNTS, "sh", self.prepared.rootfs, root, str(write), self.criu.path)
            command = ("unshare", "--mount", "--propagation", "slave", *shell)
            conversation = stack.enter_context(Conversation.begin(command, self.streams.child, (*files, write)))
        finally:
            os.close(write)
        if not os.read(ready, 1):
            words = "the rootfs cannot be mounted for CRIU: unshare(1) or mount(8) failed, see standard error"
            raise SetupError("root.path", "Restore", "mount", 0, self.prepared.rootfs, words)
        return conversation

    def _place(self, conversation: Conversation, stack: contextlib.ExitStack) -> Launch:
        """CRIU in the container's cgroup, with its limits: what it makes is born there."""
        pid = conversation.process.pid
        pidfd = os.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        launched = Launch(self.prepared.launch, conversation.socket, pid, pidfd)
        if self.rdt_group is not None:
            from ocirt import rdt

            rdt.make(self.rdt_group, self.undo)
            rdt.join(self.rdt_group.joined, pid)
        if self.prepared.placement is not None:
            self._make_cgroup(launched)
            self._allow_devices()
            self._limit()
            self._join_cgroup(launched)
        return launched

    def _hear(self, event: Notification, launched: Launch) -> None:
        match event.script:
            case "setup-namespaces":
                self._run_hooks(event.pid)
            case "orphan-pts-master":
                self.terminal = Terminal(os.dup(event.fd))
            case "post-restore":
                self._limit_tasks(launched)
                self.pid, self.pidfd = event.pid, os.pidfd_open(event.pid)
                self._see_time(event.pid)
                self._commit(event.pid)

    def _see_time(self, pid: int) -> None:
        """CRIU restores clocks by a time namespace: whoever is executed later belongs there too."""
        linux = self.document.linux or Linux()
        ours, theirs = (os.stat(f"/proc/{who}/ns/time") for who in ("self", pid))
        if os.path.samestat(ours, theirs) or any(entry.type == "time" for entry in linux.namespaces):
            return
        changed = self.document.evolve(linux=linux.evolve(namespaces=(*linux.namespaces, Namespace("time"))))
        self.request = evolve(self.request, bundle=Bundle(self.request.bundle.path, changed))
        self.directory.reconfigure(self.request.bundle._config)

    def _restored(self) -> Process:
        program = self.document.process
        process = Process(program.args if program else (), self.pid, self.pidfd)
        self.pid, self.pidfd = 0, -1
        process.terminal, self.terminal = self.terminal, None
        self.streams.give_to(process)
        return process

    def _take_back(self, conversation: Conversation) -> None:
        """After a failure. CRIU is gone by then; its init was our child, and may be there still, dead or alive."""
        if self.terminal is not None:
            self.terminal.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        for pid in conversation.pids:
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # only a child of ours
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED)


def restore(
    store: StateStore, request: Wanted, images: str, options: RestoreOptions, streams: Streams
) -> tuple[Record, Process]:
    """:raises OCIError: and nothing is left."""
    check_privileges("restore")
    check_id(request.container_id)
    if problems := request.bundle.spec.check():
        raise SpecError(problems, str(request.bundle.path / "config.json"))
    if not os.path.isdir(images):
        raise BundleError("image_path", images, "is no directory: there is nothing to restore")
    criu = Criu.find(options.get("criu"))
    criu.version()
    prepared = prepare(store, request, streams.ours)
    make_mount_points(store, request.bundle)
    with contextlib.ExitStack() as undo:
        restoration = Restoration(
            store,
            request,
            prepared,
            streams,
            undo,
            rdt_group=rdt_group(request),
            criu=criu,
            images=images,
            options=options,
        )
        result = restoration.run()
        undo.pop_all()
        restoration.directory.close()
        return result


def make_mount_points(store: StateStore, bundle: Bundle) -> None:
    """As create makes them, safe from what an image may hold: by a container that does nothing else."""
    linux = bundle.spec.linux or Linux()
    kept = tuple(
        entry
        for entry in linux.namespaces
        if entry.type in KEPT_NAMESPACES and (entry.path is None or entry.type == "user")
    )
    bare = linux.evolve(
        namespaces=kept, resources=None, intel_rdt=None, net_devices={}, sysctl={}, seccomp=None, cgroups_path=None
    )
    document = bundle.spec.evolve(process=None, hooks=None, linux=bare.evolve(time_offsets={}))
    request = Wanted(f"restore-{os.getpid()}-{token_hex(4)}", Bundle(bundle.path, document), "disabled")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with opened(nothing, nothing, nothing) as streams, contextlib.ExitStack() as undo:
            prepared = prepare(store, request, streams.ours)
            _, process = Creation(store, request, prepared, streams, undo).run()
            process.kill()
            process.wait()
            process.close()
    finally:
        os.close(nothing)


def _joined(namespace: Namespace, origin: str) -> Iterator[Field]:
    """A namespace that CRIU joins instead of making it (criu(8), --join-ns)."""
    if not namespace.path or namespace.type in EXTERNAL_NAMESPACES:
        return
    if namespace.type in ("cgroup", "mount"):
        raise UnsupportedError(origin, f"CRIU cannot restore into a {namespace.type} namespace that exists already")
    yield Option.JOIN_NS, [(1, NAMESPACE_FILES[namespace.type]), (2, namespace.path)]


def _opened(path: str, origin: str, stack: contextlib.ExitStack) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UnsupportedError(origin, f"the namespace {path} cannot be opened: {error.strerror}") from error
    stack.callback(os.close, fd)
    return fd


def _cgroups(pid: int) -> Iterator[list[Field]]:
    """Where CRIU stands by now, in every hierarchy: there the container's cgroups begin (criu(8), --cgroup-root)."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            yield [(1, controllers), (2, path)]


def _descriptors(images: str) -> list[str]:
    """What the streams were, of an image of ours or runc's."""
    path = os.path.join(images, DESCRIPTORS)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise BundleError("image_path", path, f"cannot be read: {error}") from error
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise BundleError("image_path", path, "is no list of names")
    return cast("list[str]", found)[:3]
