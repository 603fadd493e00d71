"""docs/transcript.md: sessions with ocirt, as they went. ``python -m tests.transcript`` writes down what comes out now.

A section is one shell, which sees a /srv and a /run of its own, so that paths are what they seem to be and nothing is
left on the host. Commands are those of the page; what is replaced in their output is what no two runs share.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.rootless.user import GID, UID
from tests.support import SECONDS

PAGE = Path(__file__).parent.parent / "docs" / "transcript.md"

BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
COMMAND = re.compile(r"[#$] ")
MARK = "\n@@ %d @@\n"

SHELL = r"""
cleanup() { for id in $(ocirt list -q 2>/dev/null); do ocirt delete --force "$id"; done; }
trap cleanup EXIT
mount --make-rprivate / && mount -t tmpfs none /srv && mount -t tmpfs none /run || exit
mkdir -p /srv/demo /run/user/1000 && chown -R %(owner)s /srv/demo /run/user/1000 && cd /srv/demo || exit
ocirt() { %(ocirt)s "$@"; }
"""

AS_USER = f"""
import ctypes, importlib, os, pkgutil, sys
import ocirt
for module in pkgutil.walk_packages(ocirt.__path__, "ocirt."):
    if module.name not in ("ocirt.__main__", "ocirt._native.libocirt"):
        importlib.import_module(module.name)
from ocirt.cli import main
from ocirt.spec import Spec
Spec.loads(Spec.default().dumps())
ocirt.run(["true"], root="/run/prelude")
os.setgroups([])
os.setresgid({GID}, {GID}, {GID})
os.setresuid({UID}, {UID}, {UID})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
os.environ["XDG_RUNTIME_DIR"] = "/run/user/1000"
sys.argv[0] = "ocirt"
sys.exit(main())
"""
"""The interpreter may lie where only root can read it, so the process becomes the user when all of it is loaded."""

OWN = f"find /srv/demo -xdev -user 0 -exec chown --no-dereference {UID}:{GID} {{}} +;"
"""What the shell has made, which is root's still, is the user's."""


def rewritten(page: str) -> str:
    """The page with what its commands print now."""
    head, *sections = re.split(r"(?m)^(?=## )", page)
    return head + "".join(map(_section, sections))


def _section(text: str) -> str:
    commands = [line for block in BLOCK.findall(text) for line in block.splitlines() if COMMAND.match(line)]
    outputs = iter(list(_outputs(commands)))

    def block(match: re.Match[str]) -> str:
        lines = [line for line in match[0].splitlines() if COMMAND.match(line)]
        return "".join(f"{line}\n{next(outputs)}" for line in lines)

    return BLOCK.sub(block, text)


def _outputs(commands: list[str]) -> Iterator[str]:
    """What each printed, one after the other in one shell."""
    container_id = "".join(secrets.choice("bcdfghjk") for _ in range(4))  # cgroups are everybody's
    user = commands[0].startswith("$")
    with tempfile.TemporaryDirectory(prefix="ocirt-transcript-") as directory:
        become = Path(directory) / "become.py"
        become.write_text(AS_USER)
        python = f"'{sys.executable}'"
        ocirt = f"{OWN} {python} '{become}'" if user else f"{python} -m ocirt"
        script = SHELL % {"ocirt": ocirt, "owner": f"{UID}:{GID}" if user else "0:0"}
        for number, command in enumerate(commands):
            line = re.sub(r"\bdemo\b", container_id, command[2:])
            script += f"printf {MARK % number!r}\n{line}\n"
        printed = _printed(f"{script}exit 0\n", Path(directory), user=user)
    for number in range(len(commands)):
        _, found, rest = printed.partition(MARK % number)
        assert found, printed
        output = rest.partition(MARK % (number + 1))[0]
        if output and not output.endswith("\n"):
            output += "\n"
        yield _settled(output.replace(container_id, "demo"))


def _printed(script: str, directory: Path, *, user: bool) -> str:
    """By a file, since what runs in the background keeps it open."""
    (directory / "script").write_text(script)
    environment = {"PATH": os.environ["PATH"], "HOME": "/srv/demo", "LC_ALL": "C.UTF-8"}
    if user:
        environment["XDG_RUNTIME_DIR"] = "/run/user/1000"
    with open(directory / "printed", "w+") as printed:
        subprocess.run(
            ["unshare", "--mount", "bash", str(directory / "script")],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            timeout=5 * SECONDS,
            check=True,
            env=environment,
        )
        printed.seek(0)
        return printed.read()


def _settled(output: str) -> str:
    """With a fixed time, a fixed pid and a fixed user, and columns as wide as they were."""
    output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{9})?Z", _time, output)
    output = re.sub(r'(?<="pid": )\d{2,}', "4711", output)
    output = re.sub(r"(?m)^(demo +)\d{2,} *(?=created|running|paused)", r"\g<1>4711        ", output)
    output = re.sub(r"(?m)^ *PID COMMAND\n *\d+ sleep$", "    PID COMMAND\n   4711 sleep", output)
    return re.sub(rf"\b({UID}|{GID})\b", " 1000" if output.startswith(" ") else "1000", output)


def _time(match: re.Match[str]) -> str:
    return f"2026-01-01T12:00:00{'.123456789' if match[1] else ''}Z"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
