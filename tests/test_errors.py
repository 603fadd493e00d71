"""The exceptions: what they say is made from what they hold."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from ocirt.errors import (
    BundleError,
    ExistsError,
    ExitStatusUnknown,
    HookError,
    InitDied,
    NotFoundError,
    OCIError,
    Problem,
    SetupError,
    SpecError,
    StateError,
    UnsupportedError,
)

OOM_KILLED = InitDied("process", "HOOKS", -9)
OOM_KILLED.oom_killed = True
OOM_SUSPECTED = SetupError("process.args[0]", "FindProgram", "PATH", errno.ENOENT, "x", "a remedy")
OOM_SUSPECTED.oom_suspected = True

EXAMPLES: list[tuple[OCIError, str]] = [
    (
        SpecError([Problem("root.path", None, "is required"), Problem("mounts[0].type", 7, "must be text")]),
        "config.json: 2 problems\n  root.path: is required\n  mounts[0].type: 7 must be text",
    ),
    (
        SpecError([Problem("", "x" * 100, "is no object")], "file"),
        f"file: 1 problem\n  config.json: '{'x' * 76}... is no object",
    ),
    (UnsupportedError("linux.seccomp", "needs libseccomp"), "linux.seccomp: needs libseccomp"),
    (BundleError("root.path", "/x", "is not a directory"), "root.path: /x: is not a directory"),
    (StateError("c", "running", "start", "cannot start"), "start 'c': cannot start"),
    (NotFoundError("c"), "load 'c': container does not exist"),
    (ExistsError("c"), "create 'c': container with given ID already exists"),
    (
        SetupError("mounts[1]", "BindMount", "open_tree", errno.ENOENT, "/src", "the source does not exist"),
        "mounts[1]: BindMount /src: open_tree: No such file or directory (ENOENT); the source does not exist",
    ),
    (SetupError("root.path", "PivotRoot", "", 0), "root.path: PivotRoot"),
    (InitDied("process", "HOOKS", -9), "process: the container's init was killed by SIGKILL during HOOKS"),
    (OOM_KILLED, "process: container init was OOM-killed (memory limit too low?), during HOOKS"),
    (
        OOM_SUSPECTED,
        "process.args[0]: FindProgram x: PATH: No such file or directory (ENOENT) (possibly OOM-killed); a remedy",
    ),
    (InitDied("process", "HOOKS", -50), "process: the container's init was killed by signal 50 during HOOKS"),
    (InitDied("process", "HOOKS", 125), "process: the container's init exited with 125 during HOOKS"),
    (InitDied("process", "HOOKS", None), "process: the container's init ended during HOOKS"),
    (
        HookError("hooks.prestart[0]", "/h", 1, "words\n", "exited with 1"),
        "hooks.prestart[0]: /h: exited with 1: words",
    ),
    (HookError("hooks.prestart[0]", "/h", 1, " \n", "exited with 1"), "hooks.prestart[0]: /h: exited with 1"),
    (ExitStatusUnknown(7), "process 7 ended, and its exit status went to another waiter"),
]


@pytest.mark.parametrize(("error", "words"), EXAMPLES)
def test_its_words_are_made_from_its_fields(error: OCIError, words: str) -> None:
    assert str(error) == words


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_it_survives_being_copied_and_pickled(error: OCIError) -> None:
    """As multiprocessing and concurrent.futures do with it."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES])
def test_one_class_catches_them_all(error: OCIError) -> None:
    with pytest.raises(OCIError):
        raise error


def test_the_death_of_an_init_is_told_as_a_signal() -> None:
    assert InitDied("process", "x", -9).signal == 9
    assert InitDied("process", "x", 1).signal is None
