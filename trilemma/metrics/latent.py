"""What codes and likelihoods are worth: dimensions in use, half-way points, straightness of ways, bits."""

from __future__ import annotations

import numpy as np
from scipy import stats

from trilemma.metrics.neighbours import MANIFOLD_NEIGHBOURS, inside_balls
from trilemma.metrics.protocol import Measure, interval, matching_features

ACTIVE = 0.01  # variance over the data of a code's mean from which it counts as used


def active_units(codes: np.ndarray, *, least: float = ACTIVE) -> Measure:
    """Return how many dimensions of the codes are used: those whose variance over the data is above `least`, 0 to D.

    Shape (N, D): posterior means of real examples, in units of a standard normal prior. No interval: a count that is
    hardly ever in doubt. Known biases: a code of large scale passes with little use (an autoencoder's has no prior, so
    that all of it counts). Source: Burda et al. 2016, section 5.2.
    """
    codes = np.asarray(codes, dtype=np.float64)
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes: expected (count, dimension) with at least two rows, got {codes.shape}")
    used = int((codes.var(0, ddof=1) > least).sum())
    return Measure(float(used), None, None, "active_units", "higher", f"of {codes.shape[1]}")


def midpoints(reference: np.ndarray, ends: np.ndarray, between: np.ndarray, name: str = "midpoints") -> Measure:
    """Return how plausible half-way points are beside their ends: the quotient of two shares inside real data's balls.

    Shapes (N, D), (M, D), (K, D) of features. A point is plausible where it lies in a ball of the reference
    (`precision`). Range [0, inf): 1 where points between look as real as the ends, 0 where they look like nothing.
    Interval: of a ratio of two independent binomial shares in logarithms (Katz et al. 1978), given the reference.

    Known biases: those of precision; ends that are implausible themselves flatter what lies between.
    """
    reference, ends = matching_features(reference, ends, least=MANIFOLD_NEIGHBOURS + 1)
    reference, between = matching_features(reference, between)
    hits = [int(inside_balls(reference, x).sum()) for x in (between, ends)]
    counts = [len(between), len(ends)]
    if min(hits) == 0:
        return Measure(float("nan") if hits[1] == 0 else 0.0, None, None, name, "higher")
    value = hits[0] / counts[0] / (hits[1] / counts[1])
    deviation = sum(1 / hit - 1 / count for hit, count in zip(hits, counts, strict=True)) ** 0.5
    low, high = (value * float(np.exp(sign * stats.norm.ppf(0.975) * deviation)) for sign in (-1, 1))
    return Measure(value, low, high, name, "higher")


def path_length(ways: np.ndarray) -> Measure:
    """Return how much longer than straight the ways between samples are in features: steps' lengths over the ends'.

    Shape (M, S, D): S points on each of M ways. The value is the sum of all steps' lengths over the sum of all
    distances between ends: 1 for straight lines, more for ways that wander or jump about. Interval: of a ratio of means
    over the ways, by the delta method. Known biases: rises with the number of points, so compare equal numbers only.
    Source: the perceptual path length of Karras et al. 2019, taken over whole ways and without a scale.
    """
    ways = np.asarray(ways, dtype=np.float64)
    if ways.ndim != 3 or ways.shape[1] < 3:
        raise ValueError(f"ways: expected (count, points, dimension) with at least three points, got {ways.shape}")
    steps = np.linalg.norm(np.diff(ways, axis=1), axis=2).sum(1)
    straight = np.linalg.norm(ways[:, -1] - ways[:, 0], axis=1)
    if not straight.sum() > 0:
        return Measure(float("nan"), None, None, "path_length", "lower")
    value = float(steps.sum() / straight.sum())
    if len(ways) < 4:
        return Measure(value, None, None, "path_length", "lower")
    deviation = float(np.std(steps - value * straight, ddof=1) / len(ways) ** 0.5 / straight.mean())
    low, high = interval(value, deviation, floor=1.0)
    return Measure(value, low, high, "path_length", "lower")


def bits_per_dimension(scores: np.ndarray, dimensions: int, step: float = 1.0) -> Measure:
    """Return the mean bits that an example costs for each of its numbers: -score / (D ln 2) - log2(step).

    Shape (N,): log-likelihoods in nats, of probabilities (step 1) or of densities in units in which neighbouring levels
    are `step` apart, taken on examples with uniform noise of one level: then it is an upper bound. Range (-inf, inf),
    for levels from 0 (known beforehand) to log2 of their number (uniform). Interval: of a mean over the examples.

    Known biases: bounds (a VAE's, dequantised ones) are above the truth; says little of how samples look.
    Source: Theis et al. 2016, section 3.1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or dimensions < 1 or not step > 0:
        raise ValueError(f"scores: expected (count,) of at least one example, got {scores.shape}")
    bits = -scores / (dimensions * np.log(2)) - np.log2(step)
    value = float(bits.mean())
    if len(bits) < 4:
        return Measure(value, None, None, "bits_per_dimension", "lower", "bits")
    quantile = float(stats.t.ppf(0.975, len(bits) - 1))
    low, high = interval(value, float(bits.std(ddof=1)) / len(bits) ** 0.5, quantile=quantile)
    return Measure(value, low, high, "bits_per_dimension", "lower", "bits")
