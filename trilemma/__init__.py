"""Trilemma: which generative model for my data? Train, measure, compare, choose and use three families."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def _crowded() -> bool:
    """Do other processes run on this machine that our threads would have to share a core with?"""
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            others = int(file.read().split()[3].split("/")[0]) - 1
        threads = len(os.sched_getaffinity(0))
    except (AttributeError, OSError, ValueError, IndexError):  # not on this system
        return False
    return others > (os.cpu_count() or 1) - threads


# Threads that wait for one another spin. Where something else needs their cores sleeping is 1.3 to 3.6 times as fast
# (benchmarks/2026-11-29-waiting.md). OpenMP reads it when torch is loaded.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys() and _crowded():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

_LATE = 400_000  # objects: torch and all of ours are 290,000


def collect_late() -> None:
    """Let the first garbage collection wait until torch is imported; after it all is as it was.

    Nothing that an import makes is garbage, but hundreds of collections would look through it: a fifth of the time that
    a few samples take.
    """
    usual = gc.get_threshold()
    if "torch" in sys.modules or not 0 < usual[0] < _LATE:
        return

    def back(phase: str, _: dict[str, int]) -> None:
        if phase == "stop":
            gc.callbacks.remove(back)
            gc.set_threshold(*usual)

    gc.callbacks.append(back)
    gc.set_threshold(_LATE, *usual[1:])


_WHERE = {
    "compare": "trilemma.report.compare",
    "train": "trilemma.training.start",
    "load": "trilemma.tasks.load",
    "open_data": "trilemma.modalities.door",
    "inspect": "trilemma.report.outlook",
    "measure": "trilemma.report.judge",
    "push": "trilemma.tasks.hub",
    "pull": "trilemma.tasks.hub",
}
__all__ = ["__version__", "compare", "inspect", "load", "measure", "open_data", "pull", "push", "train"]


def __getattr__(name: str) -> Any:
    # Torch takes a second to import: nothing of it is loaded before the first call.
    if name in _WHERE:
        collect_late()
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'trilemma' has no attribute {name!r}")
