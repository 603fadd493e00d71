"""What ``--help`` and ``--version`` print, made from the tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from ocirt.cli.parse import Flag, Kind
from ocirt.cli.rows import Command
from ocirt.cli.table import COMMANDS, GLOBALS, HELP
from ocirt.errors import UnsupportedError

WIDTH: Final = 100
"""Of a line of help; what is longer is continued below."""

FIRST_STEPS: Final = """   ocirt spec                  write a config.json, to be edited
   ocirt run demo              run it, in the foreground
   ocirt list                  see what there is
   ocirt exec -t demo sh       look inside
   ocirt help run              all about one command"""


def name() -> str:
    """What we are called by: where a link named runc leads to us, our words are runc's (go-runc asks for that)."""
    return "runc" if os.path.basename(sys.argv[0]) == "runc" else "ocirt"


def program() -> str:
    """The help of ocirt as a whole."""
    names = [command.name for command in COMMANDS] + ["help, h"]
    helps = [command.help for command in COMMANDS] + ["show the commands, or the help of one"]
    return "\n".join(
        (
            "NAME:",
            f"   {name()} - run containers by the Open Container Initiative's runtime specification",
            "",
            "USAGE:",
            f"   {name()} [global options] command [command options] [arguments...]",
            "",
            "FIRST STEPS, in a directory with a root filesystem in rootfs/:",
            FIRST_STEPS.replace("ocirt", name()),
            "",
            "COMMANDS:",
            *_columns(names, helps),
            "",
            "GLOBAL OPTIONS:",
            *_options(GLOBALS),
            "",
        )
    )


def second_words(group: str) -> list[str]:
    """Of the commands whose names begin with ``group``."""
    return [command.name.partition(" ")[2] for command in COMMANDS if command.name.startswith(f"{group} ")]


def of_group(group: str) -> str:
    """The help of what commands of two words have in common, which is their first."""
    commands = [command for command in COMMANDS if command.name.startswith(f"{group} ")]
    return "\n".join(
        (
            "USAGE:",
            f"   {name()} {group} command [command options] [arguments...]",
            "",
            "COMMANDS:",
            *_columns([command.name for command in commands], [command.help for command in commands]),
            "",
        )
    )


def of_command(command: Command) -> str:
    """The help of one command."""
    example = ["EXAMPLES:", *(f"   {line}" for line in command.example.splitlines()), ""] if command.example else []
    return "\n".join(
        (
            "NAME:",
            f"   {name()} {command.name} - {command.help}",
            "",
            "USAGE:",
            *(f"   {line}" for line in usages(command)),
            "",
            *example,
            "OPTIONS:",
            *_options((*command.flags, HELP)),
            "",
        )
    ).replace("ocirt ", f"{name()} ")


def usages(command: Command) -> Iterator[str]:
    """One line for each way to call it."""
    options = "[command options]" if shown(command.flags) else ""
    for arguments in command.usage.split("  ||  "):
        yield " ".join(filter(None, (name(), command.name, options, arguments)))


def version() -> str:
    """Engines read the first line and the one with ``commit``; go-runc all of them."""
    from importlib import metadata

    try:
        number = metadata.version("ocirt")
    except metadata.PackageNotFoundError:  # it runs from its sources
        number = "unknown"
    lines = [f"{name()} version {number}", "commit: unknown", "spec: 1.3.0"]
    if (library := _libseccomp()) is not None:
        lines.append(f"libseccomp: {library}")
    return "".join(f"{line}\n" for line in lines)


def _libseccomp() -> str | None:
    """The version of the library that compiles filters, where there is one."""
    from ocirt.seccomp import library

    try:
        return library.version()
    except UnsupportedError:
        return None


def shown(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Those that people are told of."""
    return tuple(flag for flag in flags if not flag.hidden)


def label(flag: Flag) -> str:
    """``--bundle value, -b value``"""
    value = "" if flag.kind is Kind.SWITCH else " value"
    short = f", -{flag.short}{value}" if flag.short else ""
    return f"--{flag.name}{value}{short}"


def explained(flag: Flag) -> str:
    text = f"{flag.help}; may be repeated" if flag.repeats else flag.help
    return f'{text} (default: "{flag.default}")' if flag.default else text


def _options(flags: Iterable[Flag]) -> list[str]:
    seen = shown(flags)
    return _columns([label(flag) for flag in seen], [explained(flag) for flag in seen])


def _columns(left: list[str], right: list[str]) -> list[str]:
    import textwrap

    width = max(map(len, left))
    lines = []
    for entry, text in zip(left, right, strict=True):
        first, *rest = textwrap.wrap(text, WIDTH - width - 5, break_on_hyphens=False, break_long_words=False)
        lines += [f"   {entry:<{width}}  {first}", *(f"   {'':<{width}}  {line}" for line in rest)]
    return lines
