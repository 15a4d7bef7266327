"""Are the samples copies of training examples?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from trilemma.metrics.protocol import Measure, matching_features

QUANTILE = 0.01
FEWEST_HELD_OUT = 20
NOTHING = 1e-9  # of a quotient of distances
TWINS = 1e-5  # of the spread: rows that are nearer are one example twice, its features rounded differently
CHUNK_ENTRIES = 16_000_000  # of float32, so that a chunk of distances takes 64 MB
Verdict = Literal["copies", "none", "cannot tell"]


def nearest(x: np.ndarray, pool: np.ndarray, *, skip_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of x (N, D) its nearest row of pool (M, D): indices (N,) and Euclidean distances (N,).

    With `skip_self` pool is x itself, and a row is not its own neighbour. Candidates are found in float32; the
    distance to the one chosen is then taken exactly, so that a copy has distance 0.
    """
    centre = pool.mean(0)
    left, right = (x - centre).astype(np.float32), (pool - centre).astype(np.float32)
    lengths = np.square(right).sum(1)
    indices = np.empty(len(x), dtype=np.int64)
    step = max(1, CHUNK_ENTRIES // len(pool))
    for start in range(0, len(x), step):
        scores = left[start : start + step] @ right.T
        scores *= -2
        scores += lengths
        if skip_self:
            scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = np.inf
        indices[start : start + step] = scores.argmin(1)
    distances = np.empty(len(x))
    for start in range(0, len(x), 1024):
        rows = slice(start, start + 1024)
        distances[rows] = np.linalg.norm(x[rows].astype(np.float64) - pool[indices[rows]], axis=1)
    return indices, distances


def values(x: np.ndarray) -> np.ndarray:
    """Return x (N, ...) as it is, flat and in float32."""
    return x.reshape(len(x), -1).astype(np.float32)


def without_place(x: np.ndarray) -> np.ndarray:
    """Return what is left of x (N, C, *grid) when place and mirror are forgotten, (N, values) in float32.

    Magnitudes of the Fourier transform do not change when an example moves round its grid; a mirror exchanges pairs of
    them, of which the smaller and the larger are given.
    """
    axes = tuple(range(2, x.ndim))
    parts = []
    for start in range(0, len(x), 500):
        sizes = np.abs(np.fft.rfftn(x[start : start + 500].astype(np.float32), axes=axes, norm="ortho"))
        mirrored = sizes
        for axis in axes[:-1]:  # frequency k to -k; the last axis has one sign only
            mirrored = np.roll(np.flip(mirrored, axis), 1, axis)
        pair = np.stack([np.minimum(sizes, mirrored), np.maximum(sizes, mirrored)], 1)
        parts.append(pair.reshape(len(sizes), -1).astype(np.float32))
    return np.concatenate(parts)


def _share(successes: int, count: int, name: str) -> Measure:
    """Return a share with its Clopper-Pearson interval."""
    result = stats.binomtest(successes, count).proportion_ci(0.95)
    return Measure(successes / count, float(result.low), float(result.high), name, "lower")


def _median_ratio(ratios: np.ndarray, expected: np.ndarray) -> Measure:
    """Return the ratio of two medians, with an interval from the order statistics of both joined in logarithms.

    Not a number where unseen data lie on training examples themselves: nothing is nearer than that.
    """
    if np.median(expected) < NOTHING:
        return Measure(math.nan, None, None, "memorisation_ratio", "one")
    logs = []
    for entries in (ratios, expected):
        ranks = stats.binom.ppf([0.025, 0.975], len(entries), 0.5).astype(int).clip(0, len(entries) - 1)
        bounds = [np.median(entries), *np.sort(entries)[ranks]]
        logs.append(np.log(np.maximum(bounds, 1e-300)))
    # Each side by itself: half copies put the median's lower bound at zero, which must not widen the upper one.
    (middle, low, high), (expected_middle, expected_low, expected_high) = logs
    value = middle - expected_middle
    below = np.hypot(middle - low, expected_high - expected_middle)
    above = np.hypot(high - middle, expected_middle - expected_low)
    answer, bottom, top = (float(np.exp(each)) for each in (value, value - below, value + above))
    return Measure(answer, bottom, top, "memorisation_ratio", "one")


@dataclass(frozen=True)
class Unseen:
    """How near unseen real data lie to the training examples and to each other: the same for every set of samples."""

    to_train: np.ndarray  # (H,) distances of the H held-out examples that differ
    among: np.ndarray  # (H,)


def unseen_distances(train: np.ndarray, held_out: np.ndarray) -> Unseen:
    """Return what `memorisation` holds samples against; shapes (N, D) and (H, D).

    An example that is there twice, and not among the training examples, counts once: equal pictures are in one split,
    and a twin at no distance would make all that is as far from the training examples as it should be look like a copy.
    """
    tiny = TWINS * float(np.sqrt(np.square(held_out - held_out.mean(0)).sum(1).mean()))
    to_train = nearest(held_out, train)[1]
    while True:
        indices, among = nearest(held_out, held_out, skip_self=True)
        twin = (among <= tiny) & (to_train > tiny) & (indices < np.arange(len(held_out)))
        if not twin.any():
            return Unseen(to_train, among)
        held_out, to_train = held_out[~twin], to_train[~twin]


def memorisation(
    train: np.ndarray, held_out: np.ndarray, samples: np.ndarray, *, unseen: Unseen | None = None
) -> dict[str, Any]:
    """Return whether samples lie nearer to the training examples than unseen real data do.

    Shapes (N, D), (H, D), (M, D): features, or flattened values in natural units. Entries of the answer: `ratio`
    (Measure): median over the samples of (distance to train / distance to held-out data), over the same median for
    held-out data (each to the other ones; of equal rows that are not in train one counts); range [0, inf), 1 when
    nothing was memorised, 0 for copies, not a number where held-out data lie on training examples. `near_copies`
    (Measure): share of samples nearer to a training example than the 1 % quantile of held-out data, both in distance
    and in that quotient; range [0, 1], at most about 0.01 when nothing was memorised. `verdict`: "copies", "none" or
    "cannot tell". `nearest` (M,): index of each sample's nearest training example; `distances` (M,) to it; `threshold`:
    the distance of a near-copy.

    `unseen`, taken once with `unseen_distances`, saves time where many sets of samples are held against the same data.

    Intervals: of the ratio by the order statistics of both medians, joined in logarithms; of the share by Clopper and
    Pearson 1934, given the thresholds.

    The quotient is what keeps blurred samples from being called copies: they are near to everything.
    Known biases: a copy that the features do not place near its original is not seen (a shift in values, strong noise
    in texture features): measure in several, `without_place` too, and one "copies" is enough; train and held-out data
    that share near-duplicates weaken the test; fewer than 20 held-out examples tell nothing.
    Source: Meehan et al. 2020; Gulrajani et al. 2019; van den Burg and Williams 2021.
    """
    train, samples = matching_features(train, samples)
    train, held_out = matching_features(train, held_out)
    indices, distances = nearest(samples, train)
    unseen = unseen or unseen_distances(train, held_out)
    _, to_held_out = nearest(samples, held_out)
    count = len(unseen.among)

    # Distances that are zero on both sides (constant data) say nothing about copying: their quotient is 1.
    tiny = 1e-12 * max(1e-100, float(np.sqrt(np.square(train - train.mean(0)).sum(1).mean())))
    ratios = (distances + tiny) / (to_held_out + tiny)
    expected = (unseen.to_train + tiny) / (unseen.among + tiny)
    quantile = max(QUANTILE, 5 / count)  # a quantile needs some examples beyond it
    threshold = float(np.quantile(unseen.to_train, min(quantile, 1.0)))
    near = (distances < threshold) & (ratios < np.quantile(expected, min(quantile, 1.0)))
    near_copies = _share(int(near.sum()), len(samples), "near_copies")
    ratio = _median_ratio(ratios, expected)
    return {
        "ratio": ratio,
        "near_copies": near_copies,
        "verdict": _verdict(ratio, near_copies, quantile, count, threshold),
        "nearest": indices,
        "distances": distances,
        "threshold": threshold,
    }


def _verdict(ratio: Measure, near_copies: Measure, quantile: float, held_out: int, threshold: float) -> Verdict:
    """Return the answer in words: alarm at three times the expected share of near-copies, or far too small a ratio."""
    if held_out < FEWEST_HELD_OUT or threshold <= 0 or ratio.low is None or ratio.high is None:
        return "cannot tell"
    assert near_copies.low is not None and near_copies.high is not None
    # The quantile itself is known to about 1 / sqrt(its count); three times leaves room for that and for mild overfit.
    alarm = 3 * quantile
    if near_copies.low > alarm or ratio.high < 0.75:
        return "copies"
    return "none" if near_copies.high < max(alarm, 2 / held_out) and ratio.low > 0.5 else "cannot tell"
