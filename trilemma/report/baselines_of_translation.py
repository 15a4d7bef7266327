"""Baselines of translation: number i belongs to test source i. None of them has learned anything but the last."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from trilemma.metrics.random_features import RandomFeatures
from trilemma.mixed import plain
from trilemma.modalities.contract import Data
from trilemma.modalities.degrade import factor, parse
from trilemma.spaces import Categorical

MOST = 20_000  # training examples that a mean is taken over, and that neighbours are searched among


def _sources(data: Data, split: str, count: int) -> np.ndarray:
    """Sources of a split as pictures; where there are fewer, again from the first."""
    held = data.sources(split)
    assert held is not None
    return data.pictured(held[np.arange(count) % len(held)])


def did_nothing(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The sources themselves. Of --from-degradation downscale: brought back to size by bicubic interpolation."""
    return _sources(data, "test", count).astype(data.x.dtype)


def mean_target(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The mean of the training targets, always: the best guess of who does not look at the source."""
    mean = data.rows("train", MOST).astype(np.float64).mean(0)
    mean = mean.round() if np.issubdtype(data.x.dtype, np.integer) else mean
    return np.repeat(mean.astype(data.x.dtype)[None], count, 0)


def nearest_target(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Of pairs the target of the training source that is most alike; of two sets the training target that is.

    By features of an untrained network.
    """
    asked, targets = _sources(data, "test", count), data.rows("train", MOST)
    paired = "source" in data.conditions
    known = _sources(data, "train", len(targets)) if paired else targets
    maps = isinstance(data.spaces.get("source"), Categorical)
    space = data.spaces["source" if paired and not maps else "x"]
    network = RandomFeatures(plain(space, known[:2000]))
    found = NearestNeighbors(n_neighbors=1).fit(network(plain(space, known)))
    return targets[found.kneighbors(network(plain(space, asked)), return_distance=False)[:, 0]]


def lanczos(data: Data, count: int, *, seed: int) -> np.ndarray:
    """The small picture of --from-degradation downscale, enlarged by Lanczos interpolation instead."""
    number = factor(data.opening.degradation or "")
    rows = data.splits["test"]
    return np.stack([_enlarged(data.x[rows[i % len(rows)]], number) for i in range(count)])


def _enlarged(x: np.ndarray, number: float) -> np.ndarray:
    """(channels, H, W) uint8, made smaller as the degradation does it, and brought back to size."""
    made = []
    for channel in x:
        image = Image.fromarray(channel)
        small = max(1, round(image.width / number)), max(1, round(image.height / number))
        small_one = image.resize(small, Image.Resampling.BICUBIC)
        made.append(np.asarray(small_one.resize(image.size, Image.Resampling.LANCZOS)))
    return np.stack(made)


def of_translation(data: Data) -> dict[str, Callable[..., np.ndarray]]:
    """Name -> samples(data, count, seed=...) of those that make sense for these sources."""
    steps = parse(data.opening.degradation) if data.opening.degradation else []
    alone = [name for name, _ in steps] == ["downscale"]
    found: dict[str, Callable[..., np.ndarray]] = {"did nothing (bicubic)" if alone else "did nothing": did_nothing}
    if alone and data.x.dtype == np.uint8:
        found["Lanczos"] = lanczos
    return found | {"mean target": mean_target, "nearest target": nearest_target}
