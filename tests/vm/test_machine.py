"""What a virtual machine tells of itself, or fails to; played by a shell."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from attrs import frozen

from tests.support import eventually
from tests.vm.guests import FILES
from tests.vm.kernel import Kernel
from tests.vm.machine import BEGIN, END, Machine
from tests.vm.needs import VMError


@frozen
class Shell(Machine):
    """A machine that is none."""

    def command(self) -> list[str]:
        return ["sh", "-c", self.options[0], "sh", str(self.shared)]


def shell(directory: Path, script: str) -> Shell:
    return Shell(Kernel(directory), directory / "shared", ("tests.sh",), (script,))


def test_its_status_is_the_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = f"echo noise; printf '{BEGIN}\\r\\n'; cat $1/command; echo '{END}'; echo noise; echo 5 >$1/status"
    assert shell(tmp_path, script).run(["-k", "a b"], 60) == 5
    assert capsys.readouterr().out == "tests.sh -k 'a b'\n"
    assert (tmp_path / "shared/console.log").read_text().count("noise") == 2


def test_without_a_status_it_tells_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/status").write_text("0")  # of the run before
    with pytest.raises(VMError, match=r"ended without a result; .*console.log ends:\nKernel panic"):
        shell(tmp_path, "echo Kernel panic").run([], 60)


def test_one_that_hangs_is_switched_off(tmp_path: Path) -> None:
    machine = shell(tmp_path, "sleep 600 & echo $! >$1/pid; wait")
    before = time.monotonic()
    with pytest.raises(VMError, match="it took too long, so the machine was switched off; the console's log is"):
        machine.run([], 1)
    assert time.monotonic() - before < 30
    pid = int((tmp_path / "shared/pid").read_text())
    eventually(lambda: not running(pid), "its processes are gone")


def running(pid: int) -> bool:
    """It is there, and not only until somebody asks what it died of."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_files_with_marked_tests_are_found() -> None:
    assert "tests/lifecycle/test_apparmor.py" in FILES.paths()
    assert "tests/lifecycle/test_labels.py" not in FILES.paths()
