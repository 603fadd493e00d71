"""What a layer says of files that are gone (image-spec, layer.md, Whiteouts)."""

from __future__ import annotations

from ocirt.archive.headers import Member
from ocirt.errors import ArchiveError

PREFIX = ".wh."
OPAQUE = ".wh..wh..opq"
"""Whatever lower layers have in this directory is gone."""


def hidden(member: Member, name: str) -> str | None:
    """Whose absence the last part of a member's path tells; ``None`` where all of its directory's is.

    :raises ArchiveError: nobody's: it would be the directory itself, or the one above.
    """
    if name == OPAQUE:
        return None
    target = name[len(PREFIX) :]
    if target in ("", ".", ".."):
        raise ArchiveError(member.name, "a whiteout of nothing")
    return target


def is_in_one(parent: str) -> bool:
    """Whether a path leads through a whiteout, which is no directory."""
    return PREFIX in parent and any(part.startswith(PREFIX) for part in parent.split("/"))
