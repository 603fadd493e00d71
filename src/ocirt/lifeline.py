"""A container that ends with the process that created it (``die_with_parent``)."""

from __future__ import annotations

import os

from ocirt.launch import Prepared, launch
from ocirt.plan import Plan
from ocirt.plan.context import InitPidfd
from ocirt.plan.ops import Fd, KillWhenOrphaned
from ocirt.process import Process


def watch(init: int) -> int:
    """Start a watchdog; as long as the result is open in this process, nothing happens."""
    read, write = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        plan = Plan((KillWhenOrphaned(Fd(0), Fd(1)),), (InitPidfd(), InitPidfd()))
        watchdog = launch(Prepared.of(plan), [init, read], (null, null, null))
        watchdog.events.close()
        Process((), watchdog.pid, watchdog.pidfd).close()
    finally:
        os.close(read)
        os.close(null)
    return write
