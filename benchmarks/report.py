"""The table for people and the JSON document for programs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import frozen

from benchmarks.contender import Outcome, Relation, Result

HEADINGS: Final = {
    Relation.RATIO: ("median", "min", "p90", "ours / it", "by min", "target", ""),
    Relation.DIFFERENCE: ("median", "min", "p90", "ours - it", "by min", "target", ""),
}
NAME_WIDTH, WIDTH = 36, 11


@frozen
class Circumstances:
    """What the times depend on besides the code."""

    rounds: int
    seed: int
    load: tuple[float, float, float]
    kernel: str
    cpus: int
    python: str
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def now(cls, rounds: int, seed: int) -> Circumstances:
        names = ("crun", "runc", "bwrap")
        versions = tuple((name, _version(path)) for name in names if (path := shutil.which(name)))
        cpus = len(os.sched_getaffinity(0))
        return cls(rounds, seed, os.getloadavg(), platform.release(), cpus, platform.python_version(), versions)

    def lines(self, load_after: Sequence[float]) -> Iterator[str]:
        versions = ", ".join(version for _, version in self.versions)
        yield f"Linux {self.kernel}, {self.cpus} CPUs, Python {self.python}; {versions or 'no other runtime'}"
        yield f"{self.rounds} interleaved rounds of each, in an order made from seed {self.seed}; times in milliseconds"
        yield f"load average {_load(self.load)} before, {_load(load_after)} after"
        yield "A machine that does other things as well is noisy: trust the ratios more than the times."


def table(result: Result) -> str:
    """One comparison, a line for each contender."""
    lines = [f"{result.name}: {result.title}"]
    if able := [outcome for outcome in result.outcomes if outcome.times]:
        lines.append(_row("", HEADINGS[result.relation]))
        lines += [_row(outcome.name, _cells(result, outcome)) for outcome in able]
    lines += [f"  {outcome.name}: not here: {outcome.unable}" for outcome in result.outcomes if outcome.unable]
    return "\n".join(lines)


def document(results: Sequence[Result], circumstances: Circumstances, load_after: Sequence[float]) -> str:
    """All of it, as JSON."""
    about = {
        "rounds": circumstances.rounds,
        "seed": circumstances.seed,
        "load": {"before": list(circumstances.load), "after": list(load_after)},
        "kernel": circumstances.kernel,
        "cpus": circumstances.cpus,
        "python": circumstances.python,
        "versions": dict(circumstances.versions),
    }
    comparisons = [
        {
            "name": result.name,
            "title": result.title,
            "relation": result.relation.value,
            "contenders": [_described(result, outcome) for outcome in result.outcomes],
        }
        for result in results
    ]
    return json.dumps({"unit": "ms", "circumstances": about, "comparisons": comparisons}, indent=1) + "\n"


def _cells(result: Result, outcome: Outcome) -> Iterator[str]:
    summary = outcome.summary
    assert summary is not None  # who was able has times
    for value in (summary.median, summary.minimum, summary.p90):
        yield f"{value:.3f}"
    relations = result.relations(outcome)
    if relations is None:
        return
    for value in relations:
        yield f"{value:.2f}"
    if outcome.at_most is not None:
        yield f"<= {outcome.at_most:g}"
        yield "met" if relations[0] <= outcome.at_most else "missed"


def _row(name: str, cells: Iterator[str] | Sequence[str]) -> str:
    return (f"  {name:<{NAME_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)).rstrip()


def _described(result: Result, outcome: Outcome) -> Mapping[str, object]:
    if outcome.unable:
        return {"name": outcome.name, "unable": outcome.unable}
    described: dict[str, object] = {"name": outcome.name}
    if (summary := outcome.summary) is not None:
        described |= {"median": summary.median, "min": summary.minimum, "p90": summary.p90}
    if (relations := result.relations(outcome)) is not None:
        described["ours_to_it"] = {"by_median": relations[0], "by_min": relations[1], "at_most": outcome.at_most}
    described["times"] = [round(time, 4) for time in outcome.times]
    return described


def _version(program: str) -> str:
    """The first line of ``--version``."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].strip()


def _load(averages: Sequence[float]) -> str:
    return " ".join(f"{average:.2f}" for average in averages)
