"""Whom the program of ``docker inspect`` runs as, and what it may do: capabilities, labels, the filter, hidden paths.

Of Docker's default filter the JSON says nothing, since it is part of the daemon: that is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from ocirt.spec import config as oci
from ocirt.spec.accounts import AccountError, is_number, number, numeric
from ocirt.spec.docker_json import Part
from ocirt.spec.docker_profile import profile
from ocirt.spec.imported import Machine
from ocirt.spec.known import CAPABILITIES, did_you_mean
from ocirt.spec.seccomp import Seccomp
from ocirt.spec.text import NotJSON, parse

DEFAULT: Final = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL"
        " AUDIT_WRITE"
    ).split()
)
"""moby, oci/caps/defaults.go."""

MASKED: Final = (
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
)
READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@frozen
class Capabilities:
    """What the bounding set holds."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, host: Part) -> Capabilities:
        """moby, oci/caps/utils.go."""
        added, dropped = set(_capabilities(host, "CapAdd")), set(_capabilities(host, "CapDrop"))
        if host.boolean("Privileged"):
            return cls(CAPABILITIES)
        if "ALL" in added:
            return cls(tuple(name for name in CAPABILITIES if name not in dropped))
        base: set[str] = set() if "ALL" in dropped else set(DEFAULT) - dropped
        return cls(tuple(name for name in CAPABILITIES if name in base | added))

    def for_user(self, uid: int) -> oci.Capabilities:
        """Only root has them; for others they are the bounds of what they may get by executing a program."""
        if uid == 0:
            return oci.Capabilities(bounding=self.names, effective=self.names, permitted=self.names)
        return oci.Capabilities(bounding=self.names)


def _capabilities(host: Part, member: str) -> Iterator[str]:
    for place, text in host.numbered(member):
        name = text.upper()
        name = name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"
        if name != "ALL" and name not in CAPABILITIES:
            host.found.wrong(place, text, f"is no capability{did_you_mean(name, CAPABILITIES)}")
        yield name


def user(host: Part, config: Part, machine: Machine, root: str) -> oci.User:
    """``Config.User`` and ``GroupAdd``; names are those of the root filesystem, and never this host's."""
    text = config.text("User")
    accounts = machine.accounts(root) if machine.accounts is not None else None
    try:
        if accounts is not None:
            found = accounts.user(text)
            entry = accounts.entry_of(found.uid) if is_number(text) else None
            if entry is not None:  # Docker has the groups of whoever has that number, too
                found = found.evolve(additional_gids=accounts.groups_of(entry.name, but=found.gid))
        else:
            found = _without_accounts(config, text)
    except AccountError as error:
        config.found.wrong(config.at("User"), text, str(error))
        return oci.User()
    groups = list(found.additional_gids)
    for place, group in host.numbered("GroupAdd"):
        try:
            groups.append(accounts.group(group) if accounts is not None else number(group if is_number(group) else ""))
        except AccountError as error:
            host.found.wrong(place, group, str(error))
        except ValueError:
            host.found.note(place, group, _NAMES)
    return found.evolve(additional_gids=tuple(dict.fromkeys(groups)))


_NAMES: Final = "names are those of the root filesystem's /etc; say Machine(accounts=…), or ocirt.lookup.here()"


def _without_accounts(config: Part, text: str) -> oci.User:
    exact = numeric(text)
    if exact is not None:
        return exact
    name, _, group = text.partition(":")
    if is_number(name) and not group:
        config.found.note(config.at("User"), text, f"of its groups, {_NAMES}", became="in group 0 alone")
        return oci.User(number(name), 0)
    config.found.note(config.at("User"), text, _NAMES, became="root, 0:0")
    return oci.User()


def paths(host: Part) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Masked and read-only ones. An empty list is a choice; none is the daemon's from before 18.09."""
    unconfined = host.boolean("Privileged") or "systempaths=unconfined" in host.texts("SecurityOpt")
    masked = host.texts("MaskedPaths") if "MaskedPaths" in host else MASKED
    readonly = host.texts("ReadonlyPaths") if "ReadonlyPaths" in host else READONLY
    return ((), ()) if unconfined else (masked, readonly)


def _options(host: Part) -> Iterator[tuple[str, str, str]]:
    """Path, name and value; ``:`` is how they were written once."""
    for place, text in host.numbered("SecurityOpt"):
        name, equals, value = text.partition("=")
        if not equals:
            name, _, value = text.partition(":")
        yield place, name, value


def options(document: Part, host: Part) -> tuple[bool, str | None]:
    """``no_new_privs``, and an AppArmor profile; SELinux' label is what came of the options, ``ProcessLabel``."""
    no_new_privileges = False
    document.known("AppArmorProfile")
    named = document.text("AppArmorProfile")
    at = "AppArmorProfile"
    for place, name, value in _options(host):
        match name:
            case "no-new-privileges":
                no_new_privileges = value != "false"
                if value not in ("", "true", "false"):
                    host.found.wrong(place, f"{name}={value}", "must be true or false")
            case "apparmor":
                named, at = value, place
            case "label":
                if value != "disable" and not document.text("ProcessLabel"):
                    host.found.note(place, value, "the labels that came of it are told in ProcessLabel: there are none")
            case "seccomp" | "systempaths":
                pass
            case "writable-cgroups":
                host.found.note(place, value, "say so in the options of the mount at /sys/fs/cgroup")
            case _:
                host.found.note(place, name, "this version of ocirt does not know what it means")
    if named == "docker-default":
        host.found.note(at, named, "the daemon loads this profile, and again whenever it is gone")
        named = ""
    return no_new_privileges, None if named in ("", "unconfined") else named


def seccomp(host: Part, capabilities: oci.Capabilities | None, machine: Machine) -> Seccomp | None:
    """The last that is named, as docker's client has put it in: the whole text of the file."""
    chosen = [(place, value) for place, name, value in _options(host) if name == "seccomp"]
    if host.boolean("Privileged") and not chosen:
        return None
    place, value = chosen[-1] if chosen else (host.at("SecurityOpt"), "builtin")
    if value == "unconfined":
        return None
    if value in ("builtin", "default"):
        why = "Docker's own filter of system calls is part of the daemon; put one into linux.seccomp"
        host.found.note(place, None, why, became="no filter")
        return None
    try:
        text, doubles = parse(value)
    except NotJSON as error:
        host.found.wrong(place, value, f"is no JSON, nor builtin or unconfined: {error}")
        return None
    host.found.problems += [problem._replace(path=f"{place}: {problem.path}") for problem in doubles]
    return profile(Part(text, f"{place}.seccomp", host.found), capabilities, machine)
