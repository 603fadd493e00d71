"""A container under a profile of AppArmor: real confinement, so it takes a kernel that has it (docs/vm-tests.md).

What is planned for it, tests/plan/test_labels.py says; what happens without the module, test_labels.py.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

from ocirt import Container, Spec
from ocirt.errors import SetupError
from ocirt.spec import IDMapping, User
from ocirt.spec import Process as ProcessSpec
from tests.support import SECONDS, Lab, document, error_of, linux, namespaces, process

pytestmark = [pytest.mark.root, pytest.mark.vm]

PROFILES = """
profile ocirt-test flags=(attach_disconnected) {
  file,
  capability,
  network,
  signal,
  deny /etc/secret r,
  deny /etc/kept w,
}

profile ocirt-test-other flags=(attach_disconnected) {
  file,
  capability,
  signal,
  deny /etc/kept r,
}
"""
CONFINED, OTHER = "ocirt-test", "ocirt-test-other"
LABEL = ("cat", "/proc/self/attr/current")
SCRIPT = "cat /etc/secret; cat /etc/kept; echo x >/etc/kept"
SECRET = "cat: can't open '/etc/secret': Permission denied"
KEPT = "cat: can't open '/etc/kept': Permission denied"
KEEPS = "sh: can't create /etc/kept: Permission denied"

MAPPINGS = (IDMapping(0, 200000, 65536),)
WITH_USER_NAMESPACE = linux(
    namespaces=namespaces("pid", "network", "ipc", "uts", "mount", "cgroup", "user"),
    uid_mappings=MAPPINGS,
    gid_mappings=MAPPINGS,
)
in_any = pytest.mark.parametrize("members", [linux(), WITH_USER_NAMESPACE], ids=["root", "user namespace"])
sealed_or_not = pytest.mark.parametrize("sealed", [True, False], ids=["no new privileges", "new privileges"])


@pytest.fixture(scope="module", autouse=True)
def profiles() -> Iterator[None]:
    """In the kernel as long as these tests run."""
    _parse("--replace")
    yield
    _parse("--remove")


def _parse(action: str) -> None:
    command = ["apparmor_parser", "--skip-cache", action]
    subprocess.run(command, input=PROFILES, text=True, check=True, timeout=SECONDS)


@pytest.fixture
def place(own_lab: Lab) -> Lab:
    """With the files that the profiles speak of, which everybody may read and write as far as their mode goes."""
    for name in ("secret", "kept"):
        path = own_lab.rootfs / "etc" / name
        path.write_text(f"{name}\n")
        path.chmod(0o666)
    return own_lab


def spec_of(program: ProcessSpec) -> Spec:
    base = document()
    assert base.root is not None
    return base.evolve(process=program, root=base.root.evolve(readonly=False))


def confined(*args: str, profile: str = CONFINED, **changes: object) -> ProcessSpec:
    return process(*args, apparmor_profile=profile, **changes)


def said(container: Container, program: ProcessSpec) -> str:
    """What one more process writes, to both streams."""
    with container.exec(program, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT) as made:
        output, _ = made.communicate(timeout=SECONDS)
    assert output is not None
    return output.decode()


@in_any
@sealed_or_not
@pytest.mark.covers("process.apparmorProfile")
def test_the_program_runs_under_it(lab: Lab, members: object, sealed: bool) -> None:
    program = confined(*LABEL, no_new_privileges=sealed)
    assert lab.output(spec_of(program).evolve(linux=members)) == f"{CONFINED} (enforce)\n"


@in_any
@sealed_or_not
@pytest.mark.covers("process.apparmorProfile")
def test_what_it_denies_is_denied(place: Lab, members: object, sealed: bool) -> None:
    spec = spec_of(confined("sh", "-c", SCRIPT, no_new_privileges=sealed)).evolve(linux=members)
    assert place.output(spec).splitlines() == [SECRET, "kept", KEEPS]
    assert (place.rootfs / "etc/kept").read_text() == "kept\n"


def test_without_it_nothing_is_denied(place: Lab) -> None:
    assert place.output(spec_of(process("sh", "-c", SCRIPT))).splitlines() == ["secret", "kept"]
    assert (place.rootfs / "etc/kept").read_text() == "x\n"


def test_it_holds_for_an_ordinary_user_of_the_container(place: Lab) -> None:
    program = confined("sh", "-c", f"{' '.join(LABEL)}; {SCRIPT}", user=User(uid=1000, gid=1000))
    assert place.output(spec_of(program)).splitlines() == [f"{CONFINED} (enforce)", SECRET, "kept", KEEPS]


def test_unconfined_is_no_profile(lab: Lab) -> None:
    assert lab.output(spec_of(confined(*LABEL, profile="unconfined"))) == "unconfined\n"


@in_any
@sealed_or_not
def test_an_executed_process_has_the_containers(place: Lab, members: object, sealed: bool) -> None:
    spec = spec_of(confined("sleep", "600", no_new_privileges=sealed)).evolve(linux=members)
    with place.start(spec) as container:
        with container.exec(LABEL, stdin=DEVNULL, stdout=PIPE) as made:
            assert made.communicate(timeout=SECONDS)[0] == f"{CONFINED} (enforce)\n".encode()
        program = confined("sh", "-c", SCRIPT, no_new_privileges=sealed)
        assert said(container, program).splitlines() == [SECRET, "kept", KEEPS]


@in_any
@sealed_or_not
def test_an_executed_process_can_have_another(place: Lab, members: object, sealed: bool) -> None:
    spec = spec_of(confined("sleep", "600", no_new_privileges=sealed)).evolve(linux=members)
    with place.start(spec) as container:
        assert said(container, confined(*LABEL, profile=OTHER, no_new_privileges=sealed)) == f"{OTHER} (enforce)\n"
        program = confined("sh", "-c", "cat /etc/secret; cat /etc/kept", profile=OTHER, no_new_privileges=sealed)
        assert said(container, program).splitlines() == ["secret", KEPT]


def test_the_command_line_can_name_another(lab: Lab) -> None:
    with lab.start(spec_of(confined("sleep", "600"))) as container:
        assert executed(lab, container).stdout == f"{CONFINED} (enforce)\n"
        assert executed(lab, container, "--apparmor", OTHER).stdout == f"{OTHER} (enforce)\n"
        done = executed(lab, container, "--apparmor", "no-such-profile")
        assert done.returncode == 255
        assert "process.apparmorProfile: SetLabel exec no-such-profile: write: no such file" in done.stderr


def executed(lab: Lab, container: Container, *flags: str) -> subprocess.CompletedProcess[str]:
    words = ("--root", str(lab.root), "exec", *flags, container.id, *LABEL)
    command = [sys.executable, "-m", "ocirt", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_a_profile_that_is_not_loaded_fails_create(lab: Lab) -> None:
    check(error_of(lambda: lab.create(spec_of(confined("true", profile="no-such-profile")))))
    assert lab.remains() == []


def test_a_profile_that_is_not_loaded_fails_exec_alone(lab: Lab) -> None:
    with lab.start(spec_of(confined("sleep", "600"))) as container:
        program = confined("true", profile="no-such-profile")
        check(error_of(lambda: container.exec(program, stdin=DEVNULL)))
        assert container.processes() == (container.pid,)
        assert said(container, confined(*LABEL)) == f"{CONFINED} (enforce)\n"


def check(error: Exception | None) -> None:
    assert isinstance(error, SetupError)
    assert (error.origin, error.operation, error.call) == ("process.apparmorProfile", "SetLabel", "write")
    assert (error.errno, error.detail) == (errno.ENOENT, "exec no-such-profile")
