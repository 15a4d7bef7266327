"""k-means and mixtures of Gaussians: the steps and the random draws of scikit-learn's, without its import.

That takes longer than most of these fits, and a training would wait for it.
"""

from __future__ import annotations

import math

import numpy as np

CLOSE = 1e-4  # of the mean variance: centres that move by less have settled
GAIN = 1e-3  # of the mean log-likelihood: a round of EM that brings less is the last


def k_means(
    x: np.ndarray, count: int, random: np.random.RandomState, *, rounds: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (K, D) and labels (N,) of x (N, D), N >= K: Lloyd's rounds from a start by greedy k-means++.

    A cluster that loses its last example stays where it is.
    """
    mean = x.mean(0, dtype=np.float64)
    x = x - mean  # distances lose less to cancellation
    squares = np.einsum("nd,nd->n", x, x)
    centres, labels = _start(x, squares, count, random), np.full(len(x), -1)
    close = CLOSE * x.var(0).mean()
    for _ in range(rounds):
        before, labels = labels, _nearest(x, centres)
        own = (labels == np.arange(count)[:, None]).astype(x.dtype)  # (K, N)
        sizes = own.sum(1, keepdims=True)
        moved = np.where(sizes > 0, own @ x / np.maximum(sizes, 1), centres)
        shift, centres = np.square(moved - centres).sum(), moved
        if (labels == before).all():
            return centres + mean, labels
        if shift <= close:
            break
    return centres + mean, _nearest(x, centres)


def _start(x: np.ndarray, squares: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Centres that lie apart: of some examples, drawn by their squared distance to the nearest, always the best."""
    first = random.choice(len(x), p=np.full(len(x), 1 / len(x)))
    chosen, tries = [first], 2 + int(math.log(count))
    apart = _distances(x, squares, x[[first]])[0]
    for _ in range(1, count):
        drawn = np.cumsum(apart).searchsorted(random.uniform(size=tries) * apart.sum()).clip(max=len(x) - 1)
        left = np.minimum(apart, _distances(x, squares, x[drawn]))
        best = int(left.sum(1).argmin())
        chosen.append(drawn[best])
        apart = left[best]
    return x[chosen]


def _distances(x: np.ndarray, squares: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances (K, N)."""
    return np.maximum(squares - 2 * centres @ x.T + np.square(centres).sum(1, keepdims=True), 0)


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return (np.square(centres).sum(1) - 2 * x @ centres.T).argmin(1)


def gaussians(
    x: np.ndarray, count: int, *, floor: float, seed: int, rounds: int = 30
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (K,), means (K, D) and covariances (K, D, D) of a mixture for x (N, D), by EM from k-means.

    floor: added to all variances. After `rounds` it is good enough for a sampler, settled or not.
    """
    _, labels = k_means(x, count, np.random.RandomState(seed % 2**32))
    share, before = (labels[:, None] == np.arange(count)).astype(x.dtype), -math.inf  # (N, K) of each component
    found = _fitted(x, share, floor)
    for _ in range(rounds):
        share, likelihood = _shares(x, *found)
        found = _fitted(x, share, floor)
        if abs(likelihood - before) < GAIN:
            break
        before = likelihood
    return found


def _fitted(x: np.ndarray, share: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Gaussians that fit best to x (N, D), of which each has `share` (N, K)."""
    sizes = share.sum(0) + 10 * np.finfo(x.dtype).eps
    means = share.T @ x / sizes[:, None]
    covariances = np.empty((len(means), x.shape[1], x.shape[1]))
    for place, (mean, size) in enumerate(zip(means, sizes, strict=True)):
        apart = x - mean
        covariances[place] = (share[:, place] * apart.T) @ apart / size + floor * np.eye(x.shape[1])
    return sizes / sizes.sum(), means, covariances


def _shares(x: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, float]:
    """(N, K) probability that an example is of each Gaussian, and the mean log-likelihood of x (N, D)."""
    logs = np.empty((len(x), len(means)))
    for place, (mean, factor) in enumerate(zip(means, np.linalg.cholesky(covariances), strict=True)):
        white = (x - mean) @ np.linalg.inv(factor).T
        logs[:, place] = -0.5 * np.einsum("nd,nd->n", white, white) - np.log(np.diag(factor)).sum()
    logs += np.log(weights) - 0.5 * x.shape[1] * math.log(2 * math.pi)
    most = logs.max(1, keepdims=True)
    total = most + np.log(np.exp(logs - most).sum(1, keepdims=True))
    return np.exp(logs - total), float(total.mean())
