"""For all tests: a cache of their own, and one thread, so that numbers do not depend on the machine's cores."""

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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    # A run in examples may set another number in this process.
    torch.set_num_threads(1)
