"""An image's configuration becomes one of the runtime: conversion.md of the image specification, row by row.

What that leaves open is as with ``ocirt spec``, but for a root filesystem that can be written to and the capabilities
that Docker gives, since images are made for both. A caller's ``base`` is the other way to have it.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterator
from typing import Final, Literal

from attrs import define, field

from ocirt.archive.paths import WITHIN, openat2
from ocirt.errors import Problem, SpecError, UnsupportedError
from ocirt.host import Host
from ocirt.image.documents import ContainerConfig, ImageConfig
from ocirt.lookup import accounts
from ocirt.spec import Capabilities, IDMapping, Linux, Mount, Process, Spec, User
from ocirt.spec.accounts import AccountError
from ocirt.spec.base import member
from ocirt.spec.docker_security import DEFAULT
from ocirt.spec.imported import LEFT_OUT, Imported, Note, safe_annotations

Volumes = Literal["tmpfs", "seed", "ignore"]

SOURCE: Final = "image configuration"
PREFIX: Final = "org.opencontainers.image."

KERNELS: Final = ("/proc", "/sys", "/dev")
"""What an image may not cover: a directory there would be taken for the kernel's own (CVE-2019-16884)."""

log = logging.getLogger("ocirt.image")


def to_spec(
    config: ImageConfig,
    rootfs_fd: int,
    *,
    volumes: Volumes = "tmpfs",
    terminal: bool | None = None,
    rootless: bool | None = None,
    base: Spec | None = None,
) -> Spec:
    """``convert`` for whoever needs no report: what was left out is logged."""
    found = convert(config, rootfs_fd, volumes=volumes, terminal=terminal, rootless=rootless, base=base)
    for note in found.notes:
        log.warning("%s", note)
    return found.spec


def convert(
    config: ImageConfig,
    rootfs_fd: int,
    *,
    volumes: Volumes = "tmpfs",
    terminal: bool | None = None,
    rootless: bool | None = None,
    base: Spec | None = None,
) -> Imported:
    """The configuration for an unpacked image.

    :param rootfs_fd: its root filesystem, an open directory: there are the users and groups, and where volumes go.
    :param volumes: an empty ``tmpfs`` for each, one with a copy of what the image has there (``seed``), or nothing.
    :param terminal: whether the program is to have one; images do not say, and by default ``base`` does, or none.
    :param rootless: as ``Spec.default`` has it, by default as the caller needs it.
    :param base: what to put the image's words into; its variables remain where the image has none of that name.
    :raises SpecError: the image says what cannot be, with every problem and its path (``config.User``).
    :raises UnsupportedError: it is for another operating system.
    """
    if config.os not in ("", "linux"):
        raise UnsupportedError("os", f"this is an image for {config.os}, and containers here run on linux")
    rootless = not Host.probe().privileged if rootless is None else rootless
    own = base is None
    conversion = _Conversion(config, rootfs_fd, base if base is not None else _default(rootless), own and rootless)
    spec = conversion.spec(volumes, terminal, own)
    problems = tuple(conversion.problems) or spec.check()
    if problems:
        raise SpecError(problems, SOURCE)
    return Imported(spec, tuple(conversion.notes))


def _default(rootless: bool) -> Spec:
    base = Spec.default(rootless)
    process = base.process
    assert process is not None
    granted = Capabilities(bounding=DEFAULT, effective=DEFAULT, permitted=DEFAULT)
    return base.evolve(
        root=base.root.evolve(readonly=False), process=process.evolve(terminal=False, capabilities=granted)
    )


