"""The CLIP that measures: trained by the one loop on the train split, once for a data set, and cached by its hash.

It has a seed and widths of its own: whatever guides or chooses is another one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch

from trilemma.config import to_json
from trilemma.metrics.protocol import fingerprint
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.models.clip import Clip, Config
from trilemma.models.contract import configure
from trilemma.training.captions import CAPTION, worded
from trilemma.training.once import Known, fitted, known
from trilemma.words import Words

SEED, WIDTH, EMBEDDING, READING = 707, 28, 96, 80  # none of these is on the size dial
PASSES, LEAST, MOST = 20, 20_000, 40_000  # over the training examples; examples
RECIPE = 2  # a new number wherever the model or its training changes: all are trained anew


@dataclass
class Matcher:
    """The trained network, its name in the protocol, and a hash of its weights."""

    name: str
    model: Clip
    hash: str


def examples_for(data: Data) -> int:
    """Its budget: enough passes, within bounds that keep it to minutes."""
    return min(max(PASSES * len(data.splits["train"]), LEAST), MOST)


def _config(data: Data) -> Config:
    config = configure("clip", _spaces(data), count=len(data.splits["train"]))
    assert isinstance(config, Config)
    config.network.width, config.embedding, config.reading = WIDTH, EMBEDDING, READING
    config.optimizer.batch = min(config.optimizer.batch, max(16, len(data.splits["train"])))
    return config


def _spaces(data: Data) -> dict:
    return {name: space for name, space in data.spaces.items() if name in ("x", CAPTION)}


def matcher(data: Data, *, quiet: bool = False) -> Matcher:
    """The network of these data: from the cache, or trained now. InputError where they have no captions."""
    data = worded(data.uncoded(), "clip", {})
    config, words = _config(data), data.spaces[CAPTION]
    assert isinstance(words, Words)
    recipe = json.dumps([data.hash, words.digest, SEED, examples_for(data), to_json(config), RECIPE])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:24]
    folder = cache.root() / "features" / key
    tensors, _ = known(folder, lambda: _trained(data, config, quiet=quiet), quiet=quiet)
    model = Clip(config, _spaces(data))
    model.load_state_dict(tensors)
    hash = fingerprint(*[tensor.numpy() for _, tensor in sorted(tensors.items())])
    return Matcher(f"clip-{key[:4]}", model.eval(), hash)


def _trained(data: Data, config: Config, *, quiet: bool) -> Known:
    torch.manual_seed(SEED)
    model, examples = Clip(config, _spaces(data)), examples_for(data)
    held, optimizer = data.split("train"), config.optimizer
    state = fitted(model, held, optimizer, examples=examples, seed=SEED, what="clip (measure)", quiet=quiet)
    return state, {"purpose": "measure captions", "seed": SEED, "data": data.hash}
