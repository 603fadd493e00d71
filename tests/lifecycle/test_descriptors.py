"""Descriptors of the caller's that a program finds at the same numbers (``pass_fds``)."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

import ocirt
from ocirt import Container, SetupError
from ocirt.errors import OCIError
from ocirt.spec import Hook, Hooks, IDMapping, Linux, Rlimit, Seccomp, Spec, Syscall
from tests.lifecycle.test_seccomp import PRIVILEGED
from tests.support import SECONDS, Lab, document, error_of, is_let_go, linux, namespaces, process, python, said, shell

pytestmark = pytest.mark.root

HIGH = 700

OPEN = "ls /proc/$$/fd; true"
"""For a shell: what it has open, as a child of its sees it."""

MAPPED = (IDMapping(0, 100_000, 65_536),)

EVERY_STAGE = linux(
    namespaces=namespaces("user", "time", "pid", "mount", "ipc", "uts", "network", "cgroup"),
    uid_mappings=MAPPED,
    gid_mappings=MAPPED,
)
"""Made by three processes, one after the other."""

BIRTHS = pytest.mark.parametrize("place", [linux(), EVERY_STAGE], ids=["one process", "three processes"])


@contextmanager
def pipe(number: int, *, writing: bool = True, inheritable: bool = False) -> Iterator[FileIO]:
    """A pipe with one end at this number; the other end."""
    read, write = os.pipe()
    given, kept = (write, read) if writing else (read, write)
    os.dup2(given, number, inheritable=inheritable)
    os.close(given)
    with FileIO(kept, "r" if writing else "w") as other:
        try:
            yield other
        finally:
            with suppress(OSError):  # the test has closed it
                os.close(number)


SCRIPT = """
import fcntl, os, resource, subprocess, sys
import ocirt

id, bundle, root, *numbers = sys.argv[1:]
numbers = [int(number) for number in numbers]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
program = ["sh", "-c", "ls -l /proc/$$/fd; true"]
streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

for number in numbers:  # a file of its own at each; every other one would be inherited by anybody
    made = os.memfd_create(str(number))
    os.dup2(made, 3000)
    os.close(made)
    os.dup2(3000, number, inheritable=bool(number % 2))
    os.close(3000)

def standing():
    "What the caller has at its numbers."
    return {n: (os.readlink(f"/proc/self/fd/{n}"), fcntl.fcntl(n, fcntl.F_GETFD)) for n in numbers}

def check(output):
    links = [line.partition(" -> ") for line in output.splitlines() if "->" in line]
    seen = {int(left.split()[-1]): right.split()[0] for left, _, right in links}
    assert {n: what for n, what in seen.items() if n > 2} == {n: f"/memfd:{n}" for n in numbers}, output
    assert {0, 1, 2} < set(seen), output
    assert standing() == before, standing()

before = standing()
spec = ocirt.Bundle.load(bundle).spec
spec = spec.evolve(process=spec.process.evolve(args=program))
with ocirt.Container.create(id, ocirt.Bundle(bundle, spec), root=root, pass_fds=numbers, **streams) as container:
    container.start()
    check(container.process.communicate(timeout=60)[0].decode())
with ocirt.Container.create(id, bundle, root=root, **streams) as container:
    container.start()
    for order in (numbers, numbers[::-1] + numbers):
        check(container.exec(program, pass_fds=order, **streams).communicate(timeout=60)[0].decode())
