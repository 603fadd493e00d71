"""What became of an archive."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen
class Extracted:
    """What was in the archive, and what of it could not be had."""

    entries: int
    bytes: int
    whiteouts: int
    implied: tuple[str, ...]
    """Directories of which the archive said nothing but that there is something in them."""
    placeholders: tuple[str, ...]
    """Devices that became empty files."""
    skipped_xattrs: Mapping[str, int]
    """Extended attributes that were not set, with their numbers of files."""
    opaque_root: bool
    """Nothing of lower layers is to be seen at all, which overlayfs cannot be told in the root of a layer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had, in words."""
        devices = len(self.placeholders)
        first = f"{devices} device{'s' * (devices != 1)} became empty files: {', '.join(self.placeholders[:5])}"
        if devices > 5:
            first += ", ..."
        rest = (f"the attribute {name} was not set on {count} files" for name, count in self.skipped_xattrs.items())
        return (*((first,) if devices else ()), *rest)
