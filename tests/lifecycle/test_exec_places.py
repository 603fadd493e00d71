"""Where an executed process goes: below the container's cgroups, or into a container that is paused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from ocirt import Container
from ocirt.errors import SetupError, StateError, UnsupportedError
from tests.support import SECONDS, Lab, document, eventually, process

pytestmark = pytest.mark.root


@pytest.fixture
def container(lab: Lab) -> Iterator[Container]:
    with lab.start(document("sleep", "600")) as running:
        yield running


def places(text: str) -> dict[str, str]:
    """Path by controllers, of cgroups(7)'s /proc/PID/cgroup."""
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in text.splitlines())}


def own(container: Container) -> dict[str, str]:
    return places(Path(f"/proc/{container.pid}/cgroup").read_text())


def directory(controller: str, path: str) -> Path:
    return Path(f"/sys/fs/cgroup/{controller or 'unified'}{path}")


def shown(container: Container, **options: str | dict[str, str]) -> dict[str, str]:
    with container.exec(
        process("cat", "/proc/self/cgroup"),
        stdin=DEVNULL,
        stdout=PIPE,
        **options,  # type: ignore[arg-type]  # cgroup alone
    ) as made:
        output, _ = made.communicate(timeout=SECONDS)
    assert output is not None
    return places(output.decode())


def controllers_here(container: Container) -> list[str]:
    found = [name for name, path in own(container).items() if path.endswith(container.id)]
    if "memory" not in found:
        pytest.skip("needs a memory controller of cgroup version 1")
    return found


def test_a_process_may_go_below_one_of_the_containers_cgroups(container: Container) -> None:
    controllers_here(container)
    inner = directory("memory", own(container)["memory"]) / "inner"
    inner.mkdir()
    found = shown(container, cgroup={"memory": "inner"})
    assert found.pop("memory") == f"{own(container)['memory']}/inner"
    assert found == {name: path for name, path in own(container).items() if name != "memory"}
    assert shown(container) == own(container)


def test_a_path_alone_is_meant_for_all_of_them(container: Container) -> None:
    used = controllers_here(container)
    for name in used:
        top = directory(name.removeprefix("name="), own(container)[name])
        (top / "inner").mkdir()
        if name == "cpuset":  # nobody may join an empty one (cpuset(7))
            for file in ("cpuset.cpus", "cpuset.mems"):
                (top / "inner" / file).write_text((top / file).read_text())
    found = shown(container, cgroup="inner")
    assert {name for name, path in found.items() if path == f"{own(container)[name]}/inner"} == set(used)


def test_a_cgroup_that_is_not_there_is_an_error(container: Container) -> None:
    controllers_here(container)
    with pytest.raises(SetupError) as caught:
        shown(container, cgroup={"memory": "absent"})
    assert "absent" in str(caught.value)
    assert container.processes() == (container.pid,)


@pytest.mark.parametrize("path", ["..", "a/../.."])
def test_no_path_leads_out_of_the_container(container: Container, path: str) -> None:
    with pytest.raises(UnsupportedError, match="bad sub cgroup path"):
        shown(container, cgroup=path)


def test_a_process_may_wait_until_a_paused_container_is_resumed(container: Container) -> None:
    freezer = own(container).get("freezer")
    if freezer is None:
        pytest.skip("no freezer of cgroup version 1 here")
    file = directory("freezer", freezer) / "freezer.state"
    file.write_text("FROZEN")
    eventually(lambda: container.status == "paused", "paused")
    with pytest.raises(StateError, match=r"cannot exec in a paused container \(use --ignore-paused to override\)"):
        container.exec(["true"])
    codes: list[int] = []

    def execute() -> None:
        made = container.exec(["sh", "-c", "exit 7"], stdin=DEVNULL, ignore_paused=True)
        codes.append(made.wait(SECONDS))

    waiting = threading.Thread(target=execute)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    file.write_text("THAWED")
    waiting.join(SECONDS)
    assert codes == [7]
