"""The command as installed: it starts anywhere, runs nobody else's code, and imports little."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import TypeGuard

import pytest
from attrs import frozen

from ocirt import Bundle, containers
from tests.distributions import ROOT
from tests.support import SECONDS, document

HEAVY = frozenset(
    ("attr", "attrs", "cattrs", "cffi", "_cffi_backend", "dataclasses", "inspect", "pathlib", "subprocess", "threading")
)
"""Each of these, or what imports it, costs more than what a quick command does."""
FOR_A_FOREGROUND = frozenset(("_hashlib", "subprocess", "termios", "ocirt.cli.foreground"))
"""What ``create`` and a detached ``exec`` do without, and OpenSSL, by which nobody has to be kept waiting."""
OURS = ("ocirt.bundle", "ocirt.creation", "ocirt.launch", "ocirt.plan", "ocirt.spec", "ocirt.wire")


@frozen
class Installed:
    """A virtual environment with the wheel in it, which has the tests' own packages for its dependencies."""

    directory: Path

    @property
    def command(self) -> Path:
        return self.directory / "bin" / "ocirt"

    @property
    def script(self) -> Path:
        return self.directory / "bin" / "ocirt-python"

    def run(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = Path("/"),
        stdout: int = subprocess.PIPE,
    ) -> subprocess.CompletedProcess[str]:
        """By its path, and with nothing in its environment unless told."""
        return run([str(self.command), *words], env or {}, cwd, stdout)

    def imported(self, *words: str) -> set[str]:
        """The modules that a command loads, which must succeed."""
        python = [str(self.directory / "bin" / "python"), "-I", "-S", "-X", "importtime", str(self.script)]
        with tempfile.TemporaryFile("w+") as said:  # what the command starts may keep it open
            done = run([*python, *words], {}, Path("/"), subprocess.DEVNULL, said.fileno())
            said.seek(0)
            text = said.read()
        assert done.returncode == 0, text
        lines = [line for line in text.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}


