"""An ordinary user of a place: known to /etc, with subordinate IDs, a home and a runtime directory."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import ocirt
from tests.engines.log import installed
from tests.engines.place import Person, Place
from tests.rootless.user import COUNT, FIRST, GID, UID

NAME = "tester"
DEVICES = {"/dev/fuse": (10, 229), "/dev/net/tun": (10, 200)}
"""Everybody's on most machines (udev's rules), root's alone where there is no udev."""


def ordinary(place: Place) -> Place:
    """The place for this user; what is changed of the machine is changed there alone."""
    for needed in (Path(ocirt.__file__), installed(), Path(sys.executable).resolve()):
        if not needed.stat().st_mode & 0o004:
            pytest.skip(f"{needed} is not for everybody to read")
    subordinate = f"{NAME}:{FIRST}:{COUNT}\n"
    home = place.directory / "home"
    for name, line in {
        "passwd": f"{NAME}:x:{UID}:{GID}::{home}:/bin/sh\n",
        "group": f"{NAME}:x:{GID}:\n",
        "subuid": subordinate,
        "subgid": subordinate,
    }.items():
        _add_line(place, Path("/etc") / name, line)
    place.memory_on(home, options=f"mode=755,uid={UID},gid={GID}")
    runtime = place.directory / "xdg"
    place.memory_on(runtime, options=f"mode=700,uid={UID},gid={GID}")
    for path, (major, minor) in DEVICES.items():
        _open_device(place, path, major, minor)
    _open_ways(place, (Path(sys.prefix), Path(sys.base_prefix), Path(ocirt.__file__).parents[1]))
    person = Person(home, {**place.person.env, "USER": NAME, "XDG_RUNTIME_DIR": str(runtime)}, (UID, GID))
    return place.by(person)


def _add_line(place: Place, path: Path, line: str) -> None:
    changed = place.directory / path.name
    changed.write_text((path.read_text("utf-8") if path.exists() else "") + line, "utf-8")
    if path.exists():
        place.cover(path, changed)


def _open_device(place: Place, path: str, major: int, minor: int) -> None:
    if not Path(path).exists():
        return
    folder = place.directory / Path(path).name
    place.memory_on(folder)
    place.run("mknod", "--mode=666", f"{folder}/node", "c", str(major), str(minor))
    place.cover(path, folder / "node")


def _open_ways(place: Place, needed: Iterable[Path]) -> None:
    """Let everybody get to these, which may lie below a home that is its owner's alone: another is mounted there."""
    closed: dict[Path, list[Path]] = {}
    for path in {path.resolve() for path in needed}:
        for ancestor in reversed(path.parents):
            if not ancestor.stat().st_mode & 0o001:
                closed.setdefault(ancestor, []).append(path)
                break
    for number, (ancestor, paths) in enumerate(closed.items()):
        kept = place.directory / f"kept-{number}"
        kept.mkdir()
        place.run("mount", "--rbind", str(ancestor), str(kept))
        place.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(ancestor))
        for path in paths:
            place.run("mkdir", "-p", str(path))
            place.run("mount", "--rbind", str(kept / path.relative_to(ancestor)), str(path))
