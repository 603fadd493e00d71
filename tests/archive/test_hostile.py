"""Whatever an archive says, it is refused, or what it makes is in the tree; nothing outside is touched.

The fixture ``place`` compares all that is around the tree before and after.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from attrs import field, frozen

from ocirt.archive.extraction import extract
from ocirt.archive.limits import ExtractLimits
from ocirt.errors import ArchiveError
from tests.archive.building import (
    BLOCK,
    END,
    character,
    directory,
    extended,
    fifo,
    file,
    hardlink,
    header,
    layer,
    longname,
    padded,
    sparse_header,
    symlink,
)
from tests.archive.conftest import Place

pytestmark = pytest.mark.root

Expected: TypeAlias = bytes | str | None
"""A file's bytes; ``directory``, ``fifo``, ``device`` or ``-> TARGET``; nothing at all."""

Layers: TypeAlias = Callable[[str], "list[bytes]"]


@frozen
class Case:
    """Layers, given the path of what is outside; why the last is refused, or what is in the tree then."""

    name: str
    layers: Layers
    refused: str | None = None
    holds: Mapping[str, Expected] = field(factory=dict)
    options: Mapping[str, object] = field(factory=dict)


def one(*parts: bytes) -> Layers:
    return lambda _: [layer(*parts)]


def several(*layers: bytes) -> Layers:
    return lambda _: list(layers)


OUTSIDE = "../outside/secret"
NO_END = (b"", END[:BLOCK])

PATHS = [
    Case("dots lead to the root", one(file("../../../../../../evil", b"1")), holds={"evil": b"1"}),
    Case("dots in the middle", one(file("a/b/../../../../evil", b"1")), holds={"evil": b"1", "a": None}),
    Case("dots alone", one(file("..", b"1")), refused="root cannot be"),
    Case("dots to the neighbour", one(file(OUTSIDE, b"1")), holds={"outside/secret": b"1"}),
    Case("an absolute name", lambda out: [layer(file(f"{out}/secret", b"1"))], holds={}),
    Case("many slashes", one(file("//a///b", b"1")), holds={"a/b": b"1"}),
    Case("a name of dots and slashes", one(directory("./.././/.."), file("x", b"1")), holds={"x": b"1"}),
    Case("no name", one(file("", b"1")), refused="without a name"),
    Case("no name in an extended header", one(extended({"path": ""}), file("x", b"1")), holds={"x": b"1"}),
    Case("a NUL in a name", one(extended({"path": "a\0b"}), file("x", b"1")), refused="NUL"),
    Case("a NUL in a long name", one(longname(b"a\0b"), file("x", b"1")), refused="NUL"),
    Case("a NUL in a target", one(extended({"linkpath": "a\0b"}), symlink("x", "y")), refused="NUL"),
    Case("a newline in a name", one(file("a\nb", b"1")), holds={"a\nb": b"1"}),
    Case("bytes that are no text", one(file(b"\xff\xfe\x80", b"1")), holds={"\udcff\udcfe\udc80": b"1"}),
    Case("a part that is too long", one(extended({"path": "x" * 256}), file("x")), refused="File name too long"),
    Case(
        "a path that is too long", one(extended({"path": "d/" * 2100 + "x"}), file("x")), refused="File name too long"
    ),
    Case("a file as a directory", one(file("a", b"1"), file("a/b", b"2")), refused="Not a directory"),
]

