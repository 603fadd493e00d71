"""What stands in libc's place in ocirt-init does what libc does, as far as it is used.

``bare.c`` is compiled as for ocirt-init, its symbols are given a prefix, and so it can be called beside the real ones.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt._native import HERE

NATIVE = Path(HERE)

if shutil.which("gcc") is None or shutil.which("objcopy") is None:
    pytest.skip("needs gcc and binutils", allow_module_level=True)

CONVERSIONS = ("%s", "%.*s", "%.600s", "%.900s", "%d", "%llu", "%04o")
"""All that the sources use; ``bare.c`` knows no other."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    directory = tmp_path_factory.mktemp("bare")
    flags = ["-std=gnu11", "-O2", "-fPIC", "-ffreestanding", "-fno-tree-loop-distribute-patterns"]
    guard = "-mstack-protector-guard=global"
    subprocess.run(["gcc", *flags, guard, "-c", str(NATIVE / "bare.c"), "-o", "bare.o"], cwd=directory, check=True)
    subprocess.run(["objcopy", "--prefix-symbols=bare_", "bare.o"], cwd=directory, check=True)
    (directory / "main.c").write_text("int bare_main(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "main.c", "bare.o", "-o", "bare.so"], cwd=directory, check=True)
    return ctypes.CDLL(str(directory / "bare.so"))


words = st.binary(max_size=40).map(lambda word: word.replace(b"\0", b"-"))
sizes = st.integers(0, 60)


def written(bare: ctypes.CDLL, size: int, form: bytes, *values: object) -> tuple[bytes, int]:
    """What snprintf(3) leaves in a buffer of ``size`` bytes, and what it returns."""
    buffer = ctypes.create_string_buffer(b"\xaa" * 100, 100)
    length = bare.bare_snprintf(buffer, ctypes.c_size_t(size), form, *values)
    assert buffer.raw[size:] == b"\xaa" * (100 - size), "written past the end"
    return buffer.raw[:size], length


def expected(size: int, text: bytes) -> tuple[bytes, int]:
    whole = text[: max(size - 1, 0)] + b"\0" + b"\xaa" * 100
    return whole[:size], len(text)


@given(size=sizes, left=words, right=words)
def test_strings_are_written_as_far_as_there_is_room(bare: ctypes.CDLL, size: int, left: bytes, right: bytes) -> None:
    assert written(bare, size, b"%s/%s", left, right) == expected(size, left + b"/" + right)


@given(size=sizes, word=words, most=st.integers(0, 50))
def test_a_precision_limits_a_string(bare: ctypes.CDLL, size: int, word: bytes, most: int) -> None:
    assert written(bare, size, b"/%.*s", ctypes.c_int(most), word) == expected(size, b"/" + word[:most])


def test_a_precision_in_the_format_limits_a_string(bare: ctypes.CDLL) -> None:
    assert written(bare, 50, b"%.12s|", b"0123456789abcdef") == expected(50, b"0123456789ab|")


@given(number=st.integers(0, 2**31 - 1))
def test_small_numbers_are_written(bare: ctypes.CDLL, number: int) -> None:
    assert written(bare, 40, b"<%d>", ctypes.c_int(number)) == expected(40, b"<%d>" % number)


@given(number=st.integers(0, 2**64 - 1))
def test_large_numbers_are_written(bare: ctypes.CDLL, number: int) -> None:
    assert written(bare, 40, b"%llu:", ctypes.c_ulonglong(number)) == expected(40, b"%d:" % number)


@given(mode=st.integers(0, 0o177777))
def test_modes_are_written_with_leading_zeros(bare: ctypes.CDLL, mode: int) -> None:
    assert written(bare, 40, b"%04o", ctypes.c_uint(mode)) == expected(40, b"%04o" % mode)


def test_no_other_conversion_is_used() -> None:
    sources = (*NATIVE.glob("*.c"), *(NATIVE.parents[2] / "command").glob("*.c"))
    lines = [line for source in sources for line in source.read_text().splitlines() if "printf(" in line]
    assert len(lines) > 10
    assert {form for line in lines for form in re.findall(r"%[.*\d]*(?:llu|[a-z])", line)} <= set(CONVERSIONS)


def position(bare: ctypes.CDLL, name: str, haystack: bytes, *rest: object) -> int:
    """Where a search ended in ``haystack``, -1 for nowhere."""
    function = bare[f"bare_{name}"]
    function.restype = ctypes.c_void_p
    buffer = ctypes.create_string_buffer(haystack, len(haystack) + 1)
    found = function(buffer, *rest)
    return -1 if found is None else found - ctypes.addressof(buffer)


@given(haystack=st.binary(max_size=30), needle=st.integers(0, 255), size=st.integers(0, 30))
def test_memchr(bare: ctypes.CDLL, haystack: bytes, needle: int, size: int) -> None:
    size = min(size, len(haystack))
    found = position(bare, "memchr", haystack, ctypes.c_int(needle), ctypes.c_size_t(size))
    assert found == haystack.find(bytes([needle]), 0, size)


@given(haystack=words, needle=st.integers(0, 255))
def test_strchr_finds_the_end_as_well(bare: ctypes.CDLL, haystack: bytes, needle: int) -> None:
    assert position(bare, "strchr", haystack, ctypes.c_int(needle)) == (haystack + b"\0").find(bytes([needle]))


@given(text=words, others=words)
def test_spans(bare: ctypes.CDLL, text: bytes, others: bytes) -> None:
    bare.bare_strspn.restype = bare.bare_strcspn.restype = bare.bare_strlen.restype = ctypes.c_size_t
    among = next((place for place, byte in enumerate(text) if byte not in others), len(text))
    until = next((place for place, byte in enumerate(text) if byte in others), len(text))
    assert bare.bare_strspn(text, others) == among
    assert bare.bare_strcspn(text, others) == until
    assert bare.bare_strlen(text) == len(text)


@given(left=words, right=words)
def test_comparisons_have_the_sign_of_the_first_difference(bare: ctypes.CDLL, left: bytes, right: bytes) -> None:
    size = min(len(left), len(right))
    assert sign(bare.bare_memcmp(left, right, ctypes.c_size_t(size))) == compare(left[:size], right[:size])
    assert sign(bare.bare_strcmp(left, right)) == compare(left, right)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def compare(left: bytes, right: bytes) -> int:
    return (left > right) - (left < right)


@given(data=st.binary(max_size=50), byte=st.integers(0, 255))
def test_copying_and_filling(bare: ctypes.CDLL, data: bytes, byte: int) -> None:
    buffer = ctypes.create_string_buffer(b"\xaa" * 60, 60)
    bare.bare_memcpy(buffer, data, ctypes.c_size_t(len(data)))
    assert buffer.raw == data + b"\xaa" * (60 - len(data))
    bare.bare_memset(buffer, ctypes.c_int(byte), ctypes.c_size_t(len(data)))
    assert buffer.raw == bytes([byte]) * len(data) + b"\xaa" * (60 - len(data))


def test_a_failed_call_sets_errno(bare: ctypes.CDLL) -> None:
    bare.bare___errno_location.restype = ctypes.POINTER(ctypes.c_int)
    assert bare.bare_close(-1) == -1
    assert bare.bare___errno_location()[0] == 9


def test_the_program_needs_no_library() -> None:
    """Not even the dynamic loader: it must start in any container's tree, and before any of its files."""
    shown = subprocess.run(["objdump", "-p", str(NATIVE / "ocirt-init")], capture_output=True, text=True, check=True)
    assert "NEEDED" not in shown.stdout
    assert "INTERP" not in shown.stdout


def test_its_stack_cannot_be_executed() -> None:
    shown = subprocess.run(["objdump", "-p", str(NATIVE / "ocirt-init")], capture_output=True, text=True, check=True)
    stack = shown.stdout.partition("STACK")[2].split("flags ")[1][:3]
    assert stack == "rw-"


def test_ocirt_init_is_small() -> None:
    assert Path(NATIVE / "ocirt-init").stat().st_size < 200 * 1024
