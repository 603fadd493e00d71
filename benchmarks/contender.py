"""What is compared, and what came out."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from enum import Enum
from typing import TypeAlias

from attrs import frozen

Once: TypeAlias = Callable[[], float]
"""Do it once, and say how many milliseconds it took."""


class Unable(Exception):
    """A contender cannot take part here; the words say why."""


class Relation(Enum):
    """How the subject of a comparison stands to another contender."""

    RATIO = "ratio"
    DIFFERENCE = "difference"

    def between(self, subject: float, other: float) -> float:
        return subject / other if self is Relation.RATIO else subject - other


@frozen
class Contender:
    """One way to do a thing."""

    name: str
    prepare: Callable[[ExitStack], Once]
    """Make what it needs, to be undone with the stack. May raise ``Unable``, as may the first times it is done."""
    at_most: float | None = None
    """The target: what the subject's relation to this one should not exceed."""


@frozen
class Comparison:
    """Several ways to do one thing, of which the first is the subject: ours."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    relation: Relation = Relation.RATIO
    most_rounds: int | None = None
    """For what takes seconds."""


@frozen
class Summary:
    """Of all times of one contender, in milliseconds."""

    median: float
    minimum: float
    p90: float

    @classmethod
    def of(cls, times: tuple[float, ...]) -> Summary:
        ordered = sorted(times)
        return cls(statistics.median(ordered), ordered[0], ordered[(len(ordered) - 1) * 9 // 10])


@frozen
class Outcome:
    """What came of one contender: times, or the reason why there are none."""

    name: str
    at_most: float | None = None
    times: tuple[float, ...] = ()
    unable: str = ""

    @property
    def summary(self) -> Summary | None:
        return Summary.of(self.times) if self.times else None


@frozen
class Result:
    """What came of a comparison; the subject is the first outcome."""

    name: str
    title: str
    relation: Relation
    outcomes: tuple[Outcome, ...]

    def relations(self, outcome: Outcome) -> tuple[float, float] | None:
        """The subject's to this one: by the medians, and by the minima, which other load disturbs least."""
        ours, theirs = self.outcomes[0].summary, outcome.summary
        if ours is None or theirs is None or outcome is self.outcomes[0]:
            return None
        between = self.relation.between
        return between(ours.median, theirs.median), between(ours.minimum, theirs.minimum)
