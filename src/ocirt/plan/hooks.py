"""Hooks that run in the container's namespaces, and the pause for those that run in the host's (config.md, Hooks)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ocirt.plan.context import Context
from ocirt.plan.ops import Op, Purpose, RunHook, Sync
from ocirt.spec import Hook


def host(context: Context) -> Iterator[Op]:
    """prestart and createRuntime: the host runs them while init waits.

    For createContainer it has none to run, but must know that hooks begin: from there on, a creation that fails ends
    with the poststop hooks (runtime.md, Lifecycle).
    """
    hooks = context.document.hooks
    if hooks is None:
        return
    kinds = {
        "prestart": hooks.prestart,
        "createRuntime": hooks.create_runtime,
        "createContainer": hooks.create_container,
    }
    for kind in (kind for kind, given in kinds.items() if given):
        yield Sync(Purpose.HOOKS, origin=f"hooks.{kind}")
        return


def create_container(context: Context) -> Iterator[Op]:
    """Before the pivot, so that the hook's path is the host's."""
    hooks = context.document.hooks
    if hooks is not None:
        yield from _run(context, hooks.create_container, "createContainer", "creating", inside=False)


def start_container(context: Context) -> Iterator[Op]:
    """The last thing before the user's program, as that user."""
    hooks = context.document.hooks
    if hooks is not None:
        yield from _run(context, hooks.start_container, "startContainer", "created", inside=True)


def _run(context: Context, hooks: Sequence[Hook], kind: str, status: str, *, inside: bool) -> Iterator[Op]:
    inherited = context.process.env if inside and context.process is not None else ()
    for index, hook in enumerate(hooks):
        yield RunHook(
            hook.path,
            hook.args or (hook.path,),
            hook.env or inherited,
            (hook.timeout or 0) * 1000,
            inside,
            state_around_pid(context, status),
            origin=f"hooks.{kind}[{index}]",
        )


def state_around_pid(context: Context, status: str) -> tuple[str, str]:
    """The state's JSON before and after the pid, which only init knows (runtime.md, State)."""
    state = {
        "ociVersion": context.document.oci_version,
        "id": context.site.container_id,
        "status": status,
        "pid": "\0",
        "bundle": context.site.bundle,
        "annotations": dict(context.document.annotations),
    }
    before, _, after = json.dumps(state).partition(json.dumps("\0"))
    return before, after
