"""For all tests: a cache of their own, one thread and float32, so that numbers do not depend on the machine's cores.

And trainings in which what comes beside the steps takes no longer than the few steps of a test.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from trilemma.metrics.classifier import two_sample_test
from trilemma.metrics.usefulness import usefulness

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TRILEMMA_CACHE in a temporary folder; tests that change it themselves find it restored."""
    folder, before = tmp_path_factory.mktemp("cache"), os.environ.get("TRILEMMA_CACHE")
    os.environ["TRILEMMA_CACHE"] = str(folder)
    yield folder
    if before is None:
        os.environ.pop("TRILEMMA_CACHE", None)
    else:
        os.environ["TRILEMMA_CACHE"] = before


# What a training does beside its steps, at its cheapest: no verdict of the clock on bf16, which each model on each data
# set would ask anew; small networks for features; the fewest samples that choices are made by.
CHEAP: dict[str, Any] = {
    "trilemma.training.probe.bf16_possible": lambda device=None: False,
    "trilemma.training.plan.pace": lambda threads: threads / 2,  # sizes as on a machine like that of the dial
    "trilemma.training.features.examples_for": lambda data: 512,
    "trilemma.training.matcher.examples_for": lambda data: 512,
    "trilemma.training.plan.default_samples": lambda model: 100,
    "trilemma.report.measure.MOVED": 60,
    # Linear models where users have boosted trees, which take most of the time that a row of a small table needs.
    "trilemma.report.measure.two_sample_test": partial(two_sample_test, kind="linear"),
    "trilemma.report.measure.usefulness": partial(usefulness, kind="linear"),
}


@pytest.fixture(scope="session", autouse=True)
def cheap_trainings() -> Iterator[dict[str, Any]]:
    """The real ones, by their path: trainings in this process go without them."""
    real = {path: pkgutil.resolve_name(path) for path in CHEAP}
    with pytest.MonkeyPatch.context() as patch:
        for path, cheap in CHEAP.items():
            patch.setattr(path, cheap)
        yield real


@pytest.fixture
def whole_trainings(cheap_trainings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Trainings as users have them, for tests that compare with those of other processes; and the real functions."""
    for path, real in cheap_trainings.items():
        monkeypatch.setattr(path, real)
    return cheap_trainings


@pytest.fixture(autouse=True)
def one_thread() -> None:
    # A run in examples may set another number in this process.
    torch.set_num_threads(1)
