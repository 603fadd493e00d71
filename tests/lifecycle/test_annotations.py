"""Annotations of crun's: some mean something here, the others nothing, and none is an error (config.md)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ocirt
from ocirt import UnsupportedError
from ocirt.spec import IDMapping, Namespace
from tests.support import SECONDS, Lab, document, linux, process

pytestmark = pytest.mark.root

KEEP = "run.oci.keep_original_groups"

SCRIPT = """
import sys, ocirt
from subprocess import PIPE, STDOUT, DEVNULL
id, bundle, root = sys.argv[1:]
with ocirt.Container.create(id, bundle, root=root, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT) as container:
    container.start()
    print(container.process.communicate(timeout=60)[0].decode().strip())
"""


def groups(lab: Lab, value: str | None, *, nested: bool = False) -> list[str]:
    """Those of a process in a container that somebody with the groups 7 and 4711 has made."""
    changes: dict[str, object] = {}
    if nested:
        mapping = (IDMapping(0, 0, 65536),)
        namespaces = (*linux().namespaces, Namespace("user"))
        changes = {"namespaces": namespaces, "uid_mappings": mapping, "gid_mappings": mapping}
    user = process().user.evolve(uid=1000, gid=1000)
    spec = document(
        process=process("sh", "-c", "grep Groups: /proc/self/status", user=user),
        linux=linux(**changes),
        annotations={} if value is None else {KEEP: value},
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, lab.new_id(), str(lab.bundle(spec).path), str(lab.root)],
        env={**os.environ, "PYTHONPATH": str(Path(ocirt.__file__).parents[1])},
        extra_groups=[7, 4711],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return done.stdout.removeprefix("Groups:").split()


@pytest.mark.parametrize("nested", [False, True])
def test_the_callers_groups_may_be_kept(lab: Lab, nested: bool) -> None:
    assert groups(lab, "1", nested=nested) == ["7", "4711"]
    assert groups(lab, "0", nested=nested) == []
    assert groups(lab, None, nested=nested) == []


def test_groups_of_its_own_and_the_callers_do_not_go_together(lab: Lab) -> None:
    user = process().user.evolve(additional_gids=(5,))
    with pytest.raises(UnsupportedError, match="additionalGids"):
        lab.create(document(process=process("true", user=user), annotations={KEEP: "1"}))


def test_annotations_that_mean_nothing_here_change_nothing(lab: Lab, tmp_path: Path) -> None:
    """Those by which a configuration would write to files of the host among them."""
    output = tmp_path / "output"
    annotations = {
        "run.oci.hooks.stdout": str(output),
        "run.oci.hooks.stderr": str(output),
        "run.oci.delegate-cgroup": "inner",
        "run.oci.handler": "krun",
        "run.oci.mount_context_type": "context",
        "run.oci.seccomp_fail_unknown_syscall": "1",
        "org.example.nobody-knows": "",
    }
    with lab.create(document("true", annotations=annotations)) as container:
        container.start()
        assert container.wait(SECONDS) == 0
        assert dict(container.annotations) == annotations
    assert not output.exists()
