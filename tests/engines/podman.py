"""podman and buildah in a place of their own, with ocirt as their runtime and busybox as the one image.

The configuration is that of docs/engines.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve, frozen

from tests.engines.images import busybox_image
from tests.engines.ordinary import ordinary
from tests.engines.place import Place, place
from tests.support import busybox, eventually

IMAGE = "localhost/busybox"

CONTAINERS_CONF = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "ocirt"
runtime_supports_json = ["ocirt"]
runtime_supports_nocgroup = ["ocirt"]
[engine.runtimes]
ocirt = ["{ocirt}"]
"""
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
"""containers-policy.json(5), without which no image is taken."""

PARENT = "libpod_parent"
"""The cgroup that podman makes for all its containers and never removes; those of pods it forgets now and then."""


@frozen
class Podman:
    """podman for one person."""

    place: Place

    def __call__(self, *args: str, input: str = "", pass_fds: Sequence[int] = ()) -> str:
        """What it printed; it must succeed."""
        return self.place.run("podman", *args, input=input, pass_fds=pass_fds)

    def tried(self, *args: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return self.place.tried("podman", *args, input=input)

    def run(self, *args: str, input: str = "") -> str:
        """What a container without a network said."""
        return self("run", "--rm", "--network=none", *args, input=input)

    def started(self, *args: str) -> str:
        """The id of one that goes on."""
        return self("run", "--detach", "--network=none", *args).strip()

    def inspected(self, container: str) -> dict[str, object]:
        (found,) = json.loads(self("container", "inspect", container))
        assert isinstance(found, dict)
        return found

    def state(self, container: str) -> dict[str, object]:
        state = self.inspected(container)["State"]
        assert isinstance(state, dict)
        return state

    def remove_all(self) -> None:
        """Containers and pods."""
        self("pod", "rm", "--all", "--force", "--time=0")
        self("rm", "--all", "--force", "--time=0")

    def logs(self, container: str) -> str:
        return self("logs", container)


def need(*programs: str) -> None:
    """Skip where one of them is not installed."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (make test installs them as root on Debian: ENGINE_PACKAGES)")
    if busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")


@contextmanager
def furnished(*, rootless: bool = False) -> Iterator[Place]:
    """A place with the configuration and the image's archive, for root or for an ordinary user."""
    need("conmon", "podman", *(["newuidmap"] if rootless else []))
    before = cgroups()
    try:
        with place() as there:
            yield _furnished(there, rootless=rootless)
    finally:
        remove_cgroups(cgroups() - before)


def _furnished(there: Place, *, rootless: bool) -> Place:
    (there.directory / "containers.conf").write_text(CONTAINERS_CONF.format(ocirt=there.log.program))
    there.memory_on("/etc/containers", "/var/lib/containers")
    there.run("tee", "/etc/containers/policy.json", input=POLICY)
    # Other drivers are slow, and an ordinary user who asks for none may get one, depending on what is installed.
    variables = {"CONTAINERS_CONF": f"{there.directory}/containers.conf", "STORAGE_DRIVER": "overlay"}
    there = there.by(evolve(there.person, env=variables))
    archive = busybox_image().docker_archive(there.directory / "busybox.tar")
    there = ordinary(there) if rootless else there
    there.run("podman", "load", "--quiet", "--input", str(archive))
    return there


@contextmanager
def watched(podman: Podman) -> Iterator[Podman]:
    """For one test: afterwards none of its containers is there, and ocirt alone was called.

    Those that have ended are podman's alone, and go with the place.
    """
    try:
        yield podman
    finally:
        if states(podman.place):
            podman.remove_all()
    eventually(lambda: states(podman.place) == [], f"no state is left: {states(podman.place)}")
    assert podman.place.log.others() == []


def states(place: Place) -> list[str]:
    """The ids of containers that ocirt keeps."""
    root = place.person.env.get("XDG_RUNTIME_DIR", "/run")
    return place.tried("ls", f"{root}/ocirt").stdout.split()


def skip_if_it_was_the_engines(place: Place, done: subprocess.CompletedProcess[str], before: int) -> None:
    """An engine that fails before it has called a runtime says nothing of ocirt; ``before`` is how long the log was."""
    if done.returncode != 0 and place.log.calls()[before:] == []:
        pytest.skip(f"{done.args[0]} cannot do this here: {done.stderr.strip()}")


def cgroups() -> set[Path]:
    """Those of podman's, in every hierarchy."""
    top = Path("/sys/fs/cgroup")
    parents = [folder / PARENT for folder in (top, *top.iterdir())]
    return {Path(path) for parent in parents for path, _, _ in os.walk(parent)}


def remove_cgroups(made: set[Path]) -> None:
    """The deepest first, and not those that another podman uses meanwhile."""
    for path in sorted(made, reverse=True):
        eventually(partial(_removed_or_used, path), f"{path} is empty")


def _removed_or_used(path: Path) -> bool:
    """The kernel may count a process for a moment that has ended."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        children = any(entry.is_dir() for entry in path.iterdir())
        return children or (path / "cgroup.procs").read_text() != ""
    return True
