"""Layers on top of each other, with all that layers do to each other, for whoever unpacks them."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Mapping, Sequence

from tests.image.support import Entry, directory, hardlink, symlink, tar

Member = tuple[str, Entry]
TIME = 1_234_567_890


def info(kind: bytes = tarfile.REGTYPE, **members: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo()
    made.type = kind
    made.mtime = TIME
    for name, value in members.items():
        setattr(made, name, value)
    return made


def xattrs(**values: str) -> dict[str, str]:
    """As PAX headers; ``user_name`` is ``user.name``."""
    return {f"SCHILY.xattr.{name.replace('_', '.', 1)}": value for name, value in values.items()}


BASE: tuple[Member, ...] = (
    ("etc/", directory()),
    ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
    ("usr/", directory()),
    ("usr/lib/", directory()),
    ("usr/lib/libc.so", b"elf"),
    ("lib", symlink("usr/lib")),
    ("data/", directory(0o750)),
    ("data/one", b"1"),
    ("data/two", b"2"),
    ("data/deep/", directory(0o700)),
    ("data/deep/er/", directory()),
    ("data/deep/er/file", b"deep"),
    ("tmp/", directory(0o1777)),
)

STACKS: Mapping[str, Sequence[Sequence[Member]]] = {
    "a single layer": [BASE],
    "no layer": [],
    "whiteouts": [
        BASE,
        [("data/.wh.one", b""), ("data/.wh.deep", b""), ("data/.wh.never-was", b""), (".wh.tmp", b"")],
        [("data/one", b"again"), ("tmp/", directory(0o700))],
    ],
    "whiteouts beside what takes the place": [
        BASE,
        [("data/new", b"n"), ("data/.wh.new", b""), ("data/.wh.two", b""), ("data/two", b"2 again")],
    ],
    "an opaque directory, told of last": [
        BASE,
        [("data/", directory(0o711)), ("data/only", b"o"), ("data/.wh..wh..opq", b"")],
    ],
    "an opaque directory, told of first": [
        BASE,
        [("data/.wh..wh..opq", b""), ("data/only", b"o")],
        [("data/more", b"m")],
    ],
    "an opaque root": [BASE, [(".wh..wh..opq", b""), ("etc/", directory()), ("etc/passwd", b"other\n")]],
    "hard links": [
        [*BASE, ("data/link", hardlink("data/one"))],
        [("across", hardlink("data/two")), ("etc/again", hardlink("across"))],
        [(".wh.across", b"")],
    ],
    "a hard link whose other name changes": [
        [*BASE, ("link", hardlink("data/one"))],
        [("data/one", b"changed")],
    ],
    "one takes the place of another": [
        [*BASE, ("a", b"file"), ("b/", directory()), ("b/in", b"i"), ("c", symlink("a")), ("d", symlink("data"))],
        [
            ("a/", directory()),
            ("a/in", b"x"),
            ("b", b"file now"),
            ("c", b"file now"),
            ("d/", directory()),
            ("d/x", b"x"),
        ],
        [("a", symlink("/etc")), ("b/", directory(0o2775)), ("c/", directory())],
    ],
    "through a symlink": [BASE, [("lib/libm.so", b"m"), ("lib/.wh.libc.so", b"")]],
    "directories that nobody mentions": [
        BASE,
        [("data/deep/er/file2", b"2"), ("tmp/x", b"x"), ("new/below/file", b"f"), ("data/deep/er/.wh.file", b"")],
    ],
    "owners, modes and times": [
        [
            ("bin/", info(tarfile.DIRTYPE, mode=0o755, mtime=1)),
            ("bin/su", info(mode=0o4755)),
            ("bin/wall", info(mode=0o2755, gid=5)),
            ("home/", info(tarfile.DIRTYPE, mode=0o755)),
            ("home/alice/", info(tarfile.DIRTYPE, mode=0o700, uid=1000, gid=1000)),
            ("home/alice/notes", info(mode=0o640, uid=1000, gid=100, mtime=TIME + 5)),
            ("home/alice/link", info(tarfile.SYMTYPE, linkname="notes", uid=1000, gid=1000, mtime=5)),
            ("var/closed/", info(tarfile.DIRTYPE, mode=0o000)),
            ("var/closed/file", info(mode=0o000)),
        ],
        [("home/alice/more", info(uid=1001, gid=1001)), ("./", info(tarfile.DIRTYPE, mode=0o711, mtime=77))],
    ],
    "attributes": [
        [
            ("d/", info(tarfile.DIRTYPE, mode=0o755, pax_headers=xattrs(user_one="1"))),
            ("d/f", info(pax_headers=xattrs(user_name="value", user_empty=""))),
            ("d/g", info(pax_headers=xattrs(user_g="g"))),
        ],
        [("d/f", info(pax_headers=xattrs(user_other="other"))), ("d/h", b"h")],
    ],
    "odd names": [
        [
            ("with space and\nline", b"1"),
            ("-rf", b"2"),
            ("\udcff\udcfe not UTF-8", b"3"),
            ("…/", directory()),
            (f"…/{'long' * 60}", b"4"),
            ("/".join(["d" * 100] * 6), b"5"),
            (".whiteout", b"none"),
            ("a:b,c\\d", b"6"),
            ("./here//../there/./file", b"7"),
        ],
        [("-rf", b"2 again"), (".wh.\udcff\udcfe not UTF-8", b"")],
    ],
    "special files": [
        [
            ("dev/", directory()),
            ("dev/null", info(tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)),
            ("dev/loop", info(tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=7, devminor=0)),
            ("run/fifo", info(tarfile.FIFOTYPE, mode=0o600)),
        ],
        [("dev/null", b"a file"), ("run/.wh.fifo", b"")],
    ],
}


def layers(stack: Sequence[Sequence[Member]]) -> list[bytes]:
    return [tar(list(members)) for members in stack]


def mentioned(stack: Sequence[Sequence[Member]]) -> frozenset[str]:
    """The paths that archives have; a directory that is only passed through is as old as whoever makes it wants."""
    return frozenset(posixpath.normpath(name.lstrip("/")) for members in stack for name, _ in members)


def devices(stack: Sequence[Sequence[Member]]) -> frozenset[str]:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE)
    return frozenset(
        posixpath.normpath(name)
        for members in stack
        for name, entry in members
        if isinstance(entry, tarfile.TarInfo) and entry.type in kinds
    )