check(ocirt.run(program, root=root, text=True, pass_fds=set(numbers)).stdout)
"""


@BIRTHS
@pytest.mark.parametrize(
    "numbers",
    [(3,), (4,), (5,), (3, 4, 5), (4, 6, 8, 10), (7, HIGH), (HIGH, HIGH + 1), tuple(range(3, 63)), (3, 1023)],
    ids=lambda numbers: f"{len(numbers)} from {numbers[0]} to {numbers[-1]}",
)
def test_a_program_finds_them_at_their_numbers_and_nothing_else(
    lab: Lab, numbers: tuple[int, ...], place: Linux
) -> None:
    """By create and start, by exec and by run; whatever the numbers are, they stay as they were with the caller."""
    bundle = lab.bundle(document("sleep", "600", linux=place))
    python(SCRIPT, lab.new_id(), str(bundle.path), str(lab.root), *map(str, numbers))


def test_they_may_be_a_thousand(lab: Lab) -> None:
    bundle = lab.bundle(document("sleep", "600", linux=EVERY_STAGE))
    python(SCRIPT, lab.new_id(), str(bundle.path), str(lab.root), *map(str, range(3, 1003)))


@BIRTHS
def test_only_the_program_keeps_the_end_of_a_pipe(lab: Lab, place: Linux) -> None:
    """Once it closes it, the other side hears of it, although the program, its init and the caller live on."""
    spec = shell(f"read line; exec {HIGH}>&-; echo closed; sleep 600", linux=place)
    with pipe(HIGH, inheritable=True) as other:
        container = lab.create(spec, stdin=PIPE, stdout=PIPE, die_with_parent=True, pass_fds=[HIGH])
        os.close(HIGH)
        with container:
            container.start()
            assert container.process is not None
            assert container.process.stdin is not None
            assert container.process.stdout is not None
            os.set_blocking(other.fileno(), False)
            assert other.read(1) is None  # nothing yet, but no end either
            container.process.stdin.write(b"\n")
            assert container.process.stdout.readline() == b"closed\n"
            assert is_let_go(other)


@BIRTHS
def test_only_an_executed_program_keeps_the_end_of_a_pipe(lab: Lab, place: Linux) -> None:
    with lab.start(document("sleep", "600", linux=place)) as container, pipe(HIGH) as other:
        made = container.exec(["sh", "-c", f"exec {HIGH}>&-; echo closed; sleep 600"], stdout=PIPE, pass_fds=[HIGH])
        os.close(HIGH)
        assert made.stdout is not None
        assert made.stdout.readline() == b"closed\n"
        assert is_let_go(other)
        made.kill()
        made.wait(SECONDS)
        made.close()


@BIRTHS
@pytest.mark.parametrize("started", [True, False])
def test_a_container_that_ends_lets_go_of_them(lab: Lab, place: Linux, started: bool) -> None:
    spec = document("sleep", "600", linux=place)
    with pipe(HIGH) as other, lab.create(spec, pass_fds=[HIGH]) as container:
        os.close(HIGH)
        if started:
            container.start()
        container.kill(9)
        container.wait(SECONDS)
        assert is_let_go(other)


FAILING = Hooks(create_container=(Hook("/bin/false"),))


@pytest.mark.parametrize("spec", [document("no-such-program"), document("true", hooks=FAILING)])
def test_a_create_that_fails_lets_go_of_them(lab: Lab, spec: Spec) -> None:
    with pipe(HIGH) as other:
        assert error_of(partial(lab.create, spec, pass_fds=[HIGH])) is not None
        os.close(HIGH)
        assert is_let_go(other)


def test_hooks_do_not_see_them(lab: Lab) -> None:
    """Nor the socket that init speaks through, wherever it is by now."""
    script = '[ "$(cd /proc/self/fd && echo *)" = "0 1 2 3" ]'  # the last is the directory itself
    unseen = (Hook("/bin/sh", ("sh", "-c", script)),)
    hooks = Hooks(create_runtime=unseen, create_container=unseen, start_container=unseen)
    spec = shell(OPEN, hooks=hooks)
    with pipe(HIGH, inheritable=True), lab.create(spec, stdout=PIPE, pass_fds=[HIGH]) as container:
        container.start()
        assert said(container).split() == ["0", "1", "2", str(HIGH)]


@PRIVILEGED
def test_a_filter_need_not_know_of_them(lab: Lab, unprivileged: bool) -> None:
    """They are at their numbers before it is installed."""
    calls = ("dup", "dup2", "dup3", "fcntl", "fcntl64")
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(calls, "SCMP_ACT_KILL_PROCESS"),))
    program = process("cat", f"/proc/self/fd/{HIGH}", no_new_privileges=unprivileged)
    with pipe(HIGH, writing=False) as other:
        other.write(b"text")
        with lab.create(document(linux=linux(seccomp=profile), process=program), stdout=PIPE, pass_fds=[HIGH]) as made:
            other.close()
            made.start()
            assert said(made) == "text"


HANDLER = """
import os, subprocess, sys
from ocirt import CONTINUE, Container
id, bundle, root = sys.argv[1:]
numbers, asked = [3, 4, 5, 6, 9], []
for number in numbers:
    os.dup2(0, number)

def handler(call):
    asked.append(call.name)
    return CONTINUE

with Container.create(id, bundle, root=root, stdout=subprocess.PIPE, on_syscall=handler, pass_fds=numbers) as container:
    container.start()
    print(container.process.communicate(timeout=60)[0].decode(), *asked)
