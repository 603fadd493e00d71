"""Which class of resctrl a container belongs to, what is written there, and what goes with the container."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from ocirt import rdt
from ocirt.errors import SetupError, UnsupportedError
from ocirt.spec import IntelRdt
from tests import resctrl as fake
from tests.resctrl import SCHEMATA, Resctrl

L3 = "L3:0=f;1=f0"
MB = "MB:0=20;1=70"


@pytest.fixture
def resctrl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resctrl:
    return fake.mounted(tmp_path, monkeypatch)


def made(wanted: IntelRdt) -> rdt.Group:
    group = rdt.survey(wanted, "box")
    with contextlib.ExitStack() as undo:
        rdt.make(group, undo)
        undo.pop_all()
    return group


def test_without_resctrl_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n")
    monkeypatch.setattr(rdt, "MOUNTINFO", str(tmp_path / "mountinfo"))
    with pytest.raises(UnsupportedError, match="intelRdt is specified in config, but Intel RDT is not enabled"):
        rdt.survey(IntelRdt(clos_id="a"), "box")


@pytest.mark.parametrize(
    ("resource", "wanted", "words"),
    [
        ("L3", IntelRdt(l3_cache_schema=L3), "intelRdt.l3CacheSchema is specified .* Intel RDT/CAT is not enabled"),
        ("MB", IntelRdt(mem_bw_schema=MB), "intelRdt.memBwSchema is specified .* Intel RDT/MBA is not enabled"),
        ("L3_MON", IntelRdt(enable_monitoring=True), "intelRdt.enableMonitoring .* monitoring is not enabled"),
    ],
)
def test_what_the_hardware_has_not_is_an_error(resctrl: Resctrl, resource: str, wanted: IntelRdt, words: str) -> None:
    rdt.survey(wanted, "box")
    for path in (resctrl.root / "info" / resource).iterdir():
        path.unlink()
    (resctrl.root / "info" / resource).rmdir()
    with pytest.raises(UnsupportedError, match=words):
        rdt.survey(wanted, "box")


def test_a_class_is_named_after_the_container_and_goes_with_it(resctrl: Resctrl) -> None:
    group = made(IntelRdt(l3_cache_schema=L3))
    rdt.join(group.joined, 4711)
    assert resctrl.tasks("box") == [4711]
    rdt.remove(group.made)
    rdt.remove(group.made)
    assert not (resctrl.root / "box").exists()


def test_a_class_of_that_name_is_somebody_elses(resctrl: Resctrl) -> None:
    os.mkdir(str(resctrl.root / "box"))
    with pytest.raises(SetupError) as caught:
        rdt.survey(IntelRdt(), "box")
    assert (caught.value.origin, caught.value.errno) == ("linux.intelRdt", errno.EEXIST)


def test_a_class_that_is_named_must_be_there_or_be_described(resctrl: Resctrl) -> None:
    with pytest.raises(SetupError, match=r"clos dir not accessible \(must be pre-created when schemata, ") as caught:
        rdt.survey(IntelRdt(clos_id="gold"), "box")
    assert caught.value.origin == "linux.intelRdt.closID"
    group = made(IntelRdt(clos_id="gold", schemata=(L3,)))
    assert group.made == ()
    assert made(IntelRdt(clos_id="gold")).joined == (str(resctrl.root / "gold"),)


def test_the_root_class_is_a_slash(resctrl: Resctrl) -> None:
    group = made(IntelRdt(clos_id="/"))
    rdt.join(group.joined, 7)
    assert resctrl.tasks() == [7]
    assert group.made == ()


@pytest.mark.covers("linux.intelRdt.schemata", "linux.intelRdt.l3CacheSchema", "linux.intelRdt.memBwSchema")
def test_lines_are_written_one_by_one_in_their_order(resctrl: Resctrl, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, bytes]] = []
    real = os.write

    def note(fd: int, data: bytes) -> int:
        written.append((Path(f"/proc/self/fd/{fd}").readlink().name, data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", note)
    made(IntelRdt(l3_cache_schema=L3, mem_bw_schema=MB, schemata=("L2:0=1", "MB:0=30")))
    texts = (L3, MB, "L2:0=1", "MB:0=30")
    assert written == [("schemata", f"{text}\n".encode()) for text in texts]


def test_schemata_are_not_written_where_none_are_given(resctrl: Resctrl) -> None:
    schemata = resctrl.root / "gold" / "schemata"
    os.mkdir(str(resctrl.root / "gold"))
    schemata.chmod(0o444)
    before = schemata.stat().st_mtime_ns
    made(IntelRdt(clos_id="gold"))
    made(IntelRdt())
    assert schemata.stat().st_mtime_ns == before
    assert resctrl.schemata("box") == SCHEMATA


@pytest.mark.parametrize(
    "wanted",
    [
        IntelRdt(clos_id="gold", l3_cache_schema="L3:0=0fffff;1=FFFFF"),
        IntelRdt(clos_id="gold", l3_cache_schema="L3:1=fffff"),
        IntelRdt(clos_id="gold", schemata=("L3: 1 = fffff ; 0=fffff;", "MB:0=100")),
        IntelRdt(clos_id="gold", mem_bw_schema="MB:0=91;1=100"),
        IntelRdt(clos_id="gold", l3_cache_schema="L3:0=1", schemata=("L3:0=fffff",)),
    ],
)
def test_a_class_that_says_the_same_in_other_words_is_joined(resctrl: Resctrl, wanted: IntelRdt) -> None:
    os.mkdir(str(resctrl.root / "gold"))
    made(wanted)
    assert resctrl.schemata("gold") == SCHEMATA


@pytest.mark.parametrize(
    ("wanted", "origin"),
    [
        (IntelRdt(clos_id="gold", l3_cache_schema="L3:0=f"), "l3CacheSchema"),
        (IntelRdt(clos_id="gold", mem_bw_schema="MB:0=90"), "memBwSchema"),
        (IntelRdt(clos_id="gold", schemata=("L3:0=fffff", "L3:2=fffff")), "schemata[1]"),
        (IntelRdt(clos_id="gold", schemata=("L2:0=ff",)), "schemata[0]"),
        (IntelRdt(clos_id="gold", schemata=("L3:0=nonsense",)), "schemata[0]"),
    ],
)
def test_a_class_that_says_otherwise_is_an_error(resctrl: Resctrl, wanted: IntelRdt, origin: str) -> None:
    os.mkdir(str(resctrl.root / "gold"))
    with pytest.raises(SetupError) as caught:
        rdt.survey(wanted, "box")
    assert caught.value.origin == f"linux.intelRdt.{origin}"
    assert resctrl.schemata("gold") == SCHEMATA


def test_megabytes_per_second_are_not_rounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resctrl = fake.mounted(tmp_path, monkeypatch, options="rw,mba_MBps")
    os.mkdir(str(resctrl.root / "gold"))
    (resctrl.root / "gold/schemata").write_text("MB:0=2001;1=100\n")
    made(IntelRdt(clos_id="gold", mem_bw_schema="MB:0=2001"))
    with pytest.raises(SetupError):
        rdt.survey(IntelRdt(clos_id="gold", mem_bw_schema="MB:0=2000"), "box")


@pytest.mark.covers("linux.intelRdt.enableMonitoring")
@pytest.mark.parametrize("clos_id", ["gold", None, "/"])
def test_a_monitoring_group_goes_with_the_container_and_its_class_may_stay(
    resctrl: Resctrl, clos_id: str | None
) -> None:
    os.mkdir(str(resctrl.root / "gold"))
    group = made(IntelRdt(clos_id=clos_id, enable_monitoring=True))
    rdt.join(group.joined, 42)
    where = {"gold": ("gold",), None: ("box",), "/": ()}[clos_id]
    assert resctrl.tasks(*where) == resctrl.tasks(*where, "mon_groups", "box") == [42]
    rdt.remove(group.made)
    assert not resctrl.root.joinpath(*where, "mon_groups", "box").exists()
    assert (resctrl.root / "gold").exists()
    assert not (resctrl.root / "box").exists()


def test_what_a_failed_creation_made_is_taken_back_unless_others_use_it(resctrl: Resctrl) -> None:
    for others, stays in (("", False), ("99\n", True)):
        group = rdt.survey(IntelRdt(clos_id="gold", schemata=(L3,), enable_monitoring=True), "box")
        with contextlib.ExitStack() as undo:
            rdt.make(group, undo)
            (resctrl.root / "gold/tasks").write_text(others)
        assert (resctrl.root / "gold").exists() is stays


def test_the_kernels_reason_is_told(resctrl: Resctrl, monkeypatch: pytest.MonkeyPatch) -> None:
    (resctrl.root / "info/last_cmd_status").write_text("Mask f00000 out of range\n")

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(SetupError, match="Mask f00000 out of range") as caught:
        made(IntelRdt(schemata=("L3:0=f00000",)))
    assert (caught.value.origin, caught.value.errno) == ("linux.intelRdt.schemata[0]", errno.EINVAL)
    assert not (resctrl.root / "box").exists()
