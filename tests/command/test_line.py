"""Which command lines are plain: what engines say is, and all else is left to Python."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.command.programs import Done, Program, is_left, run
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


def test_whatever_is_unusual_is_left_and_changes_nothing(lab: Lab, program: Program) -> None:
    with lab.create(document("sleep", "1000")) as container:
        for line in filter(None, LEFT.splitlines()):
            words = [word.replace("ID", container.id) for word in line.split(" ")]
            assert program.leaves(*words), line
            assert container.status == "created", line


def test_a_log_that_is_a_fifo_is_left_alone(lab: Lab, program: Program) -> None:
    """To open it would block for lack of a reader, or end what its reader reads."""
    fifo = lab.directory / "fifo"
    subprocess.run(["mkfifo", str(fifo)], check=True)
    with lab.create(document("sleep", "1000")) as container:
        program.answer("--log", str(fifo), "state", container.id)


SCRIPT = """
set -e
mount -t tmpfs none /run
mkdir -p "$1"
mount --bind "$2" "$1"
shift 2
exec "$@"
"""


def mounted(root: Path, place: str, *command: str) -> Done:
    """With a state root at another place below /run."""
    return run(["/usr/bin/unshare", "--mount", "/bin/sh", "-c", SCRIPT, "sh", place, str(root), *command])


@pytest.mark.parametrize(
    ("environment", "in_namespace", "place"),
    [
        ((), False, "/run/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7",), False, "/run/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7", "USER=root"), True, "/run/ocirt"),
        ((), True, "/run/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7",), True, "/run/user/7/ocirt"),
        (("XDG_RUNTIME_DIR=/run/user/7", "USER=alice"), True, "/run/user/7/ocirt"),
    ],
)
def test_the_default_root_is_pythons(
    lab: Lab, alone: Path, environment: tuple[str, ...], in_namespace: bool, place: str
) -> None:
    """Root of a user namespace counts among the others (``test_state.py`` says the same)."""
    inside = ("/usr/bin/unshare", "--user", "--map-root-user") if in_namespace else ()
    with lab.create(document("sleep", "1000")) as container:
        command = ("/usr/bin/env", "-i", *environment, *inside, str(alone), "list", "--quiet")
        done = mounted(lab.root, place, *command)
        assert (done.returncode, done.stdout) == (0, f"{container.id}\n".encode()), done
        assert is_left(mounted(lab.root, "/run/elsewhere", *command))


@pytest.mark.parametrize("runtime", [True, False])
def test_an_ordinary_user_has_a_default_root_where_there_is_a_runtime_directory(alone: Path, runtime: bool) -> None:
    """And otherwise one in /tmp, which takes more care."""
    with tempfile.TemporaryDirectory(prefix="ocirt-alone-") as place:
        program = Path(shutil.copy(alone, place))
        (Path(place) / "ocirt-python").unlink(missing_ok=True)
        (Path(place) / "run" / "ocirt" / "one").mkdir(parents=True)
        for path in (Path(place), program, *Path(place).glob("run/**")):
            path.chmod(0o755)
        environment = {"XDG_RUNTIME_DIR": f"{place}/run"} if runtime else {}
        done = subprocess.run(
            [str(program), "list", "--quiet"],
            user=65534,
            group=65534,
            env=environment,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stdout) == (0, b"one\n") if runtime else is_left(done), done