"""


@PRIVILEGED
def test_a_handler_of_system_calls_gets_its_listener_as_well(lab: Lab, unprivileged: bool) -> None:
    """Init tells of that on a socket that has stepped aside."""
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("mkdir", "mkdirat"), "SCMP_ACT_NOTIFY"),))
    program = process("sh", "-c", f"mkdir /dev/x; {OPEN}", no_new_privileges=unprivileged)
    bundle = lab.bundle(document(linux=linux(seccomp=profile)).evolve(process=program))
    shown = python(HANDLER, lab.new_id(), str(bundle.path), str(lab.root))
    assert shown.split() == ["0", "1", "2", "3", "4", "5", "6", "9", "mkdir"]


def test_the_containers_own_limit_of_open_files_may_be_lower(lab: Lab) -> None:
    limits = (Rlimit("RLIMIT_NOFILE", 64, 64),)
    spec = document(process=process("sh", "-c", f"ulimit -n; {OPEN}", rlimits=limits))
    with pipe(HIGH), lab.create(spec, stdout=PIPE, pass_fds=[HIGH]) as container:
        lab.load(container).start()  # over a connection, which gets a number too
        assert said(container).split() == ["64", "0", "1", "2", str(HIGH)]


def test_a_limit_of_the_callers_that_has_fallen_is_named(lab: Lab) -> None:
    """The kernel gives no number beyond it to anybody."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pipe(HIGH):
        resource.setrlimit(resource.RLIMIT_NOFILE, (HIGH, before[1]))
        try:
            error = error_of(lambda: lab.create(document("true"), pass_fds=[HIGH]))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert isinstance(error, SetupError)
    assert (error.operation, error.errno, error.detail) == ("KeepDescriptors", errno.EBADF, str(HIGH))
    assert "RLIMIT_NOFILE" in str(error)


def ways(lab: Lab) -> list[Callable[[int], object]]:
    """To pass a descriptor on where there is no container yet."""
    bundle = lab.bundle(document("true"))
    return [
        lambda number: Container.create(lab.new_id(), bundle, root=lab.root, pass_fds=(number,)),
        lambda number: ocirt.run(["true"], root=lab.root, pass_fds=(number,)),
    ]


def lowest() -> int:
    """The number that the next file gets: one of ours, if we were slow to look."""
    fd = os.open("/", os.O_PATH)
    os.close(fd)
    return fd


def assert_not_open(error: OCIError | None, number: int) -> None:
    assert isinstance(error, SetupError)
    assert (error.origin, error.errno, error.detail) == ("pass_fds", errno.EBADF, str(number))
    assert isinstance(error.__cause__, OSError)


def test_a_number_that_is_not_open_is_an_error_and_nothing_is_made(lab: Lab) -> None:
    for way in ways(lab):
        for number in (lowest(), HIGH):
            assert_not_open(error_of(partial(way, number)), number)
    assert lab.remains() == []


def test_exec_starts_nothing_where_a_number_is_not_open(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container:
        for number in (lowest(), HIGH):
            assert_not_open(error_of(partial(container.exec, ["true"], pass_fds=[number])), number)
        assert len(container.processes()) == 1


@pytest.mark.parametrize("number", [0, 2, -1, 2**31, 2**80])
def test_what_can_be_no_such_number_is_refused(lab: Lab, number: int) -> None:
    for way in ways(lab):
        with pytest.raises(ValueError, match=f"pass_fds: {number} "):
            way(number)
    assert lab.remains() == []


def test_plans_that_are_kept_are_for_the_same_descriptors(lab: Lab) -> None:
    bundle = lab.bundle(shell(OPEN))

    def seen(*numbers: int) -> str:
        with Container.create(
            lab.new_id(), bundle, root=lab.root, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, pass_fds=numbers
        ) as container:
            container.start()
            return said(container)

    with pipe(HIGH), pipe(HIGH + 1):
        assert seen() == "0\n1\n2\n"
        assert seen(HIGH) == f"0\n1\n2\n{HIGH}\n"
        assert seen(HIGH + 1) == f"0\n1\n2\n{HIGH + 1}\n"
        assert seen() == "0\n1\n2\n"


def test_plans_that_exec_keeps_are_for_the_same_descriptors(lab: Lab) -> None:
    with lab.start(document("sleep", "600")) as container, pipe(HIGH), pipe(HIGH + 1):

        def seen(*numbers: int) -> list[bytes]:
            executed = container.exec(["sh", "-c", OPEN], stdin=DEVNULL, stdout=PIPE, pass_fds=numbers)
            return (executed.communicate(timeout=SECONDS)[0] or b"").split()[3:]

        assert [seen(), seen(HIGH), seen(HIGH + 1), seen()] == [[], [b"700"], [b"701"], []]


def test_a_bundle_does_not_keep_plans_without_end(lab: Lab) -> None:
    bundle = lab.bundle(document("no-such-program"))
    for number in range(HIGH, HIGH + 70):
        with pipe(number):
            error_of(partial(Container.create, lab.new_id(), bundle, root=lab.root, pass_fds=[number]))
    assert 0 < len(bundle._prepared) < 70
