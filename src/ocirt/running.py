"""One call: a program, a container made for it, what it wrote, and nothing left.

This is ``subprocess.run`` with walls. What it offers is a choice among what ``Container`` can do, for programs that
run, answer and end; whoever needs a terminal or a container that stays makes one.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from secrets import token_hex
from signal import Signals
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Generic, Literal, TypedDict, TypeVar, Unpack, cast, overload

from attrs import evolve, frozen

from ocirt import host_files
from ocirt.bundle import Bundle
from ocirt.container import Container
from ocirt.ending import ExitStatus
from ocirt.execution import as_user, describe
from ocirt.preparation import Request
from ocirt.process import Process as ContainerProcess
from ocirt.spec import Linux, Mount, Resources, Spec, User
from ocirt.state import StateStore
from ocirt.streams import Stream, passed
from ocirt.surroundings import Network, Surroundings

if TYPE_CHECKING:
    from ocirt.image.store import Pull, Store
    from ocirt.image.transport import Access
    from ocirt.limits import Limits
    from ocirt.preparation import CgroupManager

Path = str | os.PathLike[str]
Output = TypeVar("Output", bound=bytes | str)


@frozen
class Completed(Generic[Output]):
    """How a program ended, and what it wrote (as ``subprocess.CompletedProcess``)."""

    args: tuple[str, ...]
    returncode: int
    """Negative for a signal."""
    stdout: Output
    stderr: Output
    wall_seconds: float
    """From the call to the container's end, making and deleting it included."""
    signal: Signals | int | None = None
    """What killed it, if a signal did."""
    oom_killed: bool | None = None
    """The kernel's OOM killer hit it; as the next two ``None`` where it had no cgroup of its own (``ExitStatus``)."""
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    reason: str = ""
    """How it ended, in words."""

    def check_returncode(self) -> None:
        """:raises subprocess.CalledProcessError: it is not 0."""
        if self.returncode:
            raise subprocess.CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)


class Options(TypedDict, total=False):
    """What ``run`` takes besides ``args``, ``input`` and ``text``."""

    rootfs: Path | None
    bundle: Bundle | Path | None
    image: str | None
    pull: Pull
    access: Access | None
    store: Store | Path | None
    timeout: float | None
    check: bool
    env: Mapping[str, str] | None
    cwd: str | None
    user: User | int | tuple[int, int] | None
    mounts: Sequence[Mount]
    network: Network
    hostname: str | None
    stdin: Stream
    stderr: int
    pass_fds: Collection[int]
    root: Path | None
    memory: int | str | None
    cpus: float | None
    pids: int | None
    limits: Limits | None
    strict_resources: bool


def bind(source: Path, target: str | None = None, *, readonly: bool = True) -> Mount:
    """A mount that shows a file or directory of the host in the container, by default at the same path."""
    path = os.path.abspath(source)
    access = "rro" if readonly else "rw"
    return Mount(target if target is not None else path, "none", path, ("rbind", access, "nosuid", "nodev"))


