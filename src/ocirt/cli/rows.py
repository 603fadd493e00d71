"""What a row of the table of commands says."""

from __future__ import annotations

from typing import NamedTuple

from ocirt.cli.parse import Flag


class Command(NamedTuple):
    """One row of the table of commands."""

    name: str
    help: str
    usage: str
    """What follows the command's name and flags."""
    run: str
    """Where it is done, as ``module.function`` of this package; imported only when it is asked for."""
    flags: tuple[Flag, ...] = ()
    least: int = 0
    most: int | None = None
    """How many arguments it takes; ``None`` is no limit."""
    stops: bool = False
    """Its flags end at the first argument, because the others may look like flags."""
    failure: str = ""
    """Begins the message of every error of this command."""
    status: int = 1
    """What it exits with on an error of ours."""
    offers: tuple[str, ...] = ("CONTAINER",)
    """What a shell offers for each argument, as ``Flag.values``."""
    example: str = ""
    """Lines of a shell, for its help."""
