"""The build backend: setuptools, and a C compiler for what Python cannot do.

The C sources in ``src/ocirt/_native`` are compiled twice. ``libocirt.so`` holds the functions that ``ocirt`` calls in
its own process, by cffi; ``ocirt-init`` is the statically linked program that becomes the container's init, with
``bare.c`` in libc's place. The command ``ocirt`` is a small program of the same kind, which starts Python
(``command/ocirt.c``). cffi's ABI mode needs neither Python's headers nor a wheel for each Python: gcc and
libc6-dev are enough to install ocirt.

``python build_ffi.py`` builds in place, into the source tree, when a source is newer than what was made of it;
``--check`` compiles with every warning an error, and ``--sanitize DIRECTORY`` builds all three with ASan and UBSan.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

from cffi import FFI
from setuptools import Command, build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.bdist_wheel import bdist_wheel

__all__ = [
    "PlatformWheel",
    "Programs",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent
NATIVE = ROOT / "src" / "ocirt" / "_native"
COMMAND = ROOT / "command"
LIBRARY, INIT, BINDING = "libocirt.so", "ocirt-init", "_ffi.py"
DECLARED_IN = ("wire.h", "host.h", "seccomp.h")

NO_COMPILER = "ocirt needs a C compiler and libc's headers to build: apt-get install gcc libc6-dev"
NO_HEADERS = "ocirt needs the headers of libc and of Linux to build: apt-get install libc6-dev linux-libc-dev"

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow")
# Each product drops the functions that only the other one calls.
COMMON = ("-std=gnu11", "-O2", "-g0", *WARNINGS, "-fstack-protector-strong", "-ffunction-sections", "-fdata-sections")
HARDENED = ("-Wl,--gc-sections", "-Wl,-z,relro,-z,now,-z,noexecstack", "-s")
SHARED = (*COMMON, "-D_FORTIFY_SOURCE=2", "-fno-plt", "-fPIC", "-fvisibility=hidden", "-shared", *HARDENED)
# No libc: no call to it that the compiler invents, and a stack protector that needs no thread-local storage.
BARE = (*COMMON, "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-mstack-protector-guard=global")
# A fixed address spares init its own relocation, which is part of every container's start.
STATIC = (*BARE, "-nostdlib", "-static", "-no-pie", *HARDENED)
# The sanitisers live in a dynamic libc. _FORTIFY_SOURCE would hide from ASan the calls that it checks itself.
SANITIZED = (
    "-std=gnu11",
    "-O1",
    "-g",
    *WARNINGS,
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
)

ConfigSettings: TypeAlias = Mapping[str, str | list[str] | None] | None


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and every Python: it holds machine code, but none that links to Python."""

    def finalize_options(self) -> None:
        # What setuptools asks to tell platlib from purelib; it knows no other machine code than extension modules.
        self.distribution.has_ext_modules = lambda: True  # type: ignore[method-assign]
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


class Programs(Command):
    """Setuptools' ``build_scripts`` for the command and the script that it runs.

    Both go into the wheel as they are: the one is a binary, and the ``#!python`` of the other is for the installer to
    complete. (pip would leave out whatever flags stand behind it.)
    """

    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        self.build_dir: str | None = None
        self.executable: str | None = None  # set by others
        self.force: bool | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_scripts", "build_dir"))

    def run(self) -> None:
        for path, source in zip(self.get_outputs(), (COMMAND / "ocirt", COMMAND / "ocirt_python.py"), strict=True):
            self.mkpath(os.path.dirname(path))
            shutil.copyfile(source, path)
            os.chmod(path, 0o755)

    def get_outputs(self) -> list[str]:
        return [os.path.join(str(self.build_dir), name) for name in ("ocirt", "ocirt-python")]

    def get_source_files(self) -> list[str]:
        return []  # MANIFEST.in names them


