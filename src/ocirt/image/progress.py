"""Progress bars, by rich where it is installed, for who sits in front of a terminal or a notebook."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ocirt.image.transport import Progress, Report

WIDTH: Final = 28
"""Of what a bar is about; a digest is longer, and its beginning says enough."""


@contextmanager
def bars(*, always: bool = False) -> Iterator[Report | None]:
    """What to give as ``report``: bars on standard error while the ``with`` lasts, and gone afterwards.

    ``None`` where nobody would see them, or rich is not installed; ``always`` is for who knows better.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars
    except ImportError:
        yield None
        return
    console = Console(stderr=True, force_terminal=True if always else None)
    if not (console.is_terminal or console.is_jupyter):
        yield None
        return
    columns = (
        TextColumn("{task.fields[action]:8} {task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as shown:
        yield _Reporter(shown)


class _Reporter:
    """One bar for each thing that is worked at; told from several threads."""

    def __init__(self, shown: Bars) -> None:
        self._shown = shown
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        key = (progress.action, progress.what)
        with self._lock:
            task = self._tasks.get(key)
            if task is None:
                task = self._tasks[key] = self._shown.add_task(
                    progress.what[:WIDTH], total=progress.total, action=progress.action
                )
        self._shown.update(task, completed=progress.done, total=progress.total)
