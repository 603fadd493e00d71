"""What the fields of a tar header mean: numbers, names, and the records of extended headers.

Whatever is not as the formats have it is a ``ValueError`` that says what. Two readers who make different things of the
same bytes are how files are smuggled past the one of them (CVE-2025-62518), so nothing is guessed.
POSIX.1-2024, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
import zlib

LARGEST = (1 << 63) - 1
"""Of sizes and offsets: off_t."""

SECOND = 1_000_000_000

_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")


def number(field: bytes) -> int:
    """Octal digits, or in GNU's way a binary number if the first bit is set, which may be negative."""
    text = field.rstrip(b"\0 ")
    if text.isdigit():
        return int(text, 8)
    if field[0] & 0x80:
        if field[0] & 0x40:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise ValueError(f"{field!r} is no number")
    return int(text, 8)


def size(field: bytes) -> int:
    """A number of bytes."""
    value = number(field)
    if not 0 <= value <= LARGEST:
        raise ValueError(f"a size of {value} bytes cannot be")
    return value


def seconds(field: bytes) -> int:
    """A time in whole seconds, as nanoseconds."""
    return _nanoseconds(number(field))


def decimal(value: bytes, largest: int = LARGEST) -> int:
    """A number of an extended header's."""
    if not value.isdigit() or len(value) > 20 or int(value) > largest:
        raise ValueError(f"{_shown(value)} is no number up to {largest}")
    return int(value)


def time(value: bytes) -> int:
    """Seconds since the epoch with a fraction, negative ones too, as nanoseconds; finer fractions are cut off."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise ValueError(f"{_shown(value)} is no time")
    sign, whole, fraction = match.groups()
    nanoseconds = int(whole) * SECOND + int(((fraction or b"") + b"0" * 9)[:9])
    return _nanoseconds(0, -nanoseconds if sign else nanoseconds)


def checksum_holds(block: bytes, field: bytes) -> bool:
    """Whether ``field`` is the sum of all bytes, its own counted as spaces.

    The first half of an Adler checksum is a sum too (RFC 1950), exact below 65521 and so for half a header, and ten
    times as fast as Python's ``sum``. Historic programs added up signed bytes.
    """
    try:
        wanted = number(field)
    except ValueError:
        return False
    plain = block[:148] + b"        " + block[156:]
    unsigned = (zlib.adler32(plain[:256]) & 0xFFFF) + (zlib.adler32(plain[256:]) & 0xFFFF) - 2
    return wanted == unsigned or wanted == unsigned - 256 * sum(byte > 127 for byte in plain)


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of an extended header, in their order: ``LENGTH KEY=VALUE\\n`` each."""
    found = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at : max(space, at)]
        end = at + int(digits) if digits.isdigit() else -1
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise ValueError(f"the record at byte {at} of the extended header is malformed")
        found.append((key, value))
        at = end
    return found


def without_nul(value: bytes, what: str) -> bytes:
    """No path can hold a NUL; the field of a header ends there."""
    if b"\0" in value:
        raise ValueError(f"its {what} has a NUL in it")
    return value


def _nanoseconds(whole: int, more: int = 0) -> int:
    value = whole * SECOND + more
    if not -LARGEST <= value // SECOND <= LARGEST:
        raise ValueError(f"{value // SECOND} seconds are no time")
    return value


def _shown(value: bytes) -> str:
    return repr(value if len(value) <= 40 else value[:40] + b"...")
