"""docs/spec-conformance.md, made from the tests: what becomes of every property of config.md and config-linux.md.

``python -m tests.conformance`` collects the tests (it runs none) and writes the table; ``--check`` only tells what is
wrong with it. A test says what it proves with a marker::

    @pytest.mark.covers("process.cwd", "linux.rdma.*.hcaHandles", "linux.seccomp.**")

``[]`` is any element of a list, ``*`` any value of a map or any member, ``.**`` at the end everything from there down.
What is refused needs no marker: it is found by asking the planner (``tests.members`` has valid values for each).
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from ocirt.errors import SpecError, UnsupportedError
from ocirt.plan import Plan, plan_create
from ocirt.spec import JSON, Spec
from ocirt.spec.options import KNOWN
from tests.documents import documents_with, member_paths
from tests.members import MAPPED, Object, copied, put
from tests.mutations import HOST, SITE
from tests.plan.paths import look_up

ROOT: Final = Path(__file__).parent.parent
TABLE: Final = ROOT / "docs" / "spec-conformance.md"

OTHER_PLATFORMS: Final[Mapping[str, str]] = {
    "process.commandLine": "Windows",
    "process.user.username": "Windows",
    "freebsd": "FreeBSD",
    "solaris": "Solaris",
    "vm": "virtual machines",
    "windows": "Windows",
    "zos": "z/OS",
}
"""Read, kept and written back, so that a configuration for several platforms stays whole."""

NO_PROOFS: Final = ("tests/spec/", "tests/test_conformance.py")
"""Tests that a value is read and checked, or refused, do not show that it is honoured."""

HEAD: Final = """\
# What becomes of every property

Made by `python -m tests.conformance` from the tests; a test fails when it is out of date. Each property of config.md
and config-linux.md (version 1.3.0) is *honoured*, and then the tests named beside it show that; or *refused*: `create`
raises `UnsupportedError` with the path of what it cannot honour (tried anew for each whenever the table is made); or
for another platform: then it is kept and has no effect. No property is ignored.

Besides, these tests are about all of them: `tests/spec/test_mutations.py` (each has valid values that are read and
written back; any one change is valid or told where it is), `tests/spec/test_schema.py` (the specification's JSON Schema
agrees), `tests/test_conformance.py` (what is honoured changes what is done).

`[]` is an element of a list, `*` a value of a map.

"""


OPTIONS_HEAD: Final = """
## Mount options

Those of config.md, Linux mount options: *honoured* is what changes the plan. Any other option is the filesystem's own
and handed to it; on a bind mount, which has none, it is an error.

| option | state |
| --- | --- |
"""


@frozen
class Row:
    """One property."""

    path: str
    state: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"| `{self.path}` | {self.state} | {'<br>'.join(map(_link, self.tests))} |"


# Which tests there are.


class _Collected:
    """A plugin of pytest that keeps what is collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def collect() -> dict[str, set[str]]:
    """The tests, and what each covers in the words of its markers."""
    collected = _Collected()
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = pytest.main(
            ["--collect-only", "-qq", "--assert=plain", "-p", "no:cacheprovider", str(ROOT / "tests")], [collected]
        )
    if code != pytest.ExitCode.OK:
        raise SystemExit(told.getvalue())
    covering: dict[str, set[str]] = {}
    for item in collected.items:
        name = item.nodeid.partition("[")[0]
        for marker in item.iter_markers("covers"):
            covering.setdefault(name, set()).update(marker.args)
    return covering


def matches(pattern: str, path: str) -> bool:
    outer = pattern.removesuffix(".**")
    words = re.escape(outer).replace(r"\*", r"[^.\[]+")
    return re.fullmatch(words + (r"([.\[].*)?" if outer != pattern else ""), path) is not None


# What becomes of a property.


def refusal(document: Object) -> UnsupportedError | None:
    try:
        plan_create(Spec.from_json(document), HOST, SITE)
    except UnsupportedError as error:
        return error
    return None


