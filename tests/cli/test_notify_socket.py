"""NOTIFY_SOCKET: a service manager hears when a container is ready, and nothing that is not its business."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocirt.spec import IDMapping, Namespace
from tests.cli.commands import Commands
from tests.cli.test_handover import deep
from tests.support import SECONDS, eventually, linux, process

pytestmark = pytest.mark.root


class Manager:
    """What systemd does with a service's messages."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.heard: list[str] = []

    def hear(self) -> str:
        """The next message; whatever came with it is closed at once, as systemd does with BARRIER."""
        message, fds, _, _ = socket.recv_fds(self.listener, 65536, 16)
        for fd in fds:
            os.close(fd)
        self.heard.append(message.decode())
        if message == b"BARRIER=1":
            assert len(fds) == 1
        else:
            assert not fds
        return message.decode()

    def hear_until(self, last: str) -> list[str]:
        while self.hear() != last:
            pass
        return self.heard


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "manager"))
        listener.settimeout(SECONDS)
        yield Manager(listener)


SENDER = r"""
/* send COUNT DESCRIPTORS SIZE MESSAGE: so many datagrams to $NOTIFY_SOCKET, filled up to a size with x. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	static char text[1 << 20], space[CMSG_SPACE(64 * sizeof(int))];
	int count = atoi(argv[1]), fds = atoi(argv[2]), fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	size_t size = strlen(argv[4]), wanted = (size_t)atoi(argv[3]);
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct iovec part = {text, size < wanted ? wanted : size};
	struct msghdr message = {&to, sizeof to, &part, 1, space, CMSG_SPACE(fds * sizeof(int)), 0};
	struct cmsghdr *head = (struct cmsghdr *)space;

	(void)argc;
	snprintf(to.sun_path, sizeof to.sun_path, "%s", getenv("NOTIFY_SOCKET"));
	memset(text, 'x', sizeof text);
	memcpy(text, argv[4], size);
	head->cmsg_len = CMSG_LEN(fds * sizeof(int));
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	for (int i = 0; i < fds; i++)
		((int *)CMSG_DATA(head))[i] = 0;
	if (!fds)
		message.msg_control = NULL, message.msg_controllen = 0;
	while (count--)
		if (sendmsg(fd, &message, 0) < 0)
			return fprintf(stderr, "%s\n", strerror(errno)), 1;
	return 0;
}
"""


@pytest.fixture(scope="session")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sender")
    (directory / "send.c").write_text(SENDER)
    subprocess.run(["gcc", "-static", "-o", "send", "send.c"], cwd=directory, check=True)
    return directory / "send"


@pytest.fixture
def notified(commands: Commands, sender: Path) -> Commands:
    """A container can send."""
    shutil.copy(sender, commands.bundle / "rootfs/bin/send")
    return commands


