"""The state root: ids, locks, records, and what a status is computed from."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.files import Cgroup
from ocirt.errors import ExistsError, NotFoundError, StateError
from ocirt.state import INTENT, STATE, Record, StateStore, Status, boot_id, check_id, default_root, now, start_time

RECORD = Record("one", "/bundle", "/rootfs", "1.3.0", {"a": "b"}, Cgroup())


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state")


def ours(created: str = "") -> Record:
    """A record of a container whose init is this very process."""
    own = start_time(os.getpid())[1]
    return RECORD._replace(pid=os.getpid(), start_time=own, boot=boot_id(), created=created)


@given(st.from_regex(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]{0,100}", fullmatch=True))
def test_ids_are_letters_digits_and_four_signs(container_id: str) -> None:
    check_id(container_id)


@given(st.text(max_size=20).filter(lambda text: not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*", text)))
def test_every_other_text_is_no_id(text: str) -> None:
    with pytest.raises(StateError, match=r"container id cannot be empty|invalid container ID format"):
        check_id(text)


def test_an_id_can_be_claimed_once(store: StateStore) -> None:
    with store.claim("one"):
        with pytest.raises(ExistsError):
            store.claim("one")
        with store.claim("two"):
            assert store.ids() == ["one", "two"]


def test_a_claim_is_locked_until_it_is_closed(store: StateStore) -> None:
    with store.claim("one") as claimed:
        assert claimed.is_locked()
        with store.open("one") as other, pytest.raises(StateError, match="another operation is still at work"):
            other.lock(0)
    with store.open("one") as other:
        assert not other.is_locked()
        other.lock(0)


def test_a_lock_on_what_was_deleted_meanwhile_is_not_found(store: StateStore) -> None:
    """Although there is another container of this id by then."""
    store.claim("one").close()
    with store.open("one") as late:
        with store.open("one") as first:
            first.lock().remove()
        store.claim("one").close()
        with pytest.raises(NotFoundError):
            late.lock(1)


@pytest.mark.parametrize("name", ["absent", "", ".", "..", "../state", "a/b"])
def test_what_is_not_there_is_not_found(store: StateStore, name: str) -> None:
    store.claim("a").close()
    with pytest.raises(NotFoundError) as caught:
        store.open(name, "kill")
    assert (caught.value.container_id, caught.value.operation) == (name, "kill")


def test_a_link_is_no_container(store: StateStore, tmp_path: Path) -> None:
    store.claim("one").close()
    os.symlink(tmp_path, f"{store.root}/link")
    with pytest.raises(NotFoundError):
        store.open("link")


def test_other_names_below_the_root_are_no_ids(store: StateStore) -> None:
    store.claim("one").close()
    os.mkdir(f"{store.root}/.hidden")
    assert store.ids() == ["one"]


def test_the_root_is_made_for_its_owner_alone(store: StateStore) -> None:
    store.claim("one").close()
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    os.chmod(store.root, 0o770)
    with pytest.raises(StateError, match="is not ours alone"):
        store.claim("two")


def test_a_record_comes_back_as_it_was_written(store: StateStore) -> None:
    record = ours(created=now())
    with store.claim("one") as directory:
        directory.intend(record, b'{"x":1}')
        assert directory.read_record() == RECORD
        directory.prepare(record)
        assert directory.read_record() == RECORD
        directory.commit()
        assert directory.read_record() == record
        assert directory.read_config() == {"x": 1}


def test_there_is_no_record_before_one_is_written(store: StateStore) -> None:
    with store.claim("one") as directory:
        assert directory.read_record() is None


def test_a_record_that_is_cut_short_anywhere_is_none_or_what_was_intended(store: StateStore) -> None:
    record = ours(created=now())
    with store.claim("one") as directory:
        directory.intend(record, b"{}")
        directory.prepare(record)
        directory.commit()
        for name, expected in ((STATE, RECORD), (INTENT, None)):
            whole = directory.read(name)
            for size in range(len(whole)):
                directory.write(name, whole[:size])
                assert directory.read_record() == expected
            directory.write(name, whole)
        for other in (b"null", b"[]", b'"text"', b'{"record": 7}', b"\xff"):
            directory.write(INTENT, other)
            assert directory.read_record() is None


def test_without_a_record_it_is_creating_while_somebody_is_at_it_and_then_stopped(store: StateStore) -> None:
    with store.claim("one"), store.open("one") as other:
        assert other.status(None) is Status.CREATING
        assert other.status(RECORD) is Status.CREATING
    with store.open("one") as other:
        assert other.status(None) is Status.STOPPED


def test_a_living_init_that_does_not_listen_runs(store: StateStore) -> None:
    with store.claim("one") as directory:
        assert directory.status(ours()) is Status.RUNNING


def test_a_living_init_that_listens_is_created(store: StateStore) -> None:
    with store.claim("one") as directory, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        directory.listen(listener)
        assert directory.status(ours()) is Status.CREATED
        listener.close()
        assert directory.status(ours()) is Status.RUNNING
        directory.forget_start()
        directory.forget_start()
        assert not directory.has_start()


@pytest.mark.parametrize(
    "record",
    [ours()._replace(start_time=1), ours()._replace(boot="another"), ours()._replace(pid=2**22 - 1), RECORD],
)
def test_a_process_that_is_not_the_one_of_the_record_is_a_stopped_init(store: StateStore, record: Record) -> None:
    store.claim("one").close()
    with store.open("one") as directory:
        assert directory.status(record) is Status.STOPPED


def test_a_zombie_is_a_stopped_init(store: StateStore) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    state, started = start_time(process.pid)
    assert state == "Z"
    with store.claim("one") as directory:
        record = RECORD._replace(pid=process.pid, start_time=started, boot=boot_id())
        assert directory.status(record) is Status.STOPPED
    process.wait()
    assert start_time(process.pid) == ("X", 0)


def test_removal_takes_everything_and_can_be_repeated(store: StateStore) -> None:
    with store.claim("one") as directory:
        directory.intend(RECORD, b"{}")
        os.mkdir(f"{directory.path}/scratch")
        directory.remove()
        directory.remove()
    assert store.ids() == []


def test_a_configuration_that_is_deleted_while_the_directory_is_open_is_not_found(store: StateStore) -> None:
    """Whoever kills reads it, and somebody else may delete meanwhile."""
    with store.claim("one") as directory, store.open("one") as other:
        directory.intend(RECORD, b"{}")
        assert other.read_config() == {}
        directory.remove()
        with pytest.raises(NotFoundError):
            other.read_config()


def test_a_record_is_json_with_its_fields(store: StateStore) -> None:
    with store.claim("one") as directory:
        directory.intend(RECORD, b"{}")
        assert json.loads(directory.read(INTENT))["record"] == {
            "id": "one",
            "bundle": "/bundle",
            "rootfs": "/rootfs",
            "oci_version": "1.3.0",
            "annotations": {"a": "b"},
            "cgroup": [],
        }


@pytest.mark.parametrize("keyring", [True, False])
def test_a_record_is_read_as_it_was_written(store: StateStore, keyring: bool) -> None:
    record = RECORD._replace(keyring=keyring, rdt_made=("/a",))
    with store.claim("one") as directory:
        directory.intend(record, b"{}")
        assert directory.read_record() == record


def test_the_default_root_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_root() == "/run/user/1000/ocirt"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == "/run/ocirt"


@pytest.mark.root
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (("XDG_RUNTIME_DIR=/run/user/7",), "/run/user/7/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7", "USER=alice"), "/run/user/7/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7", "USER=root"), "/run/ocirt"),
        (("USER=alice",), "/run/ocirt"),
    ],
)
def test_root_of_a_user_namespace_is_somebody(variables: tuple[str, ...], expected: str) -> None:
    """podman and buildah call runtimes as root of the namespace that they have put an ordinary user in."""
    environment = ["env", "-u", "USER", "-u", "XDG_RUNTIME_DIR", *variables]
    python = [sys.executable, "-c", "from ocirt.state import default_root; print(default_root())"]
    outside = subprocess.run([*environment, *python], capture_output=True, text=True, check=True)
    assert outside.stdout == "/run/ocirt\n"
    inside = subprocess.run(
        ["unshare", "--user", "--map-root-user", *environment, *python], capture_output=True, text=True, check=True
    )
    assert inside.stdout == f"{expected}\n"


def test_times_are_of_rfc_3339() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", now())
