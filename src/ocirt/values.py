"""Frozen values without generated code, for the many small classes of which a plan and what init says consist.

attrs writes and compiles an ``__init__`` and its companions for each class, half a millisecond for each when a program
begins: for sixty kinds of operations that is longer than a container takes to make. Here all classes share theirs.
A class has its fields as annotations, in their order, and their defaults as attributes, as type checkers know them
from dataclasses (PEP 681); ``kw_only`` and ``hidden``, which ``repr`` leaves out, are said in the class statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Value:
    """What all have in common. Two are equal if they are of one class and all their fields are."""

    __match_args__: ClassVar[tuple[str, ...]] = ()

    _fields: ClassVar[tuple[str, ...]] = ()
    """All, in the order of ``repr``."""
    _names: ClassVar[frozenset[str]] = frozenset()
    _defaults: ClassVar[Mapping[str, object]] = {}
    _hidden: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, *, kw_only: bool = False, hidden: tuple[str, ...] = ()) -> None:
        own = tuple(cls.__annotations__)  # nobody's but its own (since Python 3.10)
        cls._fields = (*cls._fields, *own)
        cls._names = frozenset(cls._fields)
        cls._defaults = {**cls._defaults, **{name: cls.__dict__[name] for name in own if name in cls.__dict__}}
        cls._hidden = cls._hidden.union(hidden)
        if not kw_only:
            cls.__match_args__ = (*cls.__match_args__, *own)  # type: ignore[misc]  # one for each class

    def __init__(self, *args: object, **fields: object) -> None:
        names = self.__match_args__
        given = len(args) + len(fields)
        fields.update(zip(names, args, strict=False))
        if len(fields) != given:
            raise TypeError(f"{type(self).__name__} takes {len(names)} arguments, each once: {', '.join(names)}")
        values = self.__dict__
        values.update(self._defaults)
        values.update(fields)
        if values.keys() != self._names:
            wrong = sorted(values.keys() ^ self._names)
            raise TypeError(f"{type(self).__name__}: missing or unknown: {', '.join(wrong)}")

    def evolve(self, **changes: object) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in self._fields)))

    def __repr__(self) -> str:
        shown = (f"{name}={self.__dict__[name]!r}" for name in self._fields if name not in self._hidden)
        return f"{type(self).__name__}({', '.join(shown)})"
