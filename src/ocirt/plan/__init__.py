"""What is done to make a container, as a list of operations: decided here, printed, compared, and run by ocirt-init.

Pure: the same configuration, host and site give the same plan, on any machine. ``plan_create`` is *the order*.

Read in this order: ``ops`` and ``tree_ops`` (what can be done), ``context`` (what decisions rest on), then
``namespaces``, ``rootfs`` (with ``mounts``, ``devices``, ``hooks``), ``process`` (with ``credentials``, ``scheduling``,
``labels``, ``seccomp``, ``descriptors``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from attrs import frozen

from ocirt.plan import credentials, descriptors, devices, hooks, labels, namespaces, process, rootfs
from ocirt.plan.context import Context, Descriptor, InitPidfd, RootDirectory, Site
from ocirt.plan.ops import CLONE_NEW, NO_FD, BecomeRoot, Clone, JoinProcess, Op
from ocirt.plan.tree_ops import ChangeRoot

if TYPE_CHECKING:
    from ocirt.host import Host
    from ocirt.spec import Process, Spec

ID_MARK = "\ud800"
"""Stands for the container's id in the strings of a plan that is to serve many containers. No configuration and no
path of the host holds it: half of a surrogate pair is not Unicode, and os.fsdecode makes the other half only."""

__all__ = ["ID_MARK", "Plan", "Site", "plan_create", "plan_exec", "plan_start"]


@frozen
class Plan:
    """Operations in order, and the descriptors that they name by number."""

    ops: tuple[Op, ...]
    descriptors: tuple[Descriptor, ...] = ()

    def __str__(self) -> str:
        """One line an operation: the member of config.json, the operation, its operands."""
        return "".join(f"{_line(op)}\n" for op in self.ops)


def _line(op: Op) -> str:
    return f"{op.origin:<27} {type(op).__name__:<19} {' '.join(op.details())}".rstrip()


def plan_create(document: Spec, host: Host, site: Site) -> Plan:
    """Every step from the caller's process to the container's, as far as ``start`` and beyond.

    :raises UnsupportedError: a property that this host or this version of ocirt cannot honour.
    """
    context = Context.of(document, host, site)
    namespaces.check(context)
    rootfs.check(context)
    credentials.check(context)
    labels.check(context)

    program = document.process
    score = tuple(credentials.oom_score(program))
    early = context.namespaces.has("user")
    tree = tuple(rootfs.tree(context))  # first, since it says which host trees must be taken beforehand
    return _plan(
        context,
        score if early else (),
        namespaces.enter(context),
        () if early else score,
        labels.keyring(context, new=True),
        namespaces.network(context),
        namespaces.names(context),
        namespaces.sysctls(context),
        labels.mount_label(context, tree),
        process.become(context, program) if program else (),
        process.wait_for_start(context),
        _after_start(context),
    )


def plan_start(document: Spec, host: Host, site: Site) -> Plan:
    """The end of ``plan_create``: what is left to do once a created container is told to start."""
    context = Context.of(document, host, site)
    return _plan(context, _after_start(context))


def _after_start(context: Context) -> Iterator[Op]:
    yield from hooks.start_container(context)
    if context.process is not None:
        yield from process.execute(context, context.process, descriptors.environment(context))


def plan_exec(program: Process, document: Spec, host: Host, site: Site) -> Plan:
    """Every step from the caller's process to one more process of a running container.

    ``document`` is the configuration as the container was created with; ``site`` names its cgroups, and as its
    rootfs the root directory of its init.
    """
    context = Context.of(document.evolve(process=program), host, site)
    credentials.check(context)
    labels.check(context)
    return _plan(
        context,
        credentials.oom_score(program),
        _enter_container(context),
        labels.keyring(context, new=False),
        devices.terminal(context, console=False),
        process.become(context, program, executed=True),
        process.execute(context, program),
    )


def _enter_container(context: Context) -> Iterable[Op]:
    """Its cgroups first, while the host's files are in view; then all of its namespaces at once."""
    flags = sum(CLONE_NEW[type_] for type_ in context.namespaces.by_type)
    yield from namespaces.join_cgroups(context)
    root = NO_FD
    if not context.namespaces.has("mount"):
        root = context.slots.add(RootDirectory(context.site.rootfs, "root.path"))
    if flags:
        yield JoinProcess(context.slots.add(InitPidfd()), flags, origin="linux.namespaces")
    yield Clone(0, origin="linux.namespaces")
    yield from descriptors.keep(context)
    if context.namespaces.has("user"):
        yield BecomeRoot(context.may_set_groups, origin="linux.namespaces")
    if root != NO_FD:
        yield ChangeRoot(root, origin="root.path")


def _plan(context: Context, *parts: Iterable[Op]) -> Plan:
    ops = tuple(chain.from_iterable(parts))
    return Plan(ops, tuple(context.slots.descriptors))
