"""Run ocirt-init on any bytes, as ``launch`` would on a plan, and hear all that it says."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import frozen

from ocirt._native import INIT, ffi, lib
from ocirt.launch import receive
from ocirt.plan import Plan
from ocirt.plan.context import StartSocket
from ocirt.plan.ops import CLONE_NEW, Op
from ocirt.wire import HEADER, Event, Failed, encode

SECONDS = 30
"""Nothing here takes a tenth of one."""

MOUNT_NAMESPACE = CLONE_NEW["mount"]


@frozen
class Outcome:
    """What a run came to."""

    events: tuple[Event, ...]
    returncode: int

    @property
    def failure(self) -> Failed | None:
        return next((event for event in self.events if isinstance(event, Failed)), None)

    @property
    def succeeded(self) -> bool:
        return self.failure is None and self.returncode == 0


def run(*operations: Op, slots: Sequence[int] = (), namespaces: int = 0, program: Path | str = INIT) -> Outcome:
    """Run these operations, none of which is Exec; their mounts go with the mount namespace."""
    plan = Plan(operations, (StartSocket(),) * len(slots))  # what kind of descriptor is a matter of the host's
    return run_bytes(encode(plan).encoded(), slots=slots, namespaces=namespaces, program=program)


def run_bytes(
    plan: bytes, *, slots: Sequence[int] = (), namespaces: int = 0, program: Path | str = INIT, answers: int = 0
) -> Outcome:
    """Run whatever this is; a Sync is answered ``answers`` times in advance."""
    with contextlib.ExitStack() as stack:
        null = _opened(os.open("/dev/null", os.O_RDWR), stack)
        executable = _opened(os.open(program, os.O_RDONLY | os.O_CLOEXEC), stack)
        pid, events = _spawn(executable, plan, [null, null, null, *slots], namespaces)
        ours = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, events))
        ours.settimeout(SECONDS)
        for _ in range(answers):
            with contextlib.suppress(BrokenPipeError):  # it may have given up before it asked
                ours.send(b"g")
        heard = tuple(_events(ours))
    _, status = os.waitpid(pid, 0)
    return Outcome(heard, os.waitstatus_to_exitcode(status))


def _spawn(executable: int, plan: bytes, descriptors: Sequence[int], namespaces: int) -> tuple[int, int]:
    made = ffi.new("int[3]")
    error = lib.ocirt_spawn(executable, plan, len(plan), descriptors, len(descriptors), namespaces, -1, made)
    assert error == 0, os.strerror(error)
    pid, pidfd, events = made
    os.close(pidfd)
    return pid, events


def _opened(fd: int, stack: contextlib.ExitStack) -> int:
    stack.callback(os.close, fd)
    return fd


def _events(channel: socket.socket) -> Iterator[Event]:
    while (event := receive(channel)) is not None:
        yield event


def plan_bytes(
    operations: Sequence[bytes] = (),
    numbers: Sequence[int] = (),
    strings: Sequence[int] = (),
    text: bytes = b"\0",
    *,
    passed: int = 0,
) -> bytes:
    """A plan with a header that is right, whatever it is a plan of."""
    tables = (
        b"".join(operations) + struct.pack(f"={len(numbers)}Q", *numbers) + struct.pack(f"={len(strings)}I", *strings)
    )
    size = HEADER.size + len(tables) + len(text)
    counts = (len(operations), len(numbers), len(strings), len(text), passed)
    return HEADER.pack(lib.WIRE_MAGIC, lib.WIRE_VERSION, size, *counts) + tables + text
