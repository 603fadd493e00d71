"""Hooks that run in the container's namespaces, and the pause for those of the host."""

from __future__ import annotations

import json

from ocirt.plan import Plan, Site, plan_create, plan_start
from ocirt.plan.ops import Purpose, RunHook, Sync
from ocirt.spec import Hook, Hooks, Linux, Namespace, Process, Root, Spec
from tests.plan.examples import ROOT

SITE = Site("c", "/bundle", "/rootfs")
DOCUMENT = Spec(
    oci_version="1.0.2",
    root=Root("rootfs"),
    process=Process(cwd="/", args=("x",), env=("A=1",)),
    linux=Linux(namespaces=(Namespace("mount"),)),
    annotations={"key": "va\0lue\u2028"},
)


def planned(hooks: Hooks) -> Plan:
    return plan_create(DOCUMENT.evolve(hooks=hooks), ROOT, SITE)


def run(plan: Plan) -> list[RunHook]:
    return [op for op in plan.ops if isinstance(op, RunHook)]


def test_a_hook_without_arguments_is_called_by_its_path() -> None:
    (op,) = run(planned(Hooks(create_container=(Hook("/h"),))))
    assert (op.path, op.args, op.env, op.timeout_ms, op.inside) == ("/h", ("/h",), (), 0, False)


def test_a_hook_has_the_arguments_environment_and_time_that_it_is_given() -> None:
    (op,) = run(planned(Hooks(create_container=(Hook("/h", ("h", "-v"), ("B=2",), timeout=3),))))
    assert (op.args, op.env, op.timeout_ms) == (("h", "-v"), ("B=2",), 3000)


def test_a_hook_in_the_container_has_its_environment_unless_it_has_its_own() -> None:
    inherits, own = run(planned(Hooks(start_container=(Hook("/h"), Hook("/h", env=("B=2",))))))
    assert (inherits.env, own.env) == (("A=1",), ("B=2",))
    assert inherits.inside


def test_the_state_is_json_around_the_pid() -> None:
    create, start = run(planned(Hooks(create_container=(Hook("/h"),), start_container=(Hook("/h"),))))
    for op, status in ((create, "creating"), (start, "created")):
        before, after = op.state
        assert json.loads(f"{before}42{after}") == {
            "ociVersion": "1.0.2",
            "id": "c",
            "status": status,
            "pid": 42,
            "bundle": "/bundle",
            "annotations": {"key": "va\0lue\u2028"},
        }


def test_the_host_is_waited_for_only_if_it_has_hooks_to_run() -> None:
    def waits(hooks: Hooks) -> list[str]:
        return [op.origin for op in planned(hooks).ops if isinstance(op, Sync) and op.purpose is Purpose.HOOKS]

    assert waits(Hooks(prestart=(Hook("/h"),), create_runtime=(Hook("/h"),))) == ["hooks.prestart"]
    assert waits(Hooks(create_runtime=(Hook("/h"),))) == ["hooks.createRuntime"]
    assert waits(Hooks(create_container=(Hook("/h"),))) == ["hooks.createContainer"], "it must know that hooks begin"
    assert waits(Hooks(start_container=(Hook("/h"),), poststart=(Hook("/h"),), poststop=(Hook("/h"),))) == []


def test_start_is_told_of_the_hooks_that_run_after_it() -> None:
    document = DOCUMENT.evolve(hooks=Hooks(start_container=(Hook("/h"),)))
    assert [type(op).__name__ for op in plan_start(document, ROOT, SITE).ops] == ["RunHook", "Exec"]
