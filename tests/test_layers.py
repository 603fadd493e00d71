"""Imports go one way, and what only decides does not touch the machine (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "ocirt"

# From the top of the house to its ground. A module imports from its own floor and from those below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli", "checkpoint"),
    ("__init__",),
    ("running",),
    ("image",),
    ("container",),
    ("starting", "execution", "supported", "observation", "updating", "device_access", "lifeline", "criu"),
    ("creation",),
    ("streams", "preparation", "sdnotify"),
    ("usage", "ending", "allowed"),
    (
        *("process", "state", "hooks", "idmap", "notify", "answers", "limits", "netdevices", "rdt", "filters"),
        *("bundle", "host_files", "surroundings", "debootstrap", "lookup"),
    ),
    ("netlink",),
    ("launch",),
    ("cgroups", "host", "reaping", "archive"),
    ("wire",),
    ("plan",),
    ("seccomp",),
    ("spec",),
    ("_native",),
    ("errors", "values"),
)

# Leaves: whoever uses ocirt without them does not pay for them.
IMPORTED_BY_NOBODY_BUT = {"cli": {"__main__"}, "image": {"cli", "running"}, "checkpoint": {"cli"}}

# Who may speak to C.
NATIVE_SPEAKERS = {"wire", "launch", "host", "cgroups.device_filter", "seccomp.library", "archive.paths"}

# What decides is pure: it runs on any machine, and for any machine.
PURE = {"spec", "plan", "seccomp"}
IMPURE_MODULES = {"os", "subprocess", "socket", "ctypes", "pathlib"}
IMPURE_EXCEPTIONS = {
    "spec.default": {"os"},  # a rootless default holds the caller's own IDs
    "seccomp.library": {"os"},  # libseccomp exports to files alone
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), path


MODULES = dict(modules())
every_module = pytest.mark.parametrize("module", MODULES)


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything in ``tree`` but what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from run_time_nodes(node)


def imports(module: str) -> set[str]:
    """The full names that ``module`` imports anywhere in it, functions included."""
    path = MODULES[module]
    package = ["ocirt", *path.relative_to(PACKAGE).parts[:-1]]
    found: set[str] = set()
    for node in run_time_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            found.update(f"{origin}.{alias.name}" for alias in node.names)
    return found


def our_imports(module: str) -> set[str]:
    """The same, of ocirt's own modules: ``plan.mounts``, or ``__init__`` for what the package itself offers."""
    ours = {name.removeprefix("ocirt").removeprefix(".") for name in imports(module) if f"{name}.".startswith("ocirt.")}
    return {name if noun(name) in KNOWN else "__init__" for name in ours}


def noun(module: str) -> str:
    """The file or directory directly below the package that a module is or is in."""
    return module.partition(".")[0]


KNOWN = {name for floor in FLOORS for name in floor}


def floor(module: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if noun(module) in names)


@every_module
def test_every_module_lives_on_a_floor(module: str) -> None:
    assert noun(module) in KNOWN, f"say in FLOORS where ocirt.{module} stands"


@every_module
def test_imports_go_down(module: str) -> None:
    assert {name for name in our_imports(module) if floor(name) < floor(module)} == set()


@every_module
def test_leaves_are_imported_by_nobody(module: str) -> None:
    leaves = {noun(name) for name in our_imports(module)} & IMPORTED_BY_NOBODY_BUT.keys() - {noun(module)}
    assert {leaf for leaf in leaves if noun(module) not in IMPORTED_BY_NOBODY_BUT[leaf]} == set()


@every_module
def test_few_modules_speak_to_c(module: str) -> None:
    if "_native" in map(noun, our_imports(module)):
        assert noun(module) == "_native" or module in NATIVE_SPEAKERS


@pytest.mark.parametrize("module", [module for module in MODULES if noun(module) in PURE])
def test_what_decides_does_not_touch_the_machine(module: str) -> None:
    allowed = IMPURE_EXCEPTIONS.get(module, set())
    assert {noun(name) for name in imports(module)} & IMPURE_MODULES - allowed == set()
