"""JSON text to the classes of this package and back, by hooks as cattrs has them.

The hooks are ours for three reasons. A wrong member must hide nothing that is wrong elsewhere, so a hook that
fails still hands on what it could make of the rest (``Broken``). cattrs' hooks are lenient where the JSON Schema is
strict (``"7"`` for 7). And they are compiled, one function a class, for every class that a document could hold: some
40 ms, where most documents hold a dozen classes of them. Which hook a type has is a question of five lines here, so
that cattrs itself is imported only by who asks for its ``CONVERTER`` with these hooks: another tenth of a create.
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias, TypeVar, get_args, get_origin

import attrs

import ocirt.spec
from ocirt.errors import BundleError, Problem, SpecError
from ocirt.spec import base, check
from ocirt.spec.base import JSON, Bounds, Document, FreeText, OCIObject
from ocirt.spec.text import NotJSON, parse

if TYPE_CHECKING:
    from os import PathLike

    from cattrs import Converter

D = TypeVar("D", bound=Document)
Hook: TypeAlias = Callable[[object, object], object]
Factory: TypeAlias = tuple[Callable[[object], bool], Callable[..., Hook]]

MAX_DEPTH: Final = 100
"""How deeply a member that nobody here reads may nest, for writing it back is recursive."""

ENOUGH: Final = 10_000
"""Problems in one list, behind which nobody looks for more: some documents are a stranger's."""

ACRONYMS: Final = frozenset(("id", "io", "iops", "tcp", "oom", "cpu"))


def load(path: str | PathLike[str], cls: type[D]) -> D:
    name = str(path).rpartition("/")[2]
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise BundleError(name, str(path), f"JSON specification file {name} not found") from error
    except OSError as error:
        raise BundleError(name, str(path), error.strerror or str(error)) from error
    return loads(text, cls, name)


def loads(text: str | bytes, cls: type[D], source: str = "") -> D:
    source = source or _source(cls)
    try:
        value, doubles = parse(text)
    except NotJSON as error:
        raise SpecError([Problem("", None, f"is not JSON: {error}")], source) from error
    return _made(value, cls, source, doubles)


def from_json(value: JSON, cls: type[D]) -> D:
    return _made(value, cls, _source(cls), ())


def to_json(document: Document) -> dict[str, JSON]:
    return _members_of(document)


def dumps(document: Document, indent: str | int | None) -> str:
    return json.dumps(to_json(document), indent=indent, allow_nan=False)


