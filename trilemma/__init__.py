"""Trilemma: which generative model for my data? Train, measure, compare, choose and use three families."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

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
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'trilemma' has no attribute {name!r}")
