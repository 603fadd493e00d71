"""The commands that show something, and the one that writes a config.json to begin with."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from ocirt.cli.parse import UsageError
from ocirt.errors import NotFoundError, OCIError

if TYPE_CHECKING:
    from ocirt.cli import Call
    from ocirt.container import Container
    from ocirt.preparation import CgroupManager
    from ocirt.spec import JSON, Spec

NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time, for a container that was never finished: go-runc refuses a whole list for one empty time."""

ORDER: Final = {
    name: place
    for place, name in enumerate(
        (
            *("ociVersion", "process", "root", "hostname", "mounts", "linux"),
            *("terminal", "user", "args", "env", "cwd", "capabilities", "rlimits", "noNewPrivileges"),
            *("uidMappings", "gidMappings", "resources", "namespaces", "maskedPaths", "readonlyPaths"),
        )
    )
}
"""Of members as runc writes them, which is not that of the documents."""

COLUMNS: Final = ("id", "pid", "status", "bundle", "created", "owner")
FORMATS: Final = ("table", "json")
ESCAPED: Final = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})


def state(call: Call) -> int:
    from ocirt.container import Container

    container = Container._find(call.container_id, call.root)
    _print(_as_go(json.dumps(_described(container, owner=""), indent=2, ensure_ascii=False)))
    return 0


def list_containers(call: Call) -> int:
    from ocirt.state import StateStore

    chosen = _format(call)
    store = StateStore(call.root)
    if call.root is not None:
        os.stat(store.root)  # a default that nobody has used yet is empty; an explicit one that is missing is an error
    if call.options.on("quiet"):
        _print("".join(f"{container_id}\n" for container_id in store.ids()))
        return 0
    found = _all(call, store.root)
    if chosen == "json":
        _print(_as_go(json.dumps(found or None, separators=(",", ":"), ensure_ascii=False)) + "\n")
        return 0
    rows = [[name.upper() for name in COLUMNS], *([str(entry[name]) for name in COLUMNS] for entry in found)]
    _print("".join(f"{line}\n" for line in _aligned(rows)))
    return 0


def ps(call: Call) -> int:
    """Which processes they are says the container's cgroup; what they are, ps(1)."""
    import subprocess

    from ocirt.container import Container

    chosen = _format(call)
    pids = Container.load(call.container_id, root=call.root).processes()
    if chosen == "json":
        print(json.dumps(pids, separators=(",", ":")))
        return 0
    command = ("ps", *(call.options.arguments[1:] or ("-ef",)))
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise OCIError(f"exit status {done.returncode}: {done.stdout}{done.stderr}")
    _print("".join(f"{line}\n" for line in _belonging(done.stdout.splitlines(), pids)))
    return 0


def plan(call: Call) -> int:
    """As ``create`` would make it, for an id that is open; nothing is done."""
    from ocirt.bundle import Bundle
    from ocirt.plan import ID_MARK
    from ocirt.preparation import Request, prepare
    from ocirt.state import StateStore

    manager = cast("CgroupManager", call.cgroup_manager)
    request = Request("id", Bundle.load(call.options.arguments[0]), manager)
    prepared = prepare(StateStore(call.root), request, ours=0)
    _print(str(prepared.launch.plan).replace(ID_MARK, "<id>"))
    return 0


def features(call: Call) -> int:
    """In runc's form: CRI-O reads it, containerd and docker."""
    from ocirt.supported import features as supported

    del call
    print(json.dumps(supported().to_json(), indent=4))
    return 0


def spec(call: Call) -> int:
    from ocirt.spec import Spec

    if call.options.given("from-docker-inspect"):
        made = _from_docker_inspect(call)
    else:
        made = Spec.default(rootless=call.options.on("rootless"))
    members = made.to_json()
    for name in ("process", "linux"):
        members[name] = _in_order(members[name])
    text = json.dumps(_in_order(members), indent="\t")
    try:
        with open(os.path.join(call.options.text("bundle"), "config.json"), "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError("File config.json exists. Remove it first") from None
    return 0


def _from_docker_inspect(call: Call) -> Spec:
    """What does not go into a configuration is told, a line each."""
    from ocirt.lookup import here
    from ocirt.spec import Spec

    if call.options.on("rootless"):
        raise UsageError("--rootless and --from-docker-inspect ask for different configurations")
    name = call.options.text("from-docker-inspect")
    if name == "-":
        text = sys.stdin.buffer.read()
    else:
        with open(name, "rb") as file:
            text = file.read()
    imported = Spec.from_docker_inspect(text, here())
    for note in imported.notes:
        print(note, file=sys.stderr)
    return imported.spec


def _print(text: str) -> None:
    """In UTF-8 whatever the locale; of a path that is not UTF-8, what can be said of it (Go's way)."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode())


def _as_go(text: str) -> str:
    """JSON as encoding/json writes it: what HTML has a meaning for is escaped, other letters are as they are."""
    return text.translate(ESCAPED)


def _in_order(value: JSON) -> dict[str, JSON]:
    members = cast("dict[str, JSON]", value)
    return {name: members[name] for name in sorted(members, key=lambda name: ORDER.get(name, len(ORDER)))}


def _format(call: Call) -> str:
    chosen = call.options.text("format")
    if chosen not in FORMATS:
        raise UsageError("invalid format option")
    return chosen


def _all(call: Call, root: str) -> list[Mapping[str, object]]:
    from ocirt.container import Container
    from ocirt.state import StateStore

    found = []
    for container_id in StateStore(root).ids():
        with contextlib.suppress(NotFoundError, FileNotFoundError):  # deleted meanwhile
            container = Container._find(container_id, root)
            found.append(_described(container, owner=_owner(os.stat(f"{root}/{container.id}").st_uid)))
    return found


def _described(container: Container, *, owner: str) -> Mapping[str, object]:
    """runc's members in runc's order; no annotations where there are none."""
    known = container.state()
    members = {name: known.get(name, "") for name in ("ociVersion", "id", "pid", "status", "bundle", "rootfs")}
    members["created"] = known.get("created") or NEVER
    if known.get("annotations"):
        members["annotations"] = known["annotations"]
    return {**members, "owner": owner}


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Go's tabwriter as runc sets it: columns of at least 12, three blanks between them."""
    widths = [max(12, *(len(cell) + 3 for cell in column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _belonging(lines: Sequence[str], pids: Collection[int]) -> list[str]:
    """The heading, and the rows of these processes."""
    heading = lines[0].split() if lines else []
    if "PID" not in heading:
        raise OCIError("couldn't find PID field in ps output")
    column = heading.index("PID")
    wanted = {str(pid) for pid in pids}
    return [lines[0], *(line for line in lines[1:] if wanted.intersection(line.split()[column : column + 1]))]
