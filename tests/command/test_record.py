"""Records that are damaged: the program says what Python says, or leaves it; it never stumbles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt.cgroups.files import Cgroup, Directory
from ocirt.cgroups.units import Unit
from ocirt.cli import main
from ocirt.state import INTENT, STATE, Record, StateStore, boot_id, now, start_time
from tests.command.programs import Program, is_left
from tests.distributions import ROOT

CGROUP = Cgroup(
    (
        Directory("/sys/fs/cgroup/freezer/ours", ("cpu", "freezer"), 1, ("/sys/fs/cgroup/freezer",), ()),
        Directory("/sys/fs/cgroup/unified/ours", (), 2, ("/nowhere", "/nowhere/a"), ("/nowhere/a",)),
    )
)
CONFIG = (
    b'{"ociVersion": "1.3.0", "process": {"args": ["sh", "-c", "echo \\"}{\\""]}, "root": {"path": "b\xc3\xbcndel"}}'
)

SANITIZED = ("-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")

ANNOTATIONS = {"first": "1", "second": "\n"}
PLAIN = ("start", "kill", "delete")
RECORD = Record("one", "/bundle", "/rootfs <&>", "1.3.0", ANNOTATIONS, CGROUP, plain=PLAIN)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A state root with the record of a process that is no container's, but will do as one."""
    directory = tmp_path_factory.mktemp("victim")
    alone = Path(shutil.copy(ROOT / "command" / "ocirt", directory / "ocirt"))
    with subprocess.Popen(["sleep", "10000"]) as process:
        write(directory / "state", process.pid, RECORD._replace(keyring=False))
        yield Program(alone, directory / "state")
        process.kill()


def write(root: Path, pid: int, record: Record) -> None:
    """As ``Creation`` does."""
    begun = record._replace(pid=pid, start_time=start_time(pid)[1], boot=boot_id(), created=now(), used_before=(0, 1.5))
    with StateStore(root).claim(record.id) as directory:
        directory.intend(record, CONFIG)
        directory.prepare(begun)
        directory.commit()


@pytest.fixture(scope="module")
def sanitized(victim: Program, tmp_path_factory: pytest.TempPathFactory) -> Program:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    directory = tmp_path_factory.mktemp("sanitized")
    sources = sorted(map(str, (ROOT / "command").glob("*.c")))
    subprocess.run(["gcc", *SANITIZED, *sources, "-o", str(directory / "ocirt")], check=True, capture_output=True)
    return Program(directory / "ocirt", victim.root)


def files(victim: Program) -> dict[str, bytes]:
    return {name: (victim.root / "one" / name).read_bytes() for name in (INTENT, STATE)}


def check(program: Program, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether it answered; then as Python does."""
    done = program.tried("state", "one")
    if done.returncode:
        assert done.returncode == 127, done
        assert b"Sanitizer" not in done.stderr, done
        assert b"runtime error" not in done.stderr, done
        return False
    capsys.readouterr()
    assert main(["--root", str(program.root), "state", "one"]) == 0
    assert done.stdout.decode() == capsys.readouterr().out
    return True


@pytest.mark.root
@pytest.mark.slow
def test_the_whole_record_is_answered(victim: Program, sanitized: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(victim, capsys)
    assert check(sanitized, capsys)
    assert b'"status": "running"' in victim.agrees("state", "one")
    assert b"/rootfs \\u003c\\u0026\\u003e" in sanitized.answer("state", "one")
    assert sanitized.answer("list") == victim.answer("list")
    assert sanitized.answer("list", "-f", "json") == victim.answer("list", "-f", "json")
    assert sanitized.answer("kill", "one", "CONT") == b""
    assert is_left(victim.tried("start", "one"))


@pytest.mark.parametrize("name", [INTENT, STATE])
def test_a_record_that_is_cut_short_anywhere_is_left(victim: Program, name: str) -> None:
    whole = files(victim)[name]
    file = victim.root / "one" / name
    try:
        for size in range(len(whole)):
            file.write_bytes(whole[:size])
            assert victim.leaves("state", "one"), size
            assert victim.leaves("kill", "one", "CONT"), size
    finally:
        file.write_bytes(whole)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_record_makes_another_answer_than_pythons(
    victim: Program, sanitized: Program, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """Of the configuration only that it is all there matters here, so that is left alone."""
    name = data.draw(st.sampled_from([INTENT, STATE]))
    whole = files(victim)[name]
    size = whole.find(b'},"config":') if name == INTENT else len(whole)
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=2)):
        damaged[place] = data.draw(st.integers(0, 255) | st.sampled_from(b'"\\,:[]{}09'))
    file = victim.root / "one" / name
    try:
        file.write_bytes(damaged)
        check(sanitized, capsys)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"pid":', b'"pid":0'),
        (b'"pid":', b'"pid":-'),
        (b'"pid":', b'"pid":9999999999'),
        (b'"start_time":', b'"start_time":9999999999999'),
        (b'{"created"', b'{ "created"'),
        (b'"boot"', b'"extra":1,"boot"'),
    ],
)
def test_numbers_and_forms_that_python_does_not_write_are_left(victim: Program, old: bytes, new: bytes) -> None:
    whole = files(victim)[STATE]
    file = victim.root / "one" / STATE
    assert old in whole
    try:
        file.write_bytes(whole.replace(old, new))
        assert victim.leaves("state", "one")
    finally:
        file.write_bytes(whole)


UNIT = Unit("ocirt-x.scope", "system")


@pytest.mark.parametrize(
    ("record", "deletes"),
    [
        (RECORD._replace(keyring=False), True),
        (RECORD._replace(rdt_groups=("/sys/fs/resctrl/a",)), True),
        (RECORD._replace(rdt_groups=("/sys/fs/resctrl/a", "/b"), rdt_made=("/b",), keyring=False), False),
        (RECORD._replace(unit=UNIT), False),
        (RECORD._replace(unit=UNIT._replace(bus="user", ours=False), keyring=False), False),
        (RECORD._replace(unit=UNIT, rdt_made=("/b",)), False),
    ],
)
def test_what_else_a_record_may_say_matters_to_delete_alone(
    tmp_path: Path, alone: Path, record: Record, deletes: bool
) -> None:
    program = Program(alone, tmp_path / "state")
    with subprocess.Popen(["sleep", "10000"]) as process:
        write(program.root, process.pid, record)
        assert b'"status": "running"' in program.agrees("state", "one")
        program.answer("kill", "one", "CONT")
        process.kill()
        process.wait()
        assert program.leaves("delete", "one") is not deletes
        assert (program.root / "one").exists() is not deletes


def test_a_record_of_another_container_is_left(victim: Program) -> None:
    (victim.root / "one").rename(victim.root / "two")
    try:
        assert victim.leaves("state", "two")
    finally:
        (victim.root / "two").rename(victim.root / "one")


def test_links_are_not_followed(victim: Program) -> None:
    record = victim.root / "one" / STATE
    elsewhere = victim.root.parent / "elsewhere.json"
    record.rename(elsewhere)
    record.symlink_to(elsewhere)
    try:
        assert victim.leaves("state", "one")
    finally:
        record.unlink()
        elsewhere.rename(record)