SYMLINKS = [
    Case(
        "a symlink out, then a write through it",
        lambda out: [layer(symlink("l", out), file("l/secret", b"1"))],
        holds={"l/secret": None},
    ),
    Case(
        "a relative symlink out, then a write through it",
        one(symlink("l", "../../outside"), file("l/secret", b"1")),
        holds={"outside/secret": b"1", "l": "-> ../../outside"},
    ),
    Case(
        "a symlink to a file outside, then that file",
        lambda out: [layer(symlink("l", f"{out}/secret"), file("l", b"1"))],
        holds={"l": b"1"},
    ),
    Case(
        "a symlink of a later layer in a directory's place",
        lambda out: [
            layer(directory("d"), file("d/secret", b"1")),
            layer(symlink("d", out), file("d/secret", b"2")),
        ],
        holds={},
    ),
    Case(
        "a symlink in the place of a directory that is in use",
        lambda out: [layer(file("d/e/secret", b"1"), symlink("d", out), file("d/e/secret", b"2"))],
        holds={},
    ),
    Case(
        "a symlink exchanged for another while in use",
        one(
            directory("a"),
            directory("b"),
            symlink("l", "a"),
            file("l/x", b"1"),
            symlink("l", "b"),
            file("l/x", b"2"),
        ),
        holds={"a/x": b"1", "b/x": b"2"},
    ),
    Case(
        "a chain of symlinks to the host's root",
        one(symlink("a", ".."), symlink("b", "a/.."), symlink("c", "b/../.."), file("c/evil", b"1")),
        holds={"evil": b"1"},
    ),
    Case("symlinks in a circle", one(symlink("a", "b"), symlink("b", "a"), file("a/x")), refused="symbolic links"),
    Case("a symlink to itself", one(symlink("a", "a"), file("a/x")), refused="symbolic links"),
    Case(
        "a dangling symlink on the way",
        one(symlink("l", "/run/deep/../there"), file("l/x", b"1")),
        holds={"run/there/x": b"1", "run/deep": "directory"},
    ),
    Case(
        "a dangling symlink out",
        one(symlink("l", "../../../new/place"), file("l/x", b"1")),
        holds={"new/place/x": b"1"},
    ),
    Case("a symlink without a target", one(symlink("l", "")), refused="No such file"),
    Case(
        "the root as a symlink", lambda out: [layer(symlink("./", out), file("secret", b"1"))], refused="root cannot be"
    ),
    Case("the root as a file", one(file("/", b"1")), refused="root cannot be"),
    Case("the root as a hard link", one(file("x"), hardlink(".", "x")), refused="root cannot be"),
    Case(
        "a directory on a symlink",
        lambda out: [layer(symlink("l", out)), layer(directory("l", 0o700), file("l/secret", b"1"))],
        holds={"l": "directory", "l/secret": b"1"},
    ),
    Case(
        "a directory on a symlink out, which may stay if it is one",
        lambda out: [layer(symlink("l", out)), layer(directory("l", 0o700), file("l/secret", b"1"))],
        holds={"l": "directory", "l/secret": b"1"},
        options={"keep_dirlinks": True},
    ),
    Case(
        "a directory on a symlink inside, which may stay",
        several(layer(directory("d"), symlink("l", "/d")), layer(directory("l"), file("l/x", b"1"))),
        holds={"l": "-> /d", "d/x": b"1"},
        options={"keep_dirlinks": True},
    ),
    Case(
        "modes and owners through a symlink",
        lambda out: [layer(symlink("l", f"{out}/setuid", uid=7, gid=7, mtime=5), hardlink("h", "l"))],
        holds={},
    ),
    Case(
        "the process's own files by /proc",
        one(symlink("p", "/proc/self/root/tmp"), file("p/x", b"1")),
        holds={"proc/self/root/tmp/x": b"1"},
    ),
]

HARDLINKS = [
    Case("a hard link out", lambda out: [layer(hardlink("h", f"{out}/secret"))], refused="is not there"),
    Case("a hard link out by dots", one(hardlink("h", OUTSIDE)), refused="is not there"),
    Case(
        "a hard link through a symlink out",
        lambda out: [layer(symlink("l", out), hardlink("h", "l/secret"))],
        refused="is not there",
    ),
    Case(
        "a hard link to a symlink out, then a write",
        lambda out: [layer(symlink("l", f"{out}/secret"), hardlink("h", "l"), file("h", b"1"))],
        holds={"h": b"1"},
    ),
    Case("a hard link to a directory", one(directory("d"), hardlink("h", "d")), refused="which is a directory"),
    Case("a hard link to the root", one(hardlink("h", "/")), refused="which is a directory"),
    Case("a hard link to itself", one(file("h", b"1"), hardlink("h", "./h")), refused="to itself"),
    Case("a hard link to nothing", one(hardlink("h", "absent")), refused="is not there"),
    Case("a hard link to what comes later", one(hardlink("h", "f"), file("f", b"1")), refused="is not there"),
    Case(
        "a hard link on the directory that holds its target",
        one(file("d/f", b"1"), hardlink("d", "d/f")),
        refused="No such file",
    ),
    Case(
        "a hard link in the place of a file",
        one(file("a", b"1"), file("b", b"2"), hardlink("b", "a")),
        holds={"a": b"1", "b": b"1"},
    ),
    Case(
        "a hard link, then the file anew",
        one(file("a", b"1"), hardlink("b", "a"), file("b", b"2")),
        holds={"a": b"1", "b": b"2"},
    ),
    Case("a hard link with a size", one(file("a", b"1"), hardlink("b", "a", size=1 << 30)), holds={"b": b"1"}),
]

