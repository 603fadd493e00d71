"""The rules of the OCI documents that types cannot express; each problem has the path of what breaks a rule.

Here is the order of the rules and those that look at several members at once; ``check_process.py``,
``check_mounts.py`` and ``check_linux.py`` hold those that look at one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from ocirt.errors import Problem
from ocirt.spec import check_linux, check_mounts, check_process
from ocirt.spec.base import Relation, relation
from ocirt.spec.config import Process, Spec

if TYPE_CHECKING:
    from ocirt.spec.base import Document
    from ocirt.spec.config import Hook

NAMESPACES: Final = "linux.namespaces"

# The grammar of https://semver.org, version 2.0.0.
_NUMBER: Final = r"(?:0|[1-9]\d*)"
_TAG: Final = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
SEMVER: Final = re.compile(
    rf"({_NUMBER})\.{_NUMBER}\.{_NUMBER}(?:-{_TAG}(?:\.{_TAG})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?", re.ASCII
)


def check(document: Document, broken: Iterable[str] = ()) -> list[Problem]:
    """What breaks a rule in ``document``, saying nothing of what depends on the paths known to be ``broken``."""
    known = tuple(broken)
    problems = check_process.process(document, "") if isinstance(document, Process) else _problems(document)
    return [problem for problem in problems if not _depends(problem.path, known)]


def _problems(document: Document) -> Iterator[Problem]:
    assert isinstance(document, Spec)
    for rule in RULES:
        yield from rule(document)


def _depends(path: str, broken: Iterable[str]) -> bool:
    """Whether ``path``, or what it stands in relation to, is or holds or lies in something broken."""
    places = (path, *path.others) if isinstance(path, Relation) else (path,)
    return any(_holds(place, other) or _holds(other, place) for other in broken for place in places)


def _holds(outer: str, inner: str) -> bool:
    return not outer or (inner.startswith(outer) and inner[len(outer) : len(outer) + 1] in ("", ".", "["))


def _version(spec: Spec) -> Iterator[Problem]:
    """Any version 1, also a minor one that is newer than ours.

    SemVer 2.0.0 has what is new in it be optional, what we do not know we must ignore (config.md, Extensibility), and
    engines write the version of the library that they were built with. Of another major version nothing is known.
    """
    version = SEMVER.fullmatch(spec.oci_version)
    if version is None:
        yield Problem("ociVersion", spec.oci_version, "is not a version as SemVer 2.0.0 writes it")
    elif version[1] not in ("0", "1"):
        yield Problem("ociVersion", spec.oci_version, "is beyond version 1 of the runtime specification")


def _root(spec: Spec) -> Iterator[Problem]:
    if not spec.root.path:
        yield Problem("root.path", spec.root.path, "must not be empty")


def _process(spec: Spec) -> Iterator[Problem]:
    if spec.process is not None:
        yield from check_process.process(spec.process, "process")


def _mounts(spec: Spec) -> Iterator[Problem]:
    for index, mount in enumerate(spec.mounts):
        yield from check_mounts.mount(mount, f"mounts[{index}]")


def _names(spec: Spec) -> Iterator[Problem]:
    """sethostname(2) takes 64 bytes."""
    for member, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name is not None and len(name.encode("utf-8", "surrogateescape")) > 64:
            yield Problem(member, name, "is longer than 64 bytes")


def _hooks(spec: Spec) -> Iterator[Problem]:
    hooks = spec.hooks
    if hooks is None:
        return
    yield from _hooks_of("prestart", hooks.prestart)
    yield from _hooks_of("createRuntime", hooks.create_runtime)
    yield from _hooks_of("createContainer", hooks.create_container)
    yield from _hooks_of("startContainer", hooks.start_container)
    yield from _hooks_of("poststart", hooks.poststart)
    yield from _hooks_of("poststop", hooks.poststop)


def _hooks_of(kind: str, hooks: tuple[Hook, ...]) -> Iterator[Problem]:
    for index, hook in enumerate(hooks):
        path = f"hooks.{kind}[{index}]"
        if not hook.path.startswith("/"):
            yield Problem(f"{path}.path", hook.path, "must be an absolute path")
        if hook.timeout is not None and hook.timeout <= 0:
            yield Problem(f"{path}.timeout", hook.timeout, "must be greater than 0")
        yield from check_process.environment(hook.env, f"{path}.env")


def _annotations(spec: Spec) -> Iterator[Problem]:
    if "" in spec.annotations:
        yield Problem("annotations", spec.annotations[""], "needs a key that is not empty")


def _linux(spec: Spec) -> Iterator[Problem]:
    if spec.linux is not None:
        yield from check_linux.linux(spec.linux)


# Rules that look at several members.


def _namespace_types(spec: Spec) -> frozenset[str]:
    return frozenset(namespace.type for namespace in spec.linux.namespaces) if spec.linux else frozenset()


def _joined(spec: Spec, kind: str) -> bool:
    namespaces = spec.linux.namespaces if spec.linux else ()
    return any(namespace.type == kind and namespace.path is not None for namespace in namespaces)


def _names_need_uts(spec: Spec) -> Iterator[Problem]:
    for member, name in (("hostname", spec.hostname), ("domainname", spec.domainname)):
        if name and "uts" not in _namespace_types(spec):
            rule = f"is refused: unable to set {member} without a private UTS namespace; add uts to linux.namespaces"
            yield Problem(relation(member, NAMESPACES), name, rule)


def _user_namespace(spec: Spec) -> Iterator[Problem]:
    """Mappings and the namespace they are for belong together."""
    if spec.linux is None:
        return
    mappings = {"uidMappings": spec.linux.uid_mappings, "gidMappings": spec.linux.gid_mappings}
    if "user" not in _namespace_types(spec):
        rule = "user namespace mappings specified, but user namespace isn't enabled in the config"
        yield from (
            Problem(relation(f"linux.{name}", NAMESPACES), None, rule) for name, given in mappings.items() if given
        )
    elif not _joined(spec, "user"):
        rule = "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        yield from (
            Problem(relation(f"linux.{name}", NAMESPACES), None, rule) for name, given in mappings.items() if not given
        )


def _time_namespace(spec: Spec) -> Iterator[Problem]:
    """Offsets can only be set before anybody is in the namespace, see time_namespaces(7)."""
    if spec.linux is None or not spec.linux.time_offsets:
        return
    if "time" not in _namespace_types(spec):
        rule = "time namespace offsets specified, but time namespace isn't enabled in the config"
        yield Problem(relation("linux.timeOffsets", NAMESPACES), None, rule)
    elif _joined(spec, "time"):
        rule = "time namespace enabled, but both namespace path and time offsets specified; leave one of them out"
        yield Problem(relation("linux.timeOffsets", NAMESPACES), None, rule)


def _idmapped_mounts(spec: Spec) -> Iterator[Problem]:
    """An ID-mapped mount without mappings of its own takes those of the container (config.md, idmap)."""
    if "user" in _namespace_types(spec):
        return
    for index, mount in enumerate(spec.mounts):
        for place, option in enumerate(mount.options):
            if option in ("idmap", "ridmap") and not (mount.uid_mappings and mount.gid_mappings):
                rule = "needs uidMappings and gidMappings, or a user namespace to take them from"
                at = f"mounts[{index}]"
                where = relation(f"{at}.options[{place}]", NAMESPACES, f"{at}.uidMappings", f"{at}.gidMappings")
                yield Problem(where, option, rule)


Rule: TypeAlias = Callable[[Spec], Iterator[Problem]]

RULES: Final[tuple[Rule, ...]] = (
    _version,
    _root,
    _mounts,
    _process,
    _names,
    _linux,
    _hooks,
    _annotations,
    _names_need_uts,
    _user_namespace,
    _time_namespace,
    _idmapped_mounts,
)
