"""Hooks of all six kinds get what their entries say; and other members that one kind of test has to ask for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocirt.spec import Hook, Hooks, Root, TimeOffset
from tests.lifecycle.test_hooks import KINDS
from tests.support import Lab, document, linux, namespaces, shell

pytestmark = pytest.mark.root


@pytest.mark.covers("hooks.*[].path", "hooks.*[].args", "hooks.*[].env")
@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_has_its_program_arguments_and_environment(own_lab: Lab, tmp_path: Path, kind: str) -> None:
    inside = kind == "start_container"
    log = own_lab.rootfs / "tmp/log" if inside else tmp_path / "log"
    target = "/tmp/log" if inside else log
    hook = Hook("/bin/sh", ("sh", "-c", f'echo "$0,$1,$A,$HOME" > {target}', "zero", "one"), ("A=value",))
    hooks = Hooks().evolve(**{kind: (hook,)})
    with own_lab.start(document("true").evolve(hooks=hooks, root=Root("rootfs"))):
        pass
    assert log.read_text() == "zero,one,value,\n"


@pytest.mark.covers("hooks.poststop[].timeout")
def test_a_poststop_hook_that_takes_too_long_is_killed_and_the_next_runs(lab: Lab, tmp_path: Path) -> None:
    slow = Hook("/bin/sleep", ("sleep", "600"), timeout=1)
    last = Hook("/bin/sh", ("sh", "-c", f"echo last > {tmp_path}/log"))
    lab.create(document("true").evolve(hooks=Hooks(poststop=(slow, last)))).delete()
    assert (tmp_path / "log").read_text() == "last\n"


@pytest.mark.covers("linux.cgroupsPath")
def test_a_cgroup_is_where_the_path_says(lab: Lab) -> None:
    path = f"/{lab.new_id()}/below"
    shown = lab.output(shell("cat /proc/self/cgroup").evolve(linux=linux(cgroups_path=path)))
    assert f":{path}" in shown


@pytest.mark.covers("linux.timeOffsets.*.nanosecs")
def test_clocks_are_shifted_by_parts_of_a_second(lab: Lab) -> None:
    types = ("pid", "mount", "ipc", "uts", "network", "time")
    offsets = {"boottime": TimeOffset(7, 500_000_000)}
    members = linux(namespaces=namespaces(*types), time_offsets=offsets)
    shown = lab.output(shell("cat /proc/self/timens_offsets").evolve(linux=members)).split()
    assert shown == ["monotonic", "0", "0", "boottime", "7", "500000000"]
