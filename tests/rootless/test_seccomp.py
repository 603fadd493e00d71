"""Filters and their listeners for an ordinary user: the user owns the namespace in which that takes a right."""

from __future__ import annotations

import pytest

from tests.rootless.user import User

pytestmark = [pytest.mark.root, pytest.mark.rootless]

PRELUDE = """
def filtered(action, unprivileged):
    spec = document("sh", "-c", "mkdir /dev/x; ls -d /dev/x*", no_new_privileges=unprivileged)
    profile = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("mkdir", "mkdirat"), action),))
    return spec.evolve(root=spec.root.evolve(path=ROOTFS), linux=spec.linux.evolve(seccomp=profile))

def lived_with(handler, unprivileged):
    bundle = Bundle(HOME, filtered("SCMP_ACT_NOTIFY", unprivileged))
    with Container.create("c", bundle, root=STATE, stdin=DEVNULL, stdout=PIPE, on_syscall=handler) as container:
        container.start()
        print(container.process.communicate(timeout=30)[0].decode(), end="")
"""


@pytest.mark.parametrize("unprivileged", [True, False])
def test_a_call_is_refused(user: User, unprivileged: bool) -> None:
    printed = user.python(PRELUDE + f'print(lived(filtered("SCMP_ACT_ERRNO", {unprivileged}))[2])')
    assert printed.startswith("mkdir: can't create directory '/dev/x': Operation not permitted")


@pytest.mark.parametrize("unprivileged", [True, False])
def test_a_handler_answers(user: User, unprivileged: bool) -> None:
    code = (
        "def mkdir(call):\n"
        '    os.mkdir(f"/proc/{call.pid}/root{call.text(call.arguments[0])}.emulated")\n'
        "    return 0\n"
        f"lived_with(mkdir, {unprivileged})\n"
    )
    assert user.python(PRELUDE + code) == "/dev/x.emulated\n"
