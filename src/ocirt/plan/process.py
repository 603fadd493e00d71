"""The user's program: where it stands, what it is given, how it starts (config.md, Process)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ocirt.plan import credentials, labels, scheduling, seccomp
from ocirt.plan.context import Context, StartSocket
from ocirt.plan.ops import (
    AwaitStart,
    ChangeDirectory,
    Exec,
    FindHome,
    FindProgram,
    Op,
    PrepareStdio,
    Purpose,
    Sync,
)
from ocirt.spec import Process


def become(context: Context, process: Process, *, executed: bool = False) -> Iterator[Op]:
    """Everything between the finished tree and the finished process.

    The working directory is tried before and after the user changes, since it may be open to only one of the two;
    the program is looked up last, with the rights of who will run it.

    :param executed: in a container that runs already.
    """
    yield scheduling.affinity(process, executed=executed)
    if not process.terminal:
        yield PrepareStdio(process.user.uid, context.site.streams, origin="process.user")
    yield from credentials.no_new_privileges(process)
    yield from scheduling.scheduling(context, process)
    yield from labels.selinux(context, process)
    if not _value(process.env, "HOME"):
        yield FindHome(process.user.uid, origin="process.env")
    yield from credentials.rlimits(context, process)
    yield from credentials.bounding(context, process)
    yield ChangeDirectory(process.cwd, origin="process.cwd")
    yield from seccomp.with_privileges(context, process)
    yield from credentials.user(context, process)
    yield ChangeDirectory(process.cwd, again=True, origin="process.cwd")
    yield from credentials.capabilities(context, process)
    yield from credentials.umask(process)
    yield from labels.apparmor(context, process)
    if process.args:
        path = _value(process.env, "PATH")
        directories = tuple(path.split(":")) if path else ()
        yield FindProgram(process.args[0], directories, origin="process.args[0]")


def wait_for_start(context: Context) -> Iterator[Op]:
    """The container is created: recorded by the host, then open to whoever starts it."""
    yield Sync(Purpose.CREATED)
    yield AwaitStart(context.slots.add(StartSocket()))


def execute(context: Context, process: Process, more: Sequence[str] = ()) -> Iterator[Op]:
    """:param more: of its environment."""
    yield from seccomp.without_privileges(context, process)
    yield Exec(process.args, environment((*process.env, *more)), origin="process")


def environment(entries: Sequence[str]) -> tuple[str, ...]:
    """Without doubles, the last of which counts; an empty HOME gives way to the one that is looked up."""
    unique = {entry.partition("=")[0]: entry for entry in entries}
    return tuple(entry for entry in unique.values() if entry != "HOME=")


def _value(entries: Sequence[str], name: str) -> str | None:
    prefix = f"{name}="
    return next((entry.removeprefix(prefix) for entry in reversed(entries) if entry.startswith(prefix)), None)
