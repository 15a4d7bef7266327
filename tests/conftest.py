"""For all tests: a cache of their own, one thread and float32, so that numbers do not depend on the machine.

Nor does any test ask how well networks for features see, or by how many samples the last choices of a training were
made: both would take longer than the training, so they are as few as they can be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

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


@pytest.fixture(scope="session", autouse=True)
def quick_trainings() -> Iterator[None]:
    """Without the clock's verdict on bf16, which each training would ask anew. Tests of these set what they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trilemma.training.probe.bf16_possible", lambda: False)
        patch.setattr("trilemma.training.features.examples_for", lambda data: 512)
        patch.setattr("trilemma.training.plan.default_samples", lambda model: 100)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    # A run in examples may set another number in this process.
    torch.set_num_threads(1)