@overload
def run(
    args: Sequence[str], *, input: bytes | None = None, text: Literal[False] = False, **options: Unpack[Options]
) -> Completed[bytes]: ...
@overload
def run(
    args: Sequence[str], *, input: str | None = None, text: Literal[True], **options: Unpack[Options]
) -> Completed[str]: ...
def run(
    args: Sequence[str],
    *,
    rootfs: Path | None = None,
    bundle: Bundle | Path | None = None,
    image: str | None = None,
    pull: Pull = "missing",
    access: Access | None = None,
    store: Store | Path | None = None,
    input: bytes | str | None = None,
    timeout: float | None = None,
    check: bool = False,
    text: bool = False,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: User | int | tuple[int, int] | None = None,
    mounts: Sequence[Mount] = (),
    network: Network = "none",
    hostname: str | None = None,
    stdin: Stream = DEVNULL,
    stderr: int = PIPE,
    pass_fds: Collection[int] = (),
    root: Path | None = None,
    memory: int | str | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    limits: Limits | None = None,
    strict_resources: bool = True,
) -> Completed[bytes] | Completed[str]:
    """Run a program in a container of its own, wait for its end, and give what it wrote.

    Without ``rootfs`` and ``bundle`` it sees the software of this host (``/usr``, ``/etc``, ``/opt`` and the like,
    but no configuration that not everybody may read) and none of its data: ``/home``, ``/root``, ``/run``, ``/tmp``
    and ``/var`` are empty and its own. It may write everywhere that the files' owners let it, and all that it wrote
    is gone afterwards. Of root's rights it has three (``runc spec``'s), and no way to get more; where the caller is
    an ordinary user it has that user's rights and looks like root. A cgroup is made for it only if it is
    to be limited; then all that is left in there at the end is killed.

    :param args: the program, looked up in the container's ``PATH``, and its arguments; empty means the bundle's.
    :param rootfs: another root filesystem, on top of which writes are thrown away too.
    :param bundle: a bundle, or its path: run as its config.json says, but for what is given here.
    :param image: ``docker.io/library/debian:12``, ``oci:LAYOUT:TAG`` or the like: on its layers, on top of which writes
        are thrown away, with its environment, user and working directory; ``args`` come after its Entrypoint, in the
        place of its Cmd. Of volumes and ports it is not asked.
    :param pull: the image only if it is ``missing`` in ``store``, ``always`` if there is a newer one, or ``never``.
    :param access: how its registry is reached: passwords, certificates.
    :param store: where images are kept; by default /var/lib/ocirt, or below an ordinary user's ~/.local/share.
    :param input: for its standard input, else ``stdin``, which is empty by default.
    :param timeout: seconds from now on, or from when the image is there; then it is killed, with all that it started.
    :param text: take and give ``str`` (UTF-8, with U+FFFD for what is none) instead of ``bytes``.
    :param env: added to a ``PATH`` and a ``LANG``; the caller's environment is not passed on.
    :param user: a uid, (uid, gid) or ``User``, by default root.
    :param mounts: more of the host's files, see ``bind``, or any other mount.
    :param network: ``none`` but a loopback device of its own, or the ``host``'s.
    :param stderr: PIPE, or STDOUT to have both in ``stdout``.
    :param pass_fds: what the program finds open at the same numbers; a directory is a way out of the container.
    :param root: where the state is kept meanwhile.
    :param memory: bytes, or ``"512M"``: who wants more is killed.
    :param cpus: so many CPUs' worth of time, 1.5 for example.
    :param pids: so many processes and threads.
    :param limits: more of them; the three above go before it.
    :param strict_resources: see ``Container.create``.
    :raises subprocess.TimeoutExpired: with what it had written (``output``, ``stderr``).
    :raises subprocess.CalledProcessError: with ``check``, when the program does not end with 0.
    :raises OCIError: the container could not be made, or the program not be found.
    """
    began = time.monotonic()
    limited = _limits(limits, memory, cpus, pids)
    wishes = Wishes(tuple(args), tuple((env or {}).items()), cwd, user, tuple(mounts), hostname, limited)
    data = input.encode() if isinstance(input, str) else input
    streams = (PIPE if data is not None else stdin, PIPE, stderr)
    with ExitStack() as stack:
        if image is None:
            request = _request(wishes, rootfs, bundle, network, passed(pass_fds))
        elif rootfs is not None or bundle is not None:
            raise ValueError("an image, a bundle and a rootfs each have files of their own")
        else:
            request = _image_request(stack, wishes, image, pull, access, store, network, passed(pass_fds))
            began = time.monotonic()
        request = evolve(request, strict_resources=strict_resources)
        container = stack.enter_context(Container._create(request, StateStore(root), *streams))
        container.start()
        process = container.process
        assert process is not None  # we created it
        output, errors = _exchange(process, data, timeout, began, text)
        status = container.wait()
        ending = _ending(status)
    completed = Completed(process.args, int(status), output, errors, time.monotonic() - began, *ending)
    if check:
        completed.check_returncode()
    return cast("Completed[bytes] | Completed[str]", completed)


def _ending(status: ExitStatus) -> tuple[Signals | int | None, bool | None, int | None, float | None, str]:
    return status.signal, status.oom_killed, status.peak_memory_bytes, status.cpu_seconds, status.reason


