"""A real distribution, made by debootstrap, lives in a container as it does on a machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from ocirt import Bundle, Container, OCIError
from tests.support import SECONDS, document, process

pytestmark = [pytest.mark.root, pytest.mark.slow]


def mirror() -> str | None:
    """Where this machine gets its own Debian packages from."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(path.read_text() for path in sources if path.is_file())
    found = re.search(r"https?://\S+/debian/?(?=\s|$)", text)
    return found[0] if found else None


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = mirror()
    if shutil.which("debootstrap") is None or where is None:
        pytest.skip("needs debootstrap and a Debian mirror in /etc/apt")
    path = tmp_path_factory.mktemp("debian") / "bundle"
    try:
        return Bundle.from_debootstrap(path, "bookworm", mirror=where, program="debootstrap").rootfs
    except OCIError as error:
        pytest.skip(f"debootstrap cannot work here: {error}")


@pytest.fixture
def container(debian: Path, tmp_path: Path) -> Iterator[Container]:
    bundle = Bundle.create(tmp_path / "bundle", rootfs=debian, spec=document("sleep", "1000"))
    with Container.create("debian-test", bundle, root=tmp_path / "state", stdin=DEVNULL) as made:
        made.start()
        yield made


def test_apt_get_tells_its_version(debian: Path, tmp_path: Path) -> None:
    bundle = Bundle.create(tmp_path / "bundle", rootfs=debian, spec=document("apt-get", "--version"))
    with Container.create("debian-apt", bundle, root=tmp_path / "state", stdin=DEVNULL, stdout=PIPE) as made:
        made.start()
        assert made.process is not None
        output, _ = made.process.communicate(timeout=SECONDS)
    assert (output or b"").startswith(b"apt 2.6")


def test_a_shell_runs_on_a_terminal(debian: Path, tmp_path: Path) -> None:
    program = process("bash").evolve(terminal=True)
    bundle = Bundle.create(tmp_path / "bundle", rootfs=debian, spec=document().evolve(process=program))
    with Container.create("debian-shell", bundle, root=tmp_path / "state") as made:
        made.start()
        assert made.process is not None
        terminal = made.process.terminal
        assert terminal is not None
        terminal.write(b"echo $((40+2)) on $(tty); exit 5\n")
        assert made.wait(SECONDS) == 5
        seen = b""
        while chunk := terminal.read():
            seen += chunk
    assert b"42 on /dev/pts/0" in seen


def test_five_commands_run_at_once(container: Container) -> None:
    def command(number: int) -> bytes | None:
        process = container.exec(["bash", "-c", f"sleep 0.2; echo {number}; dpkg -l | wc -l"], stdout=PIPE)
        return process.communicate(timeout=SECONDS)[0]

    with ThreadPoolExecutor(5) as pool:
        outputs = [output or b"" for output in pool.map(command, range(5))]
    assert [int(output.split()[0]) for output in outputs] == [0, 1, 2, 3, 4]
    assert all(int(output.split()[1]) > 50 for output in outputs)
