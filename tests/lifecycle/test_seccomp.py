"""Filters of system calls, as the programs of a container meet them (config-linux.md, Seccomp)."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from ocirt import SetupError, SpecError, UnsupportedError
from ocirt.spec import IDMapping, Seccomp, Spec, Syscall, SyscallArg, User
from tests.seccomp.profiles import listed
from tests.support import SECONDS, Lab, document, linux, namespaces, process, shell

pytestmark = pytest.mark.root

MKDIR = ("mkdir", "mkdirat")
CHMOD = (("chmod", 1), ("fchmodat", 2))
"""Calls and which of their arguments is the mode."""

PRIVILEGED = pytest.mark.parametrize("unprivileged", [True, False], ids=["no new privileges", "with privileges"])


def allowing(*rules: Syscall, **changes: object) -> Seccomp:
    """All is allowed but for what the rules say."""
    return Seccomp("SCMP_ACT_ALLOW", syscalls=rules).evolve(**changes)


def under(profile: Seccomp, script: str, *, unprivileged: bool = True) -> Spec:
    spec = shell(script, linux=linux(seccomp=profile))
    assert spec.process is not None
    return spec.evolve(process=spec.process.evolve(no_new_privileges=unprivileged))


@pytest.mark.covers(
    "linux.seccomp", "linux.seccomp.syscalls", "linux.seccomp.syscalls[].names", "linux.seccomp.syscalls[].action"
)
@PRIVILEGED
def test_a_refused_call_gives_eperm(lab: Lab, unprivileged: bool) -> None:
    spec = under(allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO")), "mkdir /dev/x; ls /dev/x", unprivileged=unprivileged)
    first, second = lab.output(spec).splitlines()
    assert first == "mkdir: can't create directory '/dev/x': Operation not permitted"
    assert second == "ls: /dev/x: No such file or directory"


@pytest.mark.covers("linux.seccomp.syscalls[].errnoRet")
@PRIVILEGED
def test_a_refused_call_gives_the_error_that_was_chosen(lab: Lab, unprivileged: bool) -> None:
    profile = allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO", errno.ETXTBSY))
    assert "Text file busy" in lab.output(under(profile, "mkdir /dev/x", unprivileged=unprivileged))


@pytest.mark.covers("linux.seccomp.defaultAction", "linux.seccomp.defaultErrnoRet")
@PRIVILEGED
def test_what_a_profile_does_not_list_gives_the_default_error(lab: Lab, unprivileged: bool) -> None:
    profile = listed("SCMP_ACT_ERRNO", without=MKDIR).evolve(default_errno_ret=errno.EXDEV)
    output = lab.output(under(profile, "mkdir /dev/x; echo goes on", unprivileged=unprivileged))
    assert output.splitlines() == ["mkdir: can't create directory '/dev/x': Invalid cross-device link", "goes on"]


@pytest.mark.covers("linux.seccomp.syscalls[].action")
@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_a_deadly_call_ends_with_sigsys(lab: Lab, action: str) -> None:
    profile = allowing(Syscall(MKDIR, f"SCMP_ACT_{action}"))
    assert str(128 + signal.SIGSYS) in lab.output(under(profile, "mkdir /dev/x; echo $?")).split()


def test_a_deadly_call_kills_init_too(lab: Lab) -> None:
    spec = document("mkdir", "/dev/x", linux=linux(seccomp=allowing(Syscall(MKDIR, "SCMP_ACT_KILL_PROCESS"))))
    with lab.create(spec) as container:
        container.start()
        assert container.wait(SECONDS) == -signal.SIGSYS


def test_a_logged_call_is_made(lab: Lab) -> None:
    profile = allowing(Syscall(MKDIR, "SCMP_ACT_LOG"), flags=("SECCOMP_FILTER_FLAG_LOG",))
    assert lab.output(under(profile, "mkdir /dev/x && ls -d /dev/x")) == "/dev/x\n"


def test_a_traced_call_without_a_tracer_is_not_implemented(lab: Lab) -> None:
    profile = allowing(Syscall(MKDIR, "SCMP_ACT_TRACE", 7))
    assert "Function not implemented" in lab.output(under(profile, "mkdir /dev/x"))


@pytest.mark.covers("linux.seccomp.syscalls[].args.**")
def test_a_condition_on_an_argument_is_heeded(lab: Lab) -> None:
    rules = [
        Syscall((name,), "SCMP_ACT_ERRNO", None, (SyscallArg(place, 0o4000, 0o4000, op="SCMP_CMP_MASKED_EQ"),))
        for name, place in CHMOD
    ]
    script = "touch /dev/x; chmod 4755 /dev/x; chmod 700 /dev/x; stat -c %a /dev/x"
    assert lab.output(under(allowing(*rules), script)).splitlines() == ["chmod: /dev/x: Operation not permitted", "700"]


def test_calls_that_nobody_knows_are_passed_over(lab: Lab) -> None:
    profile = allowing(Syscall(("no_such_call", *MKDIR), "SCMP_ACT_ERRNO", errno.EXDEV))
    assert "cross-device link" in lab.output(under(profile, "mkdir /dev/x"))


def test_a_process_knows_that_it_is_filtered(lab: Lab) -> None:
    script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"
    assert lab.output(under(allowing(), script, unprivileged=False)).split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]


@pytest.mark.parametrize("text", ["{}", '{"defaultAction": "", "syscalls": []}'])
def test_an_empty_profile_asks_for_nothing(lab: Lab, text: str) -> None:
    given = Spec.loads(f'{{"ociVersion": "1.0.2", "root": {{"path": "/"}}, "linux": {{"seccomp": {text}}}}}').linux
    assert given is not None
    assert given.seccomp is not None
    spec = shell("grep Seccomp: /proc/self/status", linux=linux(seccomp=given.seccomp))
    assert lab.output(spec).split() == ["Seccomp:", "0"]


def speculation(lab: Lab, **changes: object) -> str:
    return lab.output(under(allowing(**changes), "grep Speculation_Store_Bypass /proc/self/status"))


@pytest.mark.covers("linux.seccomp.flags")
def test_flags_are_passed_on(lab: Lab) -> None:
    """What tells SPEC_ALLOW from none: mitigation of speculative store bypass, where the processor needs it."""
    if "prctl" not in Path("/sys/devices/system/cpu/vulnerabilities/spec_store_bypass").read_text():
        pytest.skip("this processor (or its hypervisor) offers no control over speculative store bypass")
    if "seccomp" not in Path("/sys/devices/system/cpu/vulnerabilities/spec_store_bypass").read_text():
        pytest.skip("since Linux 5.16 filters do not change speculation by default")
    assert speculation(lab, flags=()) != speculation(lab)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that makes the system calls whose numbers it is given, and prints the errors."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    directory = tmp_path_factory.mktemp("probe")
    source = directory / "probe.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "int main(int count, char **list) {\n"
        '  for (int i = 1; i < count; i++) { errno = 0; syscall(atol(list[i]), -1, -1, -1); printf("%d\\n", errno); }\n'
        "}\n"
    )
    subprocess.run(["gcc", "-static", "-o", str(directory / "probe"), str(source)], check=True)
    return directory / "probe"


def errors(lab: Lab, probe: Path, profile: Seccomp, numbers: Sequence[int]) -> list[int]:
    shutil.copy(probe, lab.rootfs / "bin/probe")
    spec = document("probe", *map(str, numbers), linux=linux(seccomp=profile))
    return [int(line) for line in lab.output(spec).split()]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls have other numbers elsewhere")
def test_calls_newer_than_the_profile_are_not_implemented(own_lab: Lab, probe: Path) -> None:
    """runc#2151: or else a C library takes EPERM for the answer. faccessat2 (439) is the latest that is listed."""
    profile = listed("SCMP_ACT_ERRNO", without=("syslog", "process_madvise", "openat2"))
    assert errors(own_lab, probe, profile, [103, 437, 440, 5000]) == [
        errno.EPERM,
        errno.EPERM,
        errno.ENOSYS,
        errno.ENOSYS,
    ]


