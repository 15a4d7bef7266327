"""A progress bar with the time left and the latest losses, on stderr, for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

PATIENCE = 2.0  # seconds before a bar appears


class Bar:
    """`update(done, figures)` as often as you like; it draws a few times a second at most."""

    def __init__(self, title: str, total: int, *, begun: int = 0, quiet: bool = False):
        self.title, self.total, self.quiet = title, total, quiet or sys.stderr is None
        self.start, self.begun = time.monotonic(), begun
        self.bar: Any = None
        self.task: Any = None

    def update(self, done: int, figures: dict[str, float], *, total: int | None = None) -> None:
        self.total = total or self.total
        if self.quiet or time.monotonic() - self.start < PATIENCE:
            return
        text = "  ".join(f"{name} {value:.4g}" for name, value in list(figures.items())[:4])
        if not sys.stderr.isatty():
            # A log file wants a line now and then, not a moving bar.
            if time.monotonic() - getattr(self, "said", 0.0) > 20:
                self.said = time.monotonic()
                rate = (done - self.begun) / (time.monotonic() - self.start)
                left = f"{(self.total - done) / rate:.0f} s left" if rate > 0 else "no telling how long"
                print(f"{self.title}: {done / self.total:.0%}, {left}, {text}", file=sys.stderr, flush=True)
            return
        if self.bar is None:
            self._begin()
        assert self.bar is not None
        self.bar.update(self.task, completed=done, total=self.total, figures=text)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console(stderr=True))
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.total, figures="")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
