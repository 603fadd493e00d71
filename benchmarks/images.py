"""Images: a Debian becomes a bundle, once more without unpacking anything, and what that needs of memory.

The Debian is debootstrap's, made once and kept in build/images with the images that are made of it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.contender import Comparison, Contender, Once, Relation, Unable
from benchmarks.measure import command, timed
from benchmarks.place import Place, need_root, program
from ocirt.image.image import Image
from ocirt.image.layout import LayoutDestination
from ocirt.image.media import Compression
from ocirt.image.reference import Location
from ocirt.image.repack import Packing, from_rootfs
from ocirt.image.store import Store

KEPT: Final = Path(__file__).resolve().parent.parent / "build" / "images"
ROUNDS: Final = 7
LARGE: Final = 1 << 30
"""Bytes of the layer by which memory is measured, of which a part cannot be compressed."""
RANDOM: Final = 64 << 20
DISK: Final = 16 << 30
"""Bytes of a disk for the bundles of all rounds; what is not used takes no room."""

MEASURE: Final = """
import resource, sys
from ocirt.image.image import Image
with Image.open(sys.argv[1]) as image:
    image.unpack(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _unpacking(compression: Compression, place: Place) -> Comparison:
    return Comparison(
        f"image-unpack-{compression}",
        f"a Debian (minbase, one layer) of {compression} is unpacked to a bundle",
        (
            Contender("ocirt, in this process", partial(_ours, place, compression)),
            Contender("umoci unpack", partial(_umoci, place, compression), at_most=0.5),
            *(
                (Contender("umoci unpack, of gzip", partial(_umoci, place, "gzip"), at_most=0.5),)
                if compression != "gzip"
                else ()
            ),
        ),
        most_rounds=ROUNDS,
    )


def _bundle(place: Place) -> Comparison:
    return Comparison(
        "image-bundle",
        "one more bundle of a Debian that is in the store",
        (Contender("Store.bundle", partial(_more, place)), Contender("nothing", lambda _: lambda: 0.0, at_most=20)),
        Relation.DIFFERENCE,
    )


def _memory(compression: Compression, place: Place) -> Comparison:
    return Comparison(
        f"image-memory-{compression}",
        f"MiB, not milliseconds: all memory of a process that unpacks a layer of {LARGE >> 20} MiB, of {compression}",
        (
            Contender("ocirt", partial(_peak, place, compression)),
            Contender("nothing", lambda _: lambda: 0.0, at_most=100),
        ),
        Relation.DIFFERENCE,
        most_rounds=2,
    )


COMPARISONS: Final[Mapping[str, Callable[[Place], Comparison]]] = {
    "unpack-gzip": partial(_unpacking, "gzip"),
    "unpack-zstd": partial(_unpacking, "zstd"),
    "bundle": _bundle,
    "memory-gzip": partial(_memory, "gzip"),
    "memory-zstd": partial(_memory, "zstd"),
}


def _ours(place: Place, compression: Compression, stack: ExitStack) -> Once:
    need_root()
    image = stack.enter_context(Image.open(_debian(compression)))
    disk = _disk(place, stack)
    return _elsewhere(disk, lambda bundle: timed(lambda: image.unpack(bundle)))


def _umoci(place: Place, compression: Compression, stack: ExitStack) -> Once:
    need_root()
    words = (program("umoci"), "unpack", "--image", _debian(compression).removeprefix("oci:"))
    disk = _disk(place, stack)
    return _elsewhere(disk, lambda bundle: command((*words, str(bundle)), place.log))


def _more(place: Place, stack: ExitStack) -> Once:
    need_root()
    store = Store(place.directory / "store")
    stored = store.pull(_debian("gzip"))
    bundle = place.directory / "more"
    store.bundle(stored, place.directory / "first")
    return _removing(timed(lambda: store.bundle(stored, bundle)), bundle)


def _peak(place: Place, compression: Compression, stack: ExitStack) -> Once:
    need_root()
    name = _large(place.directory / f"large-{compression}", compression)
    bundle = place.directory / f"large-bundle-{compression}"

    def once() -> float:
        args = (sys.executable, "-c", MEASURE, name, str(bundle))
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unable(done.stderr.strip().rpartition("\n")[2])
        return int(done.stdout) / 1024

    return _removing(once, bundle)


def _disk(place: Place, stack: ExitStack) -> Path:
    """A new ext4 of its own. Before ext4 takes an inode it looks at every one nearby that was deleted within the last
    minutes: on a disk where something large was, that would be more than half of what is measured."""
    where = Path(tempfile.mkdtemp(dir=place.directory))
    image = where.with_suffix(".ext4")
    with image.open("xb") as file:
        file.truncate(DISK)
    _must((program("mkfs.ext4"), "-q", str(image)))
    _must((program("mount"), "-o", "loop,discard", str(image), str(where)))
    stack.callback(_must, (program("umount"), str(where)))
    return where


def _elsewhere(disk: Path, making: Callable[[Path], Once]) -> Once:
    """Each time at another path, and nothing is removed in between."""
    numbers = itertools.count()
    return lambda: making(disk / str(next(numbers)))()


def _removing(once: Once, bundle: Path) -> Once:
    """Beside the clock."""

    def again() -> float:
        try:
            return once()
        finally:
            shutil.rmtree(bundle, ignore_errors=True)

    return again


def _debian(compression: Compression) -> str:
    """The name of such an image.

    :raises Unable: there is no debootstrap, or no mirror.
    """
    root, layout = KEPT / "debian", KEPT / "layout"
    if not root.exists():
        making = KEPT / "debian.new"
        shutil.rmtree(making, ignore_errors=True)
        _must((program("debootstrap"), "--variant=minbase", "bookworm", str(making)))
        making.rename(root)
    name = f"oci:{layout}:{compression}"
    if not (layout / compression).exists():
        with LayoutDestination(Location.parse(name)) as destination:
            from_rootfs(root, destination, packing=Packing(compression=compression))
        (layout / compression).touch()
    return name


def _large(directory: Path, compression: Compression) -> str:
    """The name of an image with a large file."""
    rootfs = directory / "rootfs"
    rootfs.mkdir(parents=True)
    with (rootfs / "file").open("wb") as file:
        for _ in range(RANDOM >> 20):
            file.write(os.urandom(1 << 20))
        for _ in range((LARGE - RANDOM) >> 20):
            file.write(b"x" * (1 << 20))
    name = f"oci:{directory}/layout:large"
    with LayoutDestination(Location.parse(name)) as destination:
        from_rootfs(rootfs, destination, packing=Packing(compression=compression))
    shutil.rmtree(rootfs)
    return name


def _must(args: Sequence[str]) -> None:
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unable((done.stdout + done.stderr).strip().rpartition("\n")[2])
