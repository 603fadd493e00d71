"""What the process may use of keys, and what security modules take it for: session keyring, AppArmor, SELinux.

Labels are written by way of the host's ``/proc``, taken along as a descriptor: the container's own may be covered,
or be none at all (CVE-2019-16884, CVE-2025-52881).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from ocirt.errors import UnsupportedError
from ocirt.plan.context import ProcDirectory
from ocirt.plan.process_ops import JoinKeyring
from ocirt.plan.tree_ops import MaskPath, MountFilesystem

if TYPE_CHECKING:
    from ocirt.plan.context import Context
    from ocirt.plan.ops import Op
    from ocirt.spec import Process

USER_SEARCH: Final = 0x80000
"""KEY_USR_SEARCH: who is the same user, in the same user namespace, may find a keyring by its name (keyctl(2))."""

APPARMOR_EXEC: Final = ("thread-self/attr/apparmor/exec", "thread-self/attr/exec")
"""The second is the only one before Linux 5.8; where modules are stacked it may be another's."""

SELINUX_EXEC: Final = ("thread-self/attr/exec",)
SELINUX_KEYS: Final = ("thread-self/attr/keycreate",)

UNCONFINED: Final = "unconfined"
NO_SELINUX: Final = "selinux label is specified in config, but selinux is disabled or not supported"

LABELLED_OTHERWISE: Final = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))
"""Filesystems that take no ``context`` (mount(8)): the policy has labels for their files."""


def check(context: Context) -> None:
    """A label that would have no effect must not be mistaken for protection."""
    process, host, linux = context.process, context.host, context.linux
    if process is not None:
        profile = process.apparmor_profile
        if profile and profile != UNCONFINED and not host.apparmor:
            raise UnsupportedError(
                "process.apparmorProfile", f"apparmor profile {profile} specified but AppArmor not enabled"
            )
        if process.selinux_label and not host.selinux:
            raise UnsupportedError("process.selinuxLabel", NO_SELINUX)
    if linux.mount_label and not host.selinux:
        raise UnsupportedError("linux.mountLabel", NO_SELINUX)
    if linux.mount_label and context.site.scratch is not None:
        raise UnsupportedError("linux.mountLabel", "files of a throw-away layer keep the labels of those below")


def keyring(context: Context, *, new: bool) -> Iterator[Op]:
    """Of the container's own: in the caller's may be keys to encrypted files and to network filesystems."""
    if not context.site.keyring:
        return
    label = context.process.selinux_label if context.process is not None else None
    if label:
        yield _label(context, label, SELINUX_KEYS, "process.selinuxLabel")
    yield JoinKeyring(f"_ses.{context.site.container_id}", USER_SEARCH if new else 0)
    if label:
        yield _label(context, "", SELINUX_KEYS, "process.selinuxLabel")


def selinux(context: Context, process: Process) -> Iterator[Op]:
    """For the program to be executed."""
    if process.selinux_label:
        yield _label(context, process.selinux_label, SELINUX_EXEC, "process.selinuxLabel")


def apparmor(context: Context, process: Process) -> Iterator[Op]:
    """For the program to be executed. Last of all (as runc exec): the profile is to confine it, not us."""
    if process.apparmor_profile and context.host.apparmor:
        yield _label(context, f"exec {process.apparmor_profile}", APPARMOR_EXEC, "process.apparmorProfile")


def _label(context: Context, value: str, files: tuple[str, ...], origin: str) -> Op:
    from ocirt.plan.label_ops import SetLabel

    return SetLabel(context.slots.once(ProcDirectory()), value, files, origin=origin)


def mount_label(context: Context, tree: Iterable[Op]) -> Iterator[Op]:
    """The tree with a label for every file of the filesystems that are new in it."""
    label = context.linux.mount_label
    if not label:
        return iter(tree)
    return _labelled(label, tree)


def _labelled(label: str, tree: Iterable[Op]) -> Iterator[Op]:
    from ocirt.plan.label_ops import SetFileLabel

    for op in tree:
        match op:
            case MountFilesystem(type=type_) if type_ not in LABELLED_OTHERWISE:
                yield _with_context(op, label)
            case MountFilesystem(type="mqueue"):
                yield op
                yield SetFileLabel(op.target, label, origin="linux.mountLabel")
            case MaskPath():
                yield op.evolve(label=label)
            case _:
                yield op


def _with_context(op: MountFilesystem, label: str) -> MountFilesystem:
    """As fsconfig(2) takes it: without the quotes that mount(8) needs."""
    origins = op.origins or (op.origin,) * (1 + len(op.parameters))
    return op.evolve(parameters=(*op.parameters, f"context={label}"), origins=(*origins, "linux.mountLabel"))