KINDS = [
    Case("a file on a full directory", one(file("d/e/f", b"1"), file("d", b"2")), holds={"d": b"2"}),
    Case(
        "a directory on a file", one(file("d", b"1"), file("e"), directory("d"), file("d/x", b"2")), holds={"d/x": b"2"}
    ),
    Case("a file where a FIFO was", one(fifo("p"), file("p", b"1")), holds={"p": b"1"}),
    Case("a file where a device was", one(character("null", 1, 3), file("null", b"1")), holds={"null": b"1"}),
    Case("a FIFO as a directory", one(fifo("p"), file("p/x", b"1")), refused="Not a directory"),
    Case("the same file twice", one(file("f", b"1"), file("f", b"22")), holds={"f": b"22"}),
    Case("a device that cannot be", one(header("d", b"3", device=(4096, 0))), refused="no device 4096:0"),
    Case("a minor number that cannot be", one(header("d", b"4", device=(0, 1 << 20))), refused="no device"),
    Case("a type that is not known", one(header("v", b"V")), refused="not known"),
    Case("a directory with data", one(header("d", b"5", size=BLOCK), bytes(BLOCK)), refused="directory with 512 bytes"),
    Case("a symlink with data", one(header("l", b"2", link="x", size=1), bytes(BLOCK)), refused="link with 1 bytes"),
    Case("a mode with everything", one(header("f", mode=0o177777)), holds={"f": b""}),
    Case("a closed directory", one(directory("d", 0), file("d/x", b"1")), holds={"d/x": b"1"}),
    Case("an ID that cannot be", one(header("f", uid=(1 << 32) - 1)), refused="uid 4294967295"),
    Case("a negative ID", one(header("f", gid=-1)), refused="gid -1"),
    Case(
        "an attribute of overlayfs",
        one(extended({"SCHILY.xattr.trusted.overlay.opaque": "y"}), directory("d")),
        holds={"d": "directory"},
    ),
]

SIZES = [
    Case("a negative size", one(header("f", size=-BLOCK)), refused="cannot be"),
    Case("a size beyond all", one(header("f", size=1 << 63)), refused="cannot be"),
    Case("a size beyond the archive", one(header("f", size=1 << 40), b"x" * BLOCK), refused="ends too early"),
    Case("a size that is no number", one(header("f", size=b"12x45678901\0")), refused="no number"),
    Case("a size with a sign", one(header("f", size=b"-0000000001\0")), refused="no number"),
    Case("an extended size that is negative", one(extended({"size": "-1"}), file("f")), refused="no number"),
    Case("an extended size with an underscore", one(extended({"size": "1_0"}), file("f")), refused="no number"),
    Case(
        "an extended size that hides a member",
        lambda _: [
            layer(
                extended({"size": str(3 * BLOCK)}),
                header("outer", size=0),
                file("inner", b"smuggled"),
                bytes(BLOCK),
            )
        ],
        holds={"inner": None},
    ),
    Case("a global size", one(extended({"size": "0"}, b"g"), file("f", b"1")), refused="global size"),
    Case("a global path", one(extended({"path": "x"}, b"g"), file("f", b"1")), refused="global path"),
    Case("endless global headers", one(extended({"comment": "x"}, b"g") * 101), refused="global headers"),
    Case(
        "global headers that fill memory",
        one(*(extended({f"SCHILY.xattr.user.{i}": "x" * 300_000}, b"g") for i in range(4))),
        refused="global headers",
    ),
    Case("a huge extended header", one(header("pax", b"x", size=1 << 30)), refused="extended header of"),
    Case("a huge long name", one(header("l", b"L", size=1 << 40)), refused="extended header of"),
    Case("a record that is too long", one(extended(b"99 path=x\n"), file("f")), refused="malformed"),
    Case("a record that is too short", one(extended(b"5 path=x\n"), file("f")), refused="malformed"),
    Case("a record without a length", one(extended(b"path=x\n"), file("f")), refused="malformed"),
    Case("a record of length zero", one(extended(b"0 path=x\n"), file("f")), refused="malformed"),
    Case("a record with a huge length", one(extended(b"9" * 19 + b" a=x\n"), file("f")), refused="malformed"),
    Case("a record without a key", one(extended(b"6 =xy\n"), file("f")), refused="malformed"),
    Case("a record without a line's end", one(extended(b"9 path=xy"), file("f")), refused="malformed"),
    Case("two extended headers", one(extended({"path": "a"}), extended({"path": "b"}), file("f")), refused="a second"),
    Case("two long names", one(longname(b"a"), longname(b"b"), file("f")), refused="a second"),
    Case("two names in two ways", one(longname(b"a"), extended({"path": "b"}), file("f")), refused="two different"),
    Case("an extended header of nobody", one(extended({"path": "a"})), refused="belongs to no member"),
    Case("a time that is none", one(extended({"mtime": "1e9"}), file("f")), refused="no time"),
    Case("a time beyond all", one(extended({"mtime": "9" * 20}), file("f")), refused="no time"),
    Case("a wrong checksum", one(header("f", checksum=b"000001\0 ")), refused="checksum"),
    Case("a checksum that is none", one(header("f", checksum=b"\xff" * 8)), refused="checksum"),
    Case("no archive at all", several(os.urandom(1 << 16)), refused="checksum"),
    Case("garbage after the end", several(layer(file("f", b"1")) + b"x" * BLOCK), refused="follows its end"),
    Case("another archive after the end", several(layer(file("f")) + layer(file("g"))), refused="follows its end"),
    Case(
        "a member after one block of zeros",
        several(file("f") + bytes(BLOCK) + layer(file("g"))),
        refused="follows its end",
    ),
    Case("zeros after the end", several(layer(file("f", b"1")) + bytes(10_000)), holds={"f": b"1"}),
    Case("no end", several(file("f", b"1")), refused="truncated"),
    Case("half an end", several(file("f", b"1") + bytes(BLOCK)), refused="truncated"),
    Case("an empty archive", several(b""), refused="truncated"),
    Case("no end where a digest has told", several(file("f", b"1")), holds={"f": b"1"}, options={"needs_end": False}),
    Case(
        "more bytes than allowed",
        one(file("f", b"12345"), file("g", b"123456")),
        refused="more than 10 bytes",
        options={"limits": ExtractLimits(bytes=10)},
    ),
    Case(
        "more entries than allowed",
        one(*(file(f"f{i}") for i in range(11))),
        refused="more than 10 entries",
        options={"limits": ExtractLimits(entries=10)},
    ),
    Case(
        "more directories than allowed",
        one(file("a/" * 40 + "x")),
        refused="more than 10 entries",
        options={"limits": ExtractLimits(entries=10)},
    ),
]