def _exchange(
    process: ContainerProcess, data: bytes | None, timeout: float | None, began: float, text: bool
) -> tuple[bytes | str, bytes | str]:
    left = None if timeout is None else began + timeout - time.monotonic()
    try:
        output, errors = process.communicate(data, left)
    except subprocess.TimeoutExpired as error:
        partly = (_read(error.output, text), _read(error.stderr, text))
        raise subprocess.TimeoutExpired(process.args, timeout or 0, *partly) from None
    return _read(output, text), _read(errors, text)


def _read(data: bytes | None, text: bool) -> bytes | str:
    return (data or b"").decode("utf-8", "replace") if text else data or b""


@frozen
class Wishes:
    """What a caller wants otherwise than a configuration says."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str | None
    user: User | int | tuple[int, int] | None
    mounts: tuple[Mount, ...]
    hostname: str | None
    limits: Limits | None = None

    def applied_to(self, document: Spec) -> Spec:
        args = self.args or (document.process.args if document.process is not None else ())
        program = describe(document, args, env=dict(self.env), cwd=self.cwd, user=self.user)
        hostname = self.hostname if self.hostname is not None else document.hostname
        changed = document.evolve(process=program, mounts=(*document.mounts, *self.mounts), hostname=hostname)
        return changed if self.limits is None else _limited(changed, self.limits)


def _limited(document: Spec, limits: Limits) -> Spec:
    from ocirt.cgroups.merge import merged

    linux = document.linux or Linux()
    return document.evolve(linux=linux.evolve(resources=merged(linux.resources or Resources(), limits.resources())))


def _limits(limits: Limits | None, memory: int | str | None, cpus: float | None, pids: int | None) -> Limits | None:
    if memory is None and cpus is None and pids is None:
        return limits
    from ocirt.limits import Limits

    base = limits or Limits()
    return evolve(
        base,
        memory=base.memory if memory is None else memory,
        cpus=base.cpus if cpus is None else cpus,
        pids=base.pids if pids is None else pids,
    )


def _request(
    wishes: Wishes, rootfs: Path | None, bundle: Bundle | Path | None, network: Network, kept: tuple[int, ...]
) -> Request:
    container_id = f"run-{os.getpid()}-{token_hex(4)}"
    if bundle is None:
        made = _bundle(os.path.abspath(rootfs or "/"), wishes, Surroundings.here(network, whole=rootfs is not None))
        shown = host_files.SHOWN if rootfs is None else ()
        manager: CgroupManager = "disabled" if wishes.limits is None else "cgroupfs"
        return Request(container_id, made, manager, throw_away_layer=True, shown=shown, kept=kept)
    if rootfs is not None:
        raise ValueError("a bundle has a rootfs of its own")
    if network != "none":
        raise ValueError("a bundle's network is a matter of its config.json (linux.namespaces)")
    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    return Request(container_id, Bundle(loaded.path, wishes.applied_to(loaded.spec)), kept=kept)


def _image_request(
    stack: ExitStack,
    wishes: Wishes,
    image: str,
    pull: Pull,
    access: Access | None,
    store: Store | Path | None,
    network: Network,
    kept: tuple[int, ...],
) -> Request:
    """Until ``stack`` is left, nobody removes the image's layers."""
    from ocirt.image.store import Store
    from ocirt.image.throw_away import on_layers

    opened = store if isinstance(store, Store) else Store(store)
    user = as_user(wishes.user) if wishes.user is not None else None
    surroundings = Surroundings.here(network, whole=True)
    found = stack.enter_context(
        on_layers(image, wishes.args, user, surroundings, pull=pull, store=opened, access=access)
    )
    *layers, lowest = found.trees
    document = evolve(wishes, args=()).applied_to(found.document)
    manager: CgroupManager = "disabled" if wishes.limits is None else "cgroupfs"
    container_id = f"run-{os.getpid()}-{token_hex(4)}"
    bundle = Bundle(lowest, document)
    return Request(container_id, bundle, manager, throw_away_layer=True, layers=tuple(layers), kept=kept)


@functools.lru_cache(maxsize=32)
def _bundle(path: str, wishes: Wishes, surroundings: Surroundings) -> Bundle:
    """Kept, since a bundle remembers what has been decided for its containers: the same call again is cheaper."""
    user = as_user(wishes.user) if wishes.user is not None else User(0, 0)
    return Bundle(path, wishes.applied_to(surroundings.document(user)))
