"""Completions of the command line for bash, zsh and fish, made from the table of commands.

All three offer the same: commands, their flags, and what fits behind a flag or a command. Containers are asked for when
the key is pressed, of the state root that the line names.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ocirt.cli.parse import Flag, Kind, UsageError
from ocirt.cli.rows import Command
from ocirt.cli.shells import BASH, FISH, ZSH
from ocirt.cli.table import COMMANDS, GLOBALS, GROUPS, HELP
from ocirt.cli.usage import second_words, shown

if TYPE_CHECKING:
    from ocirt.cli import Call

NAMES: Final = " ".join(dict.fromkeys(command.name.partition(" ")[0] for command in COMMANDS))
ALL: Final = (
    *COMMANDS,
    *(
        Command(group, f"commands about an {group}", "", "", offers=(" ".join(second_words(group)),))
        for group in GROUPS
    ),
    Command("help", "show the commands, or the help of one", "[command]", "", offers=(NAMES,)),
)
NOTHING: Final = "NOTHING"
"""What is offered where any text may stand."""


def completion(call: Call) -> int:
    """:raises UsageError: of that shell we know nothing."""
    shell = call.options.arguments[0]
    if shell not in SCRIPTS:
        raise UsageError(f"unknown shell: {shell} (one of {', '.join(SCRIPTS)})")
    print(SCRIPTS[shell](), end="")
    return 0


def bash() -> str:
    """Three tables, and a function that knows about which of them the cursor asks."""
    tables = {command.name: (*command.flags, HELP) for command in ALL if command.name != "help"}
    flags = {name: " ".join(f"--{flag.name}" for flag in shown(known)) for name, known in tables.items()}
    return _filled(
        BASH,
        commands=f"{NAMES} help",
        flags=_cases({"": " ".join(f"--{flag.name}" for flag in shown(GLOBALS)), **flags}),
        values=_cases(dict(_values())),
        offers=_cases({f"{command.name} {place}": offer for command, place, offer in _offers()}),
        stops="|".join(command.name for command in COMMANDS if command.stops),
        groups=" ".join(GROUPS),
    )


def zsh() -> str:
    """_arguments has a grammar for all of it (zshcompsys(1))."""
    cases = []
    for command in ALL:
        offers = [_word(f"{place}:{_zsh_value(offer)}") for place, offer in enumerate(command.offers, 1)]
        rest = ["'*:: :_normal'"] if command.name == "exec" else []
        specs = [*map(_zsh_flag, shown((*command.flags, HELP))), *offers, *rest]
        lines = " \\\n                ".join(["_arguments -s", *specs, "&& ret=0"])
        cases.append(f"            ({_word(command.name)})\n                {lines} ;;")
    return _filled(
        ZSH,
        commands="\n".join(f"        {_word(f'{command.name}:{command.help}')}" for command in _first_words()),
        globals=" \\\n        ".join(map(_zsh_flag, shown(GLOBALS))),
        cases="\n".join(cases),
        groups=" ".join(GROUPS),
    )


def fish() -> str:
    """A rule a line; its condition says where it holds."""
    rules = [f"complete -c ocirt -n __ocirt_no_command {_fish_flag(flag)}" for flag in shown(GLOBALS)]
    rules += [
        f"complete -c ocirt -n __ocirt_no_command -a {command.name} -d {_word(command.help)}"
        for command in _first_words()
    ]
    for command in COMMANDS:
        here = f"-n '__ocirt_at \"{command.name}\"'"
        rules += [f"complete -c ocirt {here} {_fish_flag(flag)}" for flag in shown((*command.flags, HELP))]
    for command, place, offer in _offers():
        rules.append(f"complete -c ocirt -n '__ocirt_at \"{command.name}\" {place}' {_fish_value(offer)}")
    return _filled(
        FISH,
        taking=" \\\n    ".join(_word(key) for key, _ in _values()),
        rules="\n".join(rules),
        groups=" ".join(GROUPS),
    )


SCRIPTS: Final[Mapping[str, Callable[[], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _first_words() -> Iterator[Command]:
    """What there is to begin with."""
    return (command for command in ALL if " " not in command.name)


def _filled(script: str, **parts: str) -> str:
    names = (member.name.removeprefix("SIG") for member in signal.Signals)
    for name, text in {**parts, "signals": " ".join(names)}.items():
        script = script.replace(f"@{name}@", text)
    return script


def _values() -> Iterator[tuple[str, str]]:
    """What follows a flag, by ``command --flag``; of a global one by `` --flag``."""
    for name, flags in (("", GLOBALS), *((command.name, command.flags) for command in COMMANDS)):
        for flag in flags:
            if flag.kind is not Kind.SWITCH:
                yield from ((f"{name} {spelling}", flag.values or NOTHING) for spelling in _spellings(flag))


def _offers() -> Iterator[tuple[Command, int, str]]:
    """What fits as an argument, and as which one."""
    for command in ALL:
        yield from ((command, place, offer) for place, offer in enumerate(command.offers))


def _spellings(flag: Flag) -> tuple[str, ...]:
    return (f"--{flag.name}", f"-{flag.short}") if flag.short else (f"--{flag.name}",)


def _cases(table: Mapping[str, str]) -> str:
    """Branches of a shell's ``case``; what has the same answer shares one."""
    answers: dict[str, list[str]] = {}
    for key, answer in table.items():
        answers.setdefault(answer, []).append(f'"{key}"')
    return "\n".join(f"        {'|'.join(keys)}) echo {_word(answer)} ;;" for answer, keys in answers.items())


def _word(text: str) -> str:
    """One word, whatever is in it: quoted as the POSIX shells have it, and fish takes that too."""
    return "'" + text.replace("'", "'\\''") + "'"


def _zsh_flag(flag: Flag) -> str:
    text = flag.help.replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    value = "" if flag.kind is Kind.SWITCH else f":{_zsh_value(flag.values)}"
    sign = "" if flag.kind is Kind.SWITCH else "="  # or as the next word
    names = [f"{spelling}{sign}" for spelling in _spellings(flag)]
    if len(names) == 1:
        return _word(f"{'*' if flag.repeats else ''}{names[0]}[{text}]{value}")
    first = "'*'" if flag.repeats else _word(f"({' '.join(_spellings(flag))})")
    return f"{first}{{{','.join(names)}}}{_word(f'[{text}]{value}')}"


def _zsh_value(values: str) -> str:
    match values:
        case "":
            return "value: "
        case "FILE":
            return "file:_files"
        case "DIRECTORY":
            return "directory:_files -/"
        case "CONTAINER":
            return "container:_ocirt_containers"
        case "SIGNAL":
            return "signal:_ocirt_signals"
    return f"value:({values})"


def _fish_flag(flag: Flag) -> str:
    short = f" -s {flag.short}" if flag.short else ""
    exclusive = "-r" if flag.values == "FILE" else "-x"
    value = "" if flag.kind is Kind.SWITCH else f" {exclusive} {_fish_value(flag.values)}".rstrip()
    return f"-l {flag.name}{short}{value} -d {_word(flag.help)}"


def _fish_value(values: str) -> str:
    match values:
        case "":
            return ""
        case "FILE":
            return "-F"
        case "DIRECTORY":
            return "-a '(__fish_complete_directories)'"
        case "CONTAINER":
            return "-a '(__ocirt_containers)'"
        case "SIGNAL":
            return "-a '@signals@'"
    return f"-a {_word(values)}"