def run(
    args: Sequence[str], env: Mapping[str, str], cwd: Path, stdout: int = subprocess.PIPE, stderr: int | None = None
) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE if stdout == subprocess.PIPE else subprocess.DEVNULL  # a container would keep it open
    return subprocess.run(
        args,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=pipe if stderr is None else stderr,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def install(wheel: Path, *options: str, python: Path | str = sys.executable) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *options, str(wheel)], check=True)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(tmp_path_factory.mktemp("installed") / "with a blank")
    venv.create(made.directory, with_pip=False)
    install(wheel, python=made.directory / "bin" / "python")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = made.directory / "lib" / version / "site-packages" / "others.pth"
    others.write_text(sysconfig.get_path("purelib") + "\n")
    return made


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A directory in which every module that we or Python might import leaves a mark; an environment that says so."""
    mark = tmp_path / "imported"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for directory in (tmp_path, tmp_path / ".local" / "lib" / version / "site-packages"):
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("json", "socket", "sitecustomize", "usercustomize", "site", "ocirt", "attrs", "cattrs"):
            (directory / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write('{name} ')\n")
    start = tmp_path / "usercustomize.py"
    env = {"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONSTARTUP": str(start), "PYTHONHOME": ""}
    return mark, env


def test_the_command_needs_no_environment_at_all(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("--root", str(tmp_path), "state", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith('level=error msg="container does not exist"\n')


def test_it_knows_its_version(installed: Installed) -> None:
    done = installed.run("--version")
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "ocirt version 0.1.0", "")


def test_it_is_found_through_a_link_from_elsewhere(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "runtime").symlink_to(installed.command)
    done = run([str(tmp_path / "runtime"), "--version"], {}, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "ocirt version 0.1.0")


def test_its_interpreter_is_named_by_an_absolute_path(installed: Installed) -> None:
    first = installed.script.read_text().splitlines()[0]
    assert first.startswith(f"#!{installed.directory}/bin/python")
    assert installed.command.read_bytes().startswith(b"\x7fELF")


def test_arguments_arrive_as_they_are(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("--root", str(tmp_path), "state", "a b", "")
    assert done.returncode == 1
    assert "requires exactly 1 argument(s)" in done.stderr
    unknown = installed.run("--root", str(tmp_path), "state", "-I -S")
    assert "flag provided but not defined: -I -S" in unknown.stderr


def test_only_its_installer_has_a_say_in_what_runs(installed: Installed, hostile: tuple[Path, dict[str, str]]) -> None:
    mark, env = hostile
    root = mark.parent / "state"
    for words in (("state", "nobody"), ("list",), ("features",), ("--version",), ("spec",)):
        done = installed.run("--root", str(root), *words, env=env, cwd=mark.parent)
        assert (done.returncode, "Traceback" in done.stderr) == (int(words[0] in ("state", "list")), False), done
    assert not mark.exists()
    # The same trap catches a Python that is not isolated: it is not for lack of bait.
    python = str(installed.directory / "bin" / "python")
    run([python, str(installed.script), "--version"], env, mark.parent)
    assert "ocirt" in mark.read_text()


def test_the_script_knows_ocirts_dependencies() -> None:
    """It asks site for no others, so a new one must be told to it."""
    tree = ast.parse((ROOT / "command" / "ocirt_python.py").read_text())
    (needed,) = (ast.literal_eval(node.value) for node in tree.body if is_named(node, "NEEDED"))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[<>=]", requirement)[0].replace("-", "_") for requirement in declared}
    assert needed >= names
    assert {"ocirt", "attr", "_cffi_backend"} == needed - names  # what those names do not say


def is_named(node: ast.stmt, name: str) -> TypeGuard[ast.Assign]:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name


def test_without_its_script_it_says_so(installed: Installed, tmp_path: Path) -> None:
    alone = tmp_path / "ocirt"
    shutil.copy(installed.command, alone)
    done = run([str(alone), "--version"], {}, tmp_path)
    assert done.returncode == 127
    assert done.stderr == f"ocirt: {alone}-python: does not name its interpreter: error 2\n"


@pytest.mark.parametrize("line", ["", "#!python\n", "#!/no newline", "#! /bin/sh\n"])
def test_a_script_that_no_installer_has_touched_is_refused(installed: Installed, tmp_path: Path, line: str) -> None:
    alone = tmp_path / "ocirt"
    shutil.copy(installed.command, alone)
    (tmp_path / "ocirt-python").write_text(line)
    assert run([str(alone), "--version"], {}, tmp_path).returncode == 127


def test_an_interpreter_that_is_gone_is_told(installed: Installed, tmp_path: Path) -> None:
    shutil.copy(installed.command, tmp_path / "ocirt")
    (tmp_path / "ocirt-python").write_text("#!/nowhere/python\n")
    done = run([str(tmp_path / "ocirt"), "--version"], {}, tmp_path)
    assert (done.returncode, done.stderr) == (127, "ocirt: /nowhere/python: cannot be executed: error 2\n")


def test_a_directory_that_holds_all_will_do(wheel: Path, tmp_path: Path) -> None:
    """``pip install --target``, as zip applications and build systems use it."""
    install(wheel, "--target", str(tmp_path / "all"))
    done = run([str(tmp_path / "all" / "bin" / "ocirt"), "--version"], {}, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, ["ocirt version 0.1.0"]), done


def test_an_editable_installation_has_the_command(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "ocirt"
    if not command.exists():
        pytest.skip("ocirt is not installed where the tests run")
    done = run([str(command), "--root", str(tmp_path), "list", "-q"], {}, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.root
def test_the_quick_commands_import_neither_attrs_nor_what_makes_a_plan(
    installed: Installed, rootfs: Path, tmp_path: Path
) -> None:
    """A life in single commands, each with the list of what it has imported."""
    bundle, root, name = tmp_path / "bundle", str(tmp_path / "state"), f"installed-{token_hex(4)}"
    Bundle.create(bundle, rootfs=rootfs, spec=document("sleep", "1000"))
    try:
        created = installed.run("--root", root, "create", "--bundle", str(bundle), name, stdout=subprocess.DEVNULL)
        assert created.returncode == 0
        loaded = {
            "state": installed.imported("--root", root, "state", name),
            "start": installed.imported("--root", root, "start", name),
            "list": installed.imported("--root", root, "list"),
            "kill": installed.imported("--root", root, "kill", name, "KILL"),
            "delete": installed.imported("--root", root, "delete", "--force", name),
        }
        assert not containers(root=root)
        for command, modules in loaded.items():
            heavy = {module for module in modules if module.partition(".")[0] in HEAVY or module.startswith(OURS)}
            assert heavy == set(), command
            assert "ocirt.container" in modules, "the list is not that of the command"
    finally:
        for container in containers(root=root):
            container.delete(force=True)


@pytest.mark.root
def test_what_engines_wait_for_imports_nothing_for_a_foreground(
    installed: Installed, rootfs: Path, tmp_path: Path
) -> None:
    bundle, root, name = tmp_path / "bundle", str(tmp_path / "state"), f"installed-{token_hex(4)}"
    Bundle.create(bundle, rootfs=rootfs, spec=document("sleep", "1000"))
    try:
        for words in (["create", "--bundle", str(bundle), name], ["exec", "--detach", name, "true"]):
            modules = installed.imported("--root", root, *words)
            assert "ocirt.container" in modules, "the list is not that of the command"
            assert modules & FOR_A_FOREGROUND == set(), words
    finally:
        for container in containers(root=root):
            container.delete(force=True)