def state(path: str) -> str:
    if path in OTHER_PLATFORMS:
        return f"other platform: {OTHER_PLATFORMS[path]}"
    documents = list(documents_with(path))
    refusals = [refusal(document) for document in documents]
    told = sorted({_told(document, error) for document, error in zip(documents, refusals, strict=True) if error})
    if not told:
        return "honoured"
    words = ", ".join(told)
    return f"refused: {words}" if all(refusals) else f"honoured, refused: {words}"


def _told(document: JSON, error: UnsupportedError) -> str:
    """The place, and the word that stands there if it is one."""
    place = re.sub(r"\[\d+\]", "[]", error.origin)
    value = look_up(document, error.origin)
    return f"`{place}`" + (f" (`{value}`)" if isinstance(value, str) and place.endswith("[]") else "")


def paths() -> list[str]:
    """In the order of the documents; what only other platforms have comes last."""
    own = list(member_paths())
    return [*own, *(path for path in OTHER_PLATFORMS if path not in own)]


def rows(covering: Mapping[str, Iterable[str]]) -> list[Row]:
    return [
        Row(
            path,
            state(path),
            tuple(test for test, patterns in covering.items() if any(matches(pattern, path) for pattern in patterns)),
        )
        for path in paths()
    ]


# What becomes of a mount option (config.md, Linux mount options).

BESIDE: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("bind",),
    ("noatime",),
    ("strictatime",),
    ("iversion",),
    ("remount",),
)
"""An option may only undo another one, or be for bind mounts alone."""

WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "defaults": "stands for what is so anyway",
    "loud": "the kernel's log is as it is",
    "silent": "nothing is written to the kernel's log: fsopen(2) tells its caller",
}


def option_state(option: str) -> str:
    """What it changes in a plan says whether it is honoured."""
    told: list[str] = []
    for beside in BESIDE:
        before, after = _mounted(beside), _mounted((*beside, option))
        if isinstance(before, Plan) and isinstance(after, Plan) and before != after:
            return "honoured"
        if isinstance(before, Plan) and isinstance(after, str):
            told.append(after)
    return f"refused: {told[0]}" if told else f"no effect: {WITHOUT_EFFECT.get(option, 'nobody knows why')}"


def _mounted(options: tuple[str, ...]) -> Plan | str | None:
    """The plan of a mount with these options, the words of a refusal, or None where they are wrong together."""
    kind = "none" if {"bind", "rbind"} & {*options} else "tmpfs"
    document = copied(MAPPED)
    put(document, "mounts", [{"destination": "/x", "type": kind, "source": "/srv", "options": [*options]}])
    try:
        return plan_create(Spec.from_json(document), HOST, SITE)
    except UnsupportedError as error:
        return f"`{options[-1]}` {error.needs}"
    except SpecError:
        return None


def option_rows() -> dict[str, str]:
    return {option: option_state(option) for option in sorted(KNOWN)}


# What is wrong.


def faults(covering: Mapping[str, Iterable[str]], table: Iterable[Row], written: str) -> Iterator[str]:
    """What keeps the table from being true and whole; nothing, if all is well."""
    table = list(table)
    known = [row.path for row in table]
    for test, patterns in covering.items():
        for pattern in patterns:
            if not any(matches(pattern, path) for path in known):
                yield f"{test} covers {pattern!r}, which is no property"
    for row in table:
        if row.state.startswith("honoured") and all(test.startswith(NO_PROOFS) for test in row.tests):
            yield f"{row.path} is not refused, and no test is marked as covering it"
    if written != text(table):
        yield f"{TABLE.relative_to(ROOT)} is out of date: python -m tests.conformance"


def text(table: Iterable[Row]) -> str:
    lines = "\n".join(map(str, table))
    options = "\n".join(f"| `{option}` | {state} |" for option, state in option_rows().items())
    return f"{HEAD}| property | state | tests |\n| --- | --- | --- |\n{lines}\n{OPTIONS_HEAD}{options}\n"


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    words = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return f"[{words}](../{path})"


def main(arguments: list[str]) -> int:
    covering = collect()
    table = rows(covering)
    if "--check" not in arguments:
        TABLE.write_text(text(table))
    found = list(faults(covering, table, TABLE.read_text() if TABLE.exists() else ""))
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
