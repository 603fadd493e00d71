"""Where pivot_root(2) cannot be used: the container's root covers the host's, and there is no way round it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

import ocirt
from ocirt import Container, Spec, UnsupportedError
from ocirt.spec import Capabilities, IDMapping, Namespace
from tests.support import SECONDS, Lab, document, linux, process, said, shell

pytestmark = pytest.mark.root

ESCAPE = r"""
/* As root leaves a chroot(2): by a root directory below its working directory. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	mkdir("/tmp/below", 0755);
	if (chdir("/") < 0 || chroot("/tmp/below") < 0)
		return 2;
	for (int i = 0; i < 100; i++)
		if (chdir("..") < 0)
			return 3;
	if (chroot(".") < 0)
		return 4;
	puts(access("/marker", F_OK) == 0 ? "inside" : "escaped");
	return 0;
}
"""


def created(lab: Lab, spec: Spec) -> Container:
    return Container.create(
        lab.new_id(),
        lab.bundle(spec),
        root=lab.root,
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        pivot_root=False,
    )


def output(lab: Lab, spec: Spec) -> str:
    with created(lab, spec) as container:
        container.start()
        return said(container)


def test_the_container_sees_its_own_tree(own_lab: Lab) -> None:
    (own_lab.rootfs / "marker").touch()
    pivoted = own_lab.output(shell("ls /; cat /proc/self/mountinfo | wc -l; pwd; cat /proc/1/comm"))
    assert output(own_lab, shell("ls /; cat /proc/self/mountinfo | wc -l; pwd; cat /proc/1/comm")) == pivoted
    assert "marker" in pivoted


def test_the_same_bundle_pivots_or_not_as_each_container_says(lab: Lab) -> None:
    bundle = lab.bundle(document("true"))
    for pivots in (True, False, True):
        with Container.create(lab.new_id(), bundle, root=lab.root, pivot_root=pivots) as container:
            container.start()
            assert container.wait(SECONDS) == 0
    assert len({str(prepared.launch.plan) for prepared in bundle._prepared.values()}) == 1


def test_executed_processes_stand_in_that_tree_too(own_lab: Lab) -> None:
    (own_lab.rootfs / "marker").touch()
    with created(own_lab, document("sleep", "1000")) as container:
        container.start()
        done = container.exec(["ls", "/marker"], stdout=PIPE, stderr=STDOUT)
        assert done.communicate(timeout=SECONDS)[0] == b"/marker\n"


def test_root_does_not_get_out_by_chroot(own_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "escape.c").write_text(ESCAPE)
    program = str(own_lab.rootfs / "bin/escape")
    subprocess.run(["gcc", "-static", "-o", program, str(tmp_path / "escape.c")], check=True)
    (own_lab.rootfs / "marker").touch()
    may = ("CAP_SYS_CHROOT",)
    caps = Capabilities(bounding=may, effective=may, permitted=may)
    spec = document("escape").evolve(process=process("escape", capabilities=caps))
    assert output(own_lab, spec.evolve(root=spec.root.evolve(readonly=False))) == "inside\n"


NESTED = "unshare -U -r -m -p -f sh -c 'mount -t proc proc /tmp 2>&1 && echo mounted'"


@pytest.mark.parametrize("outer", [False, True])
def test_masks_are_not_gone_round_by_a_user_namespace(lab: Lab, outer: bool) -> None:
    """The kernel mounts procfs there only if one without masks is in view; the host's is none of these."""
    changes: dict[str, object] = {}
    if outer:
        mapping = (IDMapping(0, 0, 65536),)
        changes = {
            "namespaces": (*linux().namespaces, Namespace("user")),
            "uid_mappings": mapping,
            "gid_mappings": mapping,
        }
    program = process("sh", "-c", NESTED, user=process().user.evolve(uid=1000, gid=1000))
    masked = document(process=program, linux=linux(**changes))
    assert "mounted" not in output(lab, masked)
    assert "mounted" not in lab.output(masked)
    bare = masked.evolve(linux=linux(**changes, masked_paths=(), readonly_paths=()))
    assert "mounted" in output(lab, bare)


def test_the_hosts_mounts_stay_where_they_are(lab: Lab) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    for wanted in (None, "slave", "rslave", "shared", "rshared", "unbindable"):
        output(lab, document("true", linux=linux(rootfs_propagation=wanted)))
    assert Path("/proc/self/mountinfo").read_text() == before
    assert Path("/proc/self/stat").exists()
    assert Path("/sys/kernel").is_dir()


@pytest.mark.parametrize("wanted", ["private", "rprivate"])
def test_what_would_not_hear_of_the_hosts_unmounts_is_refused(lab: Lab, wanted: str) -> None:
    with pytest.raises(UnsupportedError, match="is not safe without pivot_root"):
        created(lab, document("true", linux=linux(rootfs_propagation=wanted)))


INITRAMFS = r"""
import ctypes, os, subprocess, sys

CLONE_NEWNS, MS_PRIVATE, MS_REC, MNT_DETACH = 0x20000, 1 << 18, 0x4000, 2
OPEN_TREE, MOVE_MOUNT = 428, 429
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result

def tree(path):  # OPEN_TREE_CLONE | AT_RECURSIVE
    return call("syscall", OPEN_TREE, -100, path, 0x8001)

call("unshare", CLONE_NEWNS)
call("mount", None, b"/", None, MS_PRIVATE | MS_REC, None)
own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
trees = {place: tree(place.encode()) for place in ("/", "/proc", "/dev", "/sys")}
where, loader, program = os.getcwd(), *("/mnt" + os.path.realpath(path) for path in (sys.argv[3], sys.executable))
call("umount2", b"/", MNT_DETACH)
call("setns", own, CLONE_NEWNS)  # whose root is the one that the kernel itself has mounted
places = {"/": "/mnt", "/proc": "/proc", "/dev": "/dev", "/sys": "/sys"}
if not all(os.path.isdir(place) for place in places.values()):
    sys.exit(77)
for place, fd in trees.items():
    call("syscall", MOVE_MOUNT, fd, b"", -100, places[place].encode(), 4)
os.chdir("/mnt" + where)
environment = {"PYTHONHOME": "/mnt" + sys.base_prefix, "PYTHONPATH": sys.argv[1], "PYTHONDONTWRITEBYTECODE": "1"}
libraries = ":".join("/mnt" + path for path in ("/lib", "/usr/lib", "/lib64", *sys.argv[2].split(":")))
line = [loader, "--library-path", libraries, program, "-m", "ocirt", "--root", "/mnt" + where + "/initramfs"]
os.execve(loader, [*line, *sys.argv[4:]], environment)
"""


def in_initramfs(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of ours where ``/`` is the root that the kernel has made for itself, below all others.

    Nothing is written there: this host's tree is mounted on a directory that is there, in a mount namespace that is
    gone afterwards.
    """
    told = subprocess.run(["ldd", os.path.realpath(sys.executable)], capture_output=True, text=True, check=True).stdout
    found = [word for line in told.splitlines() for word in line.split() if word.startswith("/")]
    loader = next((path for path in found if "/ld-" in path), "")
    libraries = ":".join(sorted({os.path.dirname(path) for path in found}))
    packages = ":".join(f"/mnt{os.path.realpath(path)}" for path in sys.path if path and os.path.isdir(path))
    ours = Path(ocirt.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", INITRAMFS, f"/mnt{ours}:{packages}", libraries, loader, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=directory,
    )
    if done.returncode == 77:
        pytest.skip("the kernel's own root has no /mnt, /proc, /dev and /sys to mount on")
    return done


def test_a_container_runs_in_an_initramfs(own_lab: Lab) -> None:
    """pivot_root(2) refuses a root that is mounted on nothing."""
    (own_lab.rootfs / "marker").touch()
    bundle = own_lab.bundle(shell("ls /marker; ls -d /mnt; cat /proc/1/comm; true"))
    words = ("--bundle", f"/mnt{bundle.path}")
    config = bundle.path / "config.json"
    config.write_text(config.read_text().replace(str(own_lab.rootfs), f"/mnt{own_lab.rootfs}"))
    before = Path("/proc/self/mountinfo").read_text()
    refused = in_initramfs(own_lab.directory, "run", *words, own_lab.new_id())
    assert refused.returncode == 1
    assert "do without pivot_root(2) (--no-pivot)" in refused.stderr
    done = in_initramfs(own_lab.directory, "run", "--no-pivot", *words, own_lab.new_id())
    assert (done.returncode, done.stdout) == (0, "/marker\nsh\n"), done.stderr
    assert Path("/proc/self/mountinfo").read_text() == before
