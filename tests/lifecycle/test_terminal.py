"""A process with a terminal of its own (config.md, Process: terminal, consoleSize)."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from ocirt import Container, Terminal
from ocirt.errors import SetupError
from ocirt.spec import ConsoleSize, Process, User
from tests.support import SECONDS, Lab, document, process

pytestmark = pytest.mark.root


def on_terminal(lab: Lab, program: Process) -> Container:
    container = lab.create(document().evolve(process=program.evolve(terminal=True)), stdout=None, stdin=None)
    container.start()
    return container


def terminal_of(container: Container) -> Terminal:
    assert container.process is not None
    assert container.process.terminal is not None
    return container.process.terminal


def read_all(terminal: Terminal) -> str:
    """Until nobody in the container has it open any more."""
    parts = []
    while part := terminal.read():
        parts.append(part)
    return b"".join(parts).decode()


def read_until(terminal: Terminal, end: str) -> str:
    text = ""
    while end not in text:
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, f"{end!r} never came, but {text!r}"
        text += terminal.read().decode()
    return text


@pytest.mark.covers("process.terminal")
def test_all_streams_are_the_terminal_and_it_controls_the_process(lab: Lab) -> None:
    script = "tty; for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done; echo through > /dev/tty"
    with on_terminal(lab, process("sh", "-c", script)) as container:
        assert read_all(terminal_of(container)).split() == ["/dev/pts/0"] * 4 + ["through"]
        assert container.wait(SECONDS) == 0


def test_the_console_is_the_same_terminal(lab: Lab) -> None:
    script = "echo by-console > /dev/console; stat -c %t:%T /dev/console /dev/pts/0 | uniq | wc -l"
    with on_terminal(lab, process("sh", "-c", script)) as container:
        assert read_all(terminal_of(container)).split() == ["by-console", "1"]


@pytest.mark.covers("process.consoleSize.**")
def test_it_has_the_configured_size_and_can_be_resized(lab: Lab) -> None:
    script = "stty size; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    with on_terminal(lab, process("sh", "-c", script, console_size=ConsoleSize(height=33, width=101))) as container:
        terminal = terminal_of(container)
        assert read_until(terminal, "ready").split()[:2] == ["33", "101"]
        assert terminal.size == os.terminal_size((101, 33))
        terminal.resize(80, 24)
        assert read_all(terminal).split() == ["24", "80"]


@pytest.mark.covers("process.consoleSize")
def test_without_a_configured_size_it_has_none(lab: Lab) -> None:
    with on_terminal(lab, process("sleep", "600")) as container:
        assert terminal_of(container).size == os.terminal_size((0, 0))


def test_what_is_typed_arrives_and_is_echoed(lab: Lab) -> None:
    with on_terminal(lab, process("sh", "-c", "read line; echo got-$line")) as container:
        terminal_of(container).write(b"word\n")
        assert read_all(terminal_of(container)).split() == ["word", "got-word"]


def test_control_c_interrupts_and_control_d_ends(lab: Lab) -> None:
    with on_terminal(
        lab, process("sh", "-c", "trap 'echo interrupted; exit 5' INT; echo ready; sleep 60")
    ) as container:
        read_until(terminal_of(container), "ready")
        terminal_of(container).write(b"\x03")
        assert "interrupted" in read_all(terminal_of(container))
        assert container.wait(SECONDS) == 5
    with on_terminal(lab, process("cat")) as container:
        terminal_of(container).write(b"\x04")
        assert container.wait(SECONDS) == 0


def test_it_belongs_to_the_user(lab: Lab) -> None:
    with on_terminal(lab, process("stat", "-c", "%u %a", "/dev/pts/0", user=User(1000, 1000))) as container:
        assert read_all(terminal_of(container)).split() == ["1000", "620"]


def test_hanging_up_ends_the_process(lab: Lab) -> None:
    with on_terminal(
        lab, process("sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done")
    ) as container:
        read_until(terminal_of(container), "ready")
        terminal_of(container).close()
        assert container.wait(SECONDS) == 9


def test_no_terminal_of_the_host_is_made(lab: Lab) -> None:
    before = sorted(os.listdir("/dev/pts"))
    with on_terminal(lab, process("sleep", "60")):
        assert sorted(os.listdir("/dev/pts")) == before


def test_a_terminal_needs_the_containers_devpts(lab: Lab) -> None:
    spec = document()
    bare = tuple(mount for mount in spec.mounts if not mount.destination.startswith("/dev/pts"))
    with pytest.raises(SetupError) as caught:
        lab.create(spec.evolve(mounts=bare, process=process("true").evolve(terminal=True)))
    assert (caught.value.origin, caught.value.operation) == ("process.terminal", "OpenTerminal")
    assert lab.remains() == []


@pytest.mark.covers("process.terminal")
def test_a_process_without_one_has_no_controlling_terminal(lab: Lab) -> None:
    assert "can't" in lab.output(document("sh", "-c", "echo x > /dev/tty"))


def test_the_host_console_is_untouched(lab: Lab) -> None:
    before = Path("/dev/console").stat()
    with on_terminal(lab, process("sh", "-c", "chmod 0 /dev/console")) as container:
        container.wait(SECONDS)
    assert Path("/dev/console").stat().st_mode == before.st_mode
