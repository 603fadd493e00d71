"""Which image of an index suits a machine (image-index.md, ``platform``), by containerd's rules.

Names are normalized first: ``aarch64`` is arm64, ``arm64/v8`` the same as arm64. Then the images are asked for in the
order of how well they suit: on arm/v7 its own, v6, v5; on amd64/v3 its own, v2, the one without a variant, and 386.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from ocirt.errors import ImageError, ImageNotFound
from ocirt.image import manifests, media
from ocirt.image.documents import Descriptor, Index, Platform
from ocirt.image.transport import Raw, Source

MAX_INDEXES: Final = 64
"""How many of them may be in one another."""

MAX_ENTRIES: Final = 1 << 16
"""How many images those may have together."""

ATTESTATION: Final = "vnd.docker.reference.type"
UNKNOWN: Final = "unknown"

_ARCHITECTURES: Final = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "loongarch64": ("loong64", ""),
    "mips64el": ("mips64le", ""),
    "mipsel": ("mipsle", ""),
}
"""What others call them, uname(2) among them, in Go's words."""

_OTHERS: Final = frozenset(
    "386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm".split()
)
_SYSTEMS: Final = frozenset(
    "aix darwin dragonfly freebsd illumos linux netbsd openbsd plan9 solaris wasip1 windows".split()
)

# The x86-64 psABI, Micro-Architecture Levels, by the kernel's names.
_LEVELS: Final = (
    ("v2", frozenset("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3".split())),
    ("v3", frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split())),
    ("v4", frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split())),
)


def parse(text: str) -> Platform:
    """``linux/arm64/v8``, ``linux/arm64``, ``arm64`` or ``linux``, whose rest is this machine's.

    :raises ImageError: it is none.
    """
    parts = text.split("/")
    if len(parts) > 3 or not all(re.fullmatch(r"[A-Za-z0-9_.-]+", part) for part in parts):
        raise ImageError(text, "is no platform: os/architecture or os/architecture/variant, as linux/arm64")
    if len(parts) > 1:
        return normalized(Platform(parts[1], parts[0], variant=parts[2] if len(parts) > 2 else ""))
    word = parts[0].lower()
    if word in _SYSTEMS:
        return evolve(here(), os=word)
    if word in _OTHERS or word in _ARCHITECTURES:
        return normalized(Platform(word, here().os))
    raise ImageError(text, "is neither an operating system nor an architecture that is known here")


def here() -> Platform:
    """This machine's."""
    return normalized(Platform(os.uname().machine, "linux"))


def normalized(platform: Platform) -> Platform:
    """In Go's words, each platform in one way (containerd's platforms.Normalize)."""
    system = platform.os.lower()
    architecture = platform.architecture.lower()
    variant = platform.variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, default = _ARCHITECTURES[architecture]
        variant = variant or default
    if variant.isdecimal():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return evolve(platform, os=system, architecture=architecture, variant=variant)


def preferred(platform: Platform) -> tuple[Platform, ...]:
    """What runs where ``platform`` does, the best first (containerd's platforms.Only)."""
    return tuple(_preferred(normalized(platform)))


def _preferred(platform: Platform) -> Iterator[Platform]:
    yield platform
    number = int(platform.variant[1:]) if re.fullmatch(r"v[0-9]{1,3}", platform.variant) else 0
    if platform.architecture == "amd64":
        yield from (evolve(platform, variant=f"v{lower}") for lower in range(number - 1, 1, -1))
        if number:
            yield evolve(platform, variant="")
        yield evolve(platform, architecture="386", variant="")
    if platform.architecture == "arm":
        yield from (evolve(platform, variant=f"v{lower}") for lower in range(number - 1, 4, -1))
    if platform.architecture == "arm64":
        yield from (evolve(platform, variant=f"v{lower}") for lower in range(number - 1, 8, -1))
        if number:
            yield evolve(platform, variant="")
        yield from _preferred(evolve(platform, architecture="arm", variant="v8"))


def preferred_here() -> tuple[Platform, ...]:
    """On this machine: what every machine of its kind runs comes before what only the newer ones do.

    So that the same name is the same image on two of them, wherever there is a choice.
    """
    plain, *rest = preferred(here())
    newer = [evolve(plain, variant=variant) for variant in reversed(_levels())] if plain.architecture == "amd64" else []
    return (plain, *newer, *rest)


def _levels() -> list[str]:
    """The variants of amd64 that this processor has (Go's GOAMD64)."""
    text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = frozenset(match[1].split()) if match is not None else frozenset()
    found: list[str] = []
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        found.append(name)
    return found


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether that is the one, both normalized; Windows is asked for by the first words of its version, too."""
    return (
        (offered.os, offered.architecture, offered.variant) == (wanted.os, wanted.architecture, wanted.variant)
        and (not wanted.os_version or f"{offered.os_version}.".startswith(f"{wanted.os_version}."))
        and set(wanted.os_features) <= set(offered.os_features)
    )


@frozen
class Chosen:
    """An image of an index."""

    descriptor: Descriptor
    raw: Raw


def choose(source: Source, raw: Raw, platform: Platform | None) -> Chosen:
    """The image of an index that suits ``platform``, or else this machine, best.

    :raises ImageNotFound: none does; the words say what there is.
    """
    offered = list(leaves(source, raw))
    found = best(offered, preferred_here() if platform is None else preferred(platform))
    if found is not None:
        return Chosen(found, source.manifest(found))
    if len(offered) == 1 and offered[0].platform is None:
        return Chosen(offered[0], source.manifest(offered[0]))
    names = sorted({str(normalized(entry.platform)) if entry.platform else "one for nobody knows" for entry in offered})
    there = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise ImageNotFound(source.name, f"has no image for {platform or here()}; there is {there or 'none at all'}")


def best(offered: Iterable[Descriptor], wanted: Iterable[Platform]) -> Descriptor | None:
    """The first that is for the first of those platforms, or of the next."""
    there = [(normalized(entry.platform), entry) for entry in offered if entry.platform is not None]
    for platform in wanted:
        for normal, entry in there:
            if matches(platform, normal):
                return entry
    return None


def leaves(source: Source, raw: Raw) -> Iterator[Descriptor]:
    """The images of an index and of those in it, in their order; what only tells of an image (attestations) is none."""
    waiting: list[Descriptor | Raw] = [raw]
    seen = set()
    count = 0
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, Descriptor) and entry.media_type not in media.INDEXES:
            if _is_image(entry):
                yield entry
            continue
        digest = entry.digest
        if digest in seen:
            continue
        seen.add(digest)
        if len(seen) > MAX_INDEXES:
            raise ImageError(source.name, f"has more than {MAX_INDEXES} indexes in one another")
        inner = source.manifest(entry) if isinstance(entry, Descriptor) else entry
        document = manifests.parse(inner, f"{source.name}, index {digest.short}")
        assert isinstance(document, Index)
        count += len(document.manifests)
        if count > MAX_ENTRIES:
            raise ImageError(source.name, f"has more than {MAX_ENTRIES} images")
        waiting.extend(reversed(document.manifests))


def _is_image(entry: Descriptor) -> bool:
    if entry.platform is not None and UNKNOWN in (entry.platform.os, entry.platform.architecture):
        return False
    return ATTESTATION not in entry.annotations
