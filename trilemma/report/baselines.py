"""Honest baselines that stand in every table: what needs no generative model at all."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from trilemma.modalities.contract import Data

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
    """A Gaussian on the leading principal components of the training set, with the rest as isotropic noise."""
    generator = random(seed)
    rows = np.sort(generator.permutation(data.splits["train"])[:MOST])
    x = np.stack([data.x[row] for row in rows]).astype(np.float32).reshape(len(rows), -1)
    fitted = PCA(min(components, len(x) - 1, x.shape[1]), random_state=seed % 2**32).fit(x)
    kept = fitted.explained_variance_.astype(np.float64)
    rest = np.sqrt(max(x.var(0, ddof=1, dtype=np.float64).sum() - kept.sum(), 0) / x.shape[1])
    z = generator.standard_normal((count, len(kept))) * np.sqrt(kept)
    samples = fitted.mean_ + z @ fitted.components_ + rest * generator.standard_normal((count, x.shape[1]))
    samples = samples.reshape(count, *data.x.shape[1:])
    if np.issubdtype(data.x.dtype, np.integer):
        limits = np.iinfo(data.x.dtype)
        samples = samples.round().clip(limits.min, limits.max)
    return samples.astype(data.x.dtype)


BASELINES = {"resampled training set": resampled, "PCA-Gaussian": pca_gaussian}
FLOOR = "real against real"
