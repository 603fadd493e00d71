"""How much of a machine an archive may take."""

from __future__ import annotations

from attrs import frozen

from ocirt.errors import ArchiveError

MEMORY = 32 << 20
"""Bytes of paths that are kept."""


@frozen
class ExtractLimits:
    """What an archive may ask for at most. ``None`` is no limit."""

    bytes: int | None = None
    """Of data, holes not counted."""
    entries: int | None = 5_000_000
    """Members, and directories that are made for them: each takes an inode, and up to a hundred bytes of memory."""


class Budget:
    """What is left of the limits, and what was taken."""

    def __init__(self, limits: ExtractLimits) -> None:
        self._limits = limits
        self._entries_left = limits.entries if limits.entries is not None else -1
        self._bytes_left = limits.bytes if limits.bytes is not None else -1
        self._memory_left = MEMORY
        self.bytes = 0

    def take_entry(self, member: str) -> None:
        """One more.

        :raises ArchiveError: that was one too many.
        """
        if self._entries_left == 0:
            raise ArchiveError(member, f"the archive has more than {self._limits.entries} entries")
        self._entries_left -= 1

    def take_memory(self, path: str) -> None:
        """One more path that is kept until all is done.

        :raises ArchiveError: these are more than any honest archive has.
        """
        self._memory_left -= len(path) + 100
        if self._memory_left < 0:
            raise ArchiveError(path, "the archive has too many directories and devices that it leaves to be guessed")

    def take_bytes(self, count: int, member: str) -> None:
        """So many more, before any of them is written.

        :raises ArchiveError: those were too many.
        """
        if 0 <= self._bytes_left < count:
            raise ArchiveError(member, f"the archive has more than {self._limits.bytes} bytes of data")
        if self._bytes_left > 0:
            self._bytes_left -= count
        self.bytes += count
