"""Files of the caller's that the program finds open beside the standard streams."""

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


def activation(context: Context) -> tuple[str, ...]:
    """What the program is told of them in its environment: the process that has this pid obeys (sd_listen_fds(3))."""
    count = context.site.activated
    return (f"LISTEN_FDS={count}", "LISTEN_PID=1") if count else ()
