"""Cache and memory bandwidth by resctrl (config-linux.md, Intel RDT; the kernel's filesystems/resctrl.rst).

A directory of resctrl is a class of service: a ``schemata`` that says what it may use, and ``tasks``, who is in it; a
child is born into its parent's. So the container's first process is put there before it has children.

Whose a directory is decides who removes it: one that is named after the container goes with it, one that ``closID``
names stays, as do all that were there before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ocirt.errors import SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.spec import IntelRdt

ORIGIN: Final = "linux.intelRdt"

MOUNTINFO = "/proc/self/mountinfo"
"""Where to look for resctrl; a variable, since tests show a tree of their own."""

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

NOT_ENABLED: Final = "intelRdt is specified in config, but Intel RDT is not enabled"
PRE_CREATED: Final = (
    "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty)"
)

Schema = Mapping[str, Mapping[str, int | str]]
"""By resource and by domain: a bit mask, a percentage, or what is neither."""


class Line(NamedTuple):
    """One line for ``schemata``, and who asks for it."""

    origin: str
    text: str


class Group(NamedTuple):
    """Where a container's processes go."""

    root: str
    directory: str
    monitoring: str | None
    lines: tuple[Line, ...]
    own: bool
    """Named after the container, and so removed with it."""

    @property
    def joined(self) -> tuple[str, ...]:
        """Every directory that lists the processes; a monitoring group takes only those of its class."""
        return (self.directory, self.monitoring) if self.monitoring else (self.directory,)

    @property
    def made(self) -> tuple[str, ...]:
        """What goes with the container, innermost first."""
        own = (self.directory,) if self.own else ()
        return (self.monitoring, *own) if self.monitoring else own


def find() -> str | None:
    """Where resctrl is mounted, by proc_pid_mountinfo(5)."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            mount, _, filesystem = line.partition(" - ")
            if filesystem.startswith("resctrl "):
                return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), mount.split()[4])
    return None


def survey(wanted: IntelRdt, container_id: str) -> Group:
    """Where the container belongs, having looked whether it may; nothing is made.

    :raises UnsupportedError: no such hardware, or no resctrl.
    :raises SetupError: the class is not there, or not as config.json has it.
    """
    root = find()
    if root is None:
        raise UnsupportedError(ORIGIN, f"{NOT_ENABLED}: mount -t resctrl resctrl /sys/fs/resctrl")
    _check_hardware(root, wanted)
    name = wanted.clos_id
    directory = root if name == "/" else f"{root}/{name or container_id}"
    monitoring = f"{directory}/mon_groups/{container_id}" if wanted.enable_monitoring else None
    group = Group(root, directory, monitoring, tuple(_lines(wanted)), name is None)
    _check(group)
    return group


def _check_hardware(root: str, wanted: IntelRdt) -> None:
    needs = (
        ("l3CacheSchema", wanted.l3_cache_schema, ("L3", "L3CODE"), "Intel RDT/CAT is not enabled"),
        ("memBwSchema", wanted.mem_bw_schema, ("MB",), "Intel RDT/MBA is not enabled"),
        ("enableMonitoring", wanted.enable_monitoring, ("L3_MON",), "Intel RDT monitoring is not enabled"),
    )
    for member, value, resources, missing in needs:
        if value and not any(os.path.isdir(f"{root}/info/{resource}") for resource in resources):
            raise UnsupportedError(f"{ORIGIN}.{member}", f"intelRdt.{member} is specified in config, but {missing}")


def _lines(wanted: IntelRdt) -> Iterator[Line]:
    """In the order of config-linux.md; a later line overrides an earlier one."""
    if wanted.l3_cache_schema:
        yield Line(f"{ORIGIN}.l3CacheSchema", wanted.l3_cache_schema)
    if wanted.mem_bw_schema:
        yield Line(f"{ORIGIN}.memBwSchema", wanted.mem_bw_schema)
    yield from (Line(f"{ORIGIN}.schemata[{index}]", line) for index, line in enumerate(wanted.schemata))


def _check(group: Group) -> None:
    there = os.path.isdir(group.directory)
    if group.own and there:
        raise SetupError(
            ORIGIN, "MakeRdtGroup", "mkdir", errno.EEXIST, group.directory, "it is somebody else's: name it with closID"
        )
    if not group.own and not there and not group.lines:
        raise SetupError(f"{ORIGIN}.closID", "JoinRdtGroup", "stat", errno.ENOENT, group.directory, PRE_CREATED)
    if there:
        _compare(group)


def make(group: Group, undo: contextlib.ExitStack) -> None:
    """Make what is missing of it; ``undo`` takes that back, also a class that is to stay once the container stands.

    All who change resctrl hold flock(2) on its root (resctrl.rst), so nobody sees a class without its schemata.
    """
    root = os.open(group.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(root, fcntl.LOCK_EX)
        if os.path.isdir(group.directory):
            _check(group)
        else:
            _mkdir(group.directory, undo)
            for line in group.lines:
                _write(f"{group.directory}/schemata", line.text, line.origin, "WriteSchemata")
        if group.monitoring:
            _mkdir(group.monitoring, undo, f"{ORIGIN}.enableMonitoring")
    finally:
        os.close(root)


@contextlib.contextmanager
def replaced(directory: str, lines: Sequence[Line]) -> Iterator[None]:
    """Other schemata for a class; if one is refused, or the block fails, they are what they were."""
    before = _read(f"{directory}/schemata").split("\n")
    try:
        for line in lines:
            _write(f"{directory}/schemata", line.text, line.origin, "WriteSchemata")
        yield
    except BaseException:
        resources = {line.text.partition(":")[0].strip() for line in lines}
        for text in before:
            if text.partition(":")[0].strip() in resources:
                with contextlib.suppress(SetupError):
                    _write(f"{directory}/schemata", text.strip(), ORIGIN, "WriteSchemata")
        raise


def join(directories: Sequence[str], pid: int) -> None:
    """Put a process there, and so all its future children."""
    for directory in directories:
        _write(f"{directory}/tasks", str(pid), ORIGIN, "JoinRdtGroup")


def remove(directories: Sequence[str]) -> None:
    """As far as they are still there; whoever is in one falls back to the class above."""
    for directory in directories:
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SetupError(ORIGIN, "RemoveRdtGroup", "rmdir", error.errno or 0, directory) from error


def _mkdir(directory: str, undo: contextlib.ExitStack, origin: str = ORIGIN) -> None:
    try:
        os.mkdir(directory, 0o755)
    except OSError as error:
        raise SetupError(origin, "MakeRdtGroup", "mkdir", error.errno or 0, directory) from error
    undo.callback(_remove_unused, directory)


def _remove_unused(directory: str) -> None:
    """Our process is gone; if others have come meanwhile, they stay."""
    with contextlib.suppress(OSError), open(f"{directory}/tasks", encoding="ascii") as tasks:
        if tasks.read().strip():
            return
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _write(path: str, line: str, origin: str, operation: str) -> None:
    """In one write(2), as resctrl wants it; why it refuses one, it says in a file of its own."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno == errno.ESRCH:
            return  # it has ended, and whoever waits for it learns why
        reason = _read(f"{find() or ''}/info/last_cmd_status").strip()
        raise SetupError(origin, operation, "write", error.errno or 0, f"{path} {line}", reason) from error


