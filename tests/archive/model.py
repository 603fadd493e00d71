"""What layers make of a tree, in memory and in few words: the rules without the system calls.

Directories are dictionaries; a name that a layer makes is remembered with its directory, since whiteouts of the
same layer spare it.
"""

from __future__ import annotations

import copy
from typing import Literal, TypeAlias

from attrs import Factory, define, frozen

from tests.archive import building

KindOfEntry: TypeAlias = Literal["dir", "file", "symlink", "link", "whiteout", "opaque"]


class Refused(Exception):
    """An archive that is to be refused at this entry."""


class Missing(Exception):
    """A path leads nowhere."""


@frozen
class Entry:
    """One member of a layer. ``text`` is its content or target."""

    kind: KindOfEntry
    path: str
    text: str = ""
    mode: int = 0o755
    mtime: int = 1

    def block(self) -> bytes:
        head, _, name = self.path.rpartition("/")
        where = f"{head}/" if head else ""
        match self.kind:
            case "dir":
                return building.directory(self.path, self.mode, mtime=self.mtime)
            case "file":
                return building.file(self.path, self.text.encode(), mode=self.mode, mtime=self.mtime)
            case "symlink":
                return building.symlink(self.path, self.text, mtime=self.mtime)
            case "link":
                return building.hardlink(self.path, self.text)
            case "whiteout":
                return building.file(f"{where}.wh.{name}")
            case "opaque":
                return building.file(f"{self.path}/.wh..wh..opq")


@define(eq=False)
class Leaf:
    """What is no directory. Hard links are one of these in several places."""

    kind: str
    text: str
    mode: int
    mtime: int


@define(eq=False)
class Dir:
    """A directory. ``parent`` is its own at the root."""

    parent: Dir | None = None
    mode: int = 0o755
    mtime: int = 0
    children: dict[str, Dir | Leaf] = Factory(dict)
    made: set[str] = Factory(set)
    """By the layer that is being applied."""


class Model:
    """A tree, and the rules by which layers change it."""

    def __init__(self) -> None:
        self.root = Dir()

    def apply(self, layer: list[Entry]) -> list[Entry]:
        """Those entries that are not refused; the others count for nothing."""
        todo = [self.root]
        while todo:
            directory = todo.pop()
            directory.made.clear()
            todo += [child for child in directory.children.values() if isinstance(child, Dir)]
        return [entry for entry in layer if self._accept(entry)]

    def _accept(self, entry: Entry) -> bool:
        before = copy.deepcopy(self.root)
        try:
            self._apply(entry)
        except Refused:
            self.root = before
            return False
        return True

    def refuses(self, entry: Entry) -> bool:
        """As part of the layer that was applied last."""
        before = copy.deepcopy(self.root)
        accepted = self._accept(entry)
        self.root = before
        return not accepted

    def _apply(self, entry: Entry) -> None:
        if entry.kind == "opaque" or entry.kind == "whiteout":
            head, _, name = entry.path.rpartition("/")
            try:
                directory = self._walk(entry.path if entry.kind == "opaque" else head, make=False)
            except Missing:
                return
            for lower in list(directory.children) if entry.kind == "opaque" else [name]:
                self._remove_lower(directory, lower)
            return
        head, _, name = entry.path.rpartition("/")
        try:
            directory = self._walk(head, make=True)
        except Missing as error:
            raise Refused(str(error)) from error
        match entry.kind:
            case "dir":
                found = directory.children.get(name)
                if not isinstance(found, Dir):
                    found = directory.children[name] = Dir(directory)
                found.mode, found.mtime = entry.mode, entry.mtime
            case "link":
                directory.children[name] = self._link_target(entry.text, directory, name)
            case _:
                directory.children[name] = Leaf(entry.kind, entry.text, entry.mode, entry.mtime)
        directory.made.add(name)

    def _link_target(self, path: str, directory: Dir, name: str) -> Leaf:
        head, _, last = path.rpartition("/")
        try:
            source = self._walk(head, make=False)
        except Missing as error:
            raise Refused(str(error)) from error
        found = source.children.get(last)
        if not isinstance(found, Leaf) or (source is directory and last == name):
            raise Refused(path)
        in_the_way, above = directory.children.get(name), source
        while above.parent is not None:
            if above is in_the_way:
                raise Refused(path)
            above = above.parent
        return found

    def _remove_lower(self, directory: Dir, name: str) -> None:
        found = directory.children.get(name)
        if isinstance(found, Dir):
            for lower in list(found.children):
                self._remove_lower(found, lower)
            if found.children:
                return
        if name not in directory.made:
            directory.children.pop(name, None)

    def _walk(self, path: str, *, make: bool) -> Dir:
        here, todo, links = self.root, path.split("/")[::-1], 0
        while todo:
            name = todo.pop()
            if name == "..":
                here = here.parent or here
            elif name not in ("", "."):
                found = here.children.get(name)
                if found is None and make:
                    found = here.children[name] = Dir(here)
                    here.made.add(name)
                if isinstance(found, Leaf) and found.kind == "symlink":
                    links += 1
                    if links > 40:
                        raise Refused("too many links")
                    todo += found.text.split("/")[::-1]
                    here = self.root if found.text.startswith("/") else here
                    continue
                if not isinstance(found, Dir):
                    raise Missing(name)
                here = found
        return here