@pytest.mark.covers("linux.seccomp.architectures")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls have other numbers elsewhere")
def test_calls_of_an_architecture_that_is_not_listed_are_deadly(own_lab: Lab, probe: Path) -> None:
    shutil.copy(probe, own_lab.rootfs / "bin/probe")
    spec = document("probe", str(1 << 30 | 39), linux=linux(seccomp=listed("SCMP_ACT_ERRNO")))
    with own_lab.create(spec) as container:
        container.start()
        assert container.wait(SECONDS) == -signal.SIGSYS


@pytest.mark.covers("linux.seccomp")
@PRIVILEGED
def test_exec_is_under_the_profile_of_the_container(lab: Lab, unprivileged: bool) -> None:
    profile = allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO"))
    with lab.start(document("sleep", "600", linux=linux(seccomp=profile))) as container:
        made = container.exec(
            ["mkdir", "/dev/x"], no_new_privileges=unprivileged, stdout=PIPE, stderr=STDOUT, capabilities=()
        )
        output, _ = made.communicate(timeout=SECONDS)
        assert output is not None
        assert b"Operation not permitted" in output


@PRIVILEGED
def test_it_works_in_a_user_namespace(lab: Lab, unprivileged: bool) -> None:
    mappings = (IDMapping(0, 100_000, 65_536),)
    spec = under(allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO")), "mkdir /dev/x", unprivileged=unprivileged)
    members = linux(
        seccomp=spec.linux and spec.linux.seccomp,
        namespaces=namespaces("user", "mount", "pid", "ipc", "uts", "network"),
        uid_mappings=mappings,
        gid_mappings=mappings,
    )
    assert "Operation not permitted" in lab.output(spec.evolve(linux=members))


def test_an_ordinary_user_is_filtered_as_well(lab: Lab) -> None:
    spec = under(allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO", errno.EXDEV)), "mkdir /tmp/x", unprivileged=False)
    assert spec.process is not None
    spec = spec.evolve(process=spec.process.evolve(user=User(1000, 1000), capabilities=None))
    assert "cross-device link" in lab.output(spec)


def test_a_profile_that_forbids_what_init_needs_last_says_so(lab: Lab) -> None:
    """With no_new_privs that is execve(2) alone; the failure is told although nothing but write(2) is sure to work."""
    calls = ("execve", "sendmsg", "recvfrom", "mmap", "close_range", "rt_sigaction")
    spec = under(allowing(Syscall(calls, "SCMP_ACT_ERRNO", errno.EXDEV)), "true")
    container = lab.create(spec)
    with pytest.raises(SetupError) as caught:
        container.start()
    error = caught.value
    assert (error.origin, error.operation, error.call, error.errno) == ("process", "Exec", "execve", errno.EXDEV)


def test_nothing_but_execve_is_needed_of_a_profile(lab: Lab) -> None:
    calls = ("sendmsg", "recvfrom", "mmap", "close_range", "rt_sigaction", "rt_sigprocmask", "dup3", "poll", "accept4")
    spec = under(allowing(Syscall(calls, "SCMP_ACT_KILL_PROCESS")), "true")
    spec = spec.evolve(process=process("cat", "/proc/sys/kernel/ostype"))
    assert lab.output(spec) == "Linux\n"


def test_a_profile_that_forbids_the_setting_of_the_user_says_where(lab: Lab) -> None:
    spec = under(allowing(Syscall(("setresuid",), "SCMP_ACT_ERRNO", errno.EXDEV)), "true", unprivileged=False)
    with pytest.raises(SetupError) as caught:
        lab.create(spec)
    assert (caught.value.origin, caught.value.call, caught.value.errno) == ("process.user", "setresuid", errno.EXDEV)


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        (Seccomp("SCMP_ACT_NOTIFY"), "linux.seccomp.defaultAction"),
        (allowing(Syscall(MKDIR, "SCMP_ACT_ALLOW", 1)), "linux.seccomp.syscalls[0].errnoRet"),
        (allowing(Syscall(("read", "write"), "SCMP_ACT_NOTIFY")), "linux.seccomp.syscalls[0].names[1]"),
        (allowing(Syscall(MKDIR, "SCMP_ACT_ERRNO", 4096)), "linux.seccomp.syscalls[0].errnoRet"),
        (allowing(Syscall(MKDIR, "SCMP_ACT_TRACE", 65536)), "linux.seccomp.syscalls[0].errnoRet"),
        (Seccomp("SCMP_ACT_ERRNO", 2**32 - 1), "linux.seccomp.defaultErrnoRet"),
        (allowing(listener_metadata="x"), "linux.seccomp.listenerMetadata"),
        (Seccomp(syscalls=(Syscall(MKDIR, "SCMP_ACT_ERRNO"),)), "linux.seccomp.defaultAction"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_path(lab: Lab, profile: Seccomp, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        lab.create(under(profile, "true"))
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.covers("linux.seccomp.architectures")
def test_an_architecture_that_cannot_run_here_is_refused_by_its_path(lab: Lab) -> None:
    profile = allowing(architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"))
    with pytest.raises(UnsupportedError) as caught:
        lab.create(under(profile, "true"))
    assert caught.value.origin == "linux.seccomp.architectures[1]"