def _compare(group: Group) -> None:
    """A class that is there already must be what config.json says of it (config-linux.md, closID)."""
    found = parse(_read(f"{group.directory}/schemata").splitlines())
    step = _bandwidth_step(group.root)
    overridden = parse(line.text for line in group.lines)
    for line in group.lines:
        for resource, domains in parse([line.text]).items():
            for domain in domains:
                value = overridden[resource][domain]
                there = found.get(resource, {}).get(domain)
                if _rounded(resource, value, step) != there:
                    raise _mismatch(group, line, resource, domain)


def _mismatch(group: Group, line: Line, resource: str, domain: str) -> SetupError:
    return SetupError(
        line.origin,
        "JoinRdtGroup",
        "",
        errno.EEXIST,
        f"{group.directory} with {line.text!r}",
        f"its schemata say otherwise of {resource}:{domain}; use another closID, or leave the schemata out",
    )


def parse(lines: Sequence[str] | Iterator[str]) -> Schema:
    """``L3:0=f;1=0f0`` as values, so that blanks, leading zeros, order and who said it do not matter."""
    schema: dict[str, dict[str, int | str]] = {}
    for line in lines:
        resource, _, rest = line.partition(":")
        domains = schema.setdefault(resource.strip(), {})
        for part in filter(str.strip, rest.split(";")):
            domain, _, value = part.partition("=")
            domains[_number(domain, 10)] = _value(resource.strip(), value.strip())
    return schema


def _number(text: str, base: int) -> str:
    try:
        return str(int(text, base))
    except ValueError:
        return text.strip()


def _value(resource: str, text: str) -> int | str:
    """A cache's is a mask in hexadecimal digits, a bandwidth's a decimal number."""
    try:
        return int(text, 16 if resource.startswith("L") else 10)
    except ValueError:
        return text


def _bandwidth_step(root: str) -> int:
    """The kernel rounds a percentage up to a multiple of this. Megabytes per second (mba_MBps) it does not round."""
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        if any(" - resctrl " in line and "mba_MBps" in line for line in file):
            return 1
    text = _read(f"{root}/info/MB/bandwidth_gran").strip()
    return int(text) if text.isdigit() and int(text) else 1


def _rounded(resource: str, value: int | str, step: int) -> int | str:
    return -(-value // step) * step if resource == "MB" and isinstance(value, int) else value


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