def compact(value: OCIObject) -> bytes:
    """JSON without a space in it, the bytes of names that are no UTF-8 as they are."""
    text = json.dumps(_members_of(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogateescape")


def problems(document: Document) -> tuple[Problem, ...]:
    """Types first: a Spec built in Python without a type checker may hold anything."""
    return tuple(_structured(to_json(document), type(document))[1])


def _source(cls: type[Document]) -> str:
    return "config.json" if cls is ocirt.spec.Spec else "process.json"


def _made(value: JSON, cls: type[D], source: str, doubles: Iterable[Problem]) -> D:
    document, found = _structured(value, cls)
    found = [*doubles, *found]
    if found:
        raise SpecError(found, source)
    document.remember(())
    return document


def _structured(value: JSON, cls: type[D]) -> tuple[D, list[Problem]]:
    """The value, as far as it can be made, and all that is wrong with it."""
    structural: list[Problem] = []
    try:
        document = HOOKS[cls](value, None)
    except Broken as broken:
        document, structural = broken.value, broken.problems
    assert isinstance(document, cls)
    return document, structural + check.check(document, tuple(problem.path for problem in structural))


# Hooks: each makes a value of one type, or raises Broken.


class Broken(Exception):
    """A value that is wrong in places: the problems, and something of the right type for the rules to look at."""

    def __init__(self, value: object, problems: list[Problem]) -> None:
        super().__init__(value, problems)
        self.value = value
        self.problems = problems


def _wrong(stand_in: object, value: object, rule: str) -> Broken:
    return Broken(stand_in, [Problem("", value, "must not be null" if value is None else rule)])


class _Parts:
    """The parts of an object or a list while they are made: gathers what is wrong with them under their paths."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def make(self, hook: Hook, value: object, path: str) -> object:
        try:
            return hook(value, None)
        except Broken as broken:
            self.problems += [problem._replace(path=base.join(path, problem.path)) for problem in broken.problems]
            return broken.value

    def done(self, value: object) -> object:
        if self.problems:
            raise Broken(value, self.problems)
        return value


def _boolean(value: object, _: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(False, value, "must be true or false")
    return value


def _integer(value: object, _: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(0, value, "must be an integer")
    return value


def _bounded(kind: object) -> Hook:
    bounds = next(mark for mark in get_args(kind) if isinstance(mark, Bounds))

    def structure(value: object, _: object) -> int:
        number = _integer(value, None)
        if not bounds.low <= number <= bounds.high:
            raise _wrong(0, value, f"must be within {bounds.low} and {bounds.high} ({bounds.name})")
        return number

    return structure


def _free_text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _wrong("", value, "must be a string")
    if not value.isascii() and not _is_unicode(value):
        raise _wrong("", value, "holds half a surrogate pair")
    return value


def _text(value: object, _: object) -> str:
    text = _free_text(value, None)
    if "\0" in text:
        raise _wrong("", value, "must not hold a NUL character")
    return text


def _is_unicode(text: str) -> bool:
    """As os.fsencode sees it: the surrogates that stand for bytes which are not UTF-8 are good file names."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _tuple(kind: object) -> Hook:
    item = HOOKS[get_args(kind)[0]]

    def structure(value: object, _: object) -> object:
        if not isinstance(value, list):
            raise _wrong((), value, "must be an array")
        parts = _Parts()
        made: list[object] = []
        for index, inner in enumerate(value):
            made.append(parts.make(item, inner, f"[{index}]"))
            if len(parts.problems) > ENOUGH:
                break
        return parts.done(tuple(made))

    return structure


def _mapping(kind: object) -> Hook:
    item = HOOKS[get_args(kind)[1]]
    key = _free_text if item is _free_text else _text

    def structure(value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise _wrong({}, value, "must be an object")
        parts = _Parts()
        for name in value:
            parts.make(key, name, base.key(name))
        return parts.done({name: parts.make(item, inner, base.key(name)) for name, inner in value.items()})

    return structure


class _ObjectHook:
    """Makes the objects of one class; the type of a member is looked up when a document first has that member."""

    def __init__(self, cls: type[OCIObject]) -> None:
        self.cls = cls
        self.members = {member.key: member for member in KNOWN[cls]}
        self.required = tuple(member for member in self.members.values() if member.required)
        self.hooks: dict[str, Hook] = {}

    def __call__(self, value: object, _: object) -> object:
        if not isinstance(value, dict):
            raise _wrong(self._blank(), value, "must be an object")
        parts = _Parts()
        fields: dict[str, object] = {}
        unknown: dict[str, JSON] = {}
        for key, inner in value.items():
            if inner is None and self.cls.NULL_IS_ABSENT:
                continue
            member = self.members.get(key)
            if member is None:
                parts.make(_shallow, inner, base.key(key))
                unknown[key] = inner
                continue
            made = fields[member.name] = parts.make(self._hook(member), inner, key)
            if member.says_nothing(made):
                unknown[key] = inner
        for member in self.required:
            if member.name not in fields:
                parts.problems.append(Problem(member.key, None, "is required"))
                fields[member.name] = _stand_in(self._hook(member))
        return parts.done(self.cls(**fields, unknown=unknown))

    def _hook(self, member: _Member) -> Hook:
        if member.key not in self.hooks:
            self.hooks[member.key] = HOOKS[_type_of(member)]
        return self.hooks[member.key]

    def _blank(self) -> object:
        try:
            return self({}, None)
        except Broken as broken:
            return broken.value


def _shallow(value: object, _: object) -> object:
    """A member that this version does not know is kept as it is, if it can be written back."""
    if _nests_deeper(value, MAX_DEPTH):
        raise Broken(None, [Problem("", None, f"is nested more than {MAX_DEPTH} levels deep")])
    return value


def _nests_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_nests_deeper(part, levels - 1) for part in inner)


def _stand_in(hook: Hook) -> object:
    """Something of the hook's type: no hook takes null."""
    try:
        return hook(None, None)
    except Broken as broken:
        return broken.value


class _Member(NamedTuple):
    """What JSON needs to know of a field."""

    name: str
    key: str
    type: object
    default: object
    required: bool
    module: str

    def says_nothing(self, value: object) -> bool:
        """Whether it might as well be absent; ``is``, since a user that is given counts, also where it is root."""
        return not self.required and (value is self.default or value == {})


def _members(cls: type[OCIObject]) -> tuple[_Member, ...]:
    fields = (field for field in attrs.fields(cls) if field.name not in base.NOT_JSON)
    return tuple(_member(field, cls.__module__) for field in fields)


class _Known(dict[type[OCIObject], tuple[_Member, ...]]):
    """Looked up once for each class."""

    def __missing__(self, cls: type[OCIObject]) -> tuple[_Member, ...]:
        self[cls] = members = _members(cls)
        return members


KNOWN: Final = _Known()


def _member(field: attrs.Attribute[object], module: str) -> _Member:
    required = field.default is attrs.NOTHING or "required" in field.metadata
    key = field.metadata.get("key") or _json_name(field.name)
    return _Member(field.name, key, field.type, field.default, required, module)


def _json_name(name: str) -> str:
    """``cgroups_path`` is cgroupsPath, ``host_id`` hostID, ``class_`` class."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.upper() if part in ACRONYMS else part.capitalize() for part in rest)


# The types of members are texts (PEP 563), and the classes in them perhaps not loaded yet.


class _Names(Mapping[str, object]):
    """The names that annotations use: this package's, or those of a module elsewhere with such classes."""

    def __init__(self, module: str) -> None:
        self.module = sys.modules[module]

    def __getitem__(self, name: str) -> object:
        if name == "Mapping":
            return Mapping
        for place in (base, self.module, ocirt.spec):
            if found := getattr(place, name, None):
                return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(ocirt.spec.__all__)

    def __len__(self) -> int:
        return len(ocirt.spec.__all__)


def _type_of(member: _Member) -> object:
    """The type of a member that is there (``None`` says that it is not); what is evaluated are our annotations."""
    kind = eval(member.type, {}, _Names(member.module)) if isinstance(member.type, str) else member.type
    there = [part for part in get_args(kind) if part is not type(None)]
    return there[0] if type(None) in get_args(kind) else kind


def plain(value: object) -> JSON:
    """What ``json.dumps`` takes."""
    if isinstance(value, OCIObject):
        return _members_of(value)
    if isinstance(value, tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if _is_named(type(value)):
        return str(value)
    return value  # type: ignore[return-value]  # or the types of the fields are not kept, which check() would tell


def _members_of(value: OCIObject) -> dict[str, JSON]:
    """All that says more than its absence, and whatever was read and not understood."""
    members: dict[str, JSON] = {}
    for member in KNOWN[type(value)]:
        inner = getattr(value, member.name)
        if not member.says_nothing(inner):
            members[member.key] = plain(inner)
    return {**value.unknown, **members} if value.unknown else members


def _is_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, OCIObject)


def _is_bounded(kind: object) -> bool:
    return get_origin(kind) is Annotated and any(isinstance(mark, Bounds) for mark in get_args(kind))


def _is_tuple(kind: object) -> bool:
    origin: object = get_origin(kind)
    return origin is tuple


def _is_mapping(kind: object) -> bool:
    origin: object = get_origin(kind)
    return origin is Mapping


def _is_named(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "from_text")


def _named(kind: object) -> Hook:
    """Of a class that is a text in JSON and makes itself of it: ``from_text``, which raises ValueError with a rule."""

    def structure(value: object, _: object) -> object:
        text = _text(value, None)
        try:
            return kind.from_text(text)  # type: ignore[attr-defined]  # _is_named
        except ValueError as error:
            raise _wrong(None, value, str(error)) from error

    return structure


SIMPLE: Final[Mapping[object, Hook]] = {str: _text, FreeText: _free_text, bool: _boolean, int: _integer}

FACTORIES: Final[tuple[Factory, ...]] = (
    (_is_bounded, _bounded),
    (_is_tuple, _tuple),
    (_is_mapping, _mapping),
    (_is_class, _ObjectHook),
    (_is_named, _named),
)
"""What kind of type it is, and what makes the hook of one."""


class _Hooks(dict[object, Hook]):
    """What makes values of a type, or raises ``Broken``: found once for each."""

    def __missing__(self, kind: object) -> Hook:
        self[kind] = hook = next(factory(kind) for fits, factory in FACTORIES if fits(kind))
        return hook


HOOKS: Final = _Hooks(SIMPLE)


def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter()
    for simple, hook in SIMPLE.items():
        converter.register_structure_hook_func(partial(operator.eq, simple), hook)
    for fits, factory in FACTORIES:
        converter.register_structure_hook_factory(fits, factory)
    converter.register_unstructure_hook_func(_is_class, plain)
    return converter


CONVERTER: Converter


def __getattr__(name: str) -> object:
    """``CONVERTER``, for whoever nests these classes in classes of their own; its hooks raise ``Broken``."""
    if name != "CONVERTER":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _converter())