def build_wheel(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Compile, then let setuptools pack (PEP 517)."""
    build_in_place()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Compile into the source tree, then let setuptools point to it (PEP 660)."""
    build_in_place()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_in_place() -> None:
    """Make the library, the init and the cffi module beside their sources."""
    compile_to(NATIVE / LIBRARY, SHARED, sources(without="bare.c"))
    compile_to(NATIVE / INIT, STATIC, sources(without="host.c"))
    compile_to(COMMAND / "ocirt", STATIC, [*command_sources(), str(NATIVE / "bare.c")])
    write_binding(NATIVE / BINDING)


def is_stale() -> bool:
    """Whether a product is missing or older than a source, this file included."""
    products = [*(NATIVE / name for name in (LIBRARY, INIT, BINDING)), COMMAND / "ocirt"]
    if not all(product.exists() for product in products):
        return True
    newest = max(path.stat().st_mtime for path in (Path(__file__), *NATIVE.glob("*.[ch]"), *COMMAND.glob("*.[ch]")))
    return newest > min(product.stat().st_mtime for product in products)


def compile_to(target: Path, flags: Sequence[str], files: Sequence[str]) -> None:
    """Compile ``files`` into ``target``; what stood there is replaced at once, since it may be running."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as directory:
        made = Path(directory, target.name)
        run_compiler([*flags, *files, "-o", str(made)])
        made.replace(target)


def check() -> None:
    """Compile to objects that nobody keeps, with warnings as errors: many warnings need the optimiser to run."""
    with tempfile.TemporaryDirectory(prefix="ocirt-check-") as directory:
        run_compiler([*SHARED, "-Werror", "-c", *sources(without="bare.c")], directory)
        run_compiler([*BARE, "-Werror", "-c", *sources(without="host.c"), *command_sources()], directory)


def write_binding(target: Path) -> None:
    """Write the cffi module: pure Python, made from the declarations that the headers mark as shared."""
    ffi = FFI()
    ffi.set_source("ocirt._native._ffi", None)
    ffi.cdef("".join(declarations(NATIVE / name) for name in DECLARED_IN))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as directory:
        made = Path(directory, target.name)
        with contextlib.redirect_stdout(io.StringIO()):  # cffi would name the temporary file
            ffi.emit_python_code(str(made))
        made.replace(target)


def declarations(header: Path) -> str:
    """The text of ``header`` that cffi may read: it knows declarations, but no preprocessor."""
    marked = re.findall(r"^/\* cdef: begin \*/\n(.*?)^/\* cdef: end \*/$", header.read_text(), re.DOTALL | re.MULTILINE)
    if not marked:
        sys.exit(f"{header} has nothing between '/* cdef: begin */' and '/* cdef: end */'")
    return "".join(marked)


def sources(without: str) -> list[str]:
    """All C files but the one that the other product is for."""
    found = sorted(str(path) for path in NATIVE.glob("*.c") if path.name != without)
    if not found:
        sys.exit(f"there are no C sources in {NATIVE}: is this copy of ocirt complete?")
    return found


def command_sources() -> list[str]:
    return sorted(str(path) for path in COMMAND.glob("*.c"))


def run_compiler(arguments: Sequence[str], directory: str | None = None) -> None:
    """Run the compiler; when it fails, look for the reason on this machine before blaming the sources."""
    command = [*compiler(), *arguments, *shlex.split(os.environ.get("CFLAGS", ""))]
    failed = subprocess.run(command, cwd=directory, check=False).returncode
    if not failed:
        return
    if not compiles("#include <stdio.h>\n#include <linux/types.h>\n", "-fsyntax-only"):
        sys.exit(NO_HEADERS)
    sys.exit(f"ocirt could not be compiled: {command[0]} ended with status {failed}")


def compiler() -> list[str]:
    """``$CC`` where it is set, as make(1) has it, and otherwise what the system calls its compiler."""
    chosen = shlex.split(os.environ.get("CC", ""))
    names = chosen[:1] or ["gcc", "cc", "clang"]
    for name in names:
        if shutil.which(name):
            return [name, *chosen[1:]]
    sys.exit(NO_COMPILER)


def compiles(source: str, *arguments: str) -> bool:
    command = [*compiler(), "-x", "c", "-", *arguments]
    return not subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(prog="build_ffi.py", description="Build ocirt's C parts into the source tree.")
    parser.add_argument("--check", action="store_true", help="only compile, with every warning an error")
    parser.add_argument("--sanitize", metavar="DIRECTORY", type=Path, help="build with ASan and UBSan into DIRECTORY")
    parser.add_argument("--force", action="store_true", help="build even if nothing changed")
    options = parser.parse_args()
    if options.check:
        check()
    elif options.sanitize:
        compile_to(options.sanitize / INIT, SANITIZED, sources(without="bare.c"))
        compile_to(options.sanitize / "ocirt", SANITIZED, command_sources())
        compile_to(options.sanitize / LIBRARY, (*SANITIZED, "-shared", "-fPIC"), sources(without="bare.c"))
    elif options.force or is_stale():
        build_in_place()


if __name__ == "__main__":
    main()
