"""Honest baselines that stand in every table: what needs no generative model at all."""

from __future__ import annotations

import numpy as np

from trilemma.modalities.contract import Data

MOST = 20_000  # training rows that a covariance is fitted on


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
    x = np.stack([data.x[row] for row in rows]).astype(np.float64).reshape(len(rows), -1)
    mean = x.mean(0)
    centred = x - mean
    # The smaller of the two Gram matrices has the same spectrum.
    if x.shape[1] <= len(x):
        values, vectors = np.linalg.eigh(centred.T @ centred / (len(x) - 1))
    else:
        values, left = np.linalg.eigh(centred @ centred.T / (len(x) - 1))
        vectors = centred.T @ left / np.sqrt(np.maximum(values, 1e-12) * (len(x) - 1))
    order = np.argsort(values)[::-1][: min(components, len(values) - 1)]
    kept = np.maximum(values[order], 0)
    rest = np.sqrt(max(values.sum() - kept.sum(), 0) / x.shape[1])
    z = generator.standard_normal((count, len(order))) * np.sqrt(kept)
    samples = mean + z @ vectors[:, order].T + rest * generator.standard_normal((count, x.shape[1]))
    samples = samples.reshape(count, *data.x.shape[1:])
    if np.issubdtype(data.x.dtype, np.integer):
        limits = np.iinfo(data.x.dtype)
        samples = samples.round().clip(limits.min, limits.max)
    return samples.astype(data.x.dtype)


BASELINES = {"resampled training set": resampled, "PCA-Gaussian": pca_gaussian}
FLOOR = "real against real"
