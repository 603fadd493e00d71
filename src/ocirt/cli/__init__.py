"""The command line, compatible with runc's.

Read in this order: ``table`` (what there is), ``parse``, then this, then the commands: ``lifecycle`` (create, start,
run, kill, delete), ``execution`` (exec), ``control`` (pause, resume, update), ``events``, ``checkpoint`` (and
restore), ``image`` (all about images), ``query`` (the rest), with ``foreground`` (a process that is watched),
``handover`` (descriptors, the pid file and the console socket) and ``words`` and ``log`` (errors). Of the table are
made ``usage`` (help), ``completion`` with ``shells``, and ``manual``.

A command is imported when it is called, and nothing here needs attrs: ``state`` and ``kill`` are to be quick.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import Final, NamedTuple, NoReturn, cast

from ocirt.cli import usage, words
from ocirt.cli.log import LEVELS, Log
from ocirt.cli.parse import FALSE, TRUE, Parsed, UsageError, parse
from ocirt.cli.rows import Command
from ocirt.cli.table import COMMANDS, GLOBALS, GROUPS, HELP
from ocirt.errors import OCIError

__all__ = ["Call", "command", "main"]

MANAGERS = ("cgroupfs", "systemd", "disabled")

FIRST = 3
"""The first number behind the standard streams."""

NO_COMMAND = 3
"""Exit status for a command that is none, as the library that runc uses has it."""


class Call(NamedTuple):
    """One command with all that was said to it."""

    settings: Parsed
    """The global flags."""
    options: Parsed

    @property
    def root(self) -> str | None:
        """The state root, ``None`` for the default."""
        return self.settings.text("root") if self.settings.given("root") else None

    @property
    def cgroup_manager(self) -> str:
        """runc's flag, which wins, or crun's."""
        return "systemd" if self.settings.on("systemd-cgroup") else self.settings.text("cgroup-manager")

    @property
    def container_id(self) -> str:
        """:raises StateError: it is empty, or could be no container's."""
        from ocirt.state import check_id

        check_id(self.options.arguments[0])
        return self.options.arguments[0]


GARBAGE: Final = 100_000
"""So many objects more than were freed let the collector look for cycles: one command makes fewer, mostly classes."""


def command() -> NoReturn:
    """Be the command. At the end the kernel takes back at once what Python would take apart for milliseconds."""
    gc.set_threshold(GARBAGE)
    status = main()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line, and give the exit status."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    _fill_streams()
    try:
        with _ended_by_signals():
            status = _main(arguments)
            if sys.stdout is not None:  # closed from the beginning
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has had enough; spare them the complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _fill_streams() -> None:
    """A stream that is closed becomes /dev/null, or what we open first would get its number, and be handed on as it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < FIRST:
        os.set_inheritable(fd, True)
    os.close(fd)


def _main(arguments: Sequence[str]) -> int:
    try:
        settings = parse(GLOBALS, arguments, stops=True)
    except UsageError as error:
        print(f"Incorrect Usage. {error}\n\n{usage.program()}")
        Log().error(str(error))
        return 1
    if settings.on("version"):
        print(usage.version(), end="")
        return 0
    try:
        log = Log.of(settings.text("log"), settings.text("log-format"), _debugging(settings))
        _check(settings)
    except UsageError as error:
        Log().error(str(error))
        return 1
    name, *rest = settings.arguments or ("help",)
    if name in ("help", "h"):
        return _help(rest, log)
    if settings.on("help"):
        return _help([], log)
    if name in GROUPS:
        if not rest or rest[0] in ("help", "h", "--help", "-h"):
            return _help([name, *rest[1:]], log)
        name = f"{name} {rest.pop(0)}"
    command = _command(name)
    return _unknown(name, log) if command is None else _run(command, settings, rest, log)


def _command(name: str) -> Command | None:
    return next((command for command in COMMANDS if command.name == name), None)


def _help(arguments: Sequence[str], log: Log) -> int:
    if not arguments:
        print(usage.program())
        return 0
    if arguments[0] in GROUPS and len(arguments) == 1:
        print(usage.of_group(arguments[0]))
        return 0
    name = " ".join(arguments[:2]) if arguments[0] in GROUPS else arguments[0]
    command = _command(name)
    if command is None:
        return _unknown(name, log)
    print(usage.of_command(command))
    return 0


def _unknown(name: str, log: Log) -> int:
    log.error(f"No help topic for '{name}'")
    return NO_COMMAND


def _run(command: Command, settings: Parsed, arguments: Sequence[str], log: Log) -> int:
    try:
        options = parse((*command.flags, HELP), arguments, stops=command.stops)
    except UsageError as error:
        print(f"Incorrect Usage: {error}\n\n{usage.of_command(command)}")
        log.error(str(error))
        return 1
    if options.on("help"):
        print(usage.of_command(command))
        return 0
    if problem := _miscounted(command, len(options.arguments)):
        print(f"Incorrect Usage.\n\n{usage.of_command(command)}")
        log.error(problem)
        return 1
    log.debug(f"ocirt {command.name} {' '.join(arguments)}".rstrip())
    try:
        return _function(command)(Call(settings, options))
    except BrokenPipeError:
        raise
    except (OCIError, OSError) as error:
        log.error(command.failure.replace("ocirt", usage.name()) + words.of(error))
        if log.debugging:
            import traceback

            log.debug(traceback.format_exc())
        return command.status


def _function(command: Command) -> Callable[[Call], int]:
    module, _, function = command.run.partition(".")
    return cast(Callable[[Call], int], getattr(import_module(f"ocirt.cli.{module}"), function))


def _miscounted(command: Command, count: int) -> str:
    if command.least == command.most != count:
        return f'{usage.name()}: "{command.name}" requires exactly {command.least} argument(s)'
    if count < command.least:
        return f'{usage.name()}: "{command.name}" requires a minimum of {command.least} argument(s)'
    if command.most is not None and count > command.most:
        return f'{usage.name()}: "{command.name}" requires a maximum of {command.most} argument(s)'
    return ""


def _check(settings: Parsed) -> None:
    """:raises UsageError: a global flag has a value that it cannot have."""
    if settings.given("root") and not os.path.abspath(settings.text("root") or "/").strip("/"):
        raise UsageError("Option --root argument should not be set to /")
    if settings.text("rootless").lower() not in ("", "auto", *TRUE, *FALSE):
        raise UsageError(f"invalid rootless: {settings.text('rootless')} (one of true, false, auto)")
    for name, known in (("cgroup-manager", MANAGERS), ("log-level", LEVELS)):
        if settings.text(name) not in known:
            raise UsageError(f"invalid {name}: {settings.text(name)} (one of {', '.join(known)})")


def _debugging(settings: Parsed) -> bool:
    return settings.on("debug") or settings.text("log-level") == "debug"


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end us by an exception, as SIGINT does: a half-made container is undone on the way."""
    ending = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ending:
            signal.signal(number, _exit)
    except ValueError:  # signal(2) is the main thread's business
        ending = []
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
