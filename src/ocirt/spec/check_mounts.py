"""The rules for ``mounts`` (config.md, Mounts), and for lists of ID mappings, which mounts have too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ocirt.errors import Problem
from ocirt.spec.base import relation
from ocirt.spec.known import did_you_mean, nearest
from ocirt.spec.mapping_words import WORDS, parse_words
from ocirt.spec.options import KNOWN, OF_VOLUMES, parse_options

if TYPE_CHECKING:
    from ocirt.spec.config import Mount
    from ocirt.spec.linux import IDMapping

ID_END: Final = 2**32
MAX_MAPPINGS: Final = 340
"""What the kernel takes, see user_namespaces(7)."""

_OF_FILESYSTEMS: Final = frozenset(("i_version", "nouuid"))
"""Options of ext4 and XFS that are one letter off one of ours."""


def mount(value: Mount, at: str) -> Iterator[Problem]:
    options = parse_options(value.options)
    if not value.destination:
        yield Problem(f"{at}.destination", value.destination, "must not be empty")
    if options.bind and not options.remount and not value.source:
        where = relation(f"{at}.source", f"{at}.options")
        yield Problem(where, value.source, "is required: a bind mount needs something to bind")
    elif not options.bind and not options.remount:
        yield from _type(value, at)
    if options.tmpcopyup and (options.bind or value.type != "tmpfs"):
        place = value.options.index("tmpcopyup")
        where = relation(f"{at}.options[{place}]", f"{at}.type")
        yield Problem(where, "tmpcopyup", "is for mounts of type tmpfs alone")
    if not options.bind or options.remount:
        yield from _for_binds(value, at)
    for index, option in enumerate(value.options):
        yield from _option(option, _bind(value) if options.bind else None, at, index)
    yield from _mappings_of(value, at)


def _for_binds(value: Mount, at: str) -> Iterator[Problem]:
    for index, option in enumerate(value.options):
        if option in ("src-nofollow", "dest-nofollow", "copy-symlink"):
            where = relation(f"{at}.options[{index}]", f"{at}.options")
            yield Problem(where, option, "is for bind mounts alone")


def _type(value: Mount, at: str) -> Iterator[Problem]:
    if not value.type or value.type == "none":
        rule = "must name a filesystem unless the options hold bind or rbind"
        yield Problem(relation(f"{at}.type", f"{at}.options"), value.type, rule)
    elif value.type == "bind":
        rule = "is no filesystem; add bind or rbind to the options"
        yield Problem(relation(f"{at}.type", f"{at}.options"), value.type, rule)


def _bind(value: Mount) -> int:
    """Which option makes it a bind mount."""
    return next(index for index, option in enumerate(value.options) if option in ("bind", "rbind"))


def _option(option: str, bind: int | None, mount: str, index: int) -> Iterator[Problem]:
    """A bind mount has no filesystem of its own; elsewhere, whatever we do not know is for the filesystem to judge."""
    if option in KNOWN or (bind is not None and option in OF_VOLUMES):
        return
    at = f"{mount}.options[{index}]"
    word, equals, mappings = option.partition("=")
    if word in WORDS and equals:
        yield from _mapping_words(mappings, option, at)
    elif bind is not None:
        question = "" if "=" in option else did_you_mean(option, KNOWN)
        rule = f"is unknown, and bind mounts cannot have any filesystem-specific options applied{question}"
        yield Problem(relation(at, f"{mount}.options[{bind}]"), option, rule)
    elif meant := _misspelt(option):
        yield Problem(at, option, f"is not a mount option; did you mean {meant}?")


def _mapping_words(text: str, option: str, at: str) -> Iterator[Problem]:
    try:
        words = parse_words(text)
    except ValueError as error:
        yield Problem(at, option, str(error))
        return
    for triplet in (*words.uids, *words.gids):
        if triplet.size == 0 or max(triplet.filesystem, triplet.shown) + triplet.size > ID_END - 1:
            yield Problem(at, option, "has an empty range, or one beyond the last ID")


@lru_cache(maxsize=256)
def _misspelt(option: str) -> str | None:
    """The option of ours that this one surely was meant to be: long enough, and one letter off."""
    if "=" in option or option in _OF_FILESYSTEMS:
        return None
    return nearest(option, (name for name in KNOWN if len(name) >= 5), reach=1)


def _mappings_of(value: Mount, at: str) -> Iterator[Problem]:
    yield from id_mappings(value.uid_mappings, f"{at}.uidMappings")
    yield from id_mappings(value.gid_mappings, f"{at}.gidMappings")
    if value.uid_mappings and parse_options(value.options).mapping_words is not None:
        where = relation(f"{at}.uidMappings", f"{at}.options")
        yield Problem(where, None, "are in the options as well; leave one of them out")
    if bool(value.uid_mappings) != bool(value.gid_mappings):
        lacking, other = ("gid", "uid") if value.uid_mappings else ("uid", "gid")
        where = relation(f"{at}.{lacking}Mappings", f"{at}.{other}Mappings")
        yield Problem(where, None, "id-mapped mounts must have both uid and gid mappings specified")


def id_mappings(values: Sequence[IDMapping], at: str) -> Iterator[Problem]:
    """What the kernel asks of a uid_map, see user_namespaces(7)."""
    if len(values) > MAX_MAPPINGS:
        yield Problem(at, None, f"has {len(values)} entries where the kernel takes {MAX_MAPPINGS}")
    for index, mapping in enumerate(values):
        if mapping.size == 0:
            yield Problem(f"{at}[{index}].size", 0, "must be at least 1")
        for member, start in (("containerID", mapping.container_id), ("hostID", mapping.host_id)):
            if start + mapping.size > ID_END - 1:
                where = relation(f"{at}[{index}].{member}", f"{at}[{index}].size")
                yield Problem(where, start, f"with size {mapping.size} goes beyond the last ID")
    yield from _overlaps([(mapping.container_id, mapping.size) for mapping in values], at, "containerID")
    yield from _overlaps([(mapping.host_id, mapping.size) for mapping in values], at, "hostID")


def _overlaps(ranges: Sequence[tuple[int, int]], at: str, member: str) -> Iterator[Problem]:
    order = sorted(range(len(ranges)), key=ranges.__getitem__)
    for before, index in pairwise(order):
        start, size = ranges[before]
        if ranges[index][0] < start + size:
            where = relation(f"{at}[{index}].{member}", f"{at}[{index}]", f"{at}[{before}]")
            yield Problem(where, ranges[index][0], f"overlaps with {at}[{before}]")
