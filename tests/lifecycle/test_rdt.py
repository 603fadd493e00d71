"""A container's processes in their class of resctrl, from the first to the last (config-linux.md, Intel RDT)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirt.errors import HookError, SetupError
from ocirt.spec import Hook, Hooks, IDMapping, IntelRdt
from tests import resctrl as fake
from tests.resctrl import Resctrl
from tests.support import SECONDS, Lab, document, linux, namespaces

pytestmark = pytest.mark.root


@pytest.fixture
def resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resctrl:
    return fake.mounted(tmp_path, monkeypatch)


@pytest.mark.covers("linux.intelRdt")
def test_init_and_what_is_executed_are_in_it_and_it_goes_with_the_container(lab: Lab, resctrl: Resctrl) -> None:
    wanted = IntelRdt(schemata=("L3:0=f",), enable_monitoring=True)
    container = lab.start(document("sleep", "600", linux=linux(intel_rdt=wanted)))
    where = resctrl.root / container.id
    assert (where / "schemata").read_text().startswith("L3:0=f\n")
    assert resctrl.tasks(container.id) == resctrl.tasks(container.id, "mon_groups", container.id) == [container.pid]
    for found in (container, lab.load(container)):
        (where / "tasks").write_text("")
        process = found.exec(["true"])
        assert process.wait(SECONDS) == 0
        assert len(resctrl.tasks(container.id)) == 1
        process.close()
    lab.load(container).delete(force=True)
    assert not where.exists()


@pytest.mark.covers("linux.intelRdt.closID")
def test_a_class_that_is_named_stays(lab: Lab, resctrl: Resctrl) -> None:
    wanted = IntelRdt(clos_id="gold", schemata=("L3:0=f",))
    lab.create(document("true", linux=linux(intel_rdt=wanted))).delete()
    assert (resctrl.root / "gold").exists()


def test_it_is_joined_before_there_are_children_and_before_hooks(lab: Lab, resctrl: Resctrl, tmp_path: Path) -> None:
    """In a user namespace the container's init is a grandchild of the process that the host started."""
    mappings = (IDMapping(0, 200000, 65536),)
    types = namespaces("pid", "network", "ipc", "uts", "mount", "user")
    members = linux(
        namespaces=types, uid_mappings=mappings, gid_mappings=mappings, intel_rdt=IntelRdt(clos_id="gold", schemata=())
    )
    os.mkdir(str(resctrl.root / "gold"))
    script = f"cat '{resctrl.root}/gold/tasks' > {tmp_path}/seen"
    hooks = Hooks(prestart=(Hook("/bin/sh", ("sh", "-c", script)),))
    with lab.create(document("true", linux=members, hooks=hooks)) as container:
        (pid,) = (tmp_path / "seen").read_text().split()
        assert 0 < int(pid) < container.pid


@pytest.mark.parametrize("clos_id", [None, "gold"])
def test_a_creation_that_fails_later_leaves_no_class(lab: Lab, resctrl: Resctrl, clos_id: str | None) -> None:
    """Our fake does not notice that init has died, so its list is emptied by a hook."""
    wanted = IntelRdt(clos_id=clos_id, schemata=("L3:0=f",), enable_monitoring=True)
    script = f"find '{resctrl.root}' -name tasks | while read -r tasks; do : > \"$tasks\"; done; false"
    hooks = Hooks(prestart=(Hook("/bin/sh", ("sh", "-c", script)),))
    with pytest.raises(HookError):
        lab.create(document("true", linux=linux(intel_rdt=wanted), hooks=hooks))
    assert sorted(path.name for path in resctrl.root.iterdir()) == ["info", "mon_groups", "schemata", "tasks"]
    assert lab.remains() == []


def test_a_mismatch_is_an_error_and_nothing_is_left(lab: Lab, resctrl: Resctrl) -> None:
    os.mkdir(str(resctrl.root / "gold"))
    wanted = IntelRdt(clos_id="gold", l3_cache_schema="L3:0=1")
    with pytest.raises(SetupError) as caught:
        lab.create(document("true", linux=linux(intel_rdt=wanted)))
    assert caught.value.origin == "linux.intelRdt.l3CacheSchema"
    assert lab.remains() == []
