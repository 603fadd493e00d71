"""System calls that are left to an agent (config-linux.md, Seccomp: listenerPath, The Container Process State)."""

from __future__ import annotations

import errno
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

import pytest

from ocirt import SetupError
from ocirt.seccomp import library
from ocirt.spec import Seccomp, Spec, Syscall
from tests.lifecycle.test_seccomp import MKDIR, PRIVILEGED, under
from tests.seccomp.agent import Agent
from tests.support import SECONDS, Lab, error_of, python, said

pytestmark = pytest.mark.root


def asking(path: Path, *names: str, **changes: object) -> Seccomp:
    profile = Seccomp("SCMP_ACT_ALLOW", listener_path=str(path), syscalls=(Syscall(names or MKDIR, "SCMP_ACT_NOTIFY"),))
    return profile.evolve(**changes)


@pytest.mark.covers("linux.seccomp.listenerPath")
@PRIVILEGED
def test_an_agent_answers(lab: Lab, tmp_path: Path, unprivileged: bool) -> None:
    with Agent(tmp_path / "agent") as agent:
        output = lab.output(under(asking(agent.path), "mkdir /dev/x; echo goes on", unprivileged=unprivileged))
    assert output.splitlines() == ["mkdir: can't create directory '/dev/x': Invalid cross-device link", "goes on"]
    assert len(agent.calls) == 1


def test_an_agent_may_let_a_call_go_on(lab: Lab, tmp_path: Path) -> None:
    with Agent(tmp_path / "agent", error=0) as agent:
        assert lab.output(under(asking(agent.path), "mkdir /dev/x && ls -d /dev/x")) == "/dev/x\n"


@pytest.mark.covers("linux.seccomp.listenerMetadata")
@pytest.mark.parametrize(("unprivileged", "status"), [(True, "created"), (False, "creating")])
def test_an_agent_is_told_what_it_answers_for(lab: Lab, tmp_path: Path, unprivileged: bool, status: str) -> None:
    """The container process state. With no_new_privs the filter comes at the start, when the container is created."""
    with Agent(tmp_path / "agent") as agent:
        spec = under(asking(agent.path, listener_metadata="m\u2603"), "true", unprivileged=unprivileged)
        with lab.create(spec) as container:
            container.start()
            container.wait(SECONDS)
            assert container.process is not None
            pid = container.process.pid
    assert agent.states == [
        {
            "ociVersion": spec.oci_version,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": "m\u2603",
            "state": {
                "ociVersion": spec.oci_version,
                "id": container.id,
                "status": status,
                "pid": pid,
                "bundle": container.bundle,
                "annotations": {},
            },
        }
    ]


@PRIVILEGED
def test_exec_has_a_listener_of_its_own(lab: Lab, tmp_path: Path, unprivileged: bool) -> None:
    with Agent(tmp_path / "agent") as agent, lab.start(under(asking(agent.path), "sleep 600")) as container:
        made = container.exec(
            ["mkdir", "/dev/x"], no_new_privileges=unprivileged, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        output, _ = made.communicate(timeout=SECONDS)
        assert output is not None
        assert b"cross-device link" in output
        state = agent.states[1]
        assert (state["pid"], state["fds"]) == (made.pid, ["seccompFd"])
        assert isinstance(state["state"], dict)
        assert (state["state"]["pid"], state["state"]["status"]) == (container.pid, "running")


def test_an_agent_may_be_asked_about_all_that_is_left_of_the_start(lab: Lab, tmp_path: Path) -> None:
    """Also about what init does once it has the filter: it never waits for an answer that waits for it."""
    names = ("execve", "read", "close", "sendmsg", "close_range", "brk", "exit_group")
    with Agent(tmp_path / "agent", error=0) as agent:
        assert lab.output(under(asking(agent.path, *names), "echo done")) == "done\n"
    assert len(agent.calls) > len(names)


def test_an_agent_may_be_asked_about_what_is_left_of_create(lab: Lab, tmp_path: Path) -> None:
    names = ("setresuid", "capset", "sendmsg", "recvfrom", "read", "poll", "execve", "close_range", "openat2")
    with Agent(tmp_path / "agent", error=0) as agent:
        assert lab.output(under(asking(agent.path, *names), "echo done", unprivileged=False)) == "done\n"
    wanted = {library.system_call(name) for name in ("setresuid", "capset", "close_range", "execve")}
    assert wanted <= set(agent.calls)


def test_a_container_with_an_agent_can_be_started_by_another_process(lab: Lab, tmp_path: Path) -> None:
    with Agent(tmp_path / "agent") as agent:
        spec = under(asking(agent.path), "mkdir /dev/x")
        container = lab.create(spec, stdout=PIPE, stderr=STDOUT)
        python(
            "import sys; from ocirt import Container; Container.load(sys.argv[1], root=sys.argv[2]).start()",
            container.id,
            str(lab.root),
        )
        assert "cross-device link" in said(container)
        container.delete()


def test_an_agents_path_may_be_long(lab: Lab, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with Agent(deep / "agent") as agent:
        assert "cross-device link" in lab.output(under(asking(agent.path), "mkdir /dev/x"))


@PRIVILEGED
def test_without_its_agent_a_container_does_not_start(lab: Lab, tmp_path: Path, unprivileged: bool) -> None:
    spec = under(asking(tmp_path / "nobody"), "true", unprivileged=unprivileged)

    def life() -> None:
        lab.create(spec).start()

    error = error_of(life)
    assert isinstance(error, SetupError)
    assert (error.origin, error.call, error.errno) == ("linux.seccomp.listenerPath", "connect", errno.ENOENT)
    assert lab.remains() == []


def test_a_profile_that_asks_nobody_needs_no_agent(lab: Lab, tmp_path: Path) -> None:
    spec: Spec = under(asking(tmp_path / "nobody").evolve(syscalls=()), "echo done")
    assert lab.output(spec) == "done\n"


def test_notifications_need_somebody_to_answer_them(lab: Lab, tmp_path: Path) -> None:
    error = error_of(lambda: lab.create(under(asking(tmp_path).evolve(listener_path=None), "true")))
    assert error is not None
    assert "linux.seccomp.listenerPath" in str(error)
