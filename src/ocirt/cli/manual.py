"""The manual page ocirt(1), in the macros of man(7), made from the table of commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ocirt.cli.parse import Flag, Kind
from ocirt.cli.rows import Command
from ocirt.cli.table import COMMANDS, GLOBALS
from ocirt.cli.usage import explained, shown

if TYPE_CHECKING:
    from ocirt.cli import Call

DESCRIPTION: Final = """\
ocirt makes a container of a bundle, a directory with a config.json and a root filesystem, as the Open Container
Initiative's runtime specification describes it. Its commands, flags and messages are those of runc(8), so that engines
like podman(1) and containerd(8) can call it instead. Everything it does can be had in Python too: import ocirt.

A flag may begin with one dash or two, and its value may follow it or be joined with =. A switch takes a truth value
behind =. The flags of exec, kill and ps end at the first argument."""

SYNOPSIS: Final = r"\fBocirt\fR [\fIglobal options\fR] \fIcommand\fR [\fIoptions\fR] [\fIarguments\fR]"

STATUSES: Final = (
    ("0", "it is done"),
    ("1", "it failed, or the command line is wrong; the message is on standard error, and in the log"),
    ("3", "there is no such command"),
    ("255", "exec failed"),
    ("other", "of run and exec in the foreground that of the process; 128 and the number of the signal that ended it"),
)

FILES: Final = (
    ("/run/ocirt", "the state of each container, of root"),
    ("$XDG_RUNTIME_DIR/ocirt", "of other users, and of root in a user namespace unless $USER is root"),
)

ENVIRONMENT: Final = (
    ("XDG_RUNTIME_DIR", "see FILES"),
    ("LISTEN_FDS, LISTEN_PID", "sockets for the container (sd_listen_fds(3))"),
)

OTHERS: Final = "runc(8), crun(1), podman(1), namespaces(7), cgroups(7), capabilities(7), seccomp(2)"


def manual(call: Call) -> int:
    del call
    print(page(), end="")
    return 0


def page() -> str:
    return "".join(f"{line}\n" for line in _page())


def _page() -> Iterator[str]:
    yield r".\" made by: ocirt man"
    yield '.TH OCIRT 1 "" "ocirt" "User Commands"'
    yield from _section("NAME", r"ocirt \- run containers by the Open Container Initiative's runtime specification")
    yield from _section(
        "SYNOPSIS", r"\fBocirt\fR [\fIglobal options\fR] \fIcommand\fR [\fIoptions\fR] [\fIarguments\fR]"
    )
    yield from _section("DESCRIPTION")
    for paragraph in DESCRIPTION.split("\n\n"):
        yield from (".PP", _text(paragraph))
    yield from _section("COMMANDS")
    for command in COMMANDS:
        yield from _command(command)
    yield from _section("GLOBAL OPTIONS", *_flags(GLOBALS))
    yield from _section("EXIT STATUS", *_terms(STATUSES))
    yield from _section("ENVIRONMENT", *_terms(ENVIRONMENT))
    yield from _section("FILES", *_terms(FILES))
    yield from _section("SEE ALSO", _text(OTHERS))


def _section(title: str, *lines: str) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_text(command.name)}"
    for arguments in command.usage.split("  ||  "):
        options = r" [\fIoptions\fR]" if shown(command.flags) else ""
        yield from (".PP", rf"\fBocirt {_text(command.name)}\fR{options} {_text(arguments)}".rstrip())
    yield from (".PP", _text(command.help[:1].upper() + command.help[1:] + "."))
    yield from _flags(command.flags)
    if command.example:
        yield from (".PP", "Examples:", ".PP", ".RS 4", ".nf")
        yield from map(_text, command.example.splitlines())
        yield from (".fi", ".RE")


def _flags(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in shown(flags):
        value = "" if flag.kind is Kind.SWITCH else r" \fIvalue\fR"
        names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
        yield ".TP"
        yield ", ".join(rf"\fB{_text(name)}\fR{value}" for name in names)
        yield _text(explained(flag))


def _terms(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in rows:
        yield from (".TP", rf"\fB{_text(term)}\fR", _text(text))


def _text(text: str) -> str:
    """As it is, whatever roff would make of it: dashes to be copied, no escapes, no requests (groff_char(7))."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha")
    escaped = escaped.replace("~", r"\(ti").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
