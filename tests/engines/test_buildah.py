"""buildah's RUN steps are containers of ocirt, for root and for an ordinary user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.engines.place import Place
from tests.engines.podman import IMAGE, Podman, furnished, need, states

pytestmark = [pytest.mark.root, pytest.mark.engine]

CONTAINERFILE = f"""\
FROM {IMAGE}
COPY hello /hello
RUN cat /hello >/made && id -u >>/made && chown alice /made
USER alice
WORKDIR /home/alice
ENV A=b
RUN ["sh", "-c", "id -un >mine; echo $A >>mine; grep -E '^(CapEff|Seccomp):' /proc/self/status >>mine"]
CMD ["cat", "/made", "mine"]
"""
RUN_STEP = ["create", "start", "state", "delete"]
"""What buildah asks for; it looks at the state until the container has stopped."""


@pytest.fixture(scope="module", params=["root", "rootless"])
def there(request: pytest.FixtureRequest) -> Iterator[Place]:
    with furnished(rootless=request.param == "rootless") as made:
        need("buildah")
        folder = made.directory / "work"
        folder.mkdir()
        (folder / "hello").write_text("hello\n")
        (folder / "Containerfile").write_text(CONTAINERFILE)
        yield made


@pytest.fixture
def calls(there: Place) -> Iterator[list[str]]:
    """What is called during a test; nothing else than ocirt is, and no container is left."""
    before = len(there.log.commands())
    made: list[str] = []
    yield made
    assert collapsed(there.log.commands()[before:]) == made
    assert there.log.others() == []
    assert states(there) == []


def test_a_containerfile_is_built(there: Place, calls: list[str]) -> None:
    runtime = f"--runtime={there.log.program}"
    options = [
        runtime,
        "--isolation=oci",
        "--network=none",
        "--pull-never",
        "--tag=built",
        str(there.directory / "work"),
    ]
    there.run("buildah", "bud", *options)
    calls += 2 * RUN_STEP
    podman = Podman(there)
    assert podman.run("built").splitlines() == [
        *("hello", "0"),
        *("alice", "b", f"CapEff:\t{0:016x}", "Seccomp:\t2"),
    ]
    calls += ["create", "start", "delete"]


@pytest.fixture
def working(there: Place) -> Iterator[str]:
    """The name of a working container."""
    name = there.run("buildah", "from", "--pull-never", IMAGE).strip()
    yield name
    there.run("buildah", "rm", name)


def test_a_command_is_run(there: Place, calls: list[str], working: str) -> None:
    volume = f"--volume={there.directory}/work:/data:ro"
    run = ["buildah", "run", "--isolation=oci", "--network=none", volume, "--user=alice", working, "--"]
    script = "cat /data/hello; id -un; test ! -w /hello; cat; exit 7"
    done = there.tried(*run, "sh", "-c", script, input="typed\n")
    assert (done.stdout, done.returncode) == ("hello\nalice\ntyped\n", 7), done.stderr
    calls += RUN_STEP
    missing = there.tried(*run, "no-such")
    assert (missing.returncode, "executable file not found in $PATH" in missing.stderr) == (1, True), missing.stderr
    calls += ["create"]


def test_flag_and_variable_name_it_too(there: Place, calls: list[str], working: str) -> None:
    """Where containers.conf does not; with the isolation that is this user's by default."""
    program = str(there.log.program)
    run = ["env", "CONTAINERS_CONF=/dev/null", f"BUILDAH_RUNTIME={program}", "buildah", "run", "--network=none"]
    assert there.run(*run, working, "--", "echo", "variable") == "variable\n"
    flag = [*run[:2], *run[3:], f"--runtime={program}"]
    assert there.run(*flag, working, "--", "echo", "flag") == "flag\n"
    calls += 2 * RUN_STEP


def test_podman_builds_with_it(there: Place, calls: list[str]) -> None:
    podman = Podman(there)
    podman("build", "--isolation=oci", "--network=none", "--no-cache", "--tag=other", str(there.directory / "work"))
    calls += 2 * RUN_STEP
    podman("rmi", "other")


def collapsed(commands: Sequence[str]) -> list[str]:
    """A question repeated is one question: buildah asks ten times a second."""
    return [command for index, command in enumerate(commands) if command != "state" or commands[index - 1] != "state"]