@define
class _Conversion:
    """One image's configuration on its way into ``base``."""

    config: ImageConfig
    rootfs: int
    base: Spec
    one_id: bool
    """The base is ours and maps one user alone: whoever the program is to run as."""
    problems: list[Problem] = field(factory=list)
    notes: list[Note] = field(factory=list)

    def spec(self, volumes: Volumes, terminal: bool | None, own: bool) -> Spec:
        said = self.config.config
        user = self._user(said.user)
        process = self._process(said, user, terminal, own)
        made = self.base.evolve(process=process, annotations={**self.base.annotations, **self._annotations()})
        if self.one_id and made.linux is not None:
            made = made.evolve(linux=_mapped_to(made.linux, user))
        if volumes == "ignore":
            return made
        return made.evolve(mounts=(*made.mounts, *self._volumes(said, seed=volumes == "seed")))

    def _process(self, said: ContainerConfig, user: User, terminal: bool | None, own: bool) -> Process:
        process = self.base.process if self.base.process is not None else Process(cwd="/")
        shown = process.terminal if terminal is None else terminal
        args = (*said.entrypoint, *said.cmd)
        if args and not args[0]:
            self._wrong(f"config.{'Entrypoint' if said.entrypoint else 'Cmd'}[0]", "", "names no program")
        if said.working_dir and not said.working_dir.startswith("/"):
            self._wrong("config.WorkingDir", said.working_dir, "must be an absolute path")
        return process.evolve(
            terminal=shown,
            user=user,
            args=args or process.args,
            env=tuple(self._environment(said, process, without_term=own and not shown)),
            cwd=said.working_dir or process.cwd,
        )

    def _environment(self, said: ContainerConfig, process: Process, *, without_term: bool) -> Iterator[str]:
        """All of the image's as it is, and of others what has no name of those."""
        for index, entry in enumerate(said.env):
            if entry.find("=") < 1:
                self._wrong(f"config.Env[{index}]", entry, "must have the form NAME=value")
            yield entry
        names = {entry.partition("=")[0] for entry in said.env}
        for entry in process.env:
            name = entry.partition("=")[0]
            if name not in names and not (without_term and name == "TERM"):
                yield entry

    def _user(self, text: str) -> User:
        """Absent, it is the base's. Other groups only come with a name that stands alone (conversion.md, User)."""
        if not text:
            return self.base.process.user if self.base.process is not None else User()
        try:
            user = accounts(self.rootfs).user(text)
        except AccountError as error:
            self._wrong("config.User", text, str(error))
            return User()
        if not self.one_id or not user.additional_gids:
            return user
        why = f"an ordinary user's container has one group; these are left out: {user.additional_gids}"
        self.notes.append(Note("config.User", text, "without other groups", why))
        return user.evolve(additional_gids=())

    def _annotations(self) -> dict[str, str]:
        """The implicit ones, and over them the labels, none of them altered (conversion.md, Annotations)."""
        config, said = self.config, self.config.config
        implicit = {
            "os": config.os,
            "architecture": config.architecture,
            "variant": config.variant,
            "os.version": config.os_version,
            "os.features": ",".join(config.os_features),
            "author": config.author or "",
            "created": config.created or "",
            "stopSignal": said.stop_signal,
            "exposedPorts": ",".join(sorted(said.exposed_ports)),
        }
        labels, notes = safe_annotations(dict(said.labels), "config.Labels")
        if "" in labels:
            why = "an annotation needs a key that is not empty"
            notes.append(Note("config.Labels", labels.pop(""), LEFT_OUT, why))
        self.notes += notes
        return {**{PREFIX + name: value for name, value in implicit.items() if value}, **labels}

    def _volumes(self, said: ContainerConfig, *, seed: bool) -> Iterator[Mount]:
        """The outer before the inner; the kernel's own places are not an image's to cover."""
        taken = {posixpath.normpath(mount.destination) for mount in self.base.mounts}
        wanted: dict[str, str] = {}
        for path in said.volumes:
            destination = posixpath.normpath("/" + path.lstrip("/"))
            remedy = "; volumes='ignore' mounts none"
            if not path.startswith("/") or ".." in path.split("/"):
                self._wrong(member("config.Volumes", path), None, f"must be an absolute path without ..{remedy}")
            elif destination == "/" or any(_is_within(destination, place) for place in KERNELS):
                self._wrong(member("config.Volumes", path), None, f"would cover what a container needs{remedy}")
            elif destination not in taken:
                wanted[destination] = path
        for destination in sorted(wanted, key=lambda path: (path.count("/"), path)):
            options = ("tmpcopyup",) if seed else tuple(self._owner(destination))
            yield Mount(destination, "tmpfs", "tmpfs", ("nosuid", "nodev", *options))

    def _owner(self, path: str) -> Iterator[str]:
        """Of the image's directory, so that the program which the volume is for may write to it; modes come anyway.

        The IDs are the host's, and those in the container are looked for; one that it lacks is left to the kernel.
        """
        try:
            found = openat2(self.rootfs, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, WITHIN)
        except OSError:
            return
        try:
            status = os.fstat(found)
        finally:
            os.close(found)
        linux = self.base.linux if self.base.linux is not None else Linux()
        for name, id_, mappings in (
            ("uid", status.st_uid, linux.uid_mappings),
            ("gid", status.st_gid, linux.gid_mappings),
        ):
            inside = _inside(id_, mappings)
            if inside:
                yield f"{name}={inside}"

    def _wrong(self, path: str, value: object, rule: str) -> None:
        self.problems.append(Problem(path, value, rule))


def _mapped_to(linux: Linux, user: User) -> Linux:
    """The one mapping of a rootless default, for whom the image wants instead of root."""

    def mapped(mappings: tuple[IDMapping, ...], id_: int) -> tuple[IDMapping, ...]:
        return tuple(mapping.evolve(container_id=id_) for mapping in mappings)

    return linux.evolve(
        uid_mappings=mapped(linux.uid_mappings, user.uid), gid_mappings=mapped(linux.gid_mappings, user.gid)
    )


def _inside(id_: int, mappings: tuple[IDMapping, ...]) -> int | None:
    """A host's ID in the container, if it has it there."""
    if not mappings:
        return id_
    for mapping in mappings:
        if mapping.host_id <= id_ < mapping.host_id + mapping.size:
            return mapping.container_id + id_ - mapping.host_id
    return None


def _is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")
