"""One change to a configuration, as JSON: what a typing error, a wrong program or an attacker would make of it.

``python -m tests.mutations [COUNT [SEED]]`` makes 100,000 of them (``make fuzz``).

The law is ``judge``: the changed configuration is either valid, and then it comes back as it was, breaks no rule when
it is looked at again and has a plan or a located UnsupportedError; or every problem that is told lies where the change
was made. Beyond the changed place itself, a problem may lie

- below it, where the change is of an object or a list (a list whose elements moved is changed as a whole);
- at an object around it, where the rule is about the object (``rdma.mlx5_1`` must have one of two members);
- at another member that only is wrong together with the changed one: then the problem's path is a ``Relation`` which
  names that one (``process.scheduler.nice`` is right or wrong by the policy beside it).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from random import Random, SystemRandom
from typing import Final, NamedTuple, TypeAlias

from ocirt.errors import SpecError, UnsupportedError
from ocirt.host import Host
from ocirt.plan import Site, plan_create
from ocirt.spec import JSON, Spec, known
from ocirt.spec.base import Relation, member
from ocirt.spec.options import KNOWN
from tests.members import Object, copied, random_document

HOST: Final = Host(apparmor=True, selinux=True)
SITE: Final = Site("c", "/bundle", "/bundle/rootfs", joins_cgroups=True)

NUMBERS: Final = (0, 1, -1, 5, 99, 100, 1000, 2**16, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -(2**31) - 1)
OF_OTHER_TYPES: Final[tuple[JSON, ...]] = (None, True, 7, 0.5, "text", [], ["x"], {}, {"x": 1})
ODD_TEXTS: Final = ("", " ", "/", "..", "\0", "a\0b", "\ud800", "\n", "=", "A", "0", "0-1", "x" * 65, "ä" * 33)


VOCABULARIES: Final[tuple[tuple[str, ...], ...]] = (
    *(known.NAMESPACES, known.CAPABILITIES, known.RLIMITS, known.PERSONALITIES, known.IO_CLASSES),
    *(known.SCHEDULER_POLICIES, known.SCHEDULER_FLAGS, known.MEMORY_MODES, known.MEMORY_FLAGS),
    *(known.SECCOMP_ACTIONS, known.SECCOMP_OPERATORS, known.SECCOMP_FLAGS, known.SECCOMP_ARCHITECTURES),
    *(tuple(sorted(KNOWN)), ("a", "b", "c", "u", "p"), ("tmpfs", "proc", "none", "bind"), ("mkdir", "read", "write")),
)


class Mutation(NamedTuple):
    """A changed configuration."""

    document: Object
    path: str
    """What was changed; the list, where its elements moved."""
    what: str


Place: TypeAlias = "tuple[dict[str, JSON] | list[JSON], str | int, str]"
"""Something that holds a value, under which name or number, and the path of that value."""


def places(value: JSON, path: str = "") -> Iterator[Place]:
    """Of every value in a configuration but itself."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield value, name, member(path, name)
            yield from places(inner, member(path, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index, f"{path}[{index}]"
            yield from places(inner, f"{path}[{index}]")


def mutate(document: Object, random: Random) -> Mutation:
    """A changed copy: each member of the configuration has the same chance, however many there are of it."""
    changed = copied(document)
    everywhere = list(places(changed))
    kinds: dict[str, list[Place]] = {}
    for found in everywhere:
        kinds.setdefault(_NUMBERS.sub("", found[2]), []).append(found)
    place, name, path = random.choice(random.choice([*kinds.values()]))
    what = random.choice(CHANGES)
    if isinstance(place, list):
        assert isinstance(name, int)
        told = _change_element(place, name, path, what, random, everywhere)
    else:
        assert isinstance(name, str)
        told = _change_member(place, name, path, what, random, everywhere)
    return Mutation(changed, told, f"{what} {path}")


_NUMBERS: Final = re.compile(r"\d+")
CHANGES: Final = (
    "drop",
    "retype",
    "alter",
    "alter",
    "reword",
    "reword",
    "borrow",
    "rename",
    "add",
    "double",
    "reverse",
)


def _change_element(
    place: list[JSON], index: int, path: str, what: str, random: Random, everywhere: list[Place]
) -> str:
    whole = path[: path.rindex("[")]
    match what:
        case "drop":
            del place[index]
        case "double":
            place.append(copied(place[index]))
        case "reverse":
            place.reverse()
        case "add":
            place.insert(index, _new(random))
        case _:
            place[index] = _other(place[index], what, random, everywhere)
            return path
    return whole


def _change_member(
    place: dict[str, JSON], name: str, path: str, what: str, random: Random, everywhere: list[Place]
) -> str:
    whole = path.removesuffix(member("", name)).removesuffix(".")
    match what:
        case "drop":
            del place[name]
        case "rename":
            place[_misspelt(name, random)] = place.pop(name)
            return whole if whole.endswith(MAPS) else path
        case "add":
            new = random.choice(("x-new", "", "type", "a/b", f"{name}s"))
            place[new] = _new(random)
            return member(whole, new)
        case _:
            place[name] = _other(place[name], what, random, everywhere)
    return path


MAPS: Final = ("annotations", "timeOffsets", "netDevices", "sysctl", "rdma", "unified")
"""Where a renamed member is another one, with rules of its own."""


def _other(value: JSON, what: str, random: Random, everywhere: list[Place]) -> JSON:
    """Another value in the place of this one."""
    if what == "retype":
        return _new(random)
    if what == "borrow":
        place, name, _ = random.choice(everywhere)
        return copied(place[name])  # type: ignore[index]  # a place goes with its name
    match value:
        case bool():
            return not value
        case int():
            return random.choice((*NUMBERS, value + 1, value - 1, -value, value * 10))
        case str() if what == "reword":
            words = [word for vocabulary in VOCABULARIES if value in vocabulary for word in vocabulary]
            return random.choice(words or ODD_TEXTS)
        case str():
            return random.choice((_misspelt(value, random), random.choice(ODD_TEXTS)))
        case list():
            return random.choice(([], value[:1], value * 2, value * 200 if len(str(value)) < 200 else []))
        case dict():
            return {}
        case _:
            return 1


def _new(random: Random) -> JSON:
    return copied(random.choice(OF_OTHER_TYPES))


def _misspelt(text: str, random: Random) -> str:
    if not text:
        return "x"
    at = random.randrange(len(text))
    edits: tuple[Callable[[], str], ...] = (
        lambda: text[:at] + text[at + 1 :],
        lambda: text[:at] + random.choice("aZ_/.,:= 9-\0") + text[at:],
        lambda: text[:at] + random.choice("aZ_/.,:= 9-") + text[at + 1 :],
        lambda: text[:at] + text[at:][::-1],
        lambda: text.swapcase(),
        lambda: text[1:],
        lambda: f"{text}s",
    )
    return random.choice(edits)()


# The law.


def judge(mutation: Mutation) -> str | None:
    """How the law is broken; None where it holds."""
    try:
        spec = Spec.from_json(mutation.document)
    except SpecError as error:
        return _misplaced(error, mutation.path)
    if _text(spec.to_json()) != _text(mutation.document):
        return "does not come back as it was"
    if again := spec.evolve().check():
        return f"was loaded, and breaks a rule: {again[0]}"
    try:
        plan_create(spec, HOST, SITE)
    except UnsupportedError as refusal:
        return None if refusal.origin else "is refused without a place"
    return None


def _text(value: JSON) -> str:
    """So that True is not 1, and the order of members does not matter."""
    return json.dumps(value, sort_keys=True)


def _misplaced(error: SpecError, path: str) -> str | None:
    for problem in error.problems:
        if not any(is_near(place, path) for place in (problem.path, *others(problem.path))):
            return f"a problem is told elsewhere: {problem}"
    return None if str(error) else "has no words"


def others(path: str) -> tuple[str, ...]:
    return path.others if isinstance(path, Relation) else ()


def is_near(place: str, changed: str) -> bool:
    """The same, or one in the other; the document as a whole is near to nothing."""
    return bool(place) and (holds(place, changed) or holds(changed, place))


def holds(outer: str, inner: str) -> bool:
    return not outer or (inner.startswith(outer) and inner[len(outer) : len(outer) + 1] in ("", ".", "["))


def run(count: int, seed: int) -> Iterator[str]:
    """What ``count`` mutations find: each line has all that is needed to see it again."""
    random = Random(seed)
    document: Object = {}
    for number in range(count):
        if number % PER_DOCUMENT == 0:
            document = random_document(random)
        mutation = mutate(document, random)
        try:
            broken = judge(mutation)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a finding
            broken = f"raises {error!r}"
        if broken:
            yield f"seed {seed}, number {number}: {mutation.what}: {broken}"


PER_DOCUMENT: Final = 10
"""Making a configuration takes as long as changing several."""


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 100_000
    seed = int(arguments[1]) if len(arguments) > 1 else SystemRandom().randrange(2**32)
    sys.stdout.write(f"{count} mutations from seed {seed}\n")
    found = False
    for line in run(count, seed):
        sys.stdout.write(f"{line}\n")
        found = True
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
