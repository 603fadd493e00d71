"""The mount options of config.json as a table (config.md, Linux mount options), in terms of mount_setattr(2).

The planner reads the outcome, the checker the names, ``features`` prints them. An option that is in no table here
belongs to the filesystem and becomes a parameter of it, see fsconfig(2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from attrs import frozen

from ocirt.spec.mapping_words import WORDS

RDONLY: Final = 0x1
NOSUID: Final = 0x2
NODEV: Final = 0x4
NOEXEC: Final = 0x8
ATIME: Final = 0x70
"""A field of three values rather than a bit: 0 is relatime. Who sets any of them must clear the whole field."""
RELATIME: Final = 0x0
NOATIME: Final = 0x10
STRICTATIME: Final = 0x20
NODIRATIME: Final = 0x80
NOSYMFOLLOW: Final = 0x200000


class Change(NamedTuple):
    """The bits of MOUNT_ATTR_* that an option sets and those that it clears."""

    set: int
    clear: int


ATTRIBUTES: Final[Mapping[str, Change]] = {
    "ro": Change(RDONLY, 0),
    "rw": Change(0, RDONLY),
    "nosuid": Change(NOSUID, 0),
    "suid": Change(0, NOSUID),
    "nodev": Change(NODEV, 0),
    "dev": Change(0, NODEV),
    "noexec": Change(NOEXEC, 0),
    "exec": Change(0, NOEXEC),
    "nodiratime": Change(NODIRATIME, 0),
    "diratime": Change(0, NODIRATIME),
    "nosymfollow": Change(NOSYMFOLLOW, 0),
    "symfollow": Change(0, NOSYMFOLLOW),
    "relatime": Change(RELATIME, ATIME),
    "noatime": Change(NOATIME, ATIME),
    "strictatime": Change(STRICTATIME, ATIME),
}

ATIME_UNDONE: Final[Mapping[str, int]] = {"atime": NOATIME, "norelatime": RELATIME, "nostrictatime": STRICTATIME}
"""Options that take one access time mode back, and leave another one alone; relatime is what remains."""

RECURSIVE: Final[Mapping[str, str]] = {f"r{name}": name for name in (*ATTRIBUTES, *ATIME_UNDONE)}
"""The same for a whole tree of mounts: ``rro`` is ``ro`` with AT_RECURSIVE."""

PROPAGATION: Final = frozenset(
    ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")
)

SUPERBLOCK: Final[Mapping[str, str]] = {
    "sync": "sync",
    "async": "sync",
    "dirsync": "dirsync",
    "lazytime": "lazytime",
    "nolazytime": "lazytime",
    "mand": "mand",
    "nomand": "mand",
    "iversion": "iversion",
    "noiversion": "iversion",
}
"""Flags of the filesystem, not of the mount; of those with the same value the last one counts."""

WITHOUT_EFFECT: Final = frozenset(("defaults", "silent", "loud", "noiversion"))
"""``silent`` keeps the kernel log clean, where fsopen(2) does not write at all; version counters are off until
``iversion`` asks for them, and there is no word to say so."""

OF_VOLUMES: Final = frozenset(("copy", "nocopy"))
"""podman's words for whether a new volume is filled from the image. Before 5.6.1 it left them among the options of the
bind mount, where nothing is left to do (runc 1.1 and crun hand them to the kernel, which does not look)."""

KNOWN: Final = frozenset(
    (
        *("bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"),
        *("src-nofollow", "dest-nofollow", "copy-symlink"),
        *(*ATTRIBUTES, *ATIME_UNDONE, *RECURSIVE, *PROPAGATION, *SUPERBLOCK, *WITHOUT_EFFECT),
    )
)
"""Every option that ocirt reads itself, as ``features`` lists them."""


@frozen
class MountOptions:
    """What the options of one mount ask for, the later ones having overridden the earlier."""

    bind: bool = False
    recursive: bool = False
    remount: bool = False
    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation: tuple[str, ...] = ()
    superblock: tuple[str, ...] = ()
    data: tuple[tuple[str, str | None], ...] = ()
    idmap: str | None = None
    mapping_words: str | None = None
    """What crun takes after ``idmap=``."""
    tmpcopyup: bool = False
    src_nofollow: bool = False
    dest_nofollow: bool = False
    copy_symlink: bool = False


def parse_options(options: Sequence[str]) -> MountOptions:
    """What ``options`` mean together."""
    return _parse(tuple(options))


@lru_cache(maxsize=256)
def _parse(options: tuple[str, ...]) -> MountOptions:
    own, tree = Change(0, 0), Change(0, 0)
    superblock: dict[str, str] = {}
    data: list[tuple[str, str | None]] = []
    bind = "bind" in options or "rbind" in options
    for option in options:
        if (plain := RECURSIVE.get(option)) is not None:
            tree = _changed(tree, plain)
        elif option in ATTRIBUTES or option in ATIME_UNDONE:
            own = _changed(own, option)
        elif option in SUPERBLOCK:
            superblock[SUPERBLOCK[option]] = option
        elif bind and option in OF_VOLUMES:
            continue
        elif option not in KNOWN and option.partition("=")[0] not in WORDS:
            key, equals, value = option.partition("=")
            data.append((key, value if equals else None))
    mapped = next((parts for option in reversed(options) if (parts := option.partition("="))[0] in WORDS), ("", "", ""))
    return MountOptions(
        bind=bind,
        recursive="rbind" in options,
        remount="remount" in options,
        set=own.set,
        clear=own.clear,
        recursive_set=tree.set,
        recursive_clear=tree.clear,
        propagation=tuple(option for option in options if option in PROPAGATION),
        superblock=tuple(option for option in superblock.values() if option not in WITHOUT_EFFECT),
        data=tuple(data),
        idmap=mapped[0] or None,
        mapping_words=mapped[2] if mapped[1] else None,
        tmpcopyup="tmpcopyup" in options,
        src_nofollow="src-nofollow" in options,
        dest_nofollow="dest-nofollow" in options,
        copy_symlink="copy-symlink" in options,
    )


def _changed(before: Change, option: str) -> Change:
    if option in ATIME_UNDONE:
        undone = before.set & ATIME == ATIME_UNDONE[option]
        return Change(before.set & ~ATIME if undone else before.set, before.clear | ATIME)
    change = ATTRIBUTES[option]
    return Change(before.set & ~change.clear | change.set, before.clear & ~change.set | change.clear)
