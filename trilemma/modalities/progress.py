"""A progress bar with the time left, on stderr, for what takes longer than two seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PATIENCE = 2.0  # seconds before a bar appears


@contextlib.contextmanager
def progress(title: str, total: int, *, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Gives `advance(n)`; the bar appears once the work has taken two seconds. Call it from one thread only."""
    start, done = time.monotonic(), 0
    bar = task = None

    def advance(amount: int = 1) -> None:
        nonlocal bar, task, done
        done += amount
        if bar is None and time.monotonic() - start > PATIENCE and done < total and sys.stderr is not None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            bar = Progress(*columns, TextColumn(unit), console=Console(stderr=True), transient=True)
            bar.start()
            task = bar.add_task(title, total=total)
        if bar is not None and task is not None:
            bar.update(task, completed=done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()
