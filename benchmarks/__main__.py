"""``python -m benchmarks``: compare, print the table, and write ``benchmarks/results/latest.json``."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import commands, images, lives, others
from benchmarks.contender import Comparison
from benchmarks.measure import compare
from benchmarks.place import Place, enter_own_mount_namespace, place
from benchmarks.report import Circumstances, document, table

COMPARISONS: Final[Mapping[str, Callable[[Place], Comparison]]] = {
    "life": lives.with_cgroups,
    "life-without-cgroups": lives.without_cgroups,
    "life-with-limits": lives.with_limits,
    "exec": lives.execution,
    "caller": others.large_caller,
    "run": others.one_call,
    "import": others.bare_import,
    "import-all": others.whole_import,
    **{f"command-{name}": commands.compared(name) for name in commands.NAMES},
    **{f"image-{name}": compared for name, compared in images.COMPARISONS.items()},
}

GROUPS: Final = {"commands": "command-", "images": "image-"}

USUAL: Final = tuple(name for name in COMPARISONS if not name.startswith(GROUPS["images"]))
"""What is compared unless somebody asks for other things: images need a network and minutes."""

ROUNDS: Final = 200
"""About four minutes on two quiet cores."""

LATEST: Final = Path(__file__).resolve().parent / "results" / "latest.json"


def main() -> None:
    options = _parser().parse_args()
    circumstances = Circumstances.now(options.rounds, options.seed)
    enter_own_mount_namespace()
    order = random.Random(options.seed)
    results = []
    with place() as shared:
        for name in options.only:
            results.append(compare(COMPARISONS[name](shared), options.rounds, order))
            print(table(results[-1]), end="\n\n", flush=True)
    load_after = os.getloadavg()
    print(*circumstances.lines(load_after), sep="\n")
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(document(results, circumstances, load_after), "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How long ocirt takes, beside others.")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often each contender has its turn (%(default)s)"
    )
    words = ",".join((*COMPARISONS, *GROUPS))
    parser.add_argument("--only", type=_names, default=USUAL, help=f"some of {words} (default: all but images)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of turns (%(default)s)")
    parser.add_argument("--json", type=Path, default=LATEST, help="where to write all times")
    return parser


def _names(text: str) -> Sequence[str]:
    words = text.split(",")
    names = tuple(name for word in words for name in _members(word))
    for name in names:
        if name not in COMPARISONS:
            raise argparse.ArgumentTypeError(f"no comparison is named {name!r}; there are {', '.join(COMPARISONS)}")
    return names


def _members(word: str) -> Sequence[str]:
    return [name for name in COMPARISONS if name.startswith(GROUPS[word])] if word in GROUPS else [word]


if __name__ == "__main__":
    main()
