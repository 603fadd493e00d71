"""A caller of some size: ``python -m benchmarks.caller BUNDLE ROOT MEBIBYTES``.

Lives one life for each line that it reads, and answers with its milliseconds (``measure.Coprocess``).
"""

from __future__ import annotations

import mmap
import sys
from functools import partial
from pathlib import Path

from benchmarks.lives import life
from benchmarks.measure import timed
from ocirt import Bundle


def touched(mebibytes: int) -> mmap.mmap:
    """Memory of which every small page is there: the worst case for whoever copies page tables."""
    memory = mmap.mmap(-1, mebibytes << 20)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1
    return memory


def main(bundle: str, root: str, mebibytes: int) -> None:
    ballast = touched(mebibytes)
    once = timed(partial(life, Bundle.load(bundle), Path(root)))
    for _ in sys.stdin:
        print(f"{once():.4f}", flush=True)
    del ballast


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
