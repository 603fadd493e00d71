"""The members that the classes of ``ocirt.spec`` have, and the least configurations that have a certain one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from ocirt.errors import SpecError
from ocirt.spec import JSON, OCIObject, Spec, convert
from tests.members import BASES, MAPPED, PLAIN, VALUES, Object, copied, put


def member_paths(cls: type[OCIObject] = Spec, outer: str = "") -> Iterator[str]:
    """Every member, below its object: ``mounts[].options`` is one of a list, ``linux.rdma.*.hcaHandles`` of a map."""
    for member in convert._members(cls):
        path = f"{outer}{member.key}"
        yield path
        kind = convert._type_of(member)
        mark = "[]" if convert._is_tuple(kind) else ".*" if convert._is_mapping(kind) else ""
        inner = get_args(kind)[-1] if convert._is_mapping(kind) else get_args(kind)[0] if mark else kind
        if isinstance(inner, type) and issubclass(inner, OCIObject):
            yield from member_paths(inner, f"{path}{mark}.")


def documents_with(path: str) -> Iterator[Object]:
    """Valid configurations that have the member at ``path`` and as little beside it as there can be."""
    root = next((name for name in VALUES if f"{path}.".startswith((f"{name}.", f"{name}["))), None)
    if root is None:
        yield from _documents_with_object(path)
        return
    inner = _parts(path[len(root) :].lstrip("."))
    values = [value for value in VALUES[root] if _has(value, inner)]
    pruned = [*_documents_of(root, [_pruned(value, inner) for value in values])]
    yield from pruned or _documents_of(root, values)


NEEDS: Final[Mapping[str, tuple[str, JSON]]] = {
    "process.consoleSize": ("process.terminal", True),
    "linux.mountLabel": ("mounts", VALUES["mounts"][0]),
}
"""What a member has no meaning without."""


def _documents_of(path: str, values: list[JSON]) -> Iterator[Object]:
    """The valid ones of those with one of these values, without a user namespace and with one."""
    for value in values:
        for base in (PLAIN, MAPPED):
            document = copied(base)
            if path in NEEDS:
                put(document, *NEEDS[path])
            put(document, path, value)
            if _is_valid(document):
                yield document


def _documents_with_object(path: str) -> Iterator[Object]:
    """With one that has no value of its own: as its members have, or as every configuration has."""
    below = next((name for name in VALUES if name.startswith(f"{path}.")), path)
    for base in BASES:
        document = copied(base)
        if below in VALUES:
            put(document, below, VALUES[below][0])
        if _has(document, _parts(path)) and _is_valid(document):
            yield document


def _is_valid(document: Object) -> bool:
    try:
        Spec.from_json(document)
    except SpecError:
        return False
    return True


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("[]", ".*").split(".") if part)


def _inner(value: JSON) -> list[JSON]:
    """The elements of a list or a map."""
    return [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []


def _has(value: JSON, parts: tuple[str, ...]) -> bool:
    if not parts:
        return True
    if parts[0] == "*":
        return any(_has(inner, parts[1:]) for inner in _inner(value))
    return isinstance(value, dict) and parts[0] in value and _has(value[parts[0]], parts[1:])


REQUIRED: Final = frozenset(
    (
        "type destination source path major minor policy class hard soft uid gid allow limit pageSize name priority"
        " defaultAction names action index value op domain mode containerID hostID size height width"
    ).split()
)
"""Names of members that some object needs; keeping one too many does no harm."""


def _pruned(value: JSON, parts: tuple[str, ...]) -> JSON:
    """``value`` with one element of a list or map, and of an object what is required or leads on."""
    if not parts:
        return value
    if parts[0] == "*":
        if isinstance(value, dict):
            return dict(
                [next((key, _pruned(inner, parts[1:])) for key, inner in value.items() if _has(inner, parts[1:]))]
            )
        return [next(_pruned(inner, parts[1:]) for inner in _inner(value) if _has(inner, parts[1:]))]
    assert isinstance(value, dict)
    kept = {name: inner for name, inner in value.items() if name in REQUIRED}
    return {**kept, parts[0]: _pruned(value[parts[0]], parts[1:])}


def changed_or_left_out(document: Object, path: str) -> Iterator[Object]:
    """The configuration without its member at ``path``, or, where that is wrong, with other values of it."""
    without = copied(document)
    place, name = _place_of(without, path)
    value = place.pop(name)
    if _is_valid(without):
        yield without
        return
    others = [_value_at(other, path) for other in documents_with(path)]
    for other in (*others, *_neighbours(value)):
        changed = copied(document)
        _place_of(changed, path)[0][name] = other
        if other != value and _is_valid(changed):
            yield changed


def _neighbours(value: JSON) -> list[JSON]:
    """Values of the same type that may be as good."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, value - 1]
        case str():
            return [f"{value}x"]
        case list():
            return [value[:1], value[1:]]
        case _:
            return []


def _place_of(document: JSON, path: str) -> tuple[Object, str]:
    """The first object that has such a member, and its name."""
    *outer, name = _parts(path)
    place = document
    for index, part in enumerate(outer):
        rest = (*outer[index + 1 :], name)
        if part == "*":
            place = next(inner for inner in _inner(place) if _has(inner, rest))
        else:
            assert isinstance(place, dict)
            place = place[part]
    assert isinstance(place, dict)
    return place, name


def _value_at(document: Object, path: str) -> JSON:
    place, name = _place_of(document, path)
    return place[name]
