"""What ``--help`` and ``--version`` print, made from the tables."""

from __future__ import annotations

from collections.abc import Iterable

from ocirt.cli.parse import Flag, Kind
from ocirt.cli.table import COMMANDS, GLOBALS, HELP, Command


def program() -> str:
    """The help of ocirt as a whole."""
    names = [command.name for command in COMMANDS] + ["help, h"]
    helps = [command.help for command in COMMANDS] + ["show the commands, or the help of one"]
    return "\n".join(
        (
            "NAME:",
            "   ocirt - run containers by the Open Container Initiative's runtime specification",
            "",
            "USAGE:",
            "   ocirt [global options] command [command options] [arguments...]",
            "",
            "COMMANDS:",
            *_columns(names, helps),
            "",
            "GLOBAL OPTIONS:",
            *_options(GLOBALS),
            "",
        )
    )


def of_command(command: Command) -> str:
    """The help of one command."""
    parts = ("ocirt", command.name, "[command options]" if command.flags else "", command.usage)
    return "\n".join(
        (
            "NAME:",
            f"   ocirt {command.name} - {command.help}",
            "",
            "USAGE:",
            f"   {' '.join(filter(None, parts))}",
            "",
            "OPTIONS:",
            *_options((*command.flags, HELP)),
            "",
        )
    )


def version() -> str:
    """Engines read the first line and the one with ``commit``; go-runc all of them."""
    from importlib import metadata

    try:
        number = metadata.version("ocirt")
    except metadata.PackageNotFoundError:  # it runs from its sources
        number = "unknown"
    return f"ocirt version {number}\ncommit: unknown\nspec: 1.3.0\n"


def _options(flags: Iterable[Flag]) -> list[str]:
    flags = tuple(flags)
    return _columns([_label(flag) for flag in flags], [_explained(flag) for flag in flags])


def _label(flag: Flag) -> str:
    value = "" if flag.kind is Kind.SWITCH else " value"
    short = f", -{flag.short}{value}" if flag.short else ""
    return f"--{flag.name}{value}{short}"


def _explained(flag: Flag) -> str:
    return f'{flag.help} (default: "{flag.default}")' if flag.default else flag.help


def _columns(left: list[str], right: list[str]) -> list[str]:
    width = max(map(len, left))
    return [f"   {name:<{width}}  {text}" for name, text in zip(left, right, strict=True)]
