"""Spec.default is what runc writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ocirt.spec import Spec
from ocirt.spec.base import JSON

needs_runc = pytest.mark.skipif(shutil.which("runc") is None, reason="compares with what runc writes")


def without_version(document: dict[str, JSON]) -> dict[str, JSON]:
    """Debian 12's runc speaks of 1.0.2-dev; the version is the one thing that is ours."""
    return {name: value for name, value in document.items() if name != "ociVersion"}


def runc_spec(bundle: Path, *options: str) -> dict[str, JSON]:
    subprocess.run(["runc", "spec", *options], cwd=bundle, check=True)
    return without_version(json.loads(newer((bundle / "config.json").read_text())))


def newer(text: str) -> str:
    """What an old runc wrote (Debian 12 has 1.1) as 1.2 and later do: no ambient capabilities, one more masked path."""
    text = re.sub(r',\n\t*"ambient": \[[^]]*\]', "", text)
    if "/sys/devices/virtual/tpm" in text:
        return text
    return text.replace('"/proc/scsi"', '"/proc/scsi",\n\t\t\t"/sys/devices/virtual/tpm"')


def has_cgroup2_alone() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


@needs_runc
@pytest.mark.parametrize("rootless", [False, True])
def test_the_default_is_what_runc_writes(tmp_path: Path, rootless: bool) -> None:
    """As JSON, all but ociVersion; its bytes are compared where the command writes them (tests/cli)."""
    options = ("--rootless",) if rootless else ()
    ours = Spec.default(rootless, cgroup2=has_cgroup2_alone())
    assert without_version(ours.to_json()) == runc_spec(tmp_path, *options)


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("cgroup2", [False, True])
def test_the_default_breaks_no_rule(rootless: bool, cgroup2: bool) -> None:
    document = Spec.default(rootless, cgroup2=cgroup2)
    assert document.check() == ()
    assert document.oci_version == "1.3.0"


def test_root_of_a_rootless_container_is_the_caller_or_who_is_named() -> None:
    own = Spec.default(rootless=True).linux
    named = Spec.default(rootless=True, uid=1000, gid=100).linux
    assert own is not None
    assert named is not None
    assert (own.uid_mappings[0].host_id, own.gid_mappings[0].host_id) == (os.geteuid(), os.getegid())
    assert (named.uid_mappings[0].host_id, named.gid_mappings[0].host_id) == (1000, 100)


def test_cgroup2_adds_a_namespace() -> None:
    linux = Spec.default(cgroup2=True).linux
    assert linux is not None
    assert [namespace.type for namespace in linux.namespaces] == ["pid", "network", "ipc", "uts", "mount", "cgroup"]
