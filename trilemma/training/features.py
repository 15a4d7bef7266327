"""Feature networks for choices and for measuring, with other seeds and widths.

They are models (`models/features.py`) trained by the one loop on the train split, once for a data set, and cached by
its hash. The one that measures never enters a loss, a guidance or a choice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trilemma.batches import Arrays
from trilemma.config import to_json
from trilemma.metrics.protocol import fingerprint
from trilemma.modalities import cache
from trilemma.modalities.contract import Data
from trilemma.models.contract import configure
from trilemma.models.features import Config, Features
from trilemma.training.once import UNSTORED, Known, fitted, known, pace

PURPOSES = {"choose": (202, 28), "measure": (303, 32)}  # purpose -> (seed, width)
BATCH = 500
SCALED = 2000  # training examples that say how large features are
DISTINCT = 0.9  # of the training examples must have features of their own
RECIPE = 6  # a new number wherever the model's tasks, or what is kept of it, change: all are trained anew
COSINES = 32  # beside the values of data without a grid
BANDWIDTHS = (1.4, 4.2)  # of their frequencies, for values of variance 1


Waves = tuple[np.ndarray, np.ndarray]  # frequencies (D, COSINES) and phases (COSINES,)


class FeatureNetwork:
    """Raw examples -> features (n, D), of variance 1 on average over training examples.

    Without a grid they are the standardised values themselves. One number divides all features: distances are then of
    one order from one data set to the next, and a cubic kernel sees more than the third power.
    """

    def __init__(
        self,
        name: str,
        model: Features | None,
        data: Data,
        hash: str,
        *,
        scale: float = 1.0,
        waves: Waves | None = None,
    ):
        self.name, self.model, self.hash, self.scale, self.waves = name, model, hash, scale, waves
        self.space, self.seen = data.spaces["x"], data.modality.seen

    @torch.no_grad()
    def __call__(self, x: np.ndarray) -> np.ndarray:
        parts, x = [], self.seen(x)
        for start in range(0, len(x), BATCH):
            batch = Arrays(x[start : start + BATCH]).gather(np.arange(len(x[start : start + BATCH])))
            if self.model is None:
                parts.append(self.space.embed(batch.x).flatten(1).numpy())
                continue
            # float32 without autocast: a measure must not depend on what is fast on this machine.
            parts.append(self.model.encode(batch).numpy())
        return np.concatenate(parts).astype(np.float64) / self.scale

    def shaped(self, features: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, D'): features whose means and covariances tell of the distribution's shape.

        Those of a network do already. Values alone would not: a Gaussian has the mean and the covariance of the data.
        They get random cosines of themselves to their side (Rahimi and Recht 2007).
        """
        if self.waves is None:
            return features
        frequencies, phases = self.waves
        return np.concatenate([features, np.sqrt(2) * np.cos(features @ frequencies + phases)], axis=1)

    @torch.no_grad()
    def maps(self, x: np.ndarray) -> list[np.ndarray]:
        """(n, width, *grid) float32 of each level of the network, finest first: x as few as fit in memory together."""
        assert self.model is not None
        parts = [
            [each.numpy() for each in self.model.maps(Arrays(x[start : start + BATCH]).gather(places))]
            for start in range(0, len(x), BATCH)
            for places in [np.arange(len(x[start : start + BATCH]))]
        ]
        return [np.concatenate(level) for level in zip(*parts, strict=True)]


