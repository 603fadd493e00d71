"""On a host whose mounts are shared, as systemd's are, a container's mounts are the container's alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ocirt.spec import IDMapping, Mount
from tests.support import SECONDS, Lab, document, linux, namespaces

pytestmark = pytest.mark.root

SCRIPT = """
import json, sys
from ocirt import Container
id, bundle, root, own = sys.argv[1:]
def mounts():
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file]
with open("/proc/self/mountinfo") as file:
    assert any(line.split()[4] == own and "shared:" in line for line in file)
before = mounts()
with Container.create(id, bundle, root=root, stdin=-3, stdout=-3, stderr=-3) as container:
    container.start()
    print(json.dumps([mount for mount in mounts() if mount not in before]))
"""

TYPES = ("pid", "mount", "ipc", "uts", "network")
MAPPED = (IDMapping(0, 100_000, 65536),)


@pytest.mark.parametrize("types", [TYPES, (*TYPES, "user")], ids=["root", "user namespace"])
def test_what_a_container_mounts_is_not_mounted_on_the_host(lab: Lab, types: tuple[str, ...]) -> None:
    maps = MAPPED if "user" in types else ()
    described = linux(namespaces=namespaces(*types), uid_mappings=maps, gid_mappings=maps)
    spec = document("sleep", "600", linux=described)
    source = lab.directory / "source"
    (source / "inner").mkdir(parents=True)
    bind = Mount("/mnt", None, str(source), ("rbind",))
    inner = Mount("/mnt/inner", "tmpfs", "tmpfs")
    bundle = lab.bundle(spec.evolve(mounts=(*spec.mounts, bind, inner))).path
    own = str(lab.directory)
    host = 'mount --bind "$1" "$1" && mount --bind "$2" "$2" && shift 2 && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", host, "sh", own, str(lab.rootfs)]
    arguments = [sys.executable, "-c", SCRIPT, lab.new_id(), str(bundle), str(lab.root), own]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
