"""The network that reads sources off targets: trained once for a set of pairs, on their train split, by the one loop.

It measures alone: no loss, guidance or choice ever hears of it. Cached by the data's hash.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.config import to_json
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.models.contract import configure
from trilemma.models.reader import Config, Reader
from trilemma.training.once import Known, fitted, known

SEED = 505
BATCH = 100
RECIPE = 1  # a new number wherever the network or its training changes


class SourceReader:
    """Raw targets (n, channels, *grid) -> their sources as the network reads them."""

    def __init__(self, model: Reader):
        self.model = model

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(x), BATCH):
            part = x[start : start + BATCH]
            parts.append(self.model.read(Arrays(part).gather(np.arange(len(part)))).numpy())
        return np.concatenate(parts)


def examples_for(data: Data) -> int:
    """Thirty passes, within bounds that keep it to half a minute or so."""
    space = data.spaces["source"]
    most = max(160_000_000 // (int(np.prod(space.grid)) * (space.width + 24)), 1000)  # planes of classes cost, too
    return int(min(max(30 * len(data.splits["train"]), 2000), most, 6000))


def source_reader(data: Data, *, quiet: bool = False) -> SourceReader:
    """The network of these pairs: from the cache, or trained now."""
    spaces = {name: data.spaces[name] for name in ("x", "source")}
    config: Config = configure("reader", spaces, size="xs", count=len(data.splits["train"]))
    recipe = json.dumps([data.hash, SEED, examples_for(data), to_json(config), RECIPE])
    folder = cache.root() / "features" / f"reader-{hashlib.sha256(recipe.encode()).hexdigest()[:24]}"
    torch.manual_seed(SEED)
    model = Reader(config, spaces)
    state, _ = known(folder, lambda: _trained(model, config, data, quiet=quiet), quiet=quiet)
    model.load_state_dict(state)
    return SourceReader(model.eval())


def _trained(model: Reader, config: Config, data: Data, *, quiet: bool) -> Known:
    held, examples = data.split("train"), examples_for(data)
    pairs = Arrays(held.x, {"source": held.conditions["source"]}, rows=held.rows)
    what = "what reads sources off targets"
    state = fitted(model, pairs, config.optimizer, examples=examples, seed=SEED, what=what, quiet=quiet)
    return state, {"seed": SEED, "data": data.hash, "examples": examples}
