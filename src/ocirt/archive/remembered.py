"""Which entries a layer has made, in eight bytes each: there may be millions of them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from heapq import merge

FRESH = 50_000
"""Numbers that are kept as they come, at eighty bytes each, before they are put in order."""


class Remembered:
    """Names in directories.

    Kept are the hashes alone. Python makes those of texts with a secret of the process, so no archive can have two that
    are equal, and by chance it takes billions.
    """

    def __init__(self) -> None:
        self._fresh: set[int] = set()
        self._ordered: list[array[int]] = []

    def add(self, directory: tuple[int, int], name: str) -> None:
        self._fresh.add(hash((directory, name)))
        if len(self._fresh) >= FRESH:
            self._put_in_order()

    def __contains__(self, entry: tuple[tuple[int, int], str]) -> bool:
        number = hash(entry)
        return number in self._fresh or any(_holds(ordered, number) for ordered in self._ordered)

    def _put_in_order(self) -> None:
        """Arrays of about one size become one, so that there are few and each number is seldom copied."""
        made = array("q", sorted(self._fresh))
        self._fresh.clear()
        while self._ordered and len(self._ordered[-1]) <= len(made):
            made = array("q", merge(self._ordered.pop(), made))
        self._ordered.append(made)


def _holds(ordered: array[int], number: int) -> bool:
    at = bisect_left(ordered, number)
    return at < len(ordered) and ordered[at] == number
