"""A life: create, start, wait, delete. And one more process in a container that runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

from benchmarks.contender import Comparison, Contender, Once, Unable
from benchmarks.measure import Coprocess, command, timed
from benchmarks.place import Place, need_root, program
from ocirt import Bundle, Container, Limits
from ocirt.preparation import CgroupManager

DISABLED: Final = "--cgroup-manager=disabled"
LIMITS: Final = Limits(memory="512M", cpus=1.5, pids=128)


def life(bundle: Bundle, root: Path, cgroup_manager: CgroupManager = "cgroupfs") -> None:
    """By the API, in this process."""
    container_id = f"benchmark-{os.getpid()}"
    container = Container.create(
        container_id, bundle, stdin=DEVNULL, stdout=DEVNULL, root=root, cgroup_manager=cgroup_manager
    )
    container.start()
    if container.wait() != 0:
        raise Unable("/bin/true failed")
    container.delete()


def with_cgroups(place: Place) -> Comparison:
    return Comparison(
        "life",
        "create, start, wait, delete of /bin/true with runc's default config.json",
        (
            Contender("ocirt, in this process", partial(_ours, place, cgroups=True)),
            Contender("floor.c", partial(_floor, place, cgroups=True), at_most=1.5),
            Contender("crun run", partial(_theirs, place, ("crun",), cgroups=True), at_most=0.4),
            Contender("runc run", partial(_theirs, place, ("runc",), cgroups=True)),
        ),
    )


def without_cgroups(place: Place) -> Comparison:
    return Comparison(
        "life-without-cgroups",
        "the same without any cgroup, and without the mount of them",
        (
            Contender("ocirt, in this process", partial(_ours, place, cgroups=False)),
            Contender("floor.c", partial(_floor, place, cgroups=False), at_most=1.5),
            Contender(f"crun {DISABLED} run", partial(_theirs, place, ("crun", DISABLED), cgroups=False), at_most=0.3),
        ),
    )


def with_limits(place: Place) -> Comparison:
    """The floor writes none: what limits cost is ours to keep small."""
    return Comparison(
        "life-with-limits",
        "the same with cgroups, and with limits of memory, CPU time and processes",
        (
            Contender("ocirt, in this process", partial(_ours, place, cgroups=True, limits=True)),
            Contender("floor.c, without limits", partial(_floor, place, cgroups=True), at_most=1.5),
            Contender("crun run", partial(_theirs, place, ("crun",), cgroups=True, limits=True), at_most=0.4),
        ),
    )


def execution(place: Place) -> Comparison:
    return Comparison(
        "exec",
        "/bin/true as one more process of a running container, and wait for it",
        (
            Contender("ocirt, in this process", partial(_our_exec, place)),
            Contender("crun exec", partial(_their_exec, place, "crun"), at_most=0.33),
            Contender("runc exec", partial(_their_exec, place, "runc")),
        ),
    )


def _bundle(place: Place, cgroups: bool, limits: bool = False) -> Bundle:
    name = "true" if cgroups else "true-without-cgroups"
    return place.bundle(
        f"{name}{'-with-limits' * limits}", "/bin/true", cgroups=cgroups, limits=LIMITS if limits else None
    )


def _ours(place: Place, stack: ExitStack, *, cgroups: bool, limits: bool = False) -> Once:
    del stack
    need_root()
    bundle = _bundle(place, cgroups, limits)
    return timed(partial(life, bundle, place.state / "ocirt", "cgroupfs" if cgroups else "disabled"))


def _floor(place: Place, stack: ExitStack, *, cgroups: bool) -> Once:
    need_root()
    return stack.enter_context(Coprocess(place.floor(cgroups=cgroups))).once


def _runtime(place: Place, name: str, *options: str) -> tuple[str, ...]:
    """With a state directory of ours, on the same filesystem as its own."""
    return (program(name), "--root", str(place.state / name), *options)


def _theirs(place: Place, runtime: Sequence[str], stack: ExitStack, *, cgroups: bool, limits: bool = False) -> Once:
    del stack
    need_root()
    bundle = _bundle(place, cgroups, limits)
    run = ("run", "--bundle", str(bundle.path), f"benchmark-{os.getpid()}")
    return command((*_runtime(place, *runtime), *run), place.log)


def _our_exec(place: Place, stack: ExitStack) -> Once:
    need_root()
    bundle = place.bundle("sleep", "/bin/sleep", "100000")
    container = Container.create(
        f"benchmark-exec-{os.getpid()}", bundle, stdin=DEVNULL, stdout=DEVNULL, root=place.state / "ocirt"
    )
    stack.enter_context(container)
    container.start()

    def action() -> None:
        if container.exec(["/bin/true"], stdin=DEVNULL, stdout=DEVNULL).wait() != 0:
            raise Unable("/bin/true failed")

    return timed(action)


def _their_exec(place: Place, name: str, stack: ExitStack) -> Once:
    need_root()
    bundle = place.bundle("sleep", "/bin/sleep", "100000")
    runtime = _runtime(place, name)
    container_id = f"benchmark-exec-{name}-{os.getpid()}"
    command((*runtime, "run", "--detach", "--bundle", str(bundle.path), container_id), place.log)()
    stack.callback(subprocess.run, (*runtime, "delete", "--force", container_id), stdin=DEVNULL, check=False)
    return command((*runtime, "exec", container_id, "/bin/true"), place.log)
