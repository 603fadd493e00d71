"""One hook of the host's namespaces: its input, environment, end (config.md, POSIX-platform Hooks)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ocirt import hooks
from ocirt.errors import HookError
from ocirt.spec import Hook

STATE = {"id": "x", "text": "ä\n"}


def script(text: str, *args: str, **members: object) -> Hook:
    return Hook("/bin/sh", ("sh", "-c", text, *args)).evolve(**members)


def run(hook: Hook) -> None:
    hooks.run(hook, "hooks.prestart[0]", STATE)


def failure(hook: Hook) -> HookError:
    with pytest.raises(HookError) as caught:
        run(hook)
    assert (caught.value.hook, caught.value.path) == ("hooks.prestart[0]", hook.path)
    return caught.value


def test_the_state_is_its_standard_input(tmp_path: Path) -> None:
    run(script(f"cat > {tmp_path}/state"))
    assert json.loads((tmp_path / "state").read_text()) == STATE


def test_all_run_in_order_until_one_fails(tmp_path: Path) -> None:
    log = tmp_path / "log"
    several = [script(f"echo {n} >> {log}; exit {code}") for n, code in ((1, 0), (2, 3), (3, 0))]
    with pytest.raises(HookError) as caught:
        hooks.run_all(several, "poststart", STATE)
    assert (caught.value.hook, caught.value.returncode) == ("hooks.poststart[1]", 3)
    assert log.read_text() == "1\n2\n"


def test_a_failure_tells_how_and_its_last_words() -> None:
    error = failure(script("echo out; echo err >&2; exit 7"))
    assert (error.returncode, error.output, error.reason) == (7, "out\nerr\n", "exited with 7")


def test_a_death_by_signal_tells_which() -> None:
    error = failure(script("kill -9 $$"))
    assert (error.returncode, error.reason) == (-9, "was killed by signal 9")


def test_of_many_words_the_last_are_told() -> None:
    error = failure(script("yes word | head -c 100000; echo; echo end; exit 1"))
    assert len(error.output) == 4096
    assert error.output.endswith("end\n")


def test_words_that_are_no_text_are_told_anyway() -> None:
    assert failure(script(r"printf '\377'; exit 1")).output == "\ufffd"


def test_a_hook_that_takes_too_long_is_killed() -> None:
    began = time.monotonic()
    error = failure(script("echo early; exec sleep 600", timeout=1))
    assert (error.returncode, error.output, error.reason) == (
        None,
        "early\n",
        "hook ran past specified timeout of 1.0s",
    )
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("path", ["/no/such/hook", "/etc", "/etc/hostname"])
def test_a_hook_that_cannot_be_run_is_told(path: str) -> None:
    error = failure(Hook(path))
    assert error.returncode is None
    assert error.reason.startswith("cannot be run: ")


def test_without_an_environment_it_has_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "yes")
    run(script(f'echo "$OF_THE_CALLER" >> {tmp_path}/log'))
    run(script(f'echo "$OF_THE_CALLER$A" >> {tmp_path}/log', env=("A=b=c",)))
    assert (tmp_path / "log").read_text() == "yes\nb=c\n"


def test_without_arguments_it_is_called_by_its_path(tmp_path: Path) -> None:
    program = tmp_path / "hook"
    program.write_text(f'#!/bin/sh\necho "$0 $#" > {tmp_path}/log\n')
    program.chmod(0o755)
    run(Hook(str(program)))
    assert (tmp_path / "log").read_text() == f"{program} 0\n"


def test_a_process_that_it_leaves_behind_is_not_waited_for() -> None:
    began = time.monotonic()
    run(script("sleep 30 & exit 0"))
    assert time.monotonic() - began < 30


def test_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    run(script("exit 0"))
    failure(script("exit 1"))
    assert os.listdir("/proc/self/fd") == before
