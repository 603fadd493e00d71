"""What changed in a tree: since a record of it was made, or in the upper directory of an overlay.

Records and trees are walked in the same order, side by side, so that what is kept in memory is what changed, every
directory, and what has several names. Names of one file are told whole: if one is to be written, all are.
"""

from __future__ import annotations

import hashlib
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import (
    OVERLAY_XATTRS,
    Entry,
    Walk,
    contents,
    is_below,
    no_host_xattrs,
    order,
    parent,
)
from ocirt.errors import UnsupportedError

Kind = Literal["added", "modified", "removed", "unchanged"]
"""``unchanged`` is a directory on the way to something else: a layer with those can be unpacked alone."""

Digests = Callable[[Collection[bytes]], Mapping[bytes, bytes]]
"""What the files at these paths held when the record was made, as SHA-256; of those for whom it is known."""


class Change(NamedTuple):
    """What became of one path."""

    path: bytes
    kind: Kind
    entry: Entry | None = None
    """What is there now; ``None`` if nothing is."""
    opaque: bool = False
    """Of a directory: nothing that was in it before is any longer."""

    @property
    def name(self) -> str:
        """The path for people."""
        return self.path.decode("utf-8", "backslashreplace") or "."


def changes(
    before: Iterable[Entry],
    now: Iterable[Entry],
    root: int,
    *,
    masked: Collection[bytes] = (),
    digests: Digests | None = None,
    keep: Callable[[Entry], None] | None = None,
) -> list[Change]:
    """What makes of the tree that was recorded the one that is there now, below the open directory ``root``.

    What is at or below a ``masked`` path is neither looked at nor missed; ``now`` has been walked without it. Files
    that look the same but are not known to be are compared with ``digests``, and without those taken for changed.
    ``keep`` is called with what the next record should have: all that is there now, and of what is masked, what was.
    """
    comparison = _Comparison(frozenset(masked), keep)
    for old, new in _side_by_side(before, now):
        comparison.add(old, new)
    return comparison.result(root, digests)


def everything(now: Iterable[Entry]) -> Iterator[Change]:
    """A tree of which nothing was there before."""
    for entry in now:
        yield Change(entry.path, "added", entry)


class _Comparison:
    def __init__(self, masked: frozenset[bytes], keep: Callable[[Entry], None] | None) -> None:
        self._masked = masked
        self._keep = keep
        self._kept: set[bytes] = set()
        """Masked directories that were kept."""
        self._found: dict[bytes, Change] = {}
        self._directories: dict[bytes, Entry] = {}
        self._doubtful: list[tuple[Entry, Entry]] = []
        self._gone: bytes | None = None
        """The directory whose removal says all of what was below."""
        self._removed: Counter[bytes] = Counter()
        self._left: set[bytes] = set()
        """Directories in which something of old still is."""
        self._names = _Names()

    def add(self, old: Entry | None, new: Entry | None) -> None:
        if old is not None and self._masked and is_below(old.path, self._masked):
            self._left.add(parent(old.path))
            self._keep_masked(old)
            old = None
        if new is not None:
            if self._keep is not None:
                self._keep(new)
            if new.is_directory:
                self._directories[new.path] = new
            if new.is_regular:
                self._names.add_new(old, new)
        match old, new:
            case Entry(), None:
                self._remove(old)
            case None, Entry():
                self._found[new.path] = Change(new.path, "added", new)
            case Entry(), Entry():
                self._left.add(parent(old.path))
                self._compare(old, new)

    def _keep_masked(self, old: Entry) -> None:
        """What is in the image although nobody looks, unless what it was in is gone."""
        above = parent(old.path)
        if self._keep is None or not (above in self._directories or above in self._kept):
            return
        self._keep(old)
        if old.is_directory:
            self._kept.add(old.path)

    def _remove(self, old: Entry) -> None:
        if self._gone is not None and is_below(old.path, (self._gone,)):
            return
        if old.is_directory:
            self._gone = old.path
        self._removed[parent(old.path)] += 1
        self._found[old.path] = Change(old.path, "removed")

    def _compare(self, old: Entry, new: Entry) -> None:
        if old.is_directory and not new.is_directory:
            self._gone = old.path  # what takes its place takes what was in it along
        if _looks_different(old, new):
            self._found[new.path] = Change(new.path, "modified", new)
        elif new.size and not (old.ino and (old.ino, old.ctime_ns) == (new.ino, new.ctime_ns)):
            self._doubtful.append((old, new))

    def result(self, root: int, digests: Digests | None) -> list[Change]:
        for entry in _different(self._doubtful, root, digests):
            self._found[entry.path] = Change(entry.path, "modified", entry)
        for entry in self._names.to_be_written(self._found):
            self._found.setdefault(entry.path, Change(entry.path, "modified", entry))
        self._make_opaque()
        self._add_parents()
        return [self._found[path] for path in sorted(self._found, key=order)]

    def _make_opaque(self) -> None:
        """One member for a directory that was emptied, instead of one for each name that was in it."""
        emptied = {path for path, count in self._removed.items() if count > 1 and path not in self._left and path}
        if not emptied:
            return
        for path in [path for path, change in self._found.items() if change.kind == "removed"]:
            if parent(path) in emptied:
                del self._found[path]
        for path in emptied:
            entry = self._directories[path]
            kind = self._found[path].kind if path in self._found else "unchanged"
            self._found[path] = Change(path, kind, entry, opaque=True)

    def _add_parents(self) -> None:
        for path in list(self._found):
            above = parent(path)
            while above and above not in self._found:
                self._found[above] = Change(above, "unchanged", self._directories[above])
                above = parent(above)


