"""One interleaved run.

Whatever else the machine does meanwhile hits all contenders alike: each has one turn a round, in a new order each time.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import IO

from benchmarks.contender import Comparison, Contender, Once, Outcome, Result, Unable
from ocirt import OCIError

WARM_UPS = 3


def compare(comparison: Comparison, rounds: int, order: random.Random) -> Result:
    """Every contender that can, ``rounds`` times."""
    with ExitStack() as stack:
        able: dict[str, Once] = {}
        unable: dict[str, str] = {}
        for contender in comparison.contenders:
            try:
                able[contender.name] = _warmed_up(contender, stack, 1 if comparison.most_rounds else WARM_UPS)
            except (Unable, OCIError, OSError) as error:
                unable[contender.name] = str(error)
        times = _take_turns(able, min(rounds, comparison.most_rounds or rounds), order)
    outcomes = tuple(
        Outcome(each.name, each.at_most, tuple(times.get(each.name, ())), unable.get(each.name, ""))
        for each in comparison.contenders
    )
    return Result(comparison.name, comparison.title, comparison.relation, outcomes)


def _warmed_up(contender: Contender, stack: ExitStack, times: int) -> Once:
    once = contender.prepare(stack)
    for _ in range(times):
        once()
    return once


def _take_turns(able: dict[str, Once], rounds: int, order: random.Random) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in able}
    names = list(able)
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            times[name].append(able[name]())
    return times


def timed(action: Callable[[], object]) -> Once:
    """An action of this process."""

    def once() -> float:
        began = time.perf_counter()
        action()
        return (time.perf_counter() - began) * 1e3

    return once


def command(
    args: Sequence[str], log: IO[bytes], *, captured: bool = False, env: Mapping[str, str] | None = None
) -> Once:
    """A program by subprocess. What it complains of goes to a file, which takes no time; or is read, as by ``run``.

    :param log: that file.
    """

    def action() -> None:
        said_before = os.lseek(log.fileno(), 0, os.SEEK_END)
        errors = subprocess.PIPE if captured else log
        output = subprocess.PIPE if captured else subprocess.DEVNULL
        done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=env, check=False)
        if done.returncode != 0:
            said = done.stderr if captured else os.pread(log.fileno(), 1 << 16, said_before)
            raise Unable(_last_line(said) or f"exit status {done.returncode}")

    return timed(action)


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").splitlines()
    return lines[-1].strip() if lines else ""


class Coprocess:
    """A program that does a thing whenever it reads a line, and answers with the milliseconds."""

    def __init__(self, args: Sequence[str], *, cwd: str | None = None) -> None:
        pipe = subprocess.PIPE
        self._program = subprocess.Popen(args, stdin=pipe, stdout=pipe, bufsize=0, cwd=cwd)

    def __enter__(self) -> Coprocess:
        return self

    @property
    def pid(self) -> int:
        return self._program.pid

    def once(self) -> float:
        assert self._program.stdin is not None  # we asked for pipes
        assert self._program.stdout is not None
        self._program.stdin.write(b"\n")
        answer = self._program.stdout.readline()
        if not answer:
            raise Unable(f"{self._program.args!r} ended with {self._program.wait()}")
        return float(answer)

    def __exit__(self, *_: object) -> None:
        with self._program:  # which ends at the end of its input
            pass
