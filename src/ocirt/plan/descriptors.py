"""What the program has of its caller's beside the standard streams: open files, and a socket to call back at."""

from __future__ import annotations

from collections.abc import Iterator

from ocirt.plan.context import CallersFile, Context
from ocirt.plan.ops import KeepDescriptors, Op


def keep(context: Context) -> Iterator[Op]:
    """While nothing else is open that could have one of their numbers, and no limit of the container's holds yet.

    Not before a Clone that the start itself does, if it is the first of all: it would cost a process.
    """
    if kept := context.site.kept:
        yield KeepDescriptors(tuple([(context.slots.add(CallersFile(number)), number) for number in kept]))


NOTIFY = "/run/notify"
"""Where the container finds its socket for sd_notify(3); runc's place."""


def environment(context: Context) -> tuple[str, ...]:
    """What the program is told of them: the process that has this pid obeys (sd_listen_fds(3))."""
    count = context.site.activated
    activation = (f"LISTEN_FDS={count}", "LISTEN_PID=1") if count else ()
    return activation if context.site.notify is None else (*activation, f"NOTIFY_SOCKET={NOTIFY}/notify.sock")
