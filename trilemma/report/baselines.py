"""Honest baselines that stand in every table: what needs no generative model at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA

from trilemma.modalities.contract import Data
from trilemma.spaces import Mixed, Space

MOST = 10_000  # training rows that a covariance is fitted on


def random(seed: int) -> np.random.Generator:
    """Any whole number is a seed, negative ones too, as it is for models."""
    return np.random.default_rng(seed % 2**64)


def resampled(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Training examples drawn with replacement: perfect quality, nothing new."""
    rows = data.splits["train"]
    chosen = random(seed).choice(rows, count, replace=True)
    return np.stack([data.x[row] for row in chosen])


def real(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Training examples drawn without replacement (as far as they go): the floor of every distance."""
    rows = random(seed).permutation(data.splits["train"])
    rows = np.resize(rows, count)
    return np.stack([data.x[row] for row in rows])


def pca_gaussian(data: Data, count: int, *, seed: int, components: int = 64) -> np.ndarray:
    """A Gaussian on the leading principal components of the training set, with the rest as isotropic noise.

    Of a table's embedded cells: their numbers are normal scores, so that it is a Gaussian copula.
    """
    generator, space = random(seed), data.spaces["x"]
    rows = np.sort(generator.permutation(data.splits["train"])[:MOST])
    raw = np.stack([data.x[row] for row in rows])
    x = plain(space, raw).astype(np.float32).reshape(len(rows), -1)
    fitted = PCA(min(components, len(x) - 1, x.shape[1]), random_state=seed % 2**32).fit(x)
    kept = fitted.explained_variance_.astype(np.float64)
    rest = np.sqrt(max(x.var(0, ddof=1, dtype=np.float64).sum() - kept.sum(), 0) / x.shape[1])
    z = generator.standard_normal((count, len(kept))) * np.sqrt(kept)
    samples = fitted.mean_ + z @ fitted.components_ + rest * generator.standard_normal((count, x.shape[1]))
    if isinstance(space, Mixed):
        return space.decode(torch.from_numpy(samples.astype(np.float32))).numpy()
    samples = samples.reshape(count, *data.x.shape[1:])
    if np.issubdtype(data.x.dtype, np.integer):
        limits = np.iinfo(data.x.dtype)
        samples = samples.round().clip(limits.min, limits.max)
    return samples.astype(data.x.dtype)


def independent(data: Data, count: int, *, seed: int) -> np.ndarray:
    """Each column drawn from the training rows by itself: every column right, nothing of how they go together."""
    rows, generator = data.splits["train"], random(seed)
    return np.stack([data.x[generator.choice(rows, count), place] for place in range(data.x.shape[1])], 1)


def plain(space: Space, x: np.ndarray) -> np.ndarray:
    """Raw examples as numbers that can be subtracted: a table's cells embedded, everything else as it is."""
    return space.embed(torch.from_numpy(np.asarray(x))).numpy() if isinstance(space, Mixed) else x


def baselines_for(data: Data) -> dict[str, Callable[..., np.ndarray]]:
    """Name -> samples(data, count, seed=...), of those that make sense for these data."""
    tables = {"independent columns": independent} if isinstance(data.spaces["x"], Mixed) else {}
    return BASELINES | tables


BASELINES: dict[str, Callable[..., np.ndarray]] = {"resampled training set": resampled, "PCA-Gaussian": pca_gaussian}
FLOOR = "real against real"
