"""podman, by an ordinary user: in a user namespace with subordinate IDs, where ocirt is root and yet nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.place import Place
from tests.engines.podman import IMAGE, Podman, furnished, need, skip_if_it_was_the_engines, states, watched
from tests.engines.terminal import terminal
from tests.rootless.user import FIRST, GID, UID
from tests.support import eventually

pytestmark = [pytest.mark.root, pytest.mark.engine]


@pytest.fixture(scope="module")
def there() -> Iterator[Place]:
    with furnished(rootless=True) as made:
        yield made


@pytest.fixture
def podman(there: Place) -> Iterator[Podman]:
    with watched(Podman(there)) as made:
        yield made


def test_root_in_the_container_is_the_user(podman: Podman) -> None:
    before = len(podman.place.log.commands())
    output = podman.run(IMAGE, "sh", "-c", "id -u; cat /proc/self/uid_map; touch /x && stat -c %u /x")
    assert output.split() == ["0", "0", str(UID), "1", "1", str(FIRST), "65536", "0"]
    called = [command for command in podman.place.log.commands()[before:] if command != "state"]
    assert called == ["create", "start", "delete"]


def test_the_user_stays_the_user(podman: Podman) -> None:
    """--userns=keep-id, with the owner of a file on a volume as the witness."""
    volume = podman.place.person.home / "volume"
    podman.place.run("mkdir", "-p", str(volume))
    script = "id -u; id -g; touch /v/mine"
    output = podman.run("--userns=keep-id", f"--volume={volume}:/v", IMAGE, "sh", "-c", script)
    assert output.split() == [str(UID), str(GID)]
    assert podman.place.run("stat", "-c", "%u:%g", f"{volume}/mine") == f"{UID}:{GID}\n"
    assert podman.run("--userns=keep-id", "--user=5:6", "--group-add=7", IMAGE, "id", "-u") == "5\n"


@pytest.mark.parametrize(
    ("program", "status", "words"),
    [
        ("/etc/passwd", 126, "permission denied"),
        ("no-such", 127, "executable file not found in $PATH"),
        ("false", 1, ""),
    ],
)
def test_the_exit_status_says_whose_failure_it_was(podman: Podman, program: str, status: int, words: str) -> None:
    done = podman.tried("run", "--rm", "--network=none", IMAGE, program)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr


def test_a_detached_life(podman: Podman) -> None:
    container = podman.started("--name=life", IMAGE, "sh", "-c", "trap 'exit 7' TERM; echo up; sleep 1000 & wait")
    assert states(podman.place) == [container]
    eventually(lambda: podman.logs("life") == "up\n", "the trap is set")
    assert podman("exec", "--user=alice", "life", "id", "-un") == "alice\n"
    seen = ["PID", "COMMAND", "1", "sh", "2", "sleep"]
    eventually(lambda: podman("top", "life", "pid", "comm").split() == seen, "it sleeps")
    podman("stop", "--time=60", "life")
    assert podman("wait", "life") == "7\n"
    podman("start", "life")
    eventually(lambda: podman.logs("life") == "up\nup\n", "it is up again")
    podman("kill", "life")
    assert podman("wait", "life") == "137\n"


def test_a_person_at_a_terminal(podman: Podman) -> None:
    command = podman.place.command("podman", "run", "-it", "--rm", "--network=none", IMAGE)
    with terminal(command) as person:
        person.expect("/ # ")
        person.type("tty; exit 5\n")
        person.expect("/dev/pts/0")
        assert person.left() == 5


def test_what_the_program_may(podman: Podman) -> None:
    status = ["grep", "-E", "^(CapEff|CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status"]
    assert podman.run("--cap-drop=all", "--security-opt=no-new-privileges", "--read-only", IMAGE, *status).split() == [
        *("CapEff:", f"{0:016x}", "CapBnd:", f"{0:016x}", "NoNewPrivs:", "1", "Seccomp:", "2"),
    ]


def test_a_network_of_the_users(podman: Podman) -> None:
    need("slirp4netns")
    if not Path("/dev/net/tun").exists():
        pytest.skip("slirp4netns needs /dev/net/tun")
    before = len(podman.place.log.calls())
    show = ["ip", "-4", "-o", "addr", "show"]
    done = podman.tried("run", "--rm", "--network=slirp4netns", IMAGE, *show, "tap0")
    skip_if_it_was_the_engines(podman.place, done, before)
    assert "10.0.2.100/24" in done.stdout, done.stderr
    assert podman("run", "--rm", "--network=host", IMAGE, *show, "lo").count("127.0.0.1") == 1


def test_a_pod_shares_its_namespaces(podman: Podman) -> None:
    if not Path("/usr/libexec/podman/catatonit").exists():
        pytest.skip("the pause image needs /usr/libexec/podman/catatonit (Debian: apt-get install catatonit)")
    podman("pod", "create", "--name=pod", "--network=none", "--hostname=shared")
    look = ["sh", "-c", "hostname; readlink /proc/self/ns/net"]
    first = podman("run", "--rm", "--pod=pod", IMAGE, *look)
    assert (first, first.split()[0]) == (podman("run", "--rm", "--pod=pod", IMAGE, *look), "shared")


def test_limits_need_what_the_user_lacks(podman: Podman) -> None:
    """On version 1 podman itself leaves them out and says so; on version 2 it needs delegation by systemd."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("for machines with version 1 of cgroups: here podman asks the user's systemd")
    done = podman.tried("run", "--rm", "--network=none", "--memory=64m", IMAGE, "true")
    assert (done.returncode, "Resource limits are not supported" in done.stderr) == (0, True)
    podman.started("--name=c", IMAGE, "sleep", "1000")
    assert "this container does not have a cgroup" in podman.tried("pause", "c").stderr