SPARSE = [
    Case("a huge hole", one(sparse_header("f", [(1 << 41, 3)], (1 << 41) + 3, 3), padded(b"abc")), holds={}),
    Case("a hole beyond all files", one(sparse_header("f", [], 1 << 62, 0)), refused="File too large"),
    Case(
        "parts that overlap", one(sparse_header("f", [(0, 8), (4, 8)], 100, 16), padded(b"x" * 16)), refused="overlap"
    ),
    Case(
        "parts in the wrong order",
        one(sparse_header("f", [(50, 8), (4, 8)], 100, 16), padded(b"x" * 16)),
        refused="overlap",
    ),
    Case(
        "parts beyond the end", one(sparse_header("f", [(96, 8)], 100, 8), padded(b"x" * 8)), refused="beyond its end"
    ),
    Case("parts that are too short", one(sparse_header("f", [(0, 8)], 100, 9), padded(b"x" * 9)), refused="as long as"),
    Case("a map without an end", one(sparse_header("f", [(0, 1)] * 4, 9, 4, more=True)), refused="overlap"),
    Case(
        "an odd map",
        one(extended([("GNU.sparse.size", "9"), ("GNU.sparse.map", "0,1,5")]), file("f", b"x")),
        refused="as many",
    ),
    Case(
        "a map of a later version",
        one(
            extended([("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")]),
            file("f", b"x"),
        ),
        refused="not known",
    ),
    Case(
        "a map that is longer than its data",
        one(
            extended([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")]),
            file("f", (b"1000\n" + b"0\n" * 254)[:BLOCK]),
        ),
        refused="longer than",
    ),
    Case(
        "a map that is no map",
        one(
            extended([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")]),
            file("f", b"x" * BLOCK),
        ),
        refused="malformed",
    ),
    Case(
        "a sparse directory",
        one(extended([("GNU.sparse.size", "9"), ("GNU.sparse.map", "")]), directory("d")),
        refused="cannot be sparse",
    ),
]

LOWER = layer(directory("d"), file("d/low", b"1"), symlink("l", "/d"), file("f", b"1"))

WHITEOUTS = [
    Case("a whiteout of the directory", several(LOWER, layer(file("d/.wh."))), refused="of nothing"),
    Case("a whiteout of a dot", several(LOWER, layer(file("d/.wh.."))), refused="of nothing"),
    Case("a whiteout of what is above", several(LOWER, layer(file("d/.wh..."))), refused="of nothing"),
    Case("a whiteout of what is above all", several(LOWER, layer(file(".wh..."))), refused="of nothing"),
    Case(
        "a whiteout through a symlink",
        several(LOWER, layer(file("l/.wh.low"))),
        holds={"d/low": None, "d": "directory"},
    ),
    Case(
        "a whiteout through a symlink out",
        lambda out: [layer(symlink("l", out)), layer(file("l/.wh.secret"))],
        holds={},
    ),
    Case(
        "a whiteout of a symlink out", lambda out: [layer(symlink("l", out)), layer(file(".wh.l"))], holds={"l": None}
    ),
    Case("opaque through a symlink", several(LOWER, layer(file("l/.wh..wh..opq"))), holds={"d/low": None, "f": b"1"}),
    Case(
        "opaque through a symlink out", lambda out: [layer(symlink("l", out)), layer(file("l/.wh..wh..opq"))], holds={}
    ),
    Case("whiteouts by dots", several(LOWER, layer(file("../outside/.wh.secret"))), holds={"f": b"1"}),
    Case("a hidden name of aufs", several(LOWER, layer(file(".wh..wh.foo"))), holds={"f": b"1", ".wh.foo": None}),
    Case("a directory with a whiteout's name", several(LOWER, layer(file("d/.wh.x/y"))), refused="name of a whiteout"),
    Case("a hard link as a whiteout", several(LOWER, layer(hardlink("d/.wh.low", "absent"))), holds={"d/low": None}),
    Case("a hard link to a whiteout", several(LOWER, layer(file(".wh.f"), hardlink("h", "f"))), refused="is not there"),
    Case("a whiteout of what never was", several(LOWER, layer(file("no/where/.wh.x"))), holds={"no": None}),
    Case("a whiteout below a file", several(LOWER, layer(file("f/.wh.x"))), holds={"f": b"1"}),
    Case(
        "whiteouts where there are none",
        several(layer(file("a/.wh.b"))),
        refused="no layer",
        options={"whiteouts": "refuse"},
    ),
    Case(
        "whiteouts as files",
        several(layer(file("a/.wh.b", b"1"))),
        holds={"a/.wh.b": b"1"},
        options={"whiteouts": "keep"},
    ),
    Case("a device that is a whiteout", one(character("c", 0, 0)), refused="0:0", options={"whiteouts": "overlay"}),
]

CASES = [*PATHS, *SYMLINKS, *HARDLINKS, *KINDS, *SIZES, *SPARSE, *WHITEOUTS]


def test_the_cases_are_many_and_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_or_contained(place: Place, case: Case) -> None:
    *lower, last = case.layers(str(place.outside))
    place.extract(*lower, **case.options)
    if case.refused is not None:
        with pytest.raises(ArchiveError, match=case.refused):
            place.extract(last, **case.options)
        return
    place.extract(last, **case.options)
    for path, wanted in case.holds.items():
        assert seen(place, path) == wanted


def seen(place: Place, path: str) -> Expected:
    """What is at a path of the tree, no symlink followed but by the kernel beneath the root."""
    entry = place.tree().get(path)
    if entry is None:
        return None
    if entry.kind == stat.S_IFLNK:
        return f"-> {os.fsdecode(entry.content)}"
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "fifo", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(entry.kind, entry.content)


RICH = layer(
    directory("./"),
    extended({"mtime": "1.5", "SCHILY.xattr.user.a": "b"}),
    file("d/f", b"x" * 700),
    longname(b"n" * 120),
    file("short", b"2"),
    hardlink("h", "d/f"),
    symlink("l", "d"),
    sparse_header("s", [(0, 5), (1000, 5)], 2000, 10),
    padded(b"0123456789"),
    file("last", b"1"),
)


@pytest.mark.parametrize("blocks", range(len(RICH) // BLOCK))
def test_it_may_be_cut_anywhere(place: Place, blocks: int) -> None:
    for cut in (blocks * BLOCK, blocks * BLOCK + 100):
        with pytest.raises(ArchiveError):
            place.extract(RICH[:cut])


@pytest.mark.parametrize("position", range(0, 157, 3))
def test_any_byte_of_a_header_may_be_wrong(place: Place, position: int) -> None:
    damaged = bytearray(RICH)
    damaged[position] ^= 0x41
    with pytest.raises(ArchiveError):
        place.extract(bytes(damaged))


class Endless:
    """More entries than anybody has inodes for."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._make = make
        self._number = 0
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._rest += b"".join(self._make(self._number + i) for i in range(100))
            self._number += 100
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def test_an_endless_archive_ends_at_the_limit(place: Place) -> None:
    with pytest.raises(ArchiveError, match="more than 2000 entries"):
        extract(Endless(lambda i: file(f"f{i}")), place.root, limits=ExtractLimits(entries=2000))
    assert len(place.names()) == 2000


def test_an_endless_file_ends_at_the_limit(place: Place) -> None:
    endless = Endless(lambda i: header("f", size=b"7" * 11 + b"\0") if i == 0 else b"x" * BLOCK)
    with pytest.raises(ArchiveError, match="more than 1000000 bytes"):
        extract(endless, place.root, limits=ExtractLimits(bytes=1_000_000))
    assert place.names() == set()


def test_a_tree_deeper_than_any_path_is_made_and_removed(place: Place) -> None:
    """Each symlink leads 400 directories down from the last; the fixture removes what came of it."""
    step = "dd/" * 400
    parts = [extended({"path": step}), directory("x"), extended({"linkpath": step}), symlink("0", "y")]
    for number in range(4):
        parts += [extended({"path": f"{number}/{step}"}), directory("x")]
        parts += [extended({"linkpath": f"{number}/{step}"}), symlink(str(number + 1), "y")]
    place.extract(layer(*parts, file("4/deep", b"1")))
    fd = os.open(place.root, os.O_RDONLY)
    depth = 0
    while "dd" in os.listdir(fd):
        below = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, depth = below, depth + 1
    assert os.listdir(fd) == ["deep"]
    os.close(fd)
    assert depth == 400 * 5


def test_set_id_bits_survive_the_owner(place: Place) -> None:
    place.extract(layer(file("su", b"x", mode=0o6755, uid=5, gid=6), directory("sg", 0o2775, gid=7)))
    assert stat.S_IMODE(os.stat(place.root / "su").st_mode) == 0o6755
    assert stat.S_IMODE(os.stat(place.root / "sg").st_mode) == 0o2775
    assert os.stat(place.root / "su").st_uid == 5


def test_nobody_runs_a_set_id_file_before_it_is_its_owners(place: Place) -> None:
    """A member that cannot be finished leaves no set-ID bits behind."""
    with pytest.raises(ArchiveError, match="early"):
        place.extract(header("su", mode=0o6755, uid=5, size=BLOCK * 4) + b"x" * BLOCK)
    assert stat.S_IMODE(os.stat(place.root / "su").st_mode) == 0o600


def test_an_attribute_of_a_symlink_is_the_symlinks_own(place: Place) -> None:
    target = place.outside / "secret"
    place.extract(layer(extended({"SCHILY.xattr.trusted.evil": "1"}), symlink("l", str(target))))
    assert os.getxattr(place.root / "l", "trusted.evil", follow_symlinks=False) == b"1"
    assert os.listxattr(target) == []


def test_a_failing_stream_is_not_the_archives_fault(place: Place) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            del size
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        extract(Broken(), place.root)


def test_no_descriptor_is_left(place: Place) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    place.extract(layer(*(file(f"d{i}/e/f", b"1") for i in range(200))))
    with pytest.raises(ArchiveError):
        place.extract(layer(file("x/y/z"), fifo("p"), file("p/x")))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_name_of_the_member_is_in_the_error(place: Place) -> None:
    with pytest.raises(ArchiveError, match="'p/x': cannot") as caught:
        place.extract(layer(fifo("p"), file("p/x")))
    assert caught.value.member == "p/x"
    assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_one_directory_may_have_any_number_of_paths(place: Place) -> None:
    """By symlinks to itself: more than are kept, and all of them are the directory whose times stay."""
    ways = ["/".join(format(number, "012b").replace("0", "a").replace("1", "b")) for number in range(2500)]
    links = (directory("d", mtime=7), symlink("d/a", "."), symlink("d/b", "."))
    place.extract(layer(*links, *(file(f"d/{way}/f{number}") for number, way in enumerate(ways))))
    assert len(os.listdir(place.root / "d")) == 2502
    assert os.stat(place.root / "d").st_mtime == 7
