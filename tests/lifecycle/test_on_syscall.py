"""System calls of a container that a function of the caller's answers (seccomp_unotify(2))."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

import ocirt
from ocirt import CONTINUE, Container, SystemCall, UnsupportedError
from ocirt.answers import Handler
from ocirt.spec import Seccomp, Spec, Syscall
from tests.lifecycle.test_seccomp import MKDIR, PRIVILEGED, under
from tests.support import SECONDS, Lab, error_of, python, said

pytestmark = pytest.mark.root


def left(script: str, *names: str, unprivileged: bool = True) -> Spec:
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(names or MKDIR, "SCMP_ACT_NOTIFY"),))
    return under(profile, script, unprivileged=unprivileged)


def create(lab: Lab, spec: Spec, handler: Handler) -> Container:
    return Container.create(
        lab.new_id(),
        lab.bundle(spec),
        root=lab.root,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        on_syscall=handler,
    )


def output(lab: Lab, spec: Spec, handler: Handler) -> str:
    with create(lab, spec, handler) as container:
        container.start()
        return said(container)


@PRIVILEGED
def test_a_handler_emulates_mkdir(lab: Lab, unprivileged: bool) -> None:
    """It makes the directory in the caller's own view of the files, and marks it."""

    def mkdir(call: SystemCall) -> int:
        path, mode = call.arguments[:2]
        os.mkdir(f"/proc/{call.pid}/root{call.text(path)}.emulated", mode)
        return 0

    made = output(lab, left("mkdir /dev/x && ls -d /dev/x*", unprivileged=unprivileged), mkdir)
    assert made == "/dev/x.emulated\n"


def test_a_handler_emulates_mount(lab: Lab) -> None:
    """A container without CAP_SYS_ADMIN "mounts": a file appears where the handler says."""
    seen = []

    def mount(call: SystemCall) -> int:
        source, target, kind = (call.text(address) for address in call.arguments[:3])
        seen.append((call.name, source, target, kind))
        Path(f"/proc/{call.pid}/root{target}/mounted").write_text(kind)
        return 0

    made = output(lab, left("mkdir /dev/x; mount -t tmpfs none /dev/x; cat /dev/x/mounted", "mount"), mount)
    assert made == "tmpfs"
    assert seen == [("mount", "none", "/dev/x", "tmpfs")]


def test_an_oserror_is_the_callers_error(lab: Lab) -> None:
    def refuse(call: SystemCall) -> int:
        raise OSError(errno.ETXTBSY, call.name)

    assert "Text file busy" in output(lab, left("mkdir /dev/x"), refuse)


def test_continue_lets_the_kernel_do_it(lab: Lab) -> None:
    assert output(lab, left("mkdir /dev/x && ls -d /dev/x"), lambda call: CONTINUE) == "/dev/x\n"


def test_a_number_is_the_result(lab: Lab) -> None:
    assert output(lab, left("id -u", "getuid", "geteuid"), lambda call: 4711) == "4711\n"


def test_a_descriptor_is_handed_in(lab: Lab, tmp_path: Path) -> None:
    """An open of one path gives a file of the host's; all others are the kernel's."""
    (tmp_path / "secret").write_text("from the host")

    def opened(call: SystemCall) -> int | ocirt.answers.Verdict:
        if call.text(call.arguments[1]) != "/dev/secret":
            return CONTINUE
        with open(tmp_path / "secret", "rb") as file:
            return call.add_fd(file.fileno(), close_on_exec=True)

    assert output(lab, left("cat /dev/secret", "openat"), opened) == "from the host"


def test_a_descriptor_may_have_a_number_of_our_choice(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the host")
    numbers = []

    def added(call: SystemCall) -> int:
        with open(tmp_path / "secret", "rb") as file:
            numbers.append(call.add_fd(file.fileno(), 77))
        return 0

    assert output(lab, left("cd /dev; cat /proc/self/fd/77", "chdir"), added) == "from the host"
    assert numbers == [77]


def test_any_other_exception_ends_the_answering(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr("threading.excepthook", lambda args: told.append(args.exc_value))

    def broken(call: SystemCall) -> int:
        raise ValueError(call.name)

    text = output(lab, left("mkdir /dev/x; mkdir /dev/y"), broken)
    assert text.count("Function not implemented") == 2
    assert [str(error) for error in told] == ["mkdir"]


def test_exec_is_answered_too(lab: Lab) -> None:
    names = []

    def note(call: SystemCall) -> int:
        names.append(call.name)
        return 0

    with create(lab, left("sleep 600"), note) as container:
        container.start()
        made = container.exec(["mkdir", "/dev/x"], stdin=DEVNULL, stdout=DEVNULL)
        assert made.wait(SECONDS) == 0
    assert names == ["mkdir"]


def test_a_call_is_pending_until_its_caller_is_killed(lab: Lab) -> None:
    """And its memory is not read any more, for its pid may be another process's by then."""
    heard: list[object] = []

    def killed(call: SystemCall) -> int:
        heard.append(call.is_pending())
        container.kill(9)
        container.wait(SECONDS)
        heard.append(call.is_pending())
        heard.append(type(error_of_any(lambda: call.text(call.arguments[0]))))
        return 0

    with create(lab, left("exec mkdir /dev/x"), killed) as container:
        container.start()
        container.wait(SECONDS)
    assert heard[:2] == [True, False]
    assert heard[2] in (ProcessLookupError, FileNotFoundError)


def error_of_any(operation: Callable[[], object]) -> Exception | None:
    try:
        operation()
    except OSError as error:
        return error
    return None


def test_whoever_starts_it_elsewhere_is_told_where_the_handler_is_not(lab: Lab) -> None:
    """With no_new_privs the filter comes at the start: its handler must be there."""
    container = create(lab, left("true"), lambda call: 0)
    script = (
        "import sys; from ocirt import Container\n"
        "try:\n    Container.load(sys.argv[1], root=sys.argv[2]).start()\n"
        "except Exception as error:\n    print(error)\n"
    )
    assert python(script, container.id, str(lab.root)).startswith("linux.seccomp.listenerPath: ")
    said(container)


def test_without_a_handler_and_without_an_agent_nothing_is_made(lab: Lab) -> None:
    error = error_of(lambda: lab.create(left("true")))
    assert isinstance(error, UnsupportedError)
    assert error.origin == "linux.seccomp.listenerPath"
