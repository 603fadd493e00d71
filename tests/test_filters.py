"""A filter that has been compiled once need not be compiled again, and none is believed that somebody else wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocirt import Spec, filters
from ocirt.seccomp import program_of
from ocirt.seccomp.library import system_call
from ocirt.spec import Linux, Root, Seccomp, Syscall

COMPILER = "ocirt.seccomp.compile"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A state root."""
    path = tmp_path / "root"
    path.mkdir(mode=0o700)
    return path


def profile(*names: str) -> Spec:
    rules = [Syscall(names, "SCMP_ACT_ERRNO")]
    return Spec(root=Root("rootfs"), linux=Linux(seccomp=Seccomp("SCMP_ACT_ALLOW", syscalls=rules)))


def in_another_process(document: Spec, root: Path) -> tuple[bytes, bool]:
    """The program that it gets, and whether it has compiled it."""
    code = (
        "import sys; from ocirt import Spec, filters\n"
        "program = filters.program_of(Spec.loads(sys.argv[1]), sys.argv[2])\n"
        f"print(program.hex(), {COMPILER!r} in sys.modules)"
    )
    args = [sys.executable, "-c", code, document.dumps(), str(root)]
    program, compiled = subprocess.run(args, check=True, capture_output=True, text=True).stdout.split()
    return bytes.fromhex(program), compiled == "True"


def files(root: Path) -> list[Path]:
    return sorted((root / filters.NAME).iterdir())


def test_the_second_process_compiles_nothing(root: Path) -> None:
    document = profile("mkdir")
    wanted = program_of(document)
    assert in_another_process(document, root) == (wanted, True)
    assert in_another_process(document, root) == (wanted, False)
    assert filters.program_of(document, str(root)) == wanted
    assert len(files(root)) == 1
    assert (root / filters.NAME).stat().st_mode & 0o777 == 0o700


def test_each_profile_has_its_own(root: Path) -> None:
    one, other = profile("mkdir"), profile("mkdir", "rmdir")
    assert in_another_process(one, root)[0] == program_of(one)
    assert in_another_process(other, root) == (program_of(other), True)
    assert len(files(root)) == 2


def test_without_a_profile_there_is_nothing(root: Path) -> None:
    assert filters.program_of(Spec(root=Root("rootfs")), str(root)) == b""
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("damaged", [b"", b"x", b"x" * 4096])
def test_what_is_damaged_is_made_anew(root: Path, damaged: bytes) -> None:
    document = profile("mkdir")
    in_another_process(document, root)
    (path,) = files(root)
    whole = path.read_bytes()
    for wrong in (damaged, whole[:-8], whole[:-1] + bytes((whole[-1] ^ 1,))):
        path.write_bytes(wrong)
        assert in_another_process(document, root) == (program_of(document), True)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("which", ["", filters.NAME])
def test_where_others_may_write_nothing_is_read_and_nothing_kept(root: Path, which: str) -> None:
    document = profile("mkdir")
    in_another_process(document, root)
    (path,) = files(root)
    (root / which).chmod(0o777)
    assert in_another_process(document, root) == (program_of(document), True)
    path.unlink()
    assert in_another_process(document, root) == (program_of(document), True)
    assert files(root) == []


@pytest.mark.root
def test_what_belongs_to_somebody_else_is_not_believed(root: Path) -> None:
    document = profile("mkdir")
    in_another_process(document, root)
    os.chown(root / filters.NAME, 1, 1)
    assert in_another_process(document, root) == (program_of(document), True)


def test_a_link_in_its_place_is_not_followed(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (root / filters.NAME).symlink_to(elsewhere)
    document = profile("mkdir")
    assert in_another_process(document, root) == (program_of(document), True)
    assert list(elsewhere.iterdir()) == []


def test_there_are_never_many(root: Path) -> None:
    names = [name for name in ("read", "write", "open", "close", "mkdir", "rmdir", "chdir") if system_call(name) >= 0]
    for number in range(filters.KEPT + 2):
        chosen = [name for bit, name in enumerate(names) if number + 1 >> bit & 1]
        filters.program_of(profile(*chosen), str(root))
        assert 0 < len(files(root)) <= filters.KEPT


def test_containers_are_listed_without_it(root: Path) -> None:
    from ocirt import containers

    in_another_process(profile("mkdir"), root)
    assert containers(root=root) == []
