"""ID mappings in a mount option: ``idmap=uids=0-1000-10#10-2000-5;gids=@0-1-10`` (crun(1), idmap mount options).

Of each triplet, the first number is an ID of the filesystem's, the second the one that it shows on the host, the third
how many there are. With an ``@``, the second is an ID in the container.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WORDS: Final = ("idmap", "ridmap")


class Triplet(NamedTuple):
    """One range of IDs."""

    filesystem: int
    shown: int
    size: int
    relative: bool


class Words(NamedTuple):
    """Both lists."""

    uids: tuple[Triplet, ...]
    gids: tuple[Triplet, ...]


def parse_words(text: str) -> Words:
    """:raises ValueError: what is wrong, in words that follow the option's."""
    lists: dict[str, tuple[Triplet, ...]] = {}
    for part in text.split(";"):
        kind, _, ranges = part.partition("=")
        if kind not in ("uids", "gids") or kind in lists:
            raise ValueError("must be uids=A-B-N#…;gids=A-B-N#…, each once")
        lists[kind] = tuple(map(_triplet, ranges.split("#")))
    if len(lists) != 2:
        raise ValueError("must have both uids and gids")
    return Words(lists["uids"], lists["gids"])


def _triplet(text: str) -> Triplet:
    numbers = text.removeprefix("@").split("-")
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"has a range that is not three numbers: {text!r}")
    first, second, size = map(int, numbers)
    return Triplet(first, second, size, text.startswith("@"))
