"""What is shipped, and what a machine without a C compiler is told."""

from __future__ import annotations

import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions import ROOT, call_backend

NATIVE = "ocirt/_native"
PROGRAM_HEADER_INTERPRETER, PROGRAM_HEADER_STACK, FLAG_EXECUTABLE = 3, 0x6474E551, 1  # elf(5)


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel) as archive:
        yield archive


def write_compiler(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def program_headers(elf: bytes) -> dict[int, int]:
    """Type and flags of each program header of a 64-bit executable (elf(5))."""
    (offset,) = struct.unpack_from("=Q", elf, 32)
    size, count = struct.unpack_from("=HH", elf, 54)
    return dict(struct.unpack_from("=II", elf, offset + size * index) for index in range(count))


def test_a_wheel_fits_one_platform_and_every_python(wheel: Path) -> None:
    assert wheel.name.startswith("ocirt-0.1.0-py3-none-linux_")


def test_a_wheel_holds_the_compiled_parts_and_no_sources_of_them(shipped: zipfile.ZipFile) -> None:
    native = {name for name in shipped.namelist() if name.startswith(NATIVE) and not name.endswith("__init__.py")}
    assert native == {f"{NATIVE}/_ffi.py", f"{NATIVE}/libocirt.so", f"{NATIVE}/ocirt-init"}


def test_a_wheel_says_that_ocirt_is_typed(shipped: zipfile.ZipFile) -> None:
    assert "ocirt/py.typed" in shipped.namelist()


def test_a_wheel_names_its_licence(shipped: zipfile.ZipFile) -> None:
    metadata = shipped.read("ocirt-0.1.0.dist-info/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "ocirt-0.1.0.dist-info/licenses/LICENSE" in shipped.namelist()


def test_a_wheel_holds_the_command_and_the_script_whose_interpreter_an_installer_writes(
    shipped: zipfile.ZipFile,
) -> None:
    scripts = "ocirt-0.1.0.data/scripts"
    assert {name for name in shipped.namelist() if ".data/" in name} == {f"{scripts}/ocirt", f"{scripts}/ocirt-python"}
    assert PROGRAM_HEADER_INTERPRETER not in program_headers(shipped.read(f"{scripts}/ocirt"))
    assert shipped.read(f"{scripts}/ocirt-python").startswith(b"#!python\n")


def test_ocirt_init_is_an_executable_that_needs_no_library_of_the_container(shipped: zipfile.ZipFile) -> None:
    headers = program_headers(shipped.read(f"{NATIVE}/ocirt-init"))
    mode = shipped.getinfo(f"{NATIVE}/ocirt-init").external_attr >> 16
    assert mode & stat.S_IXUSR
    assert PROGRAM_HEADER_INTERPRETER not in headers
    assert not headers[PROGRAM_HEADER_STACK] & FLAG_EXECUTABLE


def test_ocirt_init_is_small_enough_to_be_copied_for_nothing(shipped: zipfile.ZipFile) -> None:
    """It holds no libc, whose start would cost each container half a millisecond."""
    assert shipped.getinfo(f"{NATIVE}/ocirt-init").file_size < 100_000


def test_an_sdist_holds_what_a_build_needs_and_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "src" / NATIVE).glob("*.[ch]")}
    assert sources
    needed = {"build_ffi.py", "command/ocirt.c", "command/ocirt_python.py", "pyproject.toml", "LICENSE", "Makefile"}
    assert names >= sources | needed | {"src/ocirt/py.typed"}
    assert "command/ocirt" not in names
    assert not names & {f"src/{NATIVE}/{made}" for made in ("_ffi.py", "libocirt.so", "ocirt-init")}


def test_without_a_compiler_a_build_ends_with_one_sentence(tree: Path, tmp_path: Path) -> None:
    build = call_backend(tree, f"build_wheel({str(tmp_path)!r})", PATH=str(tmp_path), CC="")
    assert build.returncode == 1
    assert build.stderr == ("ocirt needs a C compiler and libc's headers to build: apt-get install gcc libc6-dev\n")


def test_without_headers_a_build_ends_with_their_packages(tree: Path, tmp_path: Path) -> None:
    compiler = write_compiler(tmp_path / "cc", 'exec gcc -nostdinc "$@"')
    build = call_backend(tree, f"build_wheel({str(tmp_path)!r})", CC=compiler)
    assert build.returncode == 1
    assert build.stderr.splitlines()[-1] == (
        "ocirt needs the headers of libc and of Linux to build: apt-get install libc6-dev linux-libc-dev"
    )


def test_a_failed_build_leaves_nothing_behind(tree: Path, tmp_path: Path) -> None:
    before = set((tree / "src" / NATIVE).iterdir())
    compiler = write_compiler(tmp_path / "cc", "exit 1")
    assert call_backend(tree, f"build_wheel({str(tmp_path)!r})", CC=compiler).returncode == 1
    assert set((tree / "src" / NATIVE).iterdir()) == before