class _Names:
    """Which regular files have several names in the tree, then and now."""

    def __init__(self) -> None:
        self._now: dict[tuple[int, int], list[tuple[Entry, int | None]]] = {}
        """The names of each inode, with the inode that each name was of."""
        self._then: dict[int, list[Entry]] = {}
        """What is now where the names of an inode were."""

    def add_new(self, old: Entry | None, new: Entry) -> None:
        was = old.ino if old is not None and old.is_regular else None
        if new.nlink > 1:
            self._now.setdefault((new.dev, new.ino), []).append((new, was))
        if old is not None and was and old.nlink > 1:
            self._then.setdefault(was, []).append(new)

    def to_be_written(self, found: Mapping[bytes, Change]) -> Iterator[Entry]:
        """Those whose other names are others than before, or are to be written themselves."""
        for names in self._now.values():
            inodes = {was for _, was in names}
            joined = len(names) > 1 and (len(inodes) > 1 or None in inodes)
            if joined or any(entry.path in found for entry, _ in names):
                yield from (entry for entry, _ in names)
        for entries in self._then.values():
            first = entries[0]
            for entry in entries[1:]:
                if (entry.dev, entry.ino) != (first.dev, first.ino):
                    yield entry


def _side_by_side(before: Iterable[Entry], now: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Both entries of a path, or the one that there is."""
    olds, news = iter(before), iter(now)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if old is not None and new is not None and old.path == new.path:
            yield old, new
            old, new = next(olds, None), next(news, None)
        elif new is None or (old is not None and order(old.path) < order(new.path)):
            yield old, None
            old = next(olds, None)
        else:
            yield None, new
            new = next(news, None)


def _looks_different(old: Entry, new: Entry) -> bool:
    if (old.mode, old.uid, old.gid, old.size, old.link, old.xattrs) != (
        new.mode,
        new.uid,
        new.gid,
        new.size,
        new.link,
        new.xattrs,
    ):
        return True
    if old.rdev not in (new.rdev, -1):
        return True
    if not old.ino:
        return (old.nlink, old.mtime_ns // 10**9) != (new.nlink, new.mtime_ns // 10**9)
    return old.mtime_ns != new.mtime_ns


def _different(doubtful: list[tuple[Entry, Entry]], root: int, digests: Digests | None) -> Iterator[Entry]:
    """Those that hold something else than they did, or for all that anybody knows may do so."""
    unknown = [new.path for old, new in doubtful if old.digest is None]
    known = digests(unknown) if digests is not None and unknown else {}
    for old, new in doubtful:
        expected = old.digest if old.digest is not None else known.get(new.path)
        if expected is None or expected != digest_of(root, new):
            yield new


def digest_of(root: int, entry: Entry) -> bytes:
    """SHA-256 of what a file holds."""
    found = hashlib.sha256()
    for data in contents(root, entry):
        found.update(data)
    return found.digest()


# What overlayfs says of its upper directory, without "trusted." or "user." (the kernel's filesystems/overlayfs.rst).
_OPAQUE: Final = b"opaque"
_WHITEOUT: Final = b"whiteout"
_REFUSED: Final = {b"redirect": "redirect_dir=off", b"metacopy": "metacopy=off"}


def changes_of_upper(
    root: int,
    *,
    ownership: Ownership | None = None,
    masked: Collection[bytes] = (),
    root_was: Entry | None = None,
) -> Iterator[Change]:
    """What an overlay's upper directory, open as ``root``, says: all that is in it is a change.

    Itself too, unless it still looks as it did when it was ``root_was``.

    :raises UnsupportedError: it refers to the layers below, as the options ``redirect_dir`` and ``metacopy`` have it.
    """
    walk = Walk(root, ownership or Ownership(), masked=masked, xattrs=no_host_xattrs)
    for entry in walk:
        said = dict(_overlay_attributes(entry))
        for name, option in _REFUSED.items():
            if name in said:
                raise UnsupportedError(entry.name, f"is only in part in this layer: mount the overlay with {option}")
        if _is_whiteout(entry, said):
            yield Change(entry.path, "removed")
            continue
        entry = entry._replace(xattrs=tuple(pair for pair in entry.xattrs if not pair[0].startswith(_PREFIXES)))
        if not entry.path and root_was is not None and not _looks_different(root_was, entry):
            continue
        opaque = entry.is_directory and said.get(_OPAQUE) == b"y" and entry.path != b""
        yield Change(entry.path, "modified", entry, opaque=opaque)


_PREFIXES: Final = tuple(prefix.encode() for prefix in OVERLAY_XATTRS)


def _overlay_attributes(entry: Entry) -> Iterator[tuple[bytes, bytes]]:
    for name, value in entry.xattrs:
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                yield name.removeprefix(prefix), value


def _is_whiteout(entry: Entry, said: Mapping[bytes, bytes]) -> bool:
    """A device 0:0, or since Linux 6.7 an empty file that is called so."""
    if stat.S_ISCHR(entry.mode):
        return entry.rdev == 0
    return entry.is_regular and not entry.size and _WHITEOUT in said
