"""Labels fail closed: what cannot be written is an error, with its member.

Where there is no security module, its files are there and take nothing: that they are reached, from inside a container
and as an ordinary user, shows in their refusal. What is planned for a machine that has both is run here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import pytest
from attrs import evolve

from ocirt import Spec
from ocirt.creation import open_descriptors
from ocirt.errors import OCIError, SetupError, UnsupportedError
from ocirt.host import Host
from ocirt.launch import Prepared, launch
from ocirt.plan import Plan, Site, plan_create, plan_exec
from ocirt.plan.ops import Purpose
from ocirt.spec import Process, User
from tests.support import Lab, document, error_of, linux, process

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(Host.probe().apparmor or Host.probe().selinux, reason="there are security modules here"),
]

EVERY_MODULE = evolve(Host.probe(), apparmor=True, selinux=True)

CASES = [
    (process("true", apparmor_profile="p", user=User(1000, 1000)), "process.apparmorProfile", "exec p"),
    (process("true", selinux_label="a:b:c:s0", user=User(1000, 1000)), "process.selinuxLabel", "a:b:c:s0"),
]
by_module = pytest.mark.parametrize(("program", "origin", "value"), CASES, ids=["AppArmor", "SELinux"])


def without_proc(program: Process) -> Spec:
    """A container that has no procfs of its own to write to."""
    return document().evolve(process=program, mounts=(), linux=linux(masked_paths=(), readonly_paths=()))


def attempt(plan: Plan, init: int = -1) -> OCIError | None:
    """How the plan fails, if it does before the container is created."""
    with contextlib.ExitStack() as stack:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, null)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        descriptors = open_descriptors(plan.descriptors, stack, listener=listener.fileno(), init=init)
        launched = launch(Prepared.of(plan), descriptors, (null, null, null))
        stack.callback(launched.abort)
        launched.done(Purpose.RECORD)
        return error_of(lambda: next(launched.heard(), None))


@by_module
@pytest.mark.parametrize("keyring", [True, False])
def test_create_writes_it_to_the_hosts_proc(lab: Lab, program: Process, origin: str, value: str, keyring: bool) -> None:
    site = Site(lab.new_id(), "/", str(lab.rootfs), keyring=keyring)
    error = attempt(plan_create(without_proc(program), EVERY_MODULE, site))
    assert isinstance(error, SetupError)
    assert (error.origin, error.call, error.errno, error.detail) == (origin, "write", errno.EINVAL, value)


@by_module
def test_exec_writes_it_to_the_hosts_proc(lab: Lab, program: Process, origin: str, value: str) -> None:
    with lab.start(without_proc(process("sleep", "600"))) as container:
        init = os.pidfd_open(container.pid)
        try:
            site = Site(container.id, "/", f"/proc/{container.pid}/root", keyring=False)
            error = attempt(plan_exec(program, container.spec, EVERY_MODULE, site), init)
        finally:
            os.close(init)
    assert isinstance(error, SetupError)
    assert (error.origin, error.call, error.errno, error.detail) == (origin, "write", errno.EINVAL, value)


@by_module
def test_without_the_module_nothing_is_begun(lab: Lab, program: Process, origin: str, value: str) -> None:
    del value
    with pytest.raises(UnsupportedError) as caught:
        lab.create(document().evolve(process=program))
    assert caught.value.origin == origin
    assert lab.remains() == []


def test_a_mount_label_without_selinux_is_an_error(lab: Lab) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lab.create(document("true").evolve(linux=linux(mount_label="a:b:c:s0")))
    assert caught.value.origin == "linux.mountLabel"


def test_a_mount_label_is_an_option_of_every_new_filesystem(lab: Lab) -> None:
    """tmpfs without SELinux knows none of that name."""
    site = Site(lab.new_id(), "/", str(lab.rootfs))
    spec = document("true").evolve(linux=linux(mount_label="a:b:c:s0"))
    error = attempt(plan_create(spec, EVERY_MODULE, site))
    assert isinstance(error, SetupError)
    assert (error.origin, error.operation) == ("linux.mountLabel", "MountFilesystem")
    assert "context=a:b:c:s0" in error.detail