def examples_for(data: Data) -> int:
    """Budget of one feature network: about fifteen passes, within bounds that keep it to half a minute."""
    count, places = len(data.splits["train"]), int(np.prod(data.x.shape[1:]))
    most = max(20_000, 60_000_000 // max(places, 64))
    return int(min(max(15 * count, 20_000), most, 100_000))


def place(data: Data, purpose: str) -> tuple[Path, str]:
    """Where the network of this data and purpose is cached, and its name."""
    data = data.uncoded()
    seed, width = PURPOSES[purpose]
    heads = sorted(_spaces(data))
    recipe = json.dumps(
        [data.hash, heads, purpose, seed, width, examples_for(data), to_json(_config(data, purpose)), RECIPE]
    )
    key = hashlib.sha256(recipe.encode()).hexdigest()[:24]
    return cache.root() / "features" / key, f"{purpose}-{key[:4]}"


def _config(data: Data, purpose: str, activation: str = "relu") -> Config:
    config = configure("features", _spaces(data), count=len(data.splits["train"]))
    assert isinstance(config, Config)
    config.network.width, config.network.activation = PURPOSES[purpose][1], activation  # type: ignore[assignment]
    return config


def _spaces(data: Data) -> dict:
    return {name: space for name, space in data.spaces.items() if name in ("x", "label", "attributes")}


def is_cached(data: Data, purpose: str) -> bool:
    if not data.spaces["x"].grid:
        return True
    folder = place(data, purpose)[0]
    return (folder / "facts.json").is_file() or folder in UNSTORED


def learned(data: Data) -> Arrays:
    """The examples that it learns from; sources, which it never sees, need no new noise."""
    return replace(data.split("train"), renewed={})


def seconds_for(data: Data, purpose: str) -> float:
    """About how long `feature_network` takes here and now; 0 where it is cached."""
    if is_cached(data, purpose):
        return 0.0
    data = data.uncoded()
    config = _config(data, purpose)
    return examples_for(data) * pace(Features(config, _spaces(data)), learned(data), config.optimizer)


def feature_network(data: Data, purpose: str, *, quiet: bool = False) -> FeatureNetwork:
    """The network of this purpose: from the cache, or trained now."""
    data = data.uncoded()
    if not data.spaces["x"].grid:
        waves = waves_of(data, purpose)
        return FeatureNetwork("cosines", None, data, f"{data.hash[:16]}-{fingerprint(*waves)}", waves=waves)
    folder, name = place(data, purpose)
    tensors, facts = known(folder, lambda: _trained(data, purpose, quiet=quiet), quiet=quiet)
    model = Features(_config(data, purpose, facts.get("activation", "relu")), _spaces(data))
    model.load_state_dict(tensors)
    hash = fingerprint(*[tensor.numpy() for _, tensor in sorted(tensors.items())])
    return FeatureNetwork(name, model.eval(), data, hash, scale=facts["scale"])


def waves_of(data: Data, purpose: str) -> Waves:
    """The cosines of data without a grid: half of them go all ways, half along two of the values each.

    Of many values a sum is all but Gaussian, whatever the law of each: only few at a time show it.
    """
    dimensions = data.spaces["x"].embed(torch.from_numpy(data.rows("train", 1))).shape[1]
    generator = np.random.default_rng(PURPOSES[purpose][0])
    frequencies = generator.standard_normal((dimensions, COSINES))
    for column in frequencies.T[1::2]:
        column[generator.permutation(dimensions)[2:]] = 0
    # Of equal length on average, in each bandwidth all ways and few.
    frequencies *= np.repeat(BANDWIDTHS, COSINES // len(BANDWIDTHS)) / np.sqrt((frequencies != 0).sum(0))
    return frequencies, generator.uniform(0, 2 * np.pi, COSINES)


def _trained(data: Data, purpose: str, *, quiet: bool) -> Known:
    """The network, trained now; again with units that cannot die where too many of them did."""
    data = replace(data, x=data.modality.seen(data.x))
    for activation in ("relu", "leaky_relu"):
        model, state = _fitted(data, purpose, activation, quiet=quiet)
        rows = data.rows("train", SCALED)
        features = FeatureNetwork("", model, data, "")(rows)
        if _distinct(features) >= DISTINCT * _distinct(rows):
            break
        if not quiet:
            print(f"features ({purpose}): most examples share theirs, as units of {activation} died", file=sys.stderr)
    scale = float(np.sqrt(features.var(0).mean())) or 1.0
    facts = {"purpose": purpose, "seed": PURPOSES[purpose][0], "data": data.hash, "examples": examples_for(data)}
    return state, {**facts, "scale": scale, "activation": activation}


def _fitted(data: Data, purpose: str, activation: str, *, quiet: bool) -> tuple[Features, dict[str, torch.Tensor]]:
    """The trained model with its averaged weights, and those weights."""
    seed, _ = PURPOSES[purpose]
    config = _config(data, purpose, activation)
    torch.manual_seed(seed)
    model, what = Features(config, _spaces(data)), f"features ({purpose})"
    state = fitted(
        model, learned(data), config.optimizer, examples=examples_for(data), seed=seed, what=what, quiet=quiet
    )
    return model.eval(), state


def _distinct(rows: np.ndarray) -> int:
    """How many rows differ from each other."""
    return len({row.tobytes() for row in np.ascontiguousarray(rows)})