def started(
    commands: Commands, address: str | Path, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command that a service manager starts."""
    with (commands.bundle / "output").open("ab") as output:
        return subprocess.run(
            commands.line(*words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            timeout=SECONDS,
            check=check,
            cwd=commands.bundle,
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
        )


@contextmanager
def waiting(commands: Commands, address: str | Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that does not end before the container is ready."""
    with subprocess.Popen(
        commands.line(*words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=commands.bundle,
        env={**os.environ, "NOTIFY_SOCKET": str(address)},
    ) as started:
        try:
            yield started
        except BaseException:
            started.kill()
            raise


def pid_of(commands: Commands) -> int:
    return int(str(commands.state(commands.id)["pid"]))


def test_start_waits_for_readiness_and_tells_of_it(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """In runc's order; the last is answered once all else is heard."""
    script = "while ! test -e /tmp/go; do sleep 0.02; done; send 1 0 0 READY=1; sleep 1000"
    notified.configure(["sh", "-c", script])
    started(notified, tmp_path / "manager", "create", notified.id)
    with waiting(notified, tmp_path / "manager", "start", notified.id) as start:
        eventually(lambda: notified.state(notified.id)["status"] == "running", "running")
        assert start.poll() is None
        (tmp_path / "rootfs/tmp/go").touch()
        assert manager.hear_until("BARRIER=1") == ["READY=1", f"MAINPID={pid_of(notified)}", "BARRIER=1"]
        assert start.wait(SECONDS) == 0


def test_a_detached_run_tells_of_init_and_ends(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    notified.configure(["sh", "-c", "send 1 0 0 READY=1; sleep 1000"])
    with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
        heard = manager.hear_until("BARRIER=1")
        assert run.wait(SECONDS) == 0
    assert heard == ["READY=1", f"MAINPID={pid_of(notified)}", "BARRIER=1"]


def test_in_the_foreground_we_are_the_service_and_stay_it(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """What it says later is passed on as well, to its last word."""
    script = "send 1 0 0 READY=1; read line; send 1 0 0 STATUS=busy; send 1 0 0 STOPPING=1; exit 4"
    notified.configure(["sh", "-c", script])
    with subprocess.Popen(
        notified.line("run", notified.id),
        stdin=subprocess.PIPE,
        cwd=notified.bundle,
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "manager")},
    ) as run:
        assert run.stdin
        assert [manager.hear(), manager.hear()] == ["READY=1", f"MAINPID={run.pid}"]
        run.stdin.close()
        assert manager.hear_until("BARRIER=1")[2:] == ["STATUS=busy", "STOPPING=1", "BARRIER=1"]
        assert run.wait(SECONDS) == 4
    assert notified.run("list", "-q") == ""


def test_readiness_counts_wherever_it_stands_in_a_message(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """runc overlooks it behind another line. What is ours to say, or comes with descriptors, is left out."""
    message = "STATUS=up\nMAINPID=1\nFDSTORE=1\nNOTIFYACCESS=all\nREADY=1\nX_OWN=1"
    notified.configure(["sh", "-c", f'send 1 0 0 "{message}"; sleep 1000'])
    with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
        assert manager.hear_until("BARRIER=1")[0] == "STATUS=up\nREADY=1"
        assert run.wait(SECONDS) == 0


def test_who_is_root_elsewhere_and_who_is_nobody_can_tell(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """Whatever our umask is, and from a user namespace too."""
    mapping = (IDMapping(0, 100000, 65536),)
    spaces = (*linux().namespaces, Namespace("user"))
    user = process().user.evolve(uid=1000, gid=1000)
    (notified.bundle / "rootfs/run/notify").mkdir(parents=True)  # root of the container may make none in this image
    for path in (notified.bundle, *notified.bundle.parents):
        if path.stat().st_mode & 0o5 != 0o5 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o5)
    notified.configure(
        [],
        process=process("sh", "-c", "send 1 0 0 READY=1 && sleep 1000", user=user),
        linux=linux(namespaces=spaces, uid_mappings=mapping, gid_mappings=mapping),
    )
    before = os.umask(0o077)
    try:
        with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
            assert manager.hear_until("BARRIER=1")[0] == "READY=1"
            assert run.wait(SECONDS) == 0
    finally:
        os.umask(before)


def test_a_container_that_ends_before_it_is_ready_ends_the_wait(
    notified: Commands, manager: Manager, tmp_path: Path
) -> None:
    notified.configure(["sh", "-c", "exit 3"])
    assert started(notified, tmp_path / "manager", "run", "--detach", notified.id).returncode == 0
    assert notified.state(notified.id)["status"] == "stopped"


def test_a_hostile_container_gets_nothing_through(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """A flood, messages that are too long, descriptors sent along: none arrives, and readiness does nevertheless."""
    script = (
        "send 300 0 0 MAINPID=1; send 20 60 0 FDSTORE=1; send 5 0 100000 READY=1; send 1 0 4097 READY=1;"
        "send 1 30 0 READY=1; sleep 1000"
    )
    notified.configure(["sh", "-c", script])
    with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
        assert manager.hear_until("BARRIER=1") == ["READY=1", f"MAINPID={pid_of(notified)}", "BARRIER=1"]
        assert run.wait(SECONDS) == 0


def test_the_container_cannot_change_the_directory(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    script = (
        "exec 2>&1; touch /run/notify/x; rm /run/notify/notify.sock;"
        "grep ' /run/notify ' /proc/mounts; echo $NOTIFY_SOCKET;"
        "send 1 0 0 X_NOTHING=1; echo sent"
    )
    notified.configure(["sh", "-c", script])
    started(notified, tmp_path / "manager", "run", notified.id)
    lines = (notified.bundle / "output").read_text().splitlines()
    assert lines[0].endswith("Read-only file system")
    assert lines[1].endswith("Read-only file system")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(lines[2].split()[3].split(","))
    assert lines[3:] == ["/run/notify/notify.sock", "sent"]


@pytest.mark.parametrize(
    "left", ["ln -s /etc/hostile notify.sock", "ln -s /dev/null notify.sock", "touch notify.sock", "mkfifo notify.sock"]
)
def test_what_somebody_left_there_is_not_followed(
    notified: Commands, manager: Manager, tmp_path: Path, left: str
) -> None:
    """Root of the host in a container can make the directory writable before it is started, or afterwards."""
    notified.configure(["sh", "-c", "send 1 0 0 READY=1; sleep 1000"])
    started(notified, tmp_path / "manager", "create", notified.id)
    directory = notified.root / notified.id / "notify"
    (directory / "deep/deeper").mkdir(parents=True)
    (directory / "deep/deeper/link").symlink_to("/")
    subprocess.run(left, shell=True, cwd=directory, check=True)
    before = os.stat("/dev/null")
    with waiting(notified, tmp_path / "manager", "start", notified.id) as start:
        assert manager.hear_until("BARRIER=1")[0] == "READY=1"
        assert start.wait(SECONDS) == 0
    assert not Path("/etc/hostile").exists()
    assert os.stat("/dev/null").st_mode == before.st_mode
    notified.run("delete", "--force", notified.id)
    assert list(notified.root.iterdir()) == []
    assert Path("/etc/passwd").exists()


def test_a_manager_may_listen_at_an_abstract_name(notified: Commands, tmp_path: Path) -> None:
    name = f"ocirt-test-{os.getpid()}"
    notified.configure(["sh", "-c", "send 1 0 0 READY=1; sleep 1000"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(SECONDS)
        with waiting(notified, f"@{name}", "run", "--detach", notified.id) as run:
            assert Manager(listener).hear_until("BARRIER=1")[0] == "READY=1"
            assert run.wait(SECONDS) == 0


def test_a_manager_that_is_not_there_is_told_before_anything_starts(notified: Commands, tmp_path: Path) -> None:
    notified.configure(["sleep", "1000"])
    started(notified, tmp_path / "nobody", "create", notified.id)
    assert started(notified, tmp_path / "nobody", "start", notified.id, check=False).returncode == 1
    assert "no such file or directory" in (notified.bundle / "output").read_text()
    assert notified.state(notified.id)["status"] == "created"
    notified.run("start", notified.id)
    assert notified.state(notified.id)["status"] == "running"


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative", "@"])
def test_an_address_that_is_none_is_told(notified: Commands, address: str) -> None:
    notified.configure(["true"])
    assert started(notified, address, "create", notified.id, check=False).returncode == 1
    assert "neither an absolute path nor an abstract socket" in (notified.bundle / "output").read_text()
    assert not notified.root.exists()


def test_a_long_path_of_the_state_is_no_obstacle(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    from attrs import evolve

    moved = evolve(notified, root=deep(tmp_path) / "state")
    moved.configure(["sh", "-c", "send 1 0 0 READY=1; sleep 1000"])
    try:
        with waiting(moved, tmp_path / "manager", "run", "--detach", moved.id) as run:
            assert manager.hear_until("BARRIER=1")[0] == "READY=1"
            assert run.wait(SECONDS) == 0
    finally:
        moved.run("delete", "--force", moved.id)


def test_an_executed_process_is_not_told_of_the_socket(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    notified.configure(["sh", "-c", "send 1 0 0 READY=1; sleep 1000"])
    with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
        manager.hear_until("BARRIER=1")
        assert run.wait(SECONDS) == 0
    assert "NOTIFY_SOCKET" not in notified.run("exec", notified.id, "env")


def test_a_wait_can_be_broken_off(notified: Commands, manager: Manager, tmp_path: Path) -> None:
    """systemd does so when a service takes too long to start; nothing is left of it then."""
    notified.configure(["sh", "-c", "send 1 0 0 STATUS=waiting; sleep 1000"])
    with waiting(notified, tmp_path / "manager", "run", "--detach", notified.id) as run:
        assert manager.hear() == "STATUS=waiting"
        run.send_signal(signal.SIGTERM)
        assert run.wait(SECONDS) == 128 + signal.SIGTERM
    assert notified.run("list", "-q") == ""
