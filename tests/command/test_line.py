"""Which command lines are plain: what engines say is, and all else is left to Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.command.programs import Program, is_left, run
from tests.support import SECONDS, Lab, document

pytestmark = pytest.mark.root

ENGINES = {
    "podman": ("--log-format=json", "--log=LOG"),
    "podman without cgroups": ("--cgroup-manager", "disabled", "--log-format=json", "--log", "LOG"),
    "conmon": ("--systemd-cgroup", "--log-format=json", "--log=LOG"),
    "containerd": ("--root", "ROOT", "--log", "LOG", "--log-format", "json"),
    "docker": ("--root", "ROOT", "--log", "LOG", "--log-format", "json", "--systemd-cgroup"),
    "containerd, rootless": ("--rootless=true", "--systemd-cgroup=false"),
    "go-runc, old": ("--criu", "/usr/sbin/criu"),
    "one dash": ("-root", "ROOT", "-log=LOG"),
    "crun's": ("--log-level", "warning", "--ignore-v1-limits", "-debug=false", "--rootless", "auto"),
    "the last one counts": ("--root=/nowhere", "--root=ROOT//", "--log", "/nowhere/log", "--log", ""),
}


@pytest.mark.parametrize("flags", ENGINES.values(), ids=list(ENGINES))
def test_what_engines_say_is_plain(lab: Lab, program: Program, flags: tuple[str, ...]) -> None:
    log = lab.directory / "log.json"
    said = [flag.replace("ROOT", str(lab.root)).replace("LOG", str(log)) for flag in flags]
    with lab.create(document("sleep", "1000")) as container:
        for words in (("state", container.id), ("list", "--format=json"), ("kill", container.id, "0")):
            log.unlink(missing_ok=True)
            program.agrees(*said, *words)
            log.unlink(missing_ok=True)
            program.answer(*said, *words)
            assert log.exists() is any("LOG" in flag for flag in flags)
            assert not log.exists() or log.read_bytes() == b""
        program.answer(*said, "start", container.id)
        assert container.status == "running"
        program.answer(*said, "delete", "--force", container.id)
        assert lab.remains() == []


LEFT = """
--debug state ID
--log-level=debug state ID
--log-level nonsense state ID
--log-format xml state ID
--log /nowhere/log state ID
--cgroup-manager nonsense state ID
--systemd-cgroup=maybe state ID
--rootless=nonsense state ID
--nonsense state ID
--version state ID
--help state ID
--root / state ID
--root /.. state ID
--root /tmp/../tmp state ID
--root relative state ID
--root= state ID
--root
-- state ID
- state ID
state
state ID ID
state --help ID
state ID --help
state -- ID
state .ID
state nobody
list ID
list --format xml
list -f
list -q=maybe
list -f json --format table
kill
kill ID FOO
kill ID 65
kill ID 100
kill ID -9
kill ID SIGRTMIN+1
kill ID TERM TERM
kill ID SIG
kill --all ID
kill -a ID 0
start
start ID ID
delete --force=maybe ID
delete --force -f=false ID
delete ID ID
pause ID
ps ID
features
help
nonsense
"""


@pytest.mark.parametrize("line", [line for line in LEFT.splitlines() if line])
def test_whatever_is_unusual_is_left_and_changes_nothing(lab: Lab, program: Program, line: str) -> None:
    with lab.create(document("sleep", "1000")) as container:
        words = [container.id if word == "ID" else word.replace("ID", container.id) for word in line.split(" ")]
        assert program.leaves(*words)
        assert container.status == "created"


def test_a_log_that_is_a_fifo_is_left_alone(lab: Lab, program: Program) -> None:
    """To open it would block for lack of a reader, or end what its reader reads."""
    fifo = lab.directory / "fifo"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with lab.create(document("sleep", "1000")) as container:
        program.answer("--log", str(fifo), "state", container.id)


SCRIPT = """
set -e
mount -t tmpfs none /run
mkdir -m 700 /run/ocirt
mount --bind "$1" /run/ocirt
shift
exec "$@"
"""


def under_run(root: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    """With a state root in the place of root's own default."""
    return run(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", SCRIPT, "sh", str(root), *command], None)


@pytest.mark.parametrize(
    ("environment", "in_namespace", "plain"),
    [
        ((), False, True),
        (("XDG_RUNTIME_DIR=/run/user/0",), False, True),
        (("XDG_RUNTIME_DIR=/run/user/0", "USER=root"), True, True),
        ((), True, True),
        (("XDG_RUNTIME_DIR=/run/user/0",), True, False),
        (("XDG_RUNTIME_DIR=/run/user/0", "USER=alice"), True, False),
    ],
)
def test_the_default_root_is_the_machines(
    lab: Lab, alone: Path, environment: tuple[str, ...], in_namespace: bool, plain: bool
) -> None:
    """Root of a user namespace counts among the others (``state.default_root``)."""
    inside = ("/usr/bin/unshare", "--user", "--map-root-user") if in_namespace else ()
    with lab.create(document("sleep", "1000")) as container:
        done = under_run(lab.root, "/usr/bin/env", "-i", *environment, *inside, str(alone), "list", "--quiet")
        if plain:
            assert (done.returncode, done.stdout) == (0, f"{container.id}\n".encode()), done
        else:
            assert is_left(done), done


def test_an_ordinary_users_default_root_is_left(lab: Lab, alone: Path) -> None:
    lab.directory.chmod(0o755)
    alone.parent.chmod(0o755)
    shared = Path("/tmp") / f"ocirt-alone-{lab.new_id()}"
    shared.write_bytes(alone.read_bytes())
    shared.chmod(0o755)
    try:
        done = subprocess.run(
            [str(shared), "list"], user=65534, group=65534, capture_output=True, check=False, timeout=SECONDS, env={}
        )
    finally:
        shared.unlink()
    assert is_left(done), done
